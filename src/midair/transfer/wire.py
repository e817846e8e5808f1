"""The records of a transfer: three types, and the small messages that one of them carries.

    16 MESSAGE    one message, msgpack, from either side
    17 MANIFEST   a list of entries, from the sender (see :mod:`midair.transfer.manifest`)
    18 DATA       virtual offset, 64 bits, big-endian | bytes of content, from the sender

    sender    Announce  MANIFEST...            DATA... Digests RangeEnd ...                       Bye
    receiver                         Accept  Request Request    Progress  Request   FileResults Finished

Either side may Ping at any time, and end it with Cancel or Failed; a receiver that takes nothing says Refuse. After one
of these three nothing else is said. Fields that we do not know are passed over, so a later version can add some;
what must not be passed over comes with a new VERSION.
"""

from __future__ import annotations

import struct
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from midair.errors import RemoteProtocolError
from midair.transfer.manifest import ID_BYTES, MAX_ENTRIES, MAX_TOTAL

__all__ = [
    "DATA",
    "DATA_HEADER_BYTES",
    "MANIFEST",
    "MAX_DIGESTS",
    "MAX_PIECES",
    "MAX_REQUEST_BYTES",
    "MAX_RESULTS",
    "MAX_TEXT",
    "MESSAGE",
    "VERSION",
    "Accept",
    "Announce",
    "Bye",
    "Cancel",
    "Digest",
    "Digests",
    "Failed",
    "FileResult",
    "FileResults",
    "Finished",
    "FromReceiver",
    "FromSender",
    "Message",
    "Ping",
    "Progress",
    "RangeEnd",
    "Refuse",
    "Request",
    "decode_data",
    "decode_from_receiver",
    "decode_from_sender",
    "encode",
    "encode_data_header_into",
]

MESSAGE, MANIFEST, DATA = 16, 17, 18
VERSION = 1

MAX_TEXT = 1000
"""Characters of an explanation."""
MAX_PIECES = 1024
"""Files that one DATA record may touch, and digests a sender may keep back."""
MAX_DIGESTS = 2 * MAX_PIECES + 1
"""Digests in one message: those kept back, those of one more DATA record, and the file in the middle of which a range
ends."""
MAX_RESULTS = 4096
"""Files in one FileResults."""
MAX_REQUEST_BYTES = 64 << 20
MAX_MESSAGE_BYTES = 512 << 10
DATA_HEADER_BYTES = 8

_Offset = Annotated[int, Meta(ge=0, le=MAX_TOTAL)]
_Index = Annotated[int, Meta(ge=0, lt=MAX_ENTRIES)]
_Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Word = Annotated[str, Meta(max_length=32, pattern="^[a-z][a-z-]*$")]
_Text = Annotated[str, Meta(max_length=MAX_TEXT)]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="m"):
    """The root of what a MESSAGE record can carry."""


class Announce(_Message, frozen=True, tag="announce"):
    """What the MANIFEST records that follow will hold."""

    version: int
    entries: Annotated[int, Meta(ge=1, le=MAX_ENTRIES)]
    total: _Offset
    """Bytes of content."""
    manifest_id: Annotated[bytes, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]


class Accept(_Message, frozen=True, tag="accept"):
    """The receiver will take it; so many bytes are durable there already."""

    durable: _Offset


class Refuse(_Message, frozen=True, tag="refuse"):
    """The receiver takes nothing. ``reason`` is ``refused`` when a person said no, else an error's word."""

    reason: _Word
    text: _Text


class Request(_Message, frozen=True, tag="request"):
    """Send this virtual range."""

    start: _Offset
    end: _Offset


class Digest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """BLAKE3 over the bytes ``start`` to ``end`` of one file, as far as this connection carried them in one run."""

    file: _Index
    start: _Offset
    end: _Offset
    blake3: _Hash


class Digests(_Message, frozen=True, tag="digests"):
    """Of the files that were completed, in the order of the data."""

    digests: Annotated[list[Digest], Meta(max_length=MAX_DIGESTS)]


class RangeEnd(_Message, frozen=True, tag="range-end"):
    """A requested range has been sent; with the remaining digests, the last of a file the range may end in."""

    start: _Offset
    end: _Offset
    digests: Annotated[list[Digest], Meta(max_length=MAX_DIGESTS)]


class Progress(_Message, frozen=True, tag="progress"):
    """Bytes of content that would survive a power cut at the receiver."""

    durable: _Offset


class FileResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One file stands under its final name. ``blake3`` of all of it, if the receiver hashed it all in this run."""

    file: _Index
    blake3: _Hash | None


class FileResults(_Message, frozen=True, tag="results"):
    """Every file comes in exactly one of them."""

    results: Annotated[list[FileResult], Meta(max_length=MAX_RESULTS)]


class Finished(_Message, frozen=True, tag="finished"):
    """All files are committed; ``total`` bytes of content in them."""

    total: _Offset


class Failed(_Message, frozen=True, tag="failed"):
    """The side that says it cannot go on. ``reason`` is its error's word."""

    reason: _Word
    text: _Text
    file: _Index | None = None
    """The entry it is about, if it is about one."""


class Cancel(_Message, frozen=True, tag="cancel"):
    """The person at the side that says it wants no more."""


class Ping(_Message, frozen=True, tag="ping"):
    """I am still here."""


class Bye(_Message, frozen=True, tag="bye"):
    """The sender knows that all files are committed."""


FromSender = Announce | Digests | RangeEnd | Failed | Cancel | Ping | Bye
FromReceiver = Accept | Refuse | Request | Progress | FileResults | Finished | Failed | Cancel | Ping
Message = FromSender | FromReceiver

_M = TypeVar("_M")
_encoder = msgspec.msgpack.Encoder()
_from_sender: msgspec.msgpack.Decoder[FromSender] = msgspec.msgpack.Decoder(FromSender)
_from_receiver: msgspec.msgpack.Decoder[FromReceiver] = msgspec.msgpack.Decoder(FromReceiver)
_DATA_HEADER = struct.Struct("!Q")


def encode(message: Message) -> bytes:
    """The payload of a MESSAGE record."""
    return _encoder.encode(message)


def decode_from_sender(payload: bytes | memoryview) -> FromSender:
    """Raises: RemoteProtocolError."""
    return _decode(_from_sender, payload)


def decode_from_receiver(payload: bytes | memoryview) -> FromReceiver:
    """Raises: RemoteProtocolError."""
    return _decode(_from_receiver, payload)


def _decode(decoder: msgspec.msgpack.Decoder[_M], payload: bytes | memoryview) -> _M:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError("the other side sent a message that is too large")
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError("the other side sent a message that cannot be understood") from error


def encode_data_header_into(buffer: memoryview, position: int) -> None:
    """At the start of a DATA payload: the virtual offset of its first byte."""
    _DATA_HEADER.pack_into(buffer, 0, position)


def decode_data(payload: memoryview) -> tuple[int, memoryview]:
    """``(virtual offset, bytes)`` of a DATA payload; there is at least one byte.

    Raises: RemoteProtocolError.
    """
    if len(payload) <= DATA_HEADER_BYTES:
        raise RemoteProtocolError("the sender sent a DATA record without data")
    position: int = _DATA_HEADER.unpack_from(payload)[0]
    return position, payload[DATA_HEADER_BYTES:]
