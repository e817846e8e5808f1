"""PCP and NAT-PMP as two dialects of one conversation: what to send for one mapping, and what an answer means for it.

Both are spoken with the same port of the router, and a server of one answers the other's requests with "unsupported
version". Only what answers *our* request counts: PCP repeats a nonce of 12 random bytes; NAT-PMP repeats no more than
the internal port, so there it is the connected socket that keeps others than the router out.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Protocol as Interface

import msgspec

from midair.endpoint import Endpoint
from midair.nat.mapping import natpmp, pcp
from midair.nat.mapping.epoch import NAT_PMP_SLACK, PCP_SLACK, Epoch
from midair.nat.mapping.outcome import MalformedError, Protocol, can_be_external

__all__ = ["Announced", "Denied", "Dialect", "Granted", "NatPmp", "Pcp", "Reading", "Removed"]


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """The router holds the mapping."""

    external: Endpoint
    lifetime: int
    """Seconds, at least 1."""


class Removed(msgspec.Struct, frozen=True):
    """The router says that the mapping is gone."""


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """The router says no."""

    code: int | None
    text: str
    other_version: bool = False
    """It is only that this dialect is not spoken there."""
    double_nat: bool = False
    """Because there is another NAT between us and the server."""
    broken: bool = False
    """It says yes, to something that cannot be."""


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """Not about our mapping, but about the router."""

    lost: bool
    """It has lost its mappings, or its address has changed."""


Reading = Granted | Removed | Denied | Announced


class Dialect(Interface):
    """What the machine needs of a protocol."""

    protocol: Protocol

    def requests(self, lifetime: int, external: Endpoint | None) -> list[bytes]:
        """The datagrams that ask for the mapping, or with ``lifetime`` 0 for its removal."""
        ...

    def read(self, data: bytes, now: float) -> Reading | None:
        """What a datagram from the router means for our mapping; None: nothing."""
        ...


class Pcp:
    """RFC 6887."""

    protocol = Protocol.PCP

    def __init__(self, internal: Endpoint, nonce: bytes) -> None:
        self._internal = internal
        self._nonce = nonce
        self._epoch = Epoch(PCP_SLACK)

    def requests(self, lifetime: int, external: Endpoint | None) -> list[bytes]:
        wish = external if lifetime else None  # section 15: both are zero when a mapping is deleted
        request = pcp.encode_map(
            nonce=self._nonce,
            client=self._internal.address,
            internal_port=self._internal.port,
            external=wish,
            lifetime=lifetime,
        )
        return [request]

    def read(self, data: bytes, now: float) -> Reading | None:
        try:
            response = pcp.decode(data)
        except MalformedError:
            return None
        if response.version != pcp.VERSION:
            return Denied(code=response.result, text=f"speaks version {response.version}", other_version=True)
        if response.opcode == pcp.ANNOUNCE and response.result == pcp.SUCCESS:
            return Announced(lost=self._epoch.lost(response.epoch, now))
        mapped = response.mapped
        if mapped is None or (mapped.nonce, mapped.protocol, mapped.internal_port) != (
            self._nonce,
            pcp.TCP,
            self._internal.port,
        ):
            return None
        self._epoch.lost(response.epoch, now)
        if response.result != pcp.SUCCESS:
            return Denied(
                code=response.result,
                text=pcp.result_name(response.result),
                double_nat=response.result == pcp.ADDRESS_MISMATCH,
            )
        if not response.lifetime:
            return Removed()
        if not can_be_external(mapped.external):
            return Denied(code=None, text="the external endpoint cannot be one", broken=True)
        return Granted(external=mapped.external, lifetime=response.lifetime)


class NatPmp:
    """RFC 6886. The answer has two halves, the address and the port, which come in any order."""

    protocol = Protocol.NAT_PMP

    def __init__(self, internal: Endpoint) -> None:
        self._internal = internal
        self._epoch = Epoch(NAT_PMP_SLACK)
        self._address: IPv4Address | None = None
        self._mapped: natpmp.MapAnswer | None = None

    def requests(self, lifetime: int, external: Endpoint | None) -> list[bytes]:
        port = external.port if external and lifetime else 0  # section 3.4: zero when a mapping is deleted
        self._mapped = None
        mapping = natpmp.encode_map_request(internal_port=self._internal.port, external_port=port, lifetime=lifetime)
        return [natpmp.encode_address_request(), mapping] if lifetime else [mapping]

    def read(self, data: bytes, now: float) -> Reading | None:
        try:
            answer = natpmp.decode(data)
        except MalformedError:
            return None
        match answer:
            case natpmp.ErrorAnswer(version=version, result=result, internal_port=port):
                if port not in (None, self._internal.port):
                    return None
                other = version != 0
                text = f"speaks version {version}" if other else natpmp.result_name(result)
                return Denied(code=result, text=text, other_version=other)
            case natpmp.AddressAnswer(epoch=epoch, address=address):
                changed = self._address not in (None, address)
                self._address = address
                lost = self._epoch.lost(epoch, now)
                return self._whole() or Announced(lost=lost or changed)
            case natpmp.MapAnswer(epoch=epoch, internal_port=port):
                if port != self._internal.port:
                    return None
                self._epoch.lost(epoch, now)
                if not answer.lifetime:
                    return Removed()
                self._mapped = answer
                return self._whole()

    def _whole(self) -> Reading | None:
        if self._address is None or self._mapped is None:
            return None
        mapped, self._mapped = self._mapped, None
        external = Endpoint(self._address, mapped.external_port)
        if not can_be_external(external):
            return Denied(code=None, text="the external endpoint cannot be one", broken=True)
        return Granted(external=external, lifetime=mapped.lifetime)
