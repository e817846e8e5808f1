"""What ``ip link``, ``ip address`` and ``ip route`` do, without a process: rtnetlink(7), as far as a lab needs it."""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["MAIN_TABLE", "Rtnetlink"]

MAIN_TABLE: Final = 254

# linux/netlink.h
_NLM_F_REQUEST, _NLM_F_ACK = 0x1, 0x4
_NLM_F_REPLACE, _NLM_F_EXCL, _NLM_F_CREATE = 0x100, 0x200, 0x400
_NLMSG_ERROR = 2
_NLA_F_NESTED = 0x8000
# linux/rtnetlink.h
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_DELADDR = 16, 20, 21
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_NEWRULE, _RTM_DELRULE = 24, 25, 32, 33
_RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RTN_UNICAST = 4, 0, 253, 1
_RTA_DST, _RTA_OIF, _RTA_PRIORITY = 1, 4, 6
# linux/fib_rules.h
_FRA_SRC, _FR_ACT_TO_TBL = 2, 1
# linux/if_link.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_TXQLEN = 1, 3, 4, 13
_IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 18, 26, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 8, 1
# linux/if_addr.h
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02
# linux/if.h
_IFF_UP, _IFF_NOARP = 0x1, 0x80

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")


class Rtnetlink:
    """A socket into the network stack of the namespace in which it is made. Requests are gathered and carried out
    together by ``flush``: the kernel does them in order, and each is answered.

    Leaving the block closes it.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._requests: list[tuple[str, bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def set_up(
        self, index: int, *, mtu: int | None = None, queue: int | None = None, arp: bool = True, quiet: bool = False
    ) -> None:
        """An interface goes up. ``queue``: packets that may wait in it. ``quiet``: it gets no IPv6 address by itself,
        so it asks for no router either."""
        attributes = b""
        if mtu is not None:
            attributes += _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        if queue is not None:
            attributes += _attribute(_IFLA_TXQLEN, struct.pack("=I", queue))
        if quiet:  # a request of its own: within one, the kernel does this after going up
            mode = _attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE]))
            body = _LINK.pack(0, 0, index, 0, 0) + _nested(_IFLA_AF_SPEC, _nested(socket.AF_INET6, mode))
            self._add(f"interface {index} quiet", _RTM_NEWLINK, 0, body)
        flags = _IFF_UP if arp else _IFF_UP | _IFF_NOARP
        change = _IFF_UP if arp else _IFF_UP | _IFF_NOARP
        self._add(f"interface {index} up", _RTM_NEWLINK, 0, _LINK.pack(0, 0, index, flags, change) + attributes)

    def add_veth(self, name: str, hardware: bytes, *, peer: str, peer_hardware: bytes, peer_namespace: int) -> None:
        """A virtual Ethernet pair with given hardware addresses; the other end is in another namespace."""
        other = (
            _LINK.pack(0, 0, 0, 0, 0)
            + _attribute(_IFLA_IFNAME, peer.encode() + b"\0")
            + _attribute(_IFLA_ADDRESS, peer_hardware)
            + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        )
        info = _attribute(_IFLA_INFO_KIND, b"veth") + _nested(_IFLA_INFO_DATA, _nested(_VETH_INFO_PEER, other))
        body = (
            _LINK.pack(0, 0, 0, 0, 0)
            + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
            + _attribute(_IFLA_ADDRESS, hardware)
            + _nested(_IFLA_LINKINFO, info)
        )
        self._add(f"veth {name}", _RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, body)

    def add_address(self, index: int, address: str) -> None:
        """``192.0.2.1/24`` or ``2001:db8::1/64``, to be used at once: nobody is asked whether he has it."""
        self._address(index, address, _RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL)

    def remove_address(self, index: int, address: str) -> None:
        """The reverse; the routes that came with the address go too."""
        self._address(index, address, _RTM_DELADDR, 0)

    def add_route(self, index: int, prefix: str, *, priority: int, table: int = MAIN_TABLE) -> None:
        """What matches the prefix leaves by the interface; of two such routes the lower priority number counts."""
        self._route(index, prefix, priority, table, _RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_REPLACE)

    def remove_route(self, index: int, prefix: str, *, priority: int, table: int = MAIN_TABLE) -> None:
        """The reverse."""
        self._route(index, prefix, priority, table, _RTM_DELROUTE, 0)

    def add_rule(self, address: str, table: int) -> None:
        """What is sent from an address, ``192.0.2.1/24`` or ``192.0.2.1``, looks for its route in ``table`` first."""
        self._rule(address, table, _RTM_NEWRULE, _NLM_F_CREATE | _NLM_F_EXCL)

    def remove_rule(self, address: str, table: int) -> None:
        """The reverse."""
        self._rule(address, table, _RTM_DELRULE, 0)

    def flush(self) -> None:
        """Carries out what was asked for.

        Raises: OSError for the first request that the kernel refused, which is named; the others were carried out.
        """
        requests, self._requests = self._requests, []
        if not requests:
            return
        self._socket.settimeout(10.0)  # the kernel answers while we send, so nothing is waited for
        self._socket.send(b"".join(body for _, body in requests))
        failed: list[OSError] = []
        answered = 0
        while answered < len(requests):
            answers = self._socket.recv(65536)
            while answers:
                length, kind, _, number, _ = _HEADER.unpack_from(answers)
                if kind == _NLMSG_ERROR:
                    answered += 1
                    code = -struct.unpack_from("=i", answers, _HEADER.size)[0]
                    if code:
                        failed.append(OSError(code, f"{requests[number][0]}: {os.strerror(code)}"))
                answers = answers[_aligned(length) :]
        if failed:
            raise failed[0]

    def _address(self, index: int, address: str, kind: int, flags: int) -> None:
        interface = ip_interface(address)
        family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
        packed = interface.ip.packed
        body = (
            _ADDRESS.pack(family, interface.network.prefixlen, _IFA_F_NODAD, _RT_SCOPE_UNIVERSE, index)
            + _attribute(_IFA_LOCAL, packed)
            + _attribute(_IFA_ADDRESS, packed)
        )
        self._add(f"address {address}", kind, flags, body)

    def _route(self, index: int, prefix: str, priority: int, table: int, kind: int, flags: int) -> None:
        network = ip_network(prefix)
        ipv4 = network.version == 4
        family = socket.AF_INET if ipv4 else socket.AF_INET6
        scope = _RT_SCOPE_LINK if ipv4 else _RT_SCOPE_UNIVERSE
        body = (
            _ROUTE.pack(family, network.prefixlen, 0, 0, table, _RTPROT_STATIC, scope, _RTN_UNICAST, 0)
            + _attribute(_RTA_DST, network.network_address.packed)
            + _attribute(_RTA_OIF, struct.pack("=I", index))
            + _attribute(_RTA_PRIORITY, struct.pack("=I", priority))
        )
        self._add(f"route {prefix}", kind, flags, body)

    def _rule(self, address: str, table: int, kind: int, flags: int) -> None:
        source = ip_interface(address).ip
        family = socket.AF_INET if source.version == 4 else socket.AF_INET6
        body = _ROUTE.pack(family, 0, source.max_prefixlen, 0, table, 0, 0, _FR_ACT_TO_TBL, 0) + _attribute(
            _FRA_SRC, source.packed
        )
        self._add(f"rule from {source}", kind, flags, body)

    def _add(self, what: str, kind: int, flags: int, body: bytes) -> None:
        header = _HEADER.pack(
            _HEADER.size + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK | flags, len(self._requests), 0
        )
        self._requests.append((what, header + body))


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(_aligned(length) - length)


def _nested(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NLA_F_NESTED, value)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
