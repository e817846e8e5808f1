"""What can be known of the outside endpoint a host's next connection will have. Pure.

The host asks the server, and learns the endpoint of that connection. Whether it is also that of the next one, to the
peer, depends on all NATs in the row: the outermost that does not keep the port of the one before decides on the
pattern, and if one of them maps by destination, all further out have to make a new mapping.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from midair.lab.behaviour import Allocation, Mapping, Pooling, PortRule

if TYPE_CHECKING:
    from midair.lab.ceiling.ways import Gate

__all__ = ["Outside", "outside_of"]

_DEPENDENCE = (
    Mapping.NONE,
    Mapping.ENDPOINT_INDEPENDENT,
    Mapping.ADDRESS_DEPENDENT,
    Mapping.ADDRESS_AND_PORT_DEPENDENT,
    Mapping.CONNECTION_DEPENDENT,
)
"""From what is known best to what is known least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Of one chain of gates."""

    mapping: Mapping = Mapping.NONE
    """Of all its NATs together."""
    because: Gate | None = None
    """Whose mapping makes a new endpoint for the peer; None: the endpoint the server sees is the one the peer sees."""
    counting: Gate | None = None
    """Who takes the next port in a row for a new mapping, if the next port can be told from the last one."""
    ports: int = 1
    """How many ports a new mapping may have, otherwise."""
    addresses: int = 1
    """How many addresses it may have."""

    @property
    def known(self) -> bool:
        """Whether the endpoint that the server sees is the one the peer will see."""
        return self.because is None

    @property
    def choices(self) -> int:
        """Endpoints that a new mapping may have, for who cannot predict."""
        return self.ports * self.addresses


def outside_of(gates: tuple[Gate, ...], *, held: bool = True) -> Outside:
    """Of a host behind these gates, from the inside out. ``held``: the server's connection stays open."""
    outside = Outside()
    for gate in gates:
        behaviour, allocation = gate.behaviour, gate.behaviour.allocation
        if not behaviour.translates:
            continue
        mapping = max(outside.mapping, behaviour.mapping, key=_DEPENDENCE.index)
        own = behaviour.mapping is not Mapping.ENDPOINT_INDEPENDENT
        lines = allocation.addresses if allocation.pooling is Pooling.BY_DESTINATION else 1
        if not own and outside.known and lines == 1:
            outside = replace(outside, mapping=mapping)
            continue
        addresses = 1 if allocation.pooling is Pooling.PAIRED else allocation.addresses
        ports, counting = outside.ports, outside.counting
        match allocation.rule:
            case PortRule.PRESERVING:
                pass
            case PortRule.PRESERVING_UNTIL_CLASH:
                # The mapping towards the server has the port already, unless each port is new anyway.
                if own and outside.known and held:
                    counting = gate
            case PortRule.SEQUENTIAL:
                counting = gate
            case _:
                ports, counting = _ports(allocation), None
        if ports == 1 and counting is None and addresses == 1:
            outside = replace(outside, mapping=mapping)
        else:
            outside = Outside(mapping=mapping, because=gate, counting=counting, ports=ports, addresses=addresses)
    return outside


def _ports(allocation: Allocation) -> int:
    """From which one is drawn."""
    band = allocation.high - allocation.low + 1
    match allocation.rule:
        case PortRule.PARITY:
            return max(1, band // 2)
        case PortRule.BLOCKS:
            return min(allocation.block, band)
        case _:
            return band
