"""The lab's own NAT, a pure state machine: packets in, packets out, and every knob of :mod:`midair.lab.behaviour`.

    nat = Nat(part, random.Random(7))
    for port, packet in nat.receive(parse(raw), INSIDE_PORT, now): ...

A *connection* is a line of its table, five values that do not change: protocol, inside, outside and remote endpoint. A
*binding* is what RFC 4787 calls a mapping: the outside endpoint that connections of one inside endpoint share, and
whom it lets in. An outbound packet without a connection opens one, on an old binding or a new one; an inbound packet
without a connection is let in by a binding, or it is unsolicited.
"""

from midair.lab.nat.connection import NatEntry
from midair.lab.nat.translator import Nat

__all__ = ["Nat", "NatEntry"]
