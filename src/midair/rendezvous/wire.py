"""The mailbox protocol's frames: typed values to and from JSON text, for both ends of the WebSocket.

The protocol is magic-wormhole's (docs/server-protocol.md there). A client sends *commands*, a server *responses*; both
are JSON objects whose ``type`` says which. Fields nobody knows are passed over, and a frame of an unknown type becomes
:class:`Unknown`, so that either end may be newer than the other. What is known is checked in full: a decoded frame
is a valid one, with bounded strings of printable ASCII, so it can be hashed, logged or used as a key as it is.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_FRAME_BYTES",
    "Ack",
    "Add",
    "Allocate",
    "Allocated",
    "Bind",
    "Claim",
    "Claimed",
    "ClientFrame",
    "Close",
    "Closed",
    "Error",
    "List",
    "Message",
    "NameplateEntry",
    "Nameplates",
    "Open",
    "Ping",
    "Pong",
    "Release",
    "Released",
    "ServerFrame",
    "Unknown",
    "Welcome",
    "WelcomeInfo",
    "WireError",
    "decode_client_frame",
    "decode_server_frame",
    "encode",
]

MAX_FRAME_BYTES: Final = 128 * 1024
"""One frame in either direction; also the WebSocket's ``max_size``. magic-wormhole's are under 10 KiB."""

MAX_BODY_BYTES: Final = 48 * 1024
"""One message's body before hex; in hex it leaves room for the rest of the frame."""

_PRINTABLE = r"\A[!-~]+\Z"

Token = Annotated[str, Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]
"""A side, a phase or a mailbox: they go into key derivation as ASCII, so nothing else is let in."""
AppId = Annotated[str, Meta(min_length=1, max_length=128, pattern=_PRINTABLE)]
Nameplate = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"\A[0-9]+\Z")]
"""At most 40 digits, the reference server's bound."""
HexBody = Annotated[str, Meta(max_length=2 * MAX_BODY_BYTES, pattern=r"\A(?:[0-9a-fA-F]{2})*\Z")]
FrameId = Annotated[str, Meta(max_length=64)]
Mood = Annotated[str, Meta(max_length=32)]
"""happy, lonely, scary, errory, unwelcome; others are passed on as they are."""
Counter = Annotated[int, Meta(ge=0, le=2**53)]


class WireError(ValueError):
    """Not a frame of this protocol. The text is safe to show and never holds what was received."""


