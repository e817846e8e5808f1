"""The server's own words of refusal as errors for a person."""

from __future__ import annotations

import re

from midair.errors import CrowdedError, MidairError, QuotaError, RemoteProtocolError

__all__ = ["TurnedAwayError", "refusal"]


class TurnedAwayError(CrowdedError):
    """By the server, before anything was said."""


_LIMIT = re.compile(r"\A\s*limit:|\b(?:quota|rate limit|too many)\b", re.IGNORECASE)


def refusal(text: str, what: str) -> MidairError:
    """The error for the server's own words; these are shown without control characters, cut short."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:200])
    if text.strip().lower() == "crowded":
        return TurnedAwayError("two others already use this code")
    if _LIMIT.search(text[:200]):
        return QuotaError(f"the server's limit is reached: {shown.removeprefix('limit:').strip()}")
    return RemoteProtocolError(f"{what}: {shown}.")
