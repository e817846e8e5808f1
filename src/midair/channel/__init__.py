"""The authenticated, encrypted record stream over one TCP connection.

:func:`authenticate` turns a connected socket into a :class:`Channel`, or finds that a stranger is at the other end.
"""

from __future__ import annotations

from midair.channel.authentication import authenticate
from midair.channel.failures import AuthenticationError, ChannelClosed
from midair.channel.keys import Role, SessionKey
from midair.channel.moving import Conversation, MovingChannel
from midair.channel.stream import Channel, Frame, Received, Record
from midair.channel.wire import MAX_PAYLOAD, PREFACE_BYTES, RecordType

__all__ = [
    "MAX_PAYLOAD",
    "PREFACE_BYTES",
    "AuthenticationError",
    "Channel",
    "ChannelClosed",
    "Conversation",
    "Frame",
    "MovingChannel",
    "Received",
    "Record",
    "RecordType",
    "Role",
    "SessionKey",
    "authenticate",
]
