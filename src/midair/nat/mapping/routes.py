"""Default gateways, read from what each system tells of its routes. Pure: text in, gateways out.

* **Linux**, tried: ``/proc/net/route`` and ``/proc/net/ipv6_route``.
* **macOS, FreeBSD**, not tried: ``route -n get default``, as route(8) describes it.
* **Windows**, not tried: the rows of ``route print``, as Microsoft's documentation shows them; the words around them
  are translated, the numbers are not.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from midair.endpoint import Family
from midair.nat.mapping.outcome import Address

__all__ = ["Gateway", "from_linux_ipv4", "from_linux_ipv6", "from_route_get", "from_route_print"]

_UP, _GATEWAY, _REJECT = 0x1, 0x2, 0x200
"""Flags of linux/route.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The router packets to the internet are given to."""

    address: Address
    interface: str = ""
    """By which it is reached; a link-local address needs it."""


def from_linux_ipv4(table: str) -> Gateway | None:
    """The default route with the lowest metric, if it leads to a router; ``table`` is ``/proc/net/route``."""
    best: tuple[int, Gateway | None] | None = None
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or int(fields[1], 16) or int(fields[7], 16):
            continue
        flags, metric = int(fields[3], 16), int(fields[6])
        if not flags & _UP or flags & _REJECT or (best is not None and best[0] <= metric):
            continue
        # The kernel prints its own 32-bit number, so the bytes stand in this machine's order.
        address = IPv4Address(int(fields[2], 16).to_bytes(4, sys.byteorder))
        best = metric, Gateway(address=address, interface=fields[0]) if flags & _GATEWAY else None
    return None if best is None else best[1]


def from_linux_ipv6(table: str) -> Gateway | None:
    """The same for IPv6; ``table`` is ``/proc/net/ipv6_route``."""
    best: tuple[int, Gateway | None] | None = None
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 10 or int(fields[0], 16) or fields[1] != "00":
            continue
        flags, metric = int(fields[8], 16), int(fields[5], 16)
        if not flags & _UP or flags & _REJECT or (best is not None and best[0] <= metric):
            continue
        gateway = Gateway(address=IPv6Address(int(fields[4], 16)), interface=fields[9])
        best = metric, gateway if flags & _GATEWAY else None
    return None if best is None else best[1]


def from_route_get(output: str) -> Gateway | None:
    """From ``route -n get default`` or ``route -n get -inet6 default``: the lines "gateway:" and "interface:"."""
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in output.splitlines())}
    text = fields.get("gateway", "").partition("%")[0]
    return _gateway(text, fields.get("interface", ""))


def from_route_print(output: str, family: Family) -> Gateway | None:
    """From ``route print -4`` (destination, mask, gateway, interface, metric) or ``-6`` (interface number, metric,
    prefix, gateway)."""
    best: tuple[int, Gateway] | None = None
    for line in output.splitlines():
        fields = line.split()
        if family == 4 and len(fields) == 5 and fields[:2] == ["0.0.0.0", "0.0.0.0"]:
            metric, gateway = fields[4], _gateway(fields[2], "")
        elif family == 6 and len(fields) == 4 and fields[2] == "::/0":
            metric, gateway = fields[1], _gateway(fields[3], fields[0])
        else:
            continue
        if gateway is not None and metric.isdigit() and (best is None or int(metric) < best[0]):
            best = int(metric), gateway
    return None if best is None else best[1]


def _gateway(text: str, interface: str) -> Gateway | None:
    try:
        address: Address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:  # "link#5", "On-link"
        return None
    return Gateway(address=address, interface=interface)
