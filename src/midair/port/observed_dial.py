"""A dial that tells what became of its SYN: an answer, a RST, an ICMP error and which one, or nothing.

connect() says ECONNREFUSED for a RST and for an ICMP error alike; the queue of extended errors of Linux (ip(7),
IP_RECVERR) tells them apart. Elsewhere both are called a RST.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

from midair.endpoint import Endpoint
from midair.port.failures import ConnectFailure, classify
from midair.port.sockets import new_socket

__all__ = ["Answer", "DialOutcome", "ObservedDial"]

_RECEIVE_ERRORS = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR and IPV6_RECVERR of linux/in.h and linux/in6.h."""
_HOP_LIMITS = {
    4: (socket.IPPROTO_IP, socket.IP_TTL),
    6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}
_MSG_ERRQUEUE = 0x2000
_EXTENDED_ERROR = struct.Struct("=IBBBB")
"""struct sock_extended_err of linux/errqueue.h: errno, origin, type, code, padding."""
_FROM_ICMP = (2, 3)
"""SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6."""
_OFFENDER = {4: (20, 4), 6: (24, 16)}
"""Where in the extended error the address is of who sent it, and how long: SO_EE_OFFENDER is a sockaddr behind it."""
_SO_ATTACH_FILTER = 26
_NO_BARE_SYN = (
    (0x30, 0, 0, 13),  # ldb [13]         TCP's flags; a socket's filter begins at the TCP header
    (0x54, 0, 0, 0x12),  # and #0x12      SYN and ACK
    (0x15, 0, 1, 0x02),  # jeq #0x02, drop, keep
    (0x06, 0, 0, 0),  # ret #0
    (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1
)
"""Classic BPF: the socket does not see a SYN without ACK."""


class Answer(Enum):
    """What came back."""

    CONNECTED = "connected"
    RST = "rst"
    ICMP = "icmp"
    SILENCE = "silence"
    IMPOSSIBLE = "impossible"
    """The dial could not be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialOutcome:
    """What became of one dial."""

    answer: Answer
    icmp: tuple[int, int] = (0, 0)
    """Type and code, of an ICMP error."""
    seconds: float = 0.0
    reporter: IPv4Address | IPv6Address | None = None
    """Who sent the ICMP error."""


class ObservedDial:
    """One dial, from an address of ours and a port that is known before. A context manager; what it connects to is
    closed with it, by a RST."""

    def __init__(self, source: Endpoint, *, ignore_bare_syns: bool = False, hops: int | None = None) -> None:
        """``source`` may have port 0. ``ignore_bare_syns``: a SYN that crosses ours does not count, only a SYN-ACK
        does, so that the other end has to have seen our SYN (Linux). ``hops``: how far the SYN goes at most.

        Raises: OSError.
        """
        self._sock = new_socket(source.family)
        self._family = source.family
        try:
            if hops is not None:
                self._sock.setsockopt(*_HOP_LIMITS[source.family], hops)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if sys.platform == "linux":
                self._sock.setsockopt(*_RECEIVE_ERRORS[source.family], 1)
                if ignore_bare_syns:
                    _attach_filter(self._sock)
            self._sock.bind(source.to_sockaddr())
        except BaseException:
            self._sock.close()
            raise

    @property
    def source(self) -> Endpoint:
        """Where it dials from."""
        return Endpoint.from_sockaddr(self._sock.getsockname())

    async def dial(self, remote: Endpoint, *, seconds: float) -> DialOutcome:
        """Sends the SYN, and waits that long for an answer. Once only. Cancelling leaves it to ``close``."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome = DialOutcome(answer=Answer.CONNECTED)
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_connect(self._sock, remote.to_sockaddr())
        except TimeoutError:
            outcome = DialOutcome(answer=Answer.SILENCE)
        except OSError as error:
            outcome = self._failed(error)
        return replace(outcome, seconds=loop.time() - began)

    def close(self) -> None:
        """Ends it, whatever it is doing. Idempotent."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _failed(self, error: OSError) -> DialOutcome:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                _, ancillary, _, _ = self._sock.recvmsg(0, 512, _MSG_ERRQUEUE)
                for _, _, data in ancillary:
                    _, origin, kind, code, _ = _EXTENDED_ERROR.unpack_from(data)
                    if origin in _FROM_ICMP:
                        begin, length = _OFFENDER[self._family]
                        reporter = ip_address(data[begin : begin + length]) if len(data) >= begin + length else None
                        return DialOutcome(answer=Answer.ICMP, icmp=(kind, code), reporter=reporter)
        if classify(error) in (ConnectFailure.REFUSED, ConnectFailure.RESET):
            return DialOutcome(answer=Answer.RST)
        return DialOutcome(answer=Answer.IMPOSSIBLE)


def _attach_filter(sock: socket.socket) -> None:
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in _NO_BARE_SYN)
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(_NO_BARE_SYN), ctypes.addressof(instructions))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
