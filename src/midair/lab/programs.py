"""Where the programs are that the lab runs. Those of root's are not on everybody's PATH, but anybody may run them."""

from __future__ import annotations

import os
import shutil

__all__ = ["find_program"]


def find_program(name: str) -> str | None:
    """Its path, or None when it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
