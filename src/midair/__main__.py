"""``python -m midair``."""

from __future__ import annotations

from midair.cli.entry import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
