"""One direction of a link, as a schedule: when does a packet that is sent now arrive, if at all. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from midair.lab.behaviour import LinkBehaviour
    from midair.lab.packet import Packet

__all__ = ["Link"]


class Link:
    """Delays, loses and queues packets; keeps their order, also when its behaviour changes.

    A change counts for what is sent from then on: what is under way arrives, even if the link is cut meanwhile.
    The MTU is not its business but the sender's, which has to answer.
    """

    __slots__ = ("_behaviour", "_free_at", "_last_arrival", "_random", "_syns", "mtu", "plain")

    def __init__(self, behaviour: LinkBehaviour, random: Random) -> None:
        self._random = random
        self._syns = 0
        self._free_at = 0.0
        """When the last bit of the queue has been sent."""
        self._last_arrival = 0.0
        self.behaviour = behaviour

    @property
    def behaviour(self) -> LinkBehaviour:
        """What it does; may be replaced at any time."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: LinkBehaviour) -> None:
        self._behaviour = behaviour
        self.mtu = behaviour.mtu
        self.plain = (
            behaviour.up
            and not (behaviour.delay or behaviour.jitter or behaviour.loss or behaviour.lose_syns or behaviour.rate)
            and not self._last_arrival
        )
        """Whether everything arrives at once: only SYNs, which are counted, need ``send`` then."""

    def send(self, now: float, packet: Packet) -> float | None:
        """When it arrives, at ``now`` or later; None when it is lost."""
        if packet.flags and packet.is_syn:
            self._syns += 1
        if self.plain:
            return now
        behaviour = self._behaviour
        if not behaviour.up or (behaviour.lose_syns and packet.is_syn and self._syns in behaviour.lose_syns):
            return None
        if behaviour.loss and self._random.random() < behaviour.loss:
            return None
        arrival = now
        if behaviour.rate:
            seconds_waiting = self._free_at - now
            if seconds_waiting > 0:
                if seconds_waiting * behaviour.rate / 8 + packet.length > behaviour.queue:
                    return None
                arrival = self._free_at
            arrival = self._free_at = arrival + packet.length * 8 / behaviour.rate
        arrival += behaviour.delay
        if behaviour.jitter:
            arrival += self._random.uniform(0.0, behaviour.jitter)
        if arrival < self._last_arrival:
            arrival = self._last_arrival
        self._last_arrival = arrival
        return arrival
