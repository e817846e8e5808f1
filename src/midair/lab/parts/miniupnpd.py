"""miniupnpd in a lab's Linux router: the port mapping daemon of most home routers, by UPnP IGD, NAT-PMP and PCP.

It maps ports only when it takes its outside address for a public one. Behind an address reserved for documentation,
benchmarks, carriers or private networks it refuses, as a router behind another NAT does: by NAT-PMP with result 3,
network failure; by PCP with result 8, no resources; by UPnP it names no outside address, and fails with 501. So a lab
in which it is to work needs addresses that are in no list of reserved ones:

    with Lab("kernel:openwrt x drop", ordinary_addresses=True) as lab, Miniupnpd(lab.router("a.1")):
        lab.a.run(["natpmpc", "-g", "10.1.0.1", "-a", "40001", "40001", "tcp", "120"])
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from typing import TYPE_CHECKING, Final

from midair.lab.kernel.names import MAPPED_DESTINATION, MAPPED_FORWARD, MAPPED_SOURCE, TABLE
from midair.lab.parts.service import Service, program
from midair.lab.programs import find_program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from midair.lab.namespace import Namespace

__all__ = ["Miniupnpd"]

_PMP_PORT: Final = 5351
"""RFC 6886 3, RFC 6887 19.1."""
_SSDP_PORT: Final = 1900
_SIOCGIFADDR: Final = 0x8915  # linux/sockios.h


class Miniupnpd(Service):
    """A running daemon in a router that :func:`midair.lab.kernel.configure` has set up; a context manager.

    ``lan`` names the inside interfaces. Without ``upnp`` it speaks only NAT-PMP and PCP, without ``pmp`` only UPnP.
    ``options`` are further lines of its configuration: ``{"min_lifetime": "10"}``. Its mappings end with it.

    Raises: ServiceUnavailable; OSError for interfaces that are not there.
    """

    http_port: Final = 5000
    """Where UPnP's description is: ``http://ROUTER:5000/rootDesc.xml``."""

    def __init__(
        self,
        router: Namespace,
        *,
        wan: str = "wan",
        lan: Sequence[str] = ("lan0",),
        upnp: bool = True,
        pmp: bool = True,
        options: Mapping[str, str] | None = None,
    ) -> None:
        settings = [
            ("ext_ifname", wan),
            *(("listening_ip", place) for place in _listening_places(router, lan)),
            ("http_port", str(self.http_port)),
            ("enable_upnp", "yes" if upnp else "no"),
            ("enable_natpmp", "yes" if pmp else "no"),
            ("secure_mode", "yes"),
            ("upnp_table_name", TABLE),
            ("upnp_nat_table_name", TABLE),
            ("upnp_forward_chain", MAPPED_FORWARD),
            ("upnp_nat_chain", MAPPED_DESTINATION),
            ("upnp_nat_postrouting_chain", MAPPED_SOURCE),
            *(options or {}).items(),
        ]
        rights = ("allow 1024-65535 0.0.0.0/0 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535")
        listens = [("udp", _SSDP_PORT), ("tcp", self.http_port)] if upnp else []
        if pmp:
            listens.append(("udp", _PMP_PORT))
        super().__init__(
            router,
            [program("miniupnpd", "miniupnpd-nftables"), "-d", "-f", "{configuration}", "-P", "{scratch}"],
            listens=listens,
            configuration="\n".join([*(f"{name}={value}" for name, value in settings), *rights, ""]),
        )

    def close(self) -> None:
        """Ends it, and its mappings with it. Idempotent."""
        if not self.running:
            return
        super().close()
        chains = (MAPPED_FORWARD, MAPPED_DESTINATION, MAPPED_SOURCE)
        flush = "\n".join(f"flush chain inet {TABLE} {chain}" for chain in chains)
        self.place.run([find_program("nft") or "nft", "-f", "-"], input=flush)


def _listening_places(router: Namespace, lan: Sequence[str]) -> list[str]:
    """What it is to listen on. It serves only clients in the network of an address it listens on. Where interfaces
    share a network the address of each stands for itself alone, so the last one is named by address and network."""
    if len(lan) == 1:
        return list(lan)
    with router.entered():
        with open("/proc/thread-self/net/route", encoding="ascii") as file:
            routes = [line.split() for line in file.readlines()[1:]]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("16s24x", lan[-1].encode()))
    address = socket.inet_ntoa(answer[20:24])
    networks = [
        IPv4Network((_from_proc(destination), str(_from_proc(mask))))
        for interface, destination, _, _, _, _, _, mask, *_ in routes
        if interface in lan
    ]
    shared = next(network for network in collapse_addresses(networks) if IPv4Address(address) in network)
    return [*lan[:-1], f"{address}/{shared.prefixlen}"]


def _from_proc(word: str) -> IPv4Address:
    """An address in network byte order, printed as a number of the machine's."""
    return IPv4Address(int(word, 16).to_bytes(4, sys.byteorder))
