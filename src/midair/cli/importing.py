"""How a command's imports are made: they live as long as the program."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["importing"]


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For a command's imports: what they make lives as long as the program, so nothing is garbage to be looked for."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
