"""The lab itself: pairs of hosts, what stands between them, and the wire that joins everything.

    with Lab("drop x rst") as lab:
        with lab.server.entered():
            listener = socket.create_server((lab.server.address, 7420))
        lab.a.run(["curl", "http://server:7420/"])

:mod:`midair.lab.description` says what a topology is, :mod:`midair.lab.plan` which addresses it gets.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from midair.lab.blueprint import HostPart, KernelPart, NatPart
from midair.lab.catalogue import parse_topology
from midair.lab.chart import Chart
from midair.lab.description import Topology
from midair.lab.host import Host
from midair.lab.kernel import configure, connection_table
from midair.lab.namespace import Namespace, end_processes, new_networks
from midair.lab.plan import PROXY, SERVER, draw
from midair.lab.requirements import LabUnavailable, available
from midair.lab.wire import Interfaces, Wire, WireError, readdress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from midair.lab.behaviour import LinkBehaviour
    from midair.lab.blueprint import Blueprint
    from midair.lab.nat import NatEntry
    from midair.lab.wire import Plug

__all__ = ["Lab", "Pair"]

_DESCRIPTORS_OF_A_PLACE = 8
"""Its namespace, its interface, what its processes find, and some sockets that somebody opens in it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two hosts that want to meet."""

    a: Host
    b: Host


class Lab:
    """One or more pairs of hosts on one wire, with a server and a proxy that all of them reach; a context manager.

    A topology is given as text or as a value. ``delay`` is the one-way delay between the two hosts of a pair in
    seconds, half of it on each access link, instead of what the topologies say (0.05 unless they say otherwise). With
    ``vnet`` the kernels hand large segments to the wire: fast, but links then delay and lose these as a whole.
    ``seed`` decides everything that is random in NATs and links. ``ordinary_addresses`` are for programs that refuse to
    work with reserved ones; nothing of them is ever seen outside.

    Leaving the block ends the processes started in the lab and lets the namespaces go, whatever happened. Everything is
    gone as well when this process is killed.

    Raises: ValueError for topologies that cannot be; on entering LabUnavailable, with nothing left of what was begun.
    """

    def __init__(
        self,
        topologies: str | Topology | Sequence[str | Topology],
        *,
        delay: float | None = None,
        vnet: bool = False,
        seed: int = 0,
        ordinary_addresses: bool = False,
    ) -> None:
        given = [topologies] if isinstance(topologies, (str, Topology)) else topologies
        parsed = [parse_topology(each) if isinstance(each, str) else each for each in given]
        if delay is not None:
            parsed = [_with_delay(topology, delay) for topology in parsed]
        self.topologies = tuple(parsed)
        self.blueprint: Blueprint = draw(self.topologies, ordinary_addresses=ordinary_addresses)
        """The network as it was drawn; hosts that have moved are elsewhere."""
        self._vnet = vnet
        self._seed = seed
        self._put_everything_in_its_place()
        self._places: dict[str, Namespace] = {}
        self._wire: Wire | None = None

    def __enter__(self) -> Self:
        if lack := available(kernel=bool(self.blueprint.kernels)):
            raise LabUnavailable(lack)
        if self._wire is not None:
            raise RuntimeError("this lab is already up")
        self._put_everything_in_its_place()
        parts: list[HostPart | KernelPart] = [*self.blueprint.hosts, *self.blueprint.kernels]
        _make_room_for_descriptors(_DESCRIPTORS_OF_A_PLACE * len(parts))
        try:
            self._wire = Wire()  # it comes up while we go on
            # First all namespaces, then all interfaces: the kernel takes twice as long to do both in turn.
            for part, descriptor in zip(parts, new_networks(len(parts)), strict=True):
                self._places[part.name] = self._namespace(part, descriptor)
            for kernel in self.blueprint.kernels:
                configure(self._places[kernel.name], kernel)
            with Interfaces(offload=self._vnet) as interfaces:
                plugs: dict[tuple[str, int], Plug] = {}
                for part in parts:
                    for number, interface in enumerate(part.interfaces):
                        plug = interfaces.make(self._places[part.name], interface, number=number)
                        plugs[part.name, number] = plug
                self._wire.start(self.blueprint, plugs, seed=self._seed)
        except BaseException as error:
            with contextlib.suppress(WireError):  # it would only say once more that the wire is dead
                self.close()
            if isinstance(error, (OSError, ValueError, WireError, subprocess.TimeoutExpired)):
                raise LabUnavailable(f"the lab cannot be made: {error}") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes (2 seconds at most) and lets the namespaces go. Idempotent.

        Raises: WireError when the wire had died; everything is gone then too.
        """
        places, self._places = self._places, {}
        wire, self._wire = self._wire, None
        with contextlib.ExitStack() as stack:
            if wire is not None:
                stack.callback(wire.close)
            for place in places.values():
                stack.callback(place.close)
            end_processes([process for place in places.values() for process in place.processes])

    # -- who is there --

    @property
    def a(self) -> Host:
        """The first host of the only pair, or of the first one."""
        return self.pairs[0].a

    @property
    def b(self) -> Host:
        """The second one."""
        return self.pairs[0].b

    @property
    def server(self) -> Host:
        """A public host with two addresses."""
        return self.host(SERVER)

    @property
    def proxy(self) -> Host:
        """The host to which a network that lets out to its proxy only lets out."""
        return self.host(PROXY)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """In the order of the topologies."""
        if len(self.topologies) == 1:
            return (Pair(self.host("a"), self.host("b")),)
        return tuple(Pair(self.host(f"a{number}"), self.host(f"b{number}")) for number in range(len(self.topologies)))

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All."""
        return tuple(place for place in self._places.values() if isinstance(place, Host))

    def host(self, name: str) -> Host:
        """``a``, ``server``; with several pairs ``a0``, ``b0``, ``a1``... Raises: ValueError."""
        place = self._places.get(name)
        if not isinstance(place, Host):
            there = ", ".join(host.name for host in self.hosts) or "none, since the lab is not up"
            raise ValueError(f"there is no host {name!r}; there are {there}")
        return place

    def router(self, name: str) -> Namespace:
        """The Linux router ``a.1``: the innermost box of ``a``. Raises: ValueError when there is no such."""
        place = self._places.get(name)
        if place is None or isinstance(place, Host):
            raise ValueError(f"there is no Linux router {name!r}; boxes of the lab's own are no network namespaces")
        return place

    def boxes(self, host: str) -> tuple[str, ...]:
        """The names of what a host is behind, from the inside out, for ``nat_entries``."""
        return tuple(box.name for box in self._chart.boxes(host))

    def addresses_from(self, host: str, other: str) -> tuple[str, ...]:
        """Under which addresses a host reaches another: its own on the same side of all translation, else the one the
        internet sees. Processes in hosts find these by name."""
        return self._chart.addresses_from(host, other)

    # -- looking --

    def nat_entries(self, box: str) -> list[NatEntry]:
        """The table of one of the lab's own NATs, such as ``a.1``. Raises: WireError when there is no such."""
        return self._up().nat_entries(box)

    def table(self, box: str) -> list[str]:
        """The table of any box in words, one connection a line. Raises: OSError, WireError."""
        if box in self._places:
            return connection_table(self.router(box)).splitlines()
        return [str(entry) for entry in self.nat_entries(box)]

    @contextlib.contextmanager
    def capture(self, path: Path | str, *, nodes: Sequence[str] | None = None) -> Iterator[None]:
        """Records what passes these nodes, or everything, until the end of the block: a file for Wireshark, tcpdump and
        :func:`midair.lab.capture.syn_story`. One at a time."""
        wire = self._up()
        wire.start_capture(path, nodes=nodes)
        try:
            yield
        finally:
            wire.stop_capture()

    # -- changing --

    def set_link(
        self,
        host: str,
        *,
        interface: int = 0,
        there: LinkBehaviour | None = None,
        back: LinkBehaviour | None = None,
        **changes: Any,
    ) -> None:
        """Changes a host's access link, ``there`` towards the internet and ``back``; ``changes`` are single fields of
        LinkBehaviour, for both directions: ``lab.set_link("a", delay=0.2)``."""
        where = self._chart.access(host, interface)
        old_there, old_back = self._links[where]
        new = replace(there or old_there, **changes), replace(back or old_back, **changes)
        self._up().set_link(where, there=new[0], back=new[1])
        self._links[where] = new

    def cut(self, host: str, *, interface: int = 0) -> None:
        """The access link loses everything, until ``mend``; nobody is told."""
        self.set_link(host, interface=interface, up=False)

    def mend(self, host: str, *, interface: int = 0) -> None:
        """The reverse of ``cut``."""
        self.set_link(host, interface=interface, up=True)

    def move(self, host: str, *, interface: int = 0) -> None:
        """The host goes to another network like the one it is in (roaming): it has other addresses, and the outermost
        translating box of its own has too, with an empty table. Old connections stay open at both ends, and silent.

        Processes find the host under its old address, if by name.

        Raises: ValueError when there is nowhere to go.
        """
        for part in self._chart.moved(host, interface):
            if isinstance(part, NatPart):
                self._up().replace(part)
            else:
                self._readdress(part)
            self._chart.update(part)

    # -- inside --

    def _up(self) -> Wire:
        if self._wire is None:
            raise ValueError("the lab is not up")
        return self._wire

    def _put_everything_in_its_place(self) -> None:
        """As it was drawn."""
        self._chart = Chart(self.blueprint)
        self._links = {(cable.node, cable.port): (cable.there, cable.back) for cable in self.blueprint.cables}

    def _namespace(self, part: HostPart | KernelPart, descriptor: int) -> Namespace:
        if isinstance(part, HostPart):
            return Host(part, names=lambda: self._names(part.name), descriptor=descriptor)
        return Namespace(part.name, descriptor=descriptor)

    def _names(self, host: str) -> dict[str, tuple[str, ...]]:
        """Of the others that a host has anything to do with: not of those of other pairs."""
        if host in (SERVER, PROXY):
            others = [other.name for other in self.hosts]
        else:
            pair = host.lstrip("ab")
            others = [f"a{pair}", f"b{pair}", SERVER, PROXY]
        return {other: self._chart.addresses_from(host, other) for other in others if other != host}

    def _readdress(self, part: HostPart | KernelPart) -> None:
        place = self._places[part.name]
        for number, (old, new) in enumerate(zip(self._chart.interfaces(part.name), part.interfaces, strict=True)):
            if old != new:
                readdress(place, old, new, number=number)
        if isinstance(place, Host):
            assert isinstance(part, HostPart)
            place.part = part
        else:
            assert isinstance(part, KernelPart)
            configure(place, part)


def _make_room_for_descriptors(count: int) -> None:
    """Raises this process's own limit of open files, as far as one may, when it has no room for so many more.

    Raises: LabUnavailable when one may not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(os.listdir("/proc/self/fd")) + count  # noqa: PTH208
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise LabUnavailable(f"a lab of this size needs {needed} open files, and {hard} are allowed (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _with_delay(topology: Topology, delay: float) -> Topology:
    return replace(
        topology,
        a_link=replace(topology.a_link, delay=delay / 2),
        b_link=replace(topology.b_link, delay=delay / 2),
    )
