"""A blueprint brought to life in memory, under a virtual clock."""

from __future__ import annotations

import heapq
from functools import lru_cache, partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from midair.lab.blueprint import HostPart, KernelPart, NatPart, RouterPart
from midair.lab.nat import Nat
from midair.lab.network import Network
from midair.lab.node import NEVER
from midair.lab.router import Router
from midair.lab.simulation.host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from midair.lab.blueprint import Blueprint
    from midair.lab.network import Part
    from midair.lab.node import Node

__all__ = ["Simulation"]


class Simulation:
    """The network, the hosts and the clock. The same blueprint, seed and applications give the same story.

    Raises: ValueError for a blueprint with a Linux router in it, which nothing here can play.
    """

    def __init__(self, blueprint: Blueprint, seed: int = 0) -> None:
        if blueprint.kernels:
            raise ValueError(f"{blueprint.kernels[0].name} is a Linux router: only the wire has those")
        self.now = 0.0
        """Seconds since the start."""
        self.nats: dict[str, Nat] = {}
        self._hosts: dict[str, SimulatedHost] = {}
        self._random = Random(seed)
        self._stopped = False
        self._agenda: list[tuple[float, int, Callable[[float], object]]] = []
        self._numbers = count()
        self.network = Network(blueprint, self._make, self._random)
        for name, host in self._hosts.items():
            host.on_change = partial(self.network.reschedule, name)

    def host(self, name: str) -> SimulatedHost:
        """Raises: KeyError."""
        return self._hosts[name]

    def at(self, time: float, call: Callable[[float], object]) -> None:
        """Has ``call`` called with the time when that has come."""
        heapq.heappush(self._agenda, (time if time > self.now else self.now, next(self._numbers), call))

    def run(self, until: float) -> None:
        """Lets everything happen that happens until then, or until ``stop``. The clock then shows that time."""
        self._stopped = False
        agenda, network = self._agenda, self.network
        # One instant after the other, since anything that happens may ask for a call in the next one.
        while not self._stopped:
            at = network.wake_at
            if agenda and agenda[0][0] < at:
                at = agenda[0][0]
                if at > until:
                    break
                self.now = at
                heapq.heappop(agenda)[2](at)
            elif at <= until:
                self.now = at
                network.run_until(at)
            else:
                break
        if not self._stopped and self.now < until < NEVER:
            self.now = until

    def stop(self) -> None:
        """Ends ``run`` after this instant."""
        self._stopped = True

    def _make(self, part: Part) -> Node:
        match part:
            case RouterPart():
                return _router(part)
            case NatPart():
                nat = self.nats[part.name] = Nat(part, self._random)
                return nat
            case HostPart():
                host = self._hosts[part.name] = SimulatedHost(part, self._random)
                return host
            case KernelPart():
                raise AssertionError("these are refused")


@lru_cache(maxsize=256)
def _router(part: RouterPart) -> Router:
    """A router has no state, and thousands of plays can share it."""
    return Router(part)
