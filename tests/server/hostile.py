"""What hostile clients of a server do: malformed, cut off, out of order, too much, too slow, lying about sizes.

Pure: chance goes in, an attack comes out. Most begin as what an honest client says and are bent from there, because
what is wrong in the first byte never gets far.
"""

from __future__ import annotations

import json
import random
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from midair.nat.check.wire import CONNECT_BACK
from midair.relay.wire import Preamble, encode_preamble
from midair.server.node_wire import encode_node_preamble
from midair.stun.wire import BINDING, Message, MessageClass, Software, encode

__all__ = ["ATTACKS", "Attack", "any_attack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One connection's life."""

    steps: tuple[bytes | float, ...]
    """What is sent; a number is a pause, in seconds."""
    reads: bool = True
    """Whether it ever reads what comes."""
    resets: bool = False
    """Whether it ends with a RST, not with a FIN and a wait for the server's."""
    proxied: bool = False
    """Whether it comes from where load balancers are trusted."""


Chance = random.Random


def any_attack(chance: Chance) -> tuple[str, Attack]:
    """One of :data:`ATTACKS` by name; one in ten of them behind a PROXY header, often a bad one."""
    name = chance.choice(list(ATTACKS))
    attack = ATTACKS[name](chance)
    attack = Attack(steps=attack.steps, reads=attack.reads and chance.random() < 0.8, resets=chance.random() < 0.3)
    if chance.random() < 0.1:
        return f"{name} proxied", _proxied(chance, attack)
    return name, attack


def bent(chance: Chance, data: bytes) -> bytes:
    """``data`` with one to four places changed, taken out, put in twice or cut off."""
    bytes_ = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(bytes_) + 1)
        end = min(len(bytes_), start + chance.choice((1, 2, 4, 30)))
        match chance.randrange(6):
            case 0:
                bytes_[start:end] = chance.randbytes(end - start)
            case 1:
                del bytes_[start:end]
            case 2:
                bytes_[start:start] = bytes_[start:end] * chance.choice((1, 2, 200))
            case 3:
                del bytes_[start:]
            case 4:
                bytes_[start:end] = chance.choice((b"\0", b"\xff" * 8, b"\r\n", b"\r\n\r\n", b"-1", b"9" * 30, b" "))
            case 5:
                bytes_[start:start] = chance.randbytes(chance.randint(1, 3000))
    return bytes(bytes_)


def in_pieces(chance: Chance, data: bytes) -> tuple[bytes | float, ...]:
    """``data`` whole, cut in two, or with pauses."""
    match chance.randrange(4):
        case 0:
            cut = chance.randrange(len(data) + 1)
            return data[:cut], 0.02, data[cut:]
        case 1:
            return data, 0.1, data[-1:]
    return (data,)


def noise(chance: Chance) -> Attack:
    return Attack(steps=(chance.randbytes(chance.choice((1, 20, 300, 70_000))),))


def http(chance: Chance) -> Attack:
    method = chance.choice(("GET", "HEAD", "POST", "CONNECT", "G" * 5000, "PRI"))
    path = chance.choice(("/", "/metrics", "/healthz", "/v1", "/v1/..%2f", "http://other/", "*", "/" + "a" * 9000))
    fields = [
        chance.choice(
            (
                "Host: example.org",
                "Content-Length: 99999999999999999999",
                "Content-Length: -5",
                "Transfer-Encoding: chunked",
                "X: " + "y" * chance.choice((10, 9000)),
                "Expect: 100-continue",
                "Connection: Upgrade",
                "Upgrade: h2c",
                " folded",
                "Sec-WebSocket-Key: " + "A" * chance.choice((0, 24, 3000)),
            )
        )
        for _ in range(chance.choice((0, 1, 3, 150)))
    ]
    request = "\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", ""]).encode()
    body = chance.choice((b"", b"7fffffffffffffff\r\n", b"x" * 50_000))
    return Attack(steps=in_pieces(chance, bent(chance, request) + body))


