"""What Linux makes of an ICMP error: the errno of a connect() that it ends, and whether it ends a half-open connection
of a listener. Pure.

Linux's tables are ``icmp_err_convert`` (net/ipv4/icmp.c) and ``icmpv6_err_convert`` (net/ipv6/icmp.c).
"""

from __future__ import annotations

import errno

from midair.lab.packet import IcmpReason

__all__ = ["CONNECT_ERRORS", "FATAL_TO_HALF_OPEN"]

CONNECT_ERRORS: dict[int, dict[IcmpReason, int]] = {
    4: {
        IcmpReason.NET_UNREACHABLE: errno.ENETUNREACH,
        IcmpReason.HOST_UNREACHABLE: errno.EHOSTUNREACH,
        IcmpReason.PORT_UNREACHABLE: errno.ECONNREFUSED,
        IcmpReason.ADMIN_PROHIBITED: errno.EHOSTUNREACH,
        IcmpReason.TIME_EXCEEDED: errno.EHOSTUNREACH,
    },
    6: {
        IcmpReason.NET_UNREACHABLE: errno.ENETUNREACH,
        IcmpReason.HOST_UNREACHABLE: errno.EHOSTUNREACH,
        IcmpReason.PORT_UNREACHABLE: errno.ECONNREFUSED,
        IcmpReason.ADMIN_PROHIBITED: errno.EACCES,
        IcmpReason.TIME_EXCEEDED: errno.EHOSTUNREACH,
    },
}
"""By IP version. What is not here (TOO_BIG) ends no connect()."""

FATAL_TO_HALF_OPEN: dict[int, frozenset[IcmpReason]] = {
    4: frozenset({IcmpReason.NET_UNREACHABLE, IcmpReason.HOST_UNREACHABLE, IcmpReason.TIME_EXCEEDED}),
    6: frozenset({IcmpReason.PORT_UNREACHABLE, IcmpReason.ADMIN_PROHIBITED}),
}
"""By IP version: the errors that end a half-open connection. The others it survives."""
