"""From files to files: what is sent, in ranges, over a channel, into a folder, and never twice.

Blocking, for threads. A :class:`Sender` and a :class:`Receiver` work over one channel each; when that breaks, new ones
with the same source and the same folder go on where the journal stands.

Names are imported when they are first used: who sends does not need what receives.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from midair.transfer.clashes import Clash, Resolution, Resolve
    from midair.transfer.destination import Folder, Pipe
    from midair.transfer.finding import scan
    from midair.transfer.outcome import STORED, FileOutcome, Offer, Outcome
    from midair.transfer.receiver import Receiver
    from midair.transfer.scanning import Scanning
    from midair.transfer.sender import Sender
    from midair.transfer.source import Source
    from midair.transfer.stream import Stream

__all__ = [
    "STORED",
    "Clash",
    "FileOutcome",
    "Folder",
    "Offer",
    "Outcome",
    "Pipe",
    "Receiver",
    "Resolution",
    "Resolve",
    "Scanning",
    "Sender",
    "Source",
    "Stream",
    "scan",
]

_HOMES = {
    "Clash": "clashes",
    "FileOutcome": "outcome",
    "Folder": "destination",
    "Offer": "outcome",
    "Outcome": "outcome",
    "Pipe": "destination",
    "Receiver": "receiver",
    "Resolution": "clashes",
    "Resolve": "clashes",
    "STORED": "outcome",
    "Scanning": "scanning",
    "Sender": "sender",
    "Source": "source",
    "Stream": "stream",
    "scan": "finding",
}


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'midair.transfer' has no attribute {name!r}") from None
    from importlib import import_module

    return getattr(import_module(f"midair.transfer.{home}"), name)
