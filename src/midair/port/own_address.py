"""Which of our addresses the system would use to reach the world."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from midair.endpoint import Endpoint, Family

__all__ = ["source_address"]

# Addresses nobody has (RFC 5737, RFC 3849). Nothing is sent there: connecting a UDP socket only asks the routing table.
_NOBODY = {4: "192.0.2.1", 6: "2001:db8::1"}


def source_address(family: Family) -> Endpoint | None:
    """The source of the default route, with port 0; None where the family leads nowhere."""
    sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    with sock:
        try:
            sock.connect((_NOBODY[family], 9))
        except OSError:
            return None
        address = ip_address(sock.getsockname()[0])
    return None if address.is_unspecified or address.is_loopback else Endpoint(address, 0)
