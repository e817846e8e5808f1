"""Between errors here, errors there, and what the operating system says."""

from __future__ import annotations

import errno
import os

from midair.errors import (
    DiskFullError,
    IncompatibleError,
    LocalIOError,
    MidairError,
    OutputClosedError,
    PeerFailedError,
    PeerLostError,
    PeerRefusedError,
    SourceChangedError,
)
from midair.transfer.names import escape
from midair.transfer.wire import MAX_TEXT

__all__ = ["from_os", "from_peer", "telling"]

_LINKS = frozenset({errno.ELOOP, errno.ENOTDIR})
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def from_os(error: OSError, name: str) -> MidairError:
    """What to raise for an OSError met at ``name``, a path that is shown as it is known to the person."""
    shown = escape(name)
    if error.errno in _NO_SPACE:
        return DiskFullError(f"there is no room left for {shown}")
    said = os.strerror(error.errno) if error.errno else str(error)
    in_the_way = "A symbolic link is in the way, or what is no folder: move it away." if error.errno in _LINKS else None
    return LocalIOError(f"{shown}: {said}", hint=in_the_way)


def telling(error: BaseException) -> tuple[str, str]:
    """``(reason, text)`` for the other side. Errors outside of our tree may carry what is none of its business."""
    if isinstance(error, MidairError):
        return error.reason, error.message[:MAX_TEXT]
    return "error", "an error in the program"


def from_peer(reason: str, text: str, who: str) -> MidairError:
    """What to raise when ``who`` ("sender" or "receiver") has ended it with this reason."""
    said = f"the {who} says: {escape(text, MAX_TEXT)}"
    match reason:
        case "refused":
            return PeerRefusedError(said)
        case "source-changed":
            return SourceChangedError(said)
        case "incompatible":
            return IncompatibleError(said)
        case "output-closed":
            return OutputClosedError(said)
        case "peer-lost":
            return PeerLostError(said, hint="Run both commands again.")
        case _:
            return PeerFailedError(said, remote_reason=reason)
