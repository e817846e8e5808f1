"""What two peers say to each other on a simulated connection: who they are, and which connection they take.

The stand-in of :mod:`midair.channel`: as many bytes, in as many turns, without the cryptography. Each sends a preface
at once, a confirmation when it has the other's, and later one record for a nomination or its answer.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midair.lab.simulation import Connection

__all__ = ["CONFIRMATION", "NOMINATION", "Heard", "Leg", "Listening", "preface"]

PREFACE_BYTES = 40
CONFIRMATION = bytes(24)
NOMINATION = b"n" * 24


def preface(session: int) -> bytes:
    """What whoever belongs to the session begins with."""
    return session.to_bytes(8, "big").rjust(PREFACE_BYTES, b"m")


class Heard(Enum):
    """What the other end has made known."""

    PREFACE = auto()
    """It belongs to the session, and waits for our confirmation."""
    CONFIRMATION = auto()
    """It has our preface: it is authenticated."""
    NOMINATION = auto()
    STRANGER = auto()
    """It is somebody else."""


class Listening:
    """Cuts what comes into what it means."""

    def __init__(self, session: int) -> None:
        self._expected = [
            (preface(session), Heard.PREFACE),
            (CONFIRMATION, Heard.CONFIRMATION),
            (NOMINATION, Heard.NOMINATION),
        ]
        self._buffer = b""

    def feed(self, data: bytes) -> list[Heard]:
        """What is complete now, in order; nothing after STRANGER."""
        self._buffer += data
        heard: list[Heard] = []
        while self._expected and len(self._buffer) >= len(self._expected[0][0]):
            text, meaning = self._expected.pop(0)
            if self._buffer[: len(text)] != text:
                self._expected.clear()
                return [*heard, Heard.STRANGER]
            self._buffer = self._buffer[len(text) :]
            heard.append(meaning)
        return heard


class Leg:
    """One connection of a simulated race, and how far it has come."""

    __slots__ = ("authenticated", "authenticated_at", "connection", "key", "listening", "proving", "retired")

    def __init__(self, key: str, connection: Connection, session: int) -> None:
        self.key = key
        self.connection = connection
        self.listening = Listening(session)
        self.proving = False
        self.authenticated = False
        self.authenticated_at = 0.0
        self.retired = False
