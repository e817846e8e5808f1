"""From files to files: what is sent, in ranges, over a channel, into a folder, and never twice.

Blocking, for threads. A :class:`Sender` and a :class:`Receiver` work over one channel each; when that breaks, new ones
with the same source and the same folder go on where the journal stands.
"""

from __future__ import annotations

from midair.transfer.outcome import FileOutcome, Offer, Outcome
from midair.transfer.receiver import Receiver
from midair.transfer.sender import Sender
from midair.transfer.source import Source, scan

__all__ = ["FileOutcome", "Offer", "Outcome", "Receiver", "Sender", "Source", "scan"]
