"""What it means for a session when not everything was stored."""

from __future__ import annotations

from midair.errors import LocalIOError, MidairError, PartialError, PeerFailedError, SourceChangedError
from midair.transfer import STORED, FileOutcome, Outcome
from midair.transfer.names import escape

__all__ = ["shortfall"]

_WHY = {
    "kept": "something else was there and stays",
    "omitted": "such things are not sent",
    "source-changed": "it changed",
    "local-io": "it could not be read",
    "unsupported": "it cannot be stored there",
}


def shortfall(outcome: Outcome, role: str) -> MidairError | None:
    """What to raise at the end of a session with this role, ``send`` or ``receive``; None when all is stored.

    Where nothing at all could be stored and all for one reason, that reason's own error; else PartialError.
    """
    counts = outcome.files.counts()
    missing = {word: count for word, count in counts.items() if word not in STORED}
    if not missing:
        return None
    first = next(outcome.files.not_stored())
    if missing == counts and len(missing) == 1:
        said = escape(first.text or first.name)
        match first.outcome:
            case "source-changed":
                return SourceChangedError(said if role == "send" else f"the sender says: {said}")
            case "local-io" if role == "send":
                return LocalIOError(said)
            case "local-io":
                return PeerFailedError(f"the sender says: {said}", remote_reason="local-io")
            case "unsupported" if role == "receive":
                return LocalIOError(f"{escape(first.name)}: {said}")
            case "unsupported":
                return PeerFailedError(f"{escape(first.name)}: {said}", remote_reason="local-io")
    count, total = sum(missing.values()), sum(counts.values())
    were = "was" if count == 1 else "were"
    return PartialError(f"{count} of {total} files {were} not stored: {escape(first.name)}: {_why(first)}")


def _why(file: FileOutcome) -> str:
    return escape(file.text) if file.text else _WHY.get(file.outcome, escape(file.outcome))
