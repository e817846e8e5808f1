"""How a client asks the server to dial back, in STUN messages to the reflector: bytes to values and back.

RFC 5780 has tests of a NAT's filtering, for UDP only: over TCP a server would have to connect to the client, which
RFC 8489 section 6.2.2 forbids it to do by itself. So it is asked to, with a method of our own. The request says what to
dial; the server dials only the address that the request came from, and answers with what became of the SYN.

    request    CONNECT-BACK   what is to be dialled, and from where
    response   success        where from, when SYNs are to cross: the client dials that at once
    response   success        what came back

Method and attribute types are not registered; they are in the ranges RFC 8489 section 18 gives to expert review, and a
server that does not know them does not answer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from midair.endpoint import Endpoint
from midair.stun.wire import Message, MessageClass, RawAttribute, StunError, XorMappedAddress, encode

__all__ = [
    "CONNECT_BACK",
    "SECONDS_MAX",
    "DialBack",
    "Origin",
    "Result",
    "decode_answer",
    "decode_request",
    "encode_origin",
    "encode_request",
    "encode_result",
]

CONNECT_BACK = 0x0A0
_REQUEST_TYPE = 0xC7A0
_RESULT_TYPE = 0xC7A1
_REQUEST = struct.Struct("!HBB")
_RESULT = struct.Struct("!BBBxI")
_OTHER_ADDRESS = 0x01
_CROSSING = 0x02
SECONDS_MAX = 8
"""How long the server waits for an answer to its SYN at most; RFC 5382 REQ-4 has NATs answer after 6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialBack:
    """What the server is asked to dial. The address is always that of the asker."""

    port: int = 0
    """0: the port the request came from."""
    other_address: bool = False
    """From another address of the server, instead of another port of the one that was asked."""
    crossing: bool = False
    """When the asker's own SYN is on its way; only an answer to the server's SYN counts."""
    seconds: int = 3
    """How long to wait for an answer, 1 to SECONDS_MAX."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the server is about to dial from."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came back."""

    answer: int
    """0 connected, 1 RST, 2 ICMP, 3 nothing, 4 the dial could not be made."""
    icmp: tuple[int, int] = (0, 0)
    milliseconds: int = 0


def encode_request(wanted: DialBack, transaction_id: bytes) -> bytes:
    """The request. ``transaction_id`` is 12 random bytes."""
    flags = _OTHER_ADDRESS * wanted.other_address | _CROSSING * wanted.crossing
    value = _REQUEST.pack(wanted.port, flags, wanted.seconds)
    return _message(MessageClass.REQUEST, transaction_id, RawAttribute(_REQUEST_TYPE, value))


def decode_request(message: Message) -> DialBack:
    """From a message of the method CONNECT_BACK.

    Raises: StunError.
    """
    port, flags, seconds = _unpack(message, _REQUEST_TYPE, _REQUEST)
    if not 1 <= seconds <= SECONDS_MAX or 0 < port < 1024:
        raise StunError("a connection back to a port, or for a time, that is not allowed")
    return DialBack(
        port=port, other_address=bool(flags & _OTHER_ADDRESS), crossing=bool(flags & _CROSSING), seconds=seconds
    )


def encode_origin(origin: Origin, transaction_id: bytes) -> bytes:
    """The first answer, when SYNs are to cross."""
    return _message(MessageClass.SUCCESS, transaction_id, XorMappedAddress(origin.endpoint))


def encode_result(result: Result, transaction_id: bytes) -> bytes:
    """The last answer."""
    value = _RESULT.pack(result.answer, *result.icmp, min(result.milliseconds, 0xFFFFFFFF))
    return _message(MessageClass.SUCCESS, transaction_id, RawAttribute(_RESULT_TYPE, value))


def decode_answer(message: Message) -> Origin | Result:
    """Either answer to our request.

    Raises: StunError.
    """
    if (message.method, message.message_class) != (CONNECT_BACK, MessageClass.SUCCESS):
        raise StunError("the answer is to something else, or says no")
    origin = message.first(XorMappedAddress)
    if origin is not None:
        return Origin(origin.endpoint)
    answer, kind, code, milliseconds = _unpack(message, _RESULT_TYPE, _RESULT)
    if answer > 4:
        raise StunError("an answer that is not known")
    return Result(answer=answer, icmp=(kind, code), milliseconds=milliseconds)


def _message(message_class: MessageClass, transaction_id: bytes, attribute: RawAttribute | XorMappedAddress) -> bytes:
    return encode(
        Message(
            method=CONNECT_BACK, message_class=message_class, transaction_id=transaction_id, attributes=(attribute,)
        )
    )


def _unpack(message: Message, kind: int, layout: struct.Struct) -> tuple[int, ...]:
    for attribute in message.attributes:
        if isinstance(attribute, RawAttribute) and attribute.type == kind:
            if len(attribute.value) != layout.size:
                raise StunError(f"STUN attribute 0x{kind:04x} is malformed")
            return layout.unpack(attribute.value)
    raise StunError(f"STUN attribute 0x{kind:04x} is missing")