_HANDSHAKE = (
    b"GET /v1 HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def frame(payload: bytes, *, opcode: int = 1, fin: bool = True, claimed: int | None = None) -> bytes:
    """A WebSocket frame with a mask of zeros (RFC 6455 section 5.2) that says it is ``claimed`` bytes long."""
    length = len(payload) if claimed is None else claimed
    first = (0x80 if fin else 0) | opcode
    if length < 126:
        head = struct.pack(">BB", first, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack(">BBQ", first, 0x80 | 127, length)
    return head + b"\0\0\0\0" + payload


def websocket(chance: Chance) -> Attack:
    """Frames that no client should send."""
    handshake = _HANDSHAKE + chance.choice((b"", b"Sec-WebSocket-Extensions: permessage-deflate\r\n")) + b"\r\n"
    if chance.random() < 0.3:
        handshake = handshake.replace(b"/v1", b"/relay")
    frames = b"".join(
        chance.choice(
            (
                lambda: frame(b"{}", claimed=chance.choice((1 << 63, (1 << 63) - 1, 1 << 32, 70_000, 3))),
                lambda: frame(chance.randbytes(200), opcode=chance.randrange(16)),
                lambda: frame(b"[" * 60_000),
                lambda: frame(b"a" * 60_000, fin=False) + frame(b"b" * 60_000, opcode=0, fin=False) * 3,
                lambda: frame(b"", opcode=0),
                lambda: frame(b"p" * 125, opcode=9) * 300,
                lambda: frame(b"p" * 126, opcode=9),
                lambda: frame(chance.choice((b"\x03\xe8", b"\x00\x01", b"\x03", b"\xff\xff\xff")), opcode=8),
                lambda: frame(b"\xff\xfe\xfd"),
                lambda: frame(b"", fin=False) * 2000,
                lambda: bytes([0x81, 5]) + b"plain",
                lambda: bent(chance, frame(b'{"type": "ping", "ping": 1}')),
            )
        )()
        for _ in range(chance.randint(1, 4))
    )
    return Attack(steps=(*in_pieces(chance, handshake), *in_pieces(chance, frames)))


def mailbox(chance: Chance) -> Attack:
    """The mailbox protocol in the wrong order, with the wrong values, too much of it, or to no end."""
    names = ("bind", "list", "allocate", "claim", "release", "open", "add", "close", "ping", "no such", "welcome")
    values: list[Any] = ["1", "a" * 5000, 5, -1, None, True, 1e308, [], {}, "\u202e", "zz", "ab" * 3000, "7" * 41]
    commands: list[Any] = [{"type": "bind", "appid": f"app-{chance.randrange(3)}", "side": f"{chance.randrange(50):x}"}]
    for _ in range(chance.choice((1, 5, 60))):
        fields = ("appid", "side", "nameplate", "mailbox", "phase", "body", "id", "ping", "mood")
        commands.append({"type": chance.choice(names), **{field: chance.choice(values) for field in fields}})
    if chance.random() < 0.5:
        nameplate = str(chance.randrange(200))
        commands += [{"type": "claim", "nameplate": nameplate}, {"type": "open", "mailbox": f"box-{nameplate}"}]
        commands += [{"type": "add", "phase": "x", "body": "ab" * chance.choice((5, 20_000))}] * chance.choice((2, 250))
    if chance.random() < 0.1:
        chance.shuffle(commands)
    sent = b"".join(frame(json.dumps(command).encode()) for command in commands)
    return Attack(
        steps=(_HANDSHAKE + b"\r\n", *in_pieces(chance, bent(chance, sent) if chance.random() < 0.3 else sent))
    )


def deaf(chance: Chance) -> Attack:
    """Asks and asks, and never reads an answer."""
    asked = frame(json.dumps({"type": chance.choice(("list", "ping")), "ping": 1}).encode())
    bind = frame(json.dumps({"type": "bind", "appid": "app-0", "side": "deaf"}).encode())
    stun = encode(_request(chance)) * 90
    steps = chance.choice(((_HANDSHAKE + b"\r\n" + bind + asked * 3000, 0.5), (stun, 0.5)))
    return Attack(steps=steps, reads=False)


def _request(chance: Chance) -> Message:
    method = chance.choice((BINDING, CONNECT_BACK, 0x003, 0xFFF))
    return Message(
        method=method,
        message_class=chance.choice(list(MessageClass)),
        transaction_id=chance.randbytes(12),
        attributes=(Software("x" * chance.choice((1, 100))),),
    )


def stun(chance: Chance) -> Attack:
    request = encode(_request(chance))
    match chance.randrange(4):
        case 0:  # as long as 16 bits can say
            request = request[:2] + b"\xff\xfc" + request[4:] + bytes(2000)
        case 1:  # an attribute longer than its message
            request = request[:22] + chance.choice((b"\xff\xff", b"\x00\x01", b"\x7f\xff")) + request[24:]
        case 2:
            request = bent(chance, request)
    return Attack(
        steps=in_pieces(chance, b"\0" + request if chance.random() < 0.1 else request * chance.choice((1, 150)))
    )


def preamble(chance: Chance) -> Attack:
    """Relay legs: bent, in the name of a node, too early with their bytes, or of a pair with itself."""
    said = Preamble(token=bytes([chance.randrange(20)]) * 32, side=bytes([chance.randrange(3)]) * 8)
    line = encode_preamble(said)
    match chance.randrange(5):
        case 0:
            line = bent(chance, line)
        case 1:
            line = encode_node_preamble(said, key=chance.randbytes(32), node="127.0.0.1:1")
        case 2:
            line += chance.randbytes(5000)
    return Attack(
        steps=(*in_pieces(chance, line), chance.choice((0.0, 0.3)), *([bytes(200_000)] * chance.randrange(3)))
    )


def web_leg(chance: Chance) -> Attack:
    """The same inside a WebSocket: cut into frames anywhere, ended in the middle, empty, or too long."""
    said = preamble(chance)
    steps: list[bytes | float] = [_HANDSHAKE.replace(b"/v1", b"/relay") + b"\r\n"]
    for step in said.steps:
        if isinstance(step, bytes):
            cut = chance.randrange(len(step) + 1)
            steps += [frame(part, opcode=chance.choice((2, 2, 2, 1, 0))) for part in (step[:cut], step[cut:])]
        else:
            steps.append(step)
    if chance.random() < 0.3:
        steps.append(frame(b"", opcode=2) * chance.choice((1, 500)))
    return Attack(steps=tuple(steps))


def tls(chance: Chance) -> Attack:
    return Attack(steps=in_pieces(chance, bent(chance, _HELLO) if chance.random() < 0.8 else _HELLO))


def slow(chance: Chance) -> Attack:
    """A byte now and then."""
    said = chance.choice(
        (_HANDSHAKE, encode_preamble(Preamble(token=bytes(32), side=bytes(8))), encode(_request(chance)))
    )
    steps = [step for byte in said[:60] for step in (bytes([byte]), 0.02)]
    return Attack(steps=tuple(steps))


def half_open(chance: Chance) -> Attack:
    """Connects and says nothing, or next to nothing."""
    return Attack(steps=(chance.choice((b"", b"M", b"MIDAIR-", b"\x16", b"\0")), chance.choice((0.0, 0.2, 3.0))))


def _hello() -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="example.org")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


_HELLO = _hello()


def _proxied(chance: Chance, attack: Attack) -> Attack:
    signature = b"\r\n\r\n\x00\r\nQUIT\n"
    header = chance.choice(
        (
            b"PROXY TCP4 203.0.113.%d 192.0.2.1 4711 7420\r\n" % chance.randrange(256),
            b"PROXY TCP6 2001:db8::%x 2001:db8::2 1 2\r\n" % chance.randrange(1 << 16),
            b"PROXY UNKNOWN\r\n",
            signature + b"\x21\x11\x00\x0c" + chance.randbytes(12),
            signature + b"\x21\x21\x00\x24" + chance.randbytes(36),
            signature + b"\x21\x11\xff\xff" + bytes(12),
            signature + b"\x20\x00\x00\x00",
        )
    )
    if chance.random() < 0.5:
        header = bent(chance, header)
    return Attack(steps=(header, *attack.steps), reads=attack.reads, resets=attack.resets, proxied=True)


ATTACKS: dict[str, Callable[[Chance], Attack]] = {
    attack.__name__: attack
    for attack in (noise, http, websocket, mailbox, deaf, stun, preamble, web_leg, tls, slow, half_open)
}
"""By name; each draws one of its kind."""
