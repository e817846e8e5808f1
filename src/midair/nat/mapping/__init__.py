"""Asking the home router for a TCP port, so that connections from outside reach ours: PCP, NAT-PMP and UPnP IGD.

    async with PortMapper() as mapper:
        mappings = await mapper.open_mapping(local_port)

The routers are asked in all three at once, and each needs to give one mapping only: PCP is asked for a port at once,
NAT-PMP when PCP is not known there or silent, and UPnP when its router has been found and nobody else has given a port
by then. All three would mean three holes that lead to the same place.

Everything a router says is checked as what it is, a message from a stranger: it must come from the address that was
asked, answer what was asked, and be small; nothing in it makes us talk to anybody else.

Left out:

* PCP's PEER, its options, authentication (RFC 7652) and servers named by DHCP (RFC 7291): the default gateway is who
  translates our packets at home.
* IPv6 pinholes by UPnP (AddPinhole): miniupnpd gives them over IPv6 only, which would need the search and HTTP there
  too; PCP gives the same in one datagram.
* UPnP's events and its announcements: what it has forgotten is asked for again at half its lifetime.
* Asking again after a refusal: whoever wants to, opens another mapper.
"""

from midair.nat.mapping.mapper import PortMapper
from midair.nat.mapping.outcome import MappingReport, Outcome, PortMapping, Protocol, Result
from midair.nat.mapping.routes import Gateway

__all__ = ["Gateway", "MappingReport", "Outcome", "PortMapper", "PortMapping", "Protocol", "Result"]
