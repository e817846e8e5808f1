"""The wire process; started by :class:`midair.lab.wire.Wire`."""

from __future__ import annotations

from midair.lab.wire.process import main

__all__: list[str] = []

main()
