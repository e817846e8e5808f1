"""Codes, the mailbox protocol, SPAKE2, the encrypted exchange: how two peers who share a code find one another.

Wire: :mod:`.wire`. Pure: :mod:`.conversation` inside :mod:`.machine`. Driver: :mod:`.client`. For users: below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from midair.rendezvous.codes import parse_code

if TYPE_CHECKING:
    from midair.rendezvous.meeting import Meeting, meet_as_receiver, meet_as_sender

__all__ = ["Meeting", "meet_as_receiver", "meet_as_sender", "parse_code"]


def __getattr__(name: str) -> Any:
    # Late, because a server that wants only the wire format has no use for SPAKE2's tables and a WebSocket client.
    if name in ("Meeting", "meet_as_receiver", "meet_as_sender"):
        from midair.rendezvous import meeting

        return getattr(meeting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
