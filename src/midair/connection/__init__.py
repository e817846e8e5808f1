"""The library: one authenticated, encrypted byte stream between two peers, for a program of one's own."""

from __future__ import annotations

from midair.connection.opening import connect, host, punch
from midair.connection.stream import Connection

__all__ = ["Connection", "connect", "host", "punch"]
