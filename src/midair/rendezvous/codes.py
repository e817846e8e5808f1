"""The code two people share: ``N-word-word``. The number finds the mailbox, all of it feeds SPAKE2.

The number is public: the server gives it out and sees it used. The words are the secret and the server never learns
them, so both are drawn independently. Whatever a person types is first brought to one form, because both sides must
feed SPAKE2 the same bytes.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from midair.errors import UsageError
from midair.rendezvous.words import words

__all__ = ["MAX_CODE_LENGTH", "MIN_SECRET_LENGTH", "generate_code", "parse_code"]

MAX_CODE_LENGTH: Final = 120
"""Characters in a whole code."""

MIN_SECRET_LENGTH: Final = 4
"""Characters after the number in a code somebody made up."""

_HINT = "A code is a number and words, like 7-acorn-volcano; give it exactly as the sender shows it."
_GAPS = re.compile(r"[\s\-\u2010-\u2015\u2212]+")
"""Blanks, and the dashes that chat programs make of "-"."""
_NUMBER = re.compile(r"[0-9]{1,9}")


def generate_code(nameplate: str, randbytes: bytes) -> str:
    """A code for the server's ``nameplate`` with one word, that is 8 bits, for each random byte (at least 2)."""
    assert len(randbytes) >= 2
    return "-".join([nameplate, *words(randbytes)])


def parse_code(text: str) -> tuple[str, str]:
    """``(nameplate, code)`` of what a person typed, in the one form both sides use.

    Letters become lower case; blanks and other dashes between the parts become one ``-``. The words need not be from
    our lists: letters and digits of any script will do, at least :data:`MIN_SECRET_LENGTH` characters.

    Raises: UsageError, whose text does not repeat what was typed.
    """
    if len(text) > 4 * MAX_CODE_LENGTH:
        raise UsageError("this is too long for a code", hint=_HINT)
    code = _GAPS.sub("-", unicodedata.normalize("NFC", text).lower()).strip("-")
    number, _, secret = code.partition("-")
    if not code:
        raise UsageError("the code is empty", hint=_HINT)
    if len(code) > MAX_CODE_LENGTH:
        raise UsageError(f"a code has at most {MAX_CODE_LENGTH} characters", hint=_HINT)
    if not _NUMBER.fullmatch(number):
        raise UsageError("a code starts with its number", hint=_HINT)
    if len(secret) < MIN_SECRET_LENGTH:
        raise UsageError(f"a code has at least {MIN_SECRET_LENGTH} characters after its number", hint=_HINT)
    if not all(character == "-" or character.isalnum() for character in secret):
        raise UsageError("a code has only letters, digits and dashes", hint=_HINT)
    nameplate = str(int(number))
    return nameplate, f"{nameplate}-{secret}"
