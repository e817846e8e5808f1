"""Where the ``midair`` command begins: what can be answered at once is, before anything is imported for it."""

from __future__ import annotations

import sys

from midair import __version__

__all__ = ["main"]


def main() -> None:
    """The entry point; see :func:`midair.cli.main.main`."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"midair, version {__version__}\n")
        return
    from midair.cli.main import main as run

    run()
