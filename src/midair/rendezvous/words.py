"""The two lists a code's words are drawn from: 256 words each, so that a word is a byte.

The lists take turns, as in the PGP word list: even positions have short words, odd ones long words, so a swapped or
forgotten word is noticed when it is read aloud. Within a list no word is another's beginning (typing can be
completed early) and any two differ in at least two letters (one wrong letter never makes another word).
"""

from __future__ import annotations

import functools
import importlib.resources

__all__ = ["EVEN", "ODD", "word_list", "words"]

EVEN = "words_even.txt"
ODD = "words_odd.txt"


def words(randbytes: bytes) -> list[str]:
    """One word for each byte, from the even list, the odd list, the even list and so on."""
    return [word_list((EVEN, ODD)[position % 2])[byte] for position, byte in enumerate(randbytes)]


@functools.cache
def word_list(name: str) -> tuple[str, ...]:
    """The 256 words of :data:`EVEN` or :data:`ODD`, sorted; read once from the package's own files."""
    text = importlib.resources.files(__package__).joinpath(name).read_text(encoding="ascii")
    return tuple(text.split())
