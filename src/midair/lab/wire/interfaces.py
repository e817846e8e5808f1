"""How hosts and Linux routers are plugged into the wire: network interfaces, made in their namespaces.

An interface is a TUN, through whose descriptor the wire reads and writes IP packets. Where ``/dev/net/tun`` cannot be
opened, which a user namespace does not help with, it is one end of a virtual Ethernet pair; the other end lies in a
namespace of the wire's own, below a packet socket.

Either way the kernel finds a link without neighbours: nobody asks for hardware addresses, routers or duplicates, and
what is not routed does not arrive.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from midair.lab.namespace import Namespace
from midair.lab.wire.plug import Framing, Plug
from midair.lab.wire.rtnetlink import MAIN_TABLE, Rtnetlink
from midair.lab.wire.tun import TUN_DEVICE, can_open_tun, open_tun
from midair.lab.wire.veth import make_veth

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from midair.lab.blueprint import Interface

__all__ = ["Interfaces", "readdress"]

_QUEUE_PACKETS = 2000
"""What may wait in a TUN for the wire. A sender whose window opens fills the 500 it has by default at once, and what
does not fit is loss that no link asked for."""
_PARAMETERS = {"net/ipv4/tcp_orphan_retries": b"3", "net/ipv4/tcp_fin_timeout": b"2"}
"""A connection that no process holds any more, but whose end the other side has not confirmed, keeps its namespace from
going. When the wire is gone nobody will ever confirm it; so the kernel gives up after seconds, not after minutes."""
_ROUTE_PRIORITY = 1024
_SECOND_TABLE = 100


class Interfaces:
    """Makes the interfaces of a lab; a context manager.

    With ``offload`` the kernels hand over large segments and unfinished checksums, as they do to hardware: fast, but
    links then delay and lose such a large segment as a whole. ``ethernet`` chooses between the two kinds of interface;
    by default by whether ``/dev/net/tun`` can be opened.

    Raises: OSError when the wire needs a namespace of its own and does not get it; ValueError for ``offload`` without
    TUN.
    """

    def __init__(self, *, offload: bool = False, ethernet: bool | None = None) -> None:
        self._ethernet = not can_open_tun() if ethernet is None else ethernet
        if self._ethernet and offload:
            raise ValueError(f"offload needs {TUN_DEVICE}, which cannot be opened here")
        if self._ethernet:
            self._framing = Framing.ETHERNET
        else:
            self._framing = Framing.OFFLOAD if offload else Framing.NONE
        self._offload = offload
        self._far = Namespace("wire") if self._ethernet else None
        self._descriptors: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def make(self, namespace: Namespace, interface: Interface, *, mtu: int = 1500, number: int = 0) -> Plug:
        """Makes an interface with its addresses and routes. It is up, and loopback too.

        ``number`` is that of the interface at its node. Where two interfaces have the same route that of the first one
        counts, but what is sent from an address of the second leaves by the second: both ways out can be used at once.

        Raises: OSError.
        """
        if self._far is not None:
            peer = f"v{len(self._descriptors)}"
            self._descriptors.append(make_veth(namespace, interface.name, self._far, peer=peer, mtu=mtu))
        with namespace.entered(), Rtnetlink() as link:
            if self._far is None:
                self._descriptors.append(open_tun(interface.name, offload=self._offload))
            with contextlib.suppress(OSError):  # it may be closed to us, and what is left then goes later
                for parameter, value in _PARAMETERS.items():
                    Path(f"/proc/sys/{parameter}").write_bytes(value)
            index = socket.if_nametoindex(interface.name)
            link.set_up(socket.if_nametoindex("lo"))
            link.set_up(index, mtu=mtu, queue=_QUEUE_PACKETS, arp=False, quiet=True)
            _add_addresses(link, index, interface, number)
            link.flush()
        return Plug(descriptor=self._descriptors[-1], framing=self._framing)

    def close(self) -> None:
        """Closes the descriptors on this side, and so cuts everything that the wire has not got by now. Idempotent."""
        descriptors, self._descriptors = self._descriptors, []
        for descriptor in descriptors:
            os.close(descriptor)
        if self._far is not None:
            self._far.close()


def readdress(namespace: Namespace, old: Interface, new: Interface, *, number: int = 0) -> None:
    """Gives an interface other addresses and routes, as when a computer joins another network. Connections from an old
    address stay, but can send nothing any more. Raises: OSError."""
    with namespace.entered(), Rtnetlink() as link:
        index = socket.if_nametoindex(old.name)
        _remove_addresses(link, index, old, number)
        _add_addresses(link, index, new, number)
        link.flush()


def _add_addresses(link: Rtnetlink, index: int, interface: Interface, number: int) -> None:
    for address in interface.addresses:
        link.add_address(index, address)
    for table in _tables(number):
        for route in interface.routes:
            link.add_route(index, route, priority=_ROUTE_PRIORITY + number, table=table)
    if number:
        for address in interface.addresses:
            link.add_rule(address, _SECOND_TABLE + number)


def _remove_addresses(link: Rtnetlink, index: int, interface: Interface, number: int) -> None:
    if number:
        for address in interface.addresses:
            link.remove_rule(address, _SECOND_TABLE + number)
    for table in _tables(number):
        for route in interface.routes:
            link.remove_route(index, route, priority=_ROUTE_PRIORITY + number, table=table)
    for address in interface.addresses:
        link.remove_address(index, address)


def _tables(number: int) -> tuple[int, ...]:
    return (MAIN_TABLE, _SECOND_TABLE + number) if number else (MAIN_TABLE,)
