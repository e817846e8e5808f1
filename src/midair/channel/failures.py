"""The two ends of a channel that are not faults of the session: nobody we know answered, and the peer said goodbye."""

from __future__ import annotations

from typing import Literal

__all__ = ["AuthenticationError", "ChannelClosed", "Suspicion"]

Suspicion = Literal["stranger", "version", "reflection", "key", "closed", "timeout", "broken"]
"""stranger: it does not speak our protocol. version: it does, another version. reflection: our own bytes came back.
key: it could not prove the session key. closed, timeout, broken: EOF, silence, an error of the socket."""


class AuthenticationError(Exception):
    """Whoever is at the other end of this connection has not proved the session key; the connection is closed."""

    def __init__(self, message: str, *, suspicion: Suspicion) -> None:
        super().__init__(message)
        self.suspicion = suspicion


class ChannelClosed(Exception):
    """The peer has closed the channel in good order, with a CLOSE record: nothing was cut off."""
