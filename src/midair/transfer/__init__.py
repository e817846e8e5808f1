"""From files to files: what is sent, in ranges, over a channel, into a folder, and never twice.

Blocking, for threads. A :class:`Sender` and a :class:`Receiver` work over one channel each; when that breaks, new ones
with the same source and the same folder go on where the journal stands.
"""

from __future__ import annotations

from midair.transfer.clashes import Clash, Resolution, Resolve
from midair.transfer.destination import Folder, Pipe
from midair.transfer.outcome import STORED, FileOutcome, Offer, Outcome
from midair.transfer.receiver import Receiver
from midair.transfer.sender import Sender
from midair.transfer.source import Source, scan
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
    "Sender",
    "Source",
    "Stream",
    "scan",
]
