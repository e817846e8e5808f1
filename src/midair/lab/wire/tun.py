"""TUN interfaces (linux/if_tun.h): IP packets of a network stack, to be read and written through a descriptor."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

__all__ = ["TUN_DEVICE", "can_open_tun", "open_tun"]

TUN_DEVICE: Final = "/dev/net/tun"

_TUNSETIFF, _TUNSETPERSIST, _TUNSETOFFLOAD = 0x400454CA, 0x400454CB, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6 = 0x1, 0x2, 0x4


def can_open_tun() -> bool:
    """Whether TUN interfaces can be made here, given a network namespace of one's own."""
    try:
        os.close(os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def open_tun(name: str, *, offload: bool = False) -> int:
    """Makes a TUN in the namespace the calling thread is in; returns its descriptor, which does not block.

    Each packet read is one of IP. With ``offload`` a ``struct virtio_net_hdr`` stands before it, and TCP segments come
    large and without checksum.

    The interface stays when the descriptor is closed, and goes with its namespace: that takes the kernel no time,
    while it would take some 20 ms here otherwise. Raises: OSError.
    """
    descriptor = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TUN | _IFF_NO_PI | (_IFF_VNET_HDR if offload else 0)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
        if offload:
            fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
