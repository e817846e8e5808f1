"""The records of a transfer: four types, and the small messages that one of them carries.

    16 MESSAGE    one message, msgpack, from either side
    17 MANIFEST   a list of entries, from the sender (see :mod:`midair.transfer.manifest`)
    18 DATA       virtual offset, 64 bits, big-endian | bytes of content, from the sender
    19 COMPRESSED the same, compressed (see :mod:`midair.transfer.compression`)

Files:

    sender    Announce MANIFEST...          Compared...         DATA or Hole ... Digests RangeEnd ...           Bye
    receiver                      Compare...           Accept Request Request   Progress  Request  FileResults Finished

A file that the sender cannot read to its end is given up with FileFailed; the rest goes on. Bytes that were said to lie
in a hole, or in a file that failed, are not sent in any range asked for on this connection.

What has no length beforehand, and text, is a stream: the Announce has a StreamOffer, and no MANIFEST follows. It goes
in order from where the receiver says it has got to, and never more than STREAM_WINDOW ahead of its Progress:

    sender    Announce              DATA...            StreamEnd                         Bye
    receiver              Accept            Progress...           FileResults Finished

Either side may Ping at any time, and end it with Cancel or Failed; a receiver that takes nothing says Refuse. After one
of these three nothing else is said. Fields that we do not know are passed over, so a later version can add some;
what must not be passed over comes with a new VERSION.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from midair.errors import RemoteProtocolError
from midair.transfer.manifest import ID_BYTES, MAX_ENTRIES, MAX_TOTAL
from midair.transfer.names import MAX_COMPONENT_BYTES

__all__ = [
    "COMPRESSED",
    "DATA",
    "DATA_HEADER_BYTES",
    "MANIFEST",
    "MAX_COMPARED",
    "MAX_DIGESTS",
    "MAX_PIECES",
    "MAX_REQUEST_BYTES",
    "MAX_RESULTS",
    "MAX_TEXT",
    "MAX_TEXT_BYTES",
    "MESSAGE",
    "MIN_HOLE_BYTES",
    "STREAM_WINDOW",
    "VERSION",
    "Accept",
    "Announce",
    "Bye",
    "Cancel",
    "Compare",
    "Compared",
    "Digest",
    "Digests",
    "Failed",
    "FileFailed",
    "FileHash",
    "FileResult",
    "FileResults",
    "Finished",
    "FromReceiver",
    "FromSender",
    "Hole",
    "Message",
    "Ping",
    "Progress",
    "RangeEnd",
    "Refuse",
    "Request",
    "StreamEnd",
    "StreamOffer",
    "decode_data",
    "decode_from_receiver",
    "decode_from_sender",
    "encode",
    "encode_data_header_into",
]

MESSAGE, MANIFEST, DATA, COMPRESSED = 16, 17, 18, 19
VERSION = 3
"""Version 1 knew only files and folders that nothing was in the way of; version 2 told of each file by itself."""

MAX_TEXT = 1000
"""Characters of an explanation."""
MAX_PIECES = 1024
"""Files that one DATA record may touch, and whose digests a sender may keep back."""
MAX_DIGESTS = 2 * MAX_PIECES + 1
"""Files whose digests come in one message: those kept back, those of one more DATA record, and the file in the middle
of which a range ends."""
MAX_RESULTS = 4096
"""Results in one FileResults."""
MAX_COMPARED = 4096
"""Files in one Compare."""
MIN_HOLE_BYTES = 64 << 10
"""Smaller holes are sent as the zeros they read as."""
MAX_REQUEST_BYTES = 64 << 20
STREAM_WINDOW = 32 << 20
"""Bytes of a stream on their way: sent, and not yet handed on by the receiver. Each side may have to hold as many.
Enough for 320 MB/s at 100 ms."""
MAX_TEXT_BYTES = 1 << 20
"""A text to be shown, encoded."""
MAX_MESSAGE_BYTES = 512 << 10
DATA_HEADER_BYTES = 8

_Offset = Annotated[int, Meta(ge=0, le=MAX_TOTAL)]
_Index = Annotated[int, Meta(ge=0, lt=MAX_ENTRIES)]
_Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Hashes = Annotated[bytes, Meta(min_length=32, max_length=32 * MAX_PIECES)]
_Count = Annotated[int, Meta(ge=1, le=MAX_PIECES)]
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
    stream: StreamOffer | None = None
    """Not files but this; ``entries`` is 1 then, and ``manifest_id`` is the stream's own."""
    hashed: bool = True
    """Whether files are to be hashed as they cross, on both sides. A stream always is."""


