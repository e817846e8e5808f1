"""Clients of the real parts, as few lines as they can be: PCP, TURN over TCP, and an HTTP answer."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from midair.lab.namespace import Namespace

__all__ = ["TurnClient", "connect", "eventually", "listen", "pcp_map", "serve_http", "ssdp_search"]

_SECONDS = 5.0


def connect(place: Namespace, address: str, port: int, *, seconds: float = _SECONDS) -> socket.socket:
    """A TCP connection from a host. Raises: OSError; TimeoutError after so many seconds."""
    with place.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(seconds)
    try:
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    sock.settimeout(_SECONDS)
    return sock


def listen(place: Namespace, port: int) -> socket.socket:
    """A TCP listener at a host, for both IP versions."""
    with place.entered():
        sock = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    sock.settimeout(_SECONDS)
    return sock


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within five seconds."""
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def serve_http(listener: socket.socket, text: bytes) -> None:
    """Answers one request."""
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(_SECONDS)
        accepted.recv(65536)
        accepted.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))


def pcp_map(place: Namespace, address: str, router: str, port: int) -> tuple[int, str, int]:
    """Asks for a TCP mapping (RFC 6887 11.1), or by IPv6 for a hole in the firewall: the result code, and the outside
    endpoint."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    client = socket.inet_pton(socket.AF_INET6, address if ":" in address else f"::ffff:{address}")
    request = struct.pack("!BBHI16s", 2, 1, 0, 120, client)
    request += struct.pack("!12sB3xHH16s", os.urandom(12), socket.IPPROTO_TCP, port, port, bytes(16))
    with place.entered(), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_SECONDS)
        sock.connect((router, 5351))
        sock.send(request)
        answer = sock.recv(1100)
    assert answer[:2] == b"\x02\x81"
    outside_port, outside = struct.unpack_from("!H16s", answer, 42)
    return answer[3], socket.inet_ntop(socket.AF_INET6, outside).removeprefix("::ffff:"), outside_port


def ssdp_search(place: Namespace) -> str:
    """Where a gateway says that its description is (UPnP Device Architecture 1.3.2)."""
    request = (
        'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n'
        "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    )
    with place.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_SECONDS)
        sock.sendto(request.encode(), ("239.255.255.250", 1900))
        answer = sock.recv(2000).decode()
    return next(line.partition(" ")[2] for line in answer.splitlines() if line.upper().startswith("LOCATION:"))


class TurnClient:
    """A client of TCP allocations (RFC 8656, RFC 6062) with long-term credentials."""

    _ALLOCATE, _CREATE_PERMISSION, _CONNECTION_BIND = 0x0003, 0x0008, 0x000B
    _CONNECTION_ATTEMPT = 0x001C
    _USERNAME, _INTEGRITY, _ERROR, _CONNECTION_ID, _PEER, _REALM = 0x0006, 0x0008, 0x0009, 0x002A, 0x0012, 0x0014
    _NONCE, _RELAYED, _TRANSPORT = 0x0015, 0x0016, 0x0019
    _COOKIE = 0x2112A442

    def __init__(self, place: Namespace, address: str, port: int, *, user: str, password: str) -> None:
        self._place, self._address, self._port = place, address, port
        self._user, self._password = user, password
        self._realm = self._nonce = b""
        self._control = connect(place, address, port)
        self._attempts: list[dict[int, bytes]] = []

    def close(self) -> None:
        self._control.close()

    def allocate(self) -> tuple[str, int]:
        """The relayed endpoint."""
        transport = {self._TRANSPORT: struct.pack("!B3x", socket.IPPROTO_TCP)}
        refusal = self._ask(self._control, self._ALLOCATE, transport)
        assert refusal[self._ERROR][2:4] == b"\x04\x01"  # 401
        self._realm, self._nonce = refusal[self._REALM], refusal[self._NONCE]
        return self._endpoint(self._ask(self._control, self._ALLOCATE, transport)[self._RELAYED])

    def permit(self, address: str) -> None:
        """Lets a peer's address in."""
        number = int.from_bytes(socket.inet_aton(address), "big") ^ self._COOKIE
        peer = struct.pack("!BBHI", 0, 1, 0, number)
        assert self._ERROR not in self._ask(self._control, self._CREATE_PERMISSION, {self._PEER: peer})

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """The data connection of the next peer, and the peer's endpoint."""
        kind, attempt = self._read(self._control)
        assert kind == self._CONNECTION_ATTEMPT
        data = connect(self._place, self._address, self._port)
        answer = self._ask(data, self._CONNECTION_BIND, {self._CONNECTION_ID: attempt[self._CONNECTION_ID]})
        assert self._ERROR not in answer
        return data, self._endpoint(attempt[self._PEER])

    def _endpoint(self, value: bytes) -> tuple[str, int]:
        _, port, number = struct.unpack("!HHI", value)
        return socket.inet_ntoa(struct.pack("!I", number ^ self._COOKIE)), port ^ self._COOKIE >> 16

    def _ask(self, sock: socket.socket, kind: int, attributes: dict[int, bytes]) -> dict[int, bytes]:
        if self._nonce:
            attributes |= {self._USERNAME: self._user.encode(), self._REALM: self._realm, self._NONCE: self._nonce}
        body = b"".join(
            struct.pack("!HH", number, len(value)) + value + bytes(-len(value) % 4)
            for number, value in attributes.items()
        )
        identifier = os.urandom(12)
        if self._nonce:
            secret = f"{self._user}:{self._realm.decode()}:{self._password}".encode()
            key = hashlib.md5(secret, usedforsecurity=False).digest()
            head = struct.pack("!HHI12s", kind, len(body) + 24, self._COOKIE, identifier)
            body += struct.pack("!HH", self._INTEGRITY, 20) + hmac.digest(key, head + body, "sha1")
        sock.sendall(struct.pack("!HHI12s", kind, len(body), self._COOKIE, identifier) + body)
        answered, answer = self._read(sock)
        assert answered & ~0x0110 == kind
        return answer

    def _read(self, sock: socket.socket) -> tuple[int, dict[int, bytes]]:
        kind, length, _, _ = struct.unpack("!HHI12s", _exactly(sock, 20))
        body = _exactly(sock, length)
        attributes = {}
        while body:
            number, size = struct.unpack_from("!HH", body)
            attributes[number] = body[4 : 4 + size]
            body = body[4 + size + -size % 4 :]
        return kind, attributes


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, "the connection has ended"
        data += more
    return data