class _ClientFrame(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    id: FrameId | None = None
    """Comes back in the ``ack`` and, for ``add``, in every copy of the message."""


class Bind(_ClientFrame, frozen=True, kw_only=True, tag="bind"):
    """First of all: which application, and which of its two sides, this connection speaks for."""

    appid: AppId
    side: Token


class List(_ClientFrame, frozen=True, kw_only=True, tag="list"):
    """Asks for the nameplates in use; answered by ``nameplates``."""


class Allocate(_ClientFrame, frozen=True, kw_only=True, tag="allocate"):
    """Asks for a free nameplate, claimed for this side at once; answered by ``allocated``."""


class Claim(_ClientFrame, frozen=True, kw_only=True, tag="claim"):
    """Asks for the nameplate's mailbox; answered by ``claimed``. Idempotent across connections of one side."""

    nameplate: Nameplate


class Release(_ClientFrame, frozen=True, kw_only=True, tag="release"):
    """Gives the nameplate up; answered by ``released``. Without ``nameplate``: the one claimed on this connection."""

    nameplate: Nameplate | None = None


class Open(_ClientFrame, frozen=True, kw_only=True, tag="open"):
    """Subscribes to the mailbox: its messages so far and all later ones follow."""

    mailbox: Token


class Add(_ClientFrame, frozen=True, kw_only=True, tag="add"):
    """Puts a message into the open mailbox; its copy comes back to both sides."""

    phase: Token
    body: HexBody


class Close(_ClientFrame, frozen=True, kw_only=True, tag="close"):
    """Leaves the mailbox; answered by ``closed``. When both sides have, the server forgets it."""

    mailbox: Token | None = None
    mood: Mood | None = None


class Ping(_ClientFrame, frozen=True, kw_only=True, tag="ping"):
    """Answered by ``pong`` with the same number, after everything sent before it."""

    ping: Counter


class _ServerFrame(Struct, frozen=True, kw_only=True, tag_field="type"):
    server_tx: float | UnsetType | None = UNSET
    """The server's clock when it was sent, seconds since the epoch."""


class WelcomeInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a server says to everybody."""

    motd: str | None = None
    error: str | None = None
    """Turns the client away with this text."""


class Welcome(_ServerFrame, frozen=True, kw_only=True, tag="welcome"):
    """The server's first frame."""

    welcome: WelcomeInfo


class NameplateEntry(Struct, frozen=True, kw_only=True):
    """One nameplate in a list."""

    id: Nameplate


class Nameplates(_ServerFrame, frozen=True, kw_only=True, tag="nameplates"):
    """Answers ``list``."""

    nameplates: list[NameplateEntry]


class Allocated(_ServerFrame, frozen=True, kw_only=True, tag="allocated"):
    """Answers ``allocate``."""

    nameplate: Nameplate


class Claimed(_ServerFrame, frozen=True, kw_only=True, tag="claimed"):
    """Answers ``claim``."""

    mailbox: Token


class Released(_ServerFrame, frozen=True, kw_only=True, tag="released"):
    """Answers ``release``."""


class Message(_ServerFrame, frozen=True, kw_only=True, tag="message"):
    """One message of the mailbox, old or new, from either side."""

    side: Token
    phase: Token
    body: HexBody
    id: FrameId | None = None
    """The ``id`` of the ``add`` it came with."""
    server_rx: float | UnsetType | None = UNSET
    """When the server got it, seconds since the epoch."""


class Closed(_ServerFrame, frozen=True, kw_only=True, tag="closed"):
    """Answers ``close``."""


class Ack(_ServerFrame, frozen=True, kw_only=True, tag="ack"):
    """The command with this ``id`` arrived; says nothing of its success."""

    id: FrameId | None = None


class Pong(_ServerFrame, frozen=True, kw_only=True, tag="pong"):
    """Answers ``ping``."""

    pong: Counter


class Error(_ServerFrame, frozen=True, kw_only=True, tag="error"):
    """A command was refused. Texts starting with ``limit:`` name one of the server's limits."""

    error: str
    orig: Raw = msgspec.field(default_factory=lambda: Raw(b"{}"))
    """The refused command, as JSON; magic-wormhole's client wants the field to be there."""


class Unknown(Struct, frozen=True, kw_only=True):
    """A frame of a type this version does not know."""

    type: str


ClientFrame = Bind | List | Allocate | Claim | Release | Open | Add | Close | Ping
ServerFrame = (
    Welcome | Nameplates | Allocated | Claimed | Released | Message | Closed | Ack | Pong | Error
)  # fmt: skip


def encode(frame: ClientFrame | ServerFrame) -> str:
    """The frame as JSON text.

    Raises: WireError: it is larger than :data:`MAX_FRAME_BYTES`.
    """
    data = msgspec.json.encode(frame)
    if len(data) > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {len(data)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return data.decode()


def decode_client_frame(data: str | bytes) -> ClientFrame | Unknown:
    """What a client sent.

    Raises: WireError: too large, no JSON object, no ``type``, or a known type with a missing or invalid field.
    """
    return _decode(data, _CLIENT_DECODERS)


def decode_server_frame(data: str | bytes) -> ServerFrame | Unknown:
    """What a server sent.

    Raises: WireError: too large, no JSON object, no ``type``, or a known type with a missing or invalid field.
    """
    return _decode(data, _SERVER_DECODERS)


class _Head(Struct, frozen=True):
    type: Annotated[str, Meta(min_length=1, max_length=64)]


_HEAD_DECODER = msgspec.json.Decoder(_Head)
_CLIENT_DECODERS: Final[dict[str, msgspec.json.Decoder[ClientFrame]]] = {
    "bind": msgspec.json.Decoder(Bind),
    "list": msgspec.json.Decoder(List),
    "allocate": msgspec.json.Decoder(Allocate),
    "claim": msgspec.json.Decoder(Claim),
    "release": msgspec.json.Decoder(Release),
    "open": msgspec.json.Decoder(Open),
    "add": msgspec.json.Decoder(Add),
    "close": msgspec.json.Decoder(Close),
    "ping": msgspec.json.Decoder(Ping),
}
_SERVER_DECODERS: Final[dict[str, msgspec.json.Decoder[ServerFrame]]] = {
    "welcome": msgspec.json.Decoder(Welcome),
    "nameplates": msgspec.json.Decoder(Nameplates),
    "allocated": msgspec.json.Decoder(Allocated),
    "claimed": msgspec.json.Decoder(Claimed),
    "released": msgspec.json.Decoder(Released),
    "message": msgspec.json.Decoder(Message),
    "closed": msgspec.json.Decoder(Closed),
    "ack": msgspec.json.Decoder(Ack),
    "pong": msgspec.json.Decoder(Pong),
    "error": msgspec.json.Decoder(Error),
}

_Frame = TypeVar("_Frame")


def _decode(data: str | bytes, decoders: dict[str, msgspec.json.Decoder[_Frame]]) -> _Frame | Unknown:
    # A character is at least a byte, so this also bounds text before it is encoded.
    if len(data) > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {len(data)} bytes is over the limit of {MAX_FRAME_BYTES}")
    try:
        head = _HEAD_DECODER.decode(data)
        decoder = decoders.get(head.type)
        return Unknown(type=head.type) if decoder is None else decoder.decode(data)
    # RecursionError: JSON nested thousands deep, in a field nobody knows. UnicodeError: text with a lone surrogate.
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise WireError(f"not a mailbox frame: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """msgspec names the field and what it expected there; only for a second ``type`` does it quote what it got."""
    text = str(error)
    if not isinstance(error, msgspec.DecodeError):
        return "nested too deep, or not text"
    return "two types" if text.startswith("Invalid value") else text[:200]
