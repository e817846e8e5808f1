"""A router of the lab's internet: the longest prefix, the time to live, and ICMP for what cannot go on. Pure."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from midair.lab.node import NEVER
from midair.lab.packet import IcmpReason, address_bytes, echo_reply, icmp_error, is_multicast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from midair.lab.blueprint import Route, RouterPart
    from midair.lab.node import Emission
    from midair.lab.packet import Packet

__all__ = ["Router", "RoutingTable"]

_CACHED_DESTINATIONS = 4096
_ITSELF = -1


class Router:
    """Forwards by the longest prefix, decrements the time to live, answers by ICMP what it cannot forward (RFC 1812
    4.3.3, 5.2.7), and answers echo requests to its own addresses. Multicast goes nowhere."""

    __slots__ = ("_addresses", "_ports", "_table", "part")

    wake_at = NEVER

    def __init__(self, part: RouterPart) -> None:
        self.part = part
        self._addresses = [address_bytes(address) for address in part.addresses]
        self._table = RoutingTable(part.routes)
        self._ports: dict[bytes, int | None] = {}
        """What was looked up before, by destination."""

    def receive(self, packet: Packet, port: int, now: float) -> Sequence[Emission]:
        destination = packet.destination
        try:
            out = self._ports[destination]
        except KeyError:
            out = self._look_up(destination)
        if out is not None and out >= 0 and packet.decrement_ttl():
            return ((out, packet),)
        return self._answer(packet, port, out)

    def tick(self, now: float) -> Sequence[Emission]:
        return ()

    def _look_up(self, destination: bytes) -> int | None:
        if len(self._ports) >= _CACHED_DESTINATIONS:
            self._ports.clear()
        found = _ITSELF if destination in self._addresses else self._table.port_towards(destination)
        self._ports[destination] = found
        return found

    def _answer(self, packet: Packet, port: int, out: int | None) -> Sequence[Emission]:
        if out == _ITSELF and packet.is_echo_request:
            return ((port, echo_reply(packet)),)
        if is_multicast(packet.destination):
            return ()
        if out is None:
            reason = IcmpReason.NET_UNREACHABLE
        elif out == _ITSELF:
            reason = IcmpReason.PORT_UNREACHABLE
        else:
            reason = IcmpReason.TIME_EXCEEDED
        sender = next((address for address in self._addresses if len(address) == len(packet.source)), None)
        if sender is None or packet.is_icmp_error:
            return ()
        return ((port, icmp_error(reason, packet, sender=sender)),)


class RoutingTable:
    """Prefixes and the ports they are reached by."""

    __slots__ = ("_prefixes",)

    def __init__(self, routes: Iterable[Route]) -> None:
        prefixes = [(ip_network(prefix), port) for prefix, port in routes]
        prefixes.sort(key=lambda entry: -entry[0].prefixlen)
        self._prefixes = [
            (
                len(network.network_address.packed),
                int(network.netmask),
                int(network.network_address),
                port,
            )
            for network, port in prefixes
        ]

    def port_towards(self, destination: bytes) -> int | None:
        """The port of the longest prefix that matches; None if none does."""
        size, number = len(destination), int.from_bytes(destination, "big")
        for length, mask, network, port in self._prefixes:
            if length == size and number & mask == network:
                return port
        return None
