"""The ways between the two hosts of a topology: which boxes the packets meet on each. Pure.

A topology has several: through the internet; turned around by a box both are behind; inside a network both are on; over
IPv6; over second interfaces. Each is a pair of chains of gates, one from each host outwards, and what is between the
two outermost ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from midair.lab.behaviour import Filtering, Hairpin, Mapping, NatBehaviour
from midair.lab.ceiling.technique import Technique
from midair.lab.description import KernelKind
from midair.lab.kernel.behaviours import behaviour_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from midair.lab.description import Box, Topology

__all__ = ["Gate", "Way", "behaviour_of_box", "ways"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One box, as it behaves on one way."""

    name: str
    """For a person: ``a's drop``."""
    behaviour: NatBehaviour


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """From one host to the other."""

    a: tuple[Gate, ...]
    """From host a outwards."""
    b: tuple[Gate, ...]
    delay_a: float
    """Seconds from a's outermost gate to where the two chains meet."""
    delay_b: float
    common: tuple[Gate, ...] = ()
    """What both sides go out through and come back in by, from the inside out: where the chains meet."""
    needs: Technique | None = None
    """Which technique finds this way; None: everybody who knows the peer's public endpoint."""
    through: str = ""
    """For a person, what makes it another way than the one through the internet."""
    unknown: frozenset[str] = frozenset()
    """Sides whose address on this way cannot be known."""
    barred: str = ""
    """Why nothing passes here at all, if so."""

    @property
    def delay(self) -> float:
        """Seconds one way."""
        return self.delay_a + self.delay_b

    def gates(self, letter: str) -> tuple[Gate, ...]:
        """All on the way from side "a" or "b"."""
        return (self.a if letter == "a" else self.b) + self.common


def ways(topology: Topology, *, port_mapping: bool = False) -> Iterator[Way]:
    """All of them, the most obvious one first.

    ``port_mapping``: whether home routers, the innermost boxes of each side, map ports on request.
    """
    a = _gates("a's", topology.a.boxes)
    b = _gates("b's", topology.b.boxes)
    shared = _gates("the shared", topology.shared)
    plain = Way(a=a, b=b, delay_a=topology.a_link.delay, delay_b=topology.b_link.delay)
    yield _at_public_endpoints(plain, shared)
    if any(gate.behaviour.translates for gate in shared):
        yield from _inside(plain)
    if topology.ipv6:
        yield replace(plain, a=_untranslated(a), b=_untranslated(b), needs=Technique.IPV6, through="over IPv6")
    if port_mapping and (_mapped(a), _mapped(b)) != (a, b):
        # A mapping protocol tells the home router's outside address too, so that two homes behind one carrier need not
        # be turned around.
        yield replace(
            plain,
            a=_mapped(a),
            b=_mapped(b),
            needs=Technique.PORT_MAPPING,
            through="to ports mapped by the home routers",
        )
    for way in _over_second_interfaces(topology, plain):
        yield _at_public_endpoints(way, shared)


def behaviour_of_box(kind: NatBehaviour | KernelKind) -> NatBehaviour:
    """What a box does, be it the lab's own or a Linux router."""
    return behaviour_of(kind) if isinstance(kind, KernelKind) else kind


def _gates(whose: str, boxes: tuple[Box, ...]) -> tuple[Gate, ...]:
    return tuple(Gate(name=f"{whose} {box.name}", behaviour=behaviour_of_box(box.kind)) for box in boxes)


def _at_public_endpoints(way: Way, shared: tuple[Gate, ...]) -> Way:
    """Where the packets go that are sent to the endpoints the server sees."""
    turning = max((place for place, gate in enumerate(shared) if gate.behaviour.translates), default=None)
    if turning is None:
        # Shared firewalls route between their inside networks, where all addresses are public.
        return way
    mirror = shared[turning]
    barred = {
        Hairpin.NONE: f"{mirror.name} does not turn packets around to its own outside endpoints",
        Hairpin.INTERNAL_SOURCE: f"{mirror.name} turns packets around with their inside source, so the answer comes "
        "from an endpoint that was not dialled",
        Hairpin.EXTERNAL_SOURCE: "",
    }[mirror.behaviour.hairpin]
    return replace(
        way,
        common=shared[: turning + 1],
        needs=way.needs or Technique.HAIRPIN,
        through=way.through or f"turned around by {mirror.name}",
        barred=barred,
    )


def _inside(plain: Way) -> Iterator[Way]:
    """Through the network behind the innermost shared box, where whoever translates himself has an address that nobody
    sees from outside."""
    unknown = frozenset(
        letter for letter in ("a", "b") if any(gate.behaviour.translates for gate in plain.gates(letter))
    )
    if len(unknown) < 2:
        yield replace(
            plain, needs=Technique.PRIVATE_ADDRESSES, through="inside the network both are on", unknown=unknown
        )


def _untranslated(gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
    """The same boxes for IPv6: they filter."""
    return tuple(replace(gate, behaviour=replace(gate.behaviour, mapping=Mapping.NONE)) for gate in gates)


def _mapped(gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
    """With a port mapped at the home router, which then lets anybody in to the host by one known endpoint."""
    if not gates:
        return gates
    home, *others = gates
    opened = replace(
        home.behaviour,
        mapping=Mapping.ENDPOINT_INDEPENDENT if home.behaviour.translates else Mapping.NONE,
        filtering=Filtering.ENDPOINT_INDEPENDENT,
    )
    return (replace(home, behaviour=opened), *others)


def _over_second_interfaces(topology: Topology, plain: Way) -> Iterator[Way]:
    second_a = None if topology.a.second is None else _gates("a's second", topology.a.second)
    second_b = None if topology.b.second is None else _gates("b's second", topology.b.second)
    for through, a, b in (
        ("over a's second interface", second_a, plain.b),
        ("over b's second interface", plain.a, second_b),
        ("over both second interfaces", second_a, second_b),
    ):
        if a is not None and b is not None:
            yield replace(plain, a=a, b=b, needs=Technique.EVERY_INTERFACE, through=through)
