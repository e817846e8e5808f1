"""A whole transfer as a person sees it: meet, connect, transfer, and meet again when the connection breaks."""

from __future__ import annotations

from midair.session.receive import ReceiveSession
from midair.session.rounds import Summary
from midair.session.send import SendSession

__all__ = ["ReceiveSession", "SendSession", "Summary"]
