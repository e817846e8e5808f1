"""Virtual Ethernet pairs that carry nothing but IP packets, for where there are no TUN interfaces.

All interfaces of hosts have the same hardware address, and ask nobody for another's: the sender takes its own for that
of everybody else (``IFF_NOARP``). So the header before each packet is constant.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from typing import TYPE_CHECKING

from midair.lab.wire.plug import FAR_HARDWARE, HARDWARE
from midair.lab.wire.rtnetlink import Rtnetlink

if TYPE_CHECKING:
    from midair.lab.namespace import Namespace

__all__ = ["make_veth"]

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_ETH_P_ALL = 0x0003
_RECEIVE_BUFFER_BYTES = 4 << 20
# linux/sockios.h, linux/ethtool.h
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM, _ETHTOOL_STSO, _ETHTOOL_SGSO = 0x17, 0x1F, 0x24


def make_veth(namespace: Namespace, name: str, far: Namespace, *, peer: str, mtu: int) -> int:
    """Makes a pair: ``name`` in ``namespace``, still down, and ``peer`` in ``far``, up. Returns the descriptor of a
    packet socket on the latter; it does not block. Raises: OSError."""
    with namespace.entered(), Rtnetlink() as link:
        link.add_veth(name, HARDWARE, peer=peer, peer_hardware=FAR_HARDWARE, peer_namespace=far.fileno())
        link.flush()
        _leave_nothing_to_hardware(name)
    with far.entered(), Rtnetlink() as link:
        link.set_up(socket.if_nametoindex(peer), mtu=mtu, arp=False, quiet=True)
        link.flush()
        return _packet_socket(peer)


def _leave_nothing_to_hardware(name: str) -> None:
    """Packets leave with their checksums, and no larger than the MTU."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in (_ETHTOOL_SGSO, _ETHTOOL_STSO, _ETHTOOL_STXCSUM):
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0))
            fcntl.ioctl(any_socket, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), ctypes.addressof(value)))


def _packet_socket(name: str) -> int:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except PermissionError:  # in a user namespace: as much as one may
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        sock.bind((name, _ETH_P_ALL))
        return sock.detach()
    finally:
        sock.close()