class StreamOffer(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes in order, not at rest."""

    kind: Literal["stream", "text"]
    name: Annotated[str, Meta(max_length=MAX_COMPONENT_BYTES)]
    """What a file made of it is to be called."""


class Accept(_Message, frozen=True, tag="accept"):
    """The receiver will take it."""

    durable: _Offset
    """Bytes that are there already and need not be sent; of a stream, where to go on."""
    identical: _Offset = 0
    """Those of them that lie in files that stood there already, and were not received by midair in an earlier run."""
    excluded: _Offset = 0
    """Bytes of files that are not wanted."""
    holes: bool = True
    """Whether Hole is understood; else the zeros are wanted."""
    hashed: bool = True
    """As it is going to be: only if both sides want it."""


class Compare(_Message, frozen=True, tag="compare"):
    """What are the hashes of these files? Before Accept; each file once, a new Compare when the last is answered."""

    files: Annotated[list[_Index], Meta(min_length=1, max_length=MAX_COMPARED)]


class FileHash(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """BLAKE3 over all of a file."""

    file: _Index
    blake3: _Hash


class Compared(_Message, frozen=True, tag="compared"):
    """Answers to a Compare, in its order, in any number of messages. A FileFailed stands for a file's hash, too."""

    hashes: Annotated[list[FileHash], Meta(max_length=MAX_COMPARED)]


class Refuse(_Message, frozen=True, tag="refuse"):
    """The receiver takes nothing. ``reason`` is ``refused`` when a person said no, else an error's word."""

    reason: _Word
    text: _Text


class Request(_Message, frozen=True, tag="request"):
    """Send this virtual range."""

    start: _Offset
    end: _Offset


class Digest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """BLAKE3 over the bytes ``start`` to ``end`` of one file, as far as this connection carried them in one run.

    Or of several ``files``, from ``file`` on one entry after the other, each of which one DATA record has brought
    whole: then the bytes are those of all of them, and the hashes stand one behind the other.
    """

    file: _Index
    start: _Offset
    end: _Offset
    blake3: _Hashes | None
    """None: these bytes have crossed, and are not hashed."""
    files: _Count = 1

    def __post_init__(self) -> None:
        _check_hashes(self.blake3, self.files)


class Digests(_Message, frozen=True, tag="digests"):
    """Of the files that were completed, in the order of the data."""

    digests: Annotated[list[Digest], Meta(max_length=MAX_DIGESTS)]


class Hole(_Message, frozen=True, tag="hole"):
    """In place of DATA: these bytes, all of one file, are zero and take no room on the sender's disk. It may reach
    beyond the range being sent, and is at least MIN_HOLE_BYTES long."""

    start: _Offset
    end: _Offset


def _check_hashes(hashes: bytes | None, files: int) -> None:
    if hashes is not None and len(hashes) != 32 * files:
        raise ValueError("there is not one hash for each file")


class FileFailed(_Message, frozen=True, tag="file-failed"):
    """Nothing more will come of this file, and nothing of it is to be relied on. ``reason`` is an error's word."""

    file: _Index
    reason: _Word
    text: _Text


class StreamEnd(_Message, frozen=True, tag="stream-end"):
    """The stream has come to its end: all of it, and BLAKE3 over it."""

    total: _Offset
    blake3: _Hash


class RangeEnd(_Message, frozen=True, tag="range-end"):
    """A requested range has been sent; with the remaining digests, the last of a file the range may end in."""

    start: _Offset
    end: _Offset
    digests: Annotated[list[Digest], Meta(max_length=MAX_DIGESTS)]


class Progress(_Message, frozen=True, tag="progress"):
    """Bytes of content that would survive a power cut at the receiver; of a stream, that it has handed on."""

    durable: _Offset


class FileResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of one entry. ``blake3`` of all of it, if the receiver hashed it all in this run.

    Or of several ``files``, from ``file`` on one entry after the other, of all of which it is true; their hashes stand
    one behind the other.
    """

    file: _Index
    blake3: _Hashes | None
    outcome: _Word = "received"
    text: _Text = ""
    """Why not; of what is received, the path it has there when that is another."""
    files: _Count = 1

    def __post_init__(self) -> None:
        _check_hashes(self.blake3, self.files)


class FileResults(_Message, frozen=True, tag="results"):
    """Every entry that is no folder comes in exactly one of them; so does a folder that was renamed or not taken."""

    results: Annotated[list[FileResult], Meta(max_length=MAX_RESULTS)]


class Finished(_Message, frozen=True, tag="finished"):
    """All that is received stands under its final name; ``total`` bytes of content are there."""

    total: _Offset


class Failed(_Message, frozen=True, tag="failed"):
    """The side that says it cannot go on. ``reason`` is its error's word."""

    reason: _Word
    text: _Text


class Cancel(_Message, frozen=True, tag="cancel"):
    """The person at the side that says it wants no more."""


class Ping(_Message, frozen=True, tag="ping"):
    """I am still here."""


class Bye(_Message, frozen=True, tag="bye"):
    """The sender knows what became of everything."""


FromSender = Announce | Compared | Digests | Hole | FileFailed | RangeEnd | StreamEnd | Failed | Cancel | Ping | Bye
FromReceiver = Compare | Accept | Refuse | Request | Progress | FileResults | Finished | Failed | Cancel | Ping
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
