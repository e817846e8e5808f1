"""The wire process: reads packets from interfaces, gives them to the network, and writes what reaches a host.

One thread, one loop. It sleeps until a packet is there, until something in the network is due, or until it is told
something; it ends when the other end of its control socket is gone, whatever the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import resource
import select
import signal
import socket
import time
from random import Random
from typing import TYPE_CHECKING, Never

from midair.lab.blueprint import NatPart, RouterPart
from midair.lab.nat import Nat
from midair.lab.network import Network
from midair.lab.node import NEVER
from midair.lab.router import Router
from midair.lab.wire.control import receive_descriptors, receive_message, send_message
from midair.lab.wire.outlet import Outlet
from midair.lab.wire.plug import Plug

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from midair.lab.blueprint import Blueprint
    from midair.lab.network import Part, Port
    from midair.lab.node import Node
    from midair.lab.packet import Packet
    from midair.lab.wire.plug import Framing
    from midair.lab.wire.recorder import Recorder

__all__ = ["main"]

_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29  # linux/prctl.h
_CONTROL_SECONDS = 10.0
_NICENESS = -10
"""The hosts of a busy lab must not keep the wire from its work: what comes late looks like a slow link."""


def main() -> Never:
    """Serves the control socket, which is standard input, to its end."""
    _ask_the_kernel()
    epoll = select.epoll()  # early, since select() takes only descriptors below 1024
    control = socket.socket(fileno=os.dup(0))
    control.settimeout(_CONTROL_SECONDS)
    epoll.register(control.fileno(), select.EPOLLIN)
    with contextlib.suppress(EOFError, ConnectionError):
        _start(control, epoll).run()
    # At once: nobody waits for anything that the interpreter could still do.
    os._exit(0)


def _start(control: socket.socket, epoll: select.epoll) -> _Loop:
    """Waits to be told what network there is to be, for as long as it takes to build one that can be."""
    while True:
        epoll.poll()
        _, arguments = receive_message(control)
        descriptors = receive_descriptors(control, len(arguments["places"]))
        try:
            loop = _Loop(control, epoll, descriptors, **arguments)
        except (LookupError, ValueError) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            send_message(control, (False, str(error)))
        else:
            send_message(control, (True, None))
            gc.freeze()
            return loop


class _Loop:
    """The network, its interfaces, and whoever wants to know or change something."""

    def __init__(
        self,
        control: socket.socket,
        epoll: select.epoll,
        descriptors: Sequence[int],
        *,
        blueprint: Blueprint,
        places: Sequence[tuple[str, int, Framing]],
        seed: int,
    ) -> None:
        self._random = Random(seed)
        self._network = Network(blueprint, self._make_node, self._random)
        self._network.deliver = self._deliver
        self._control = control
        self._recorder: Recorder | None = None
        self._requests: dict[str, Callable[..., object]] = {
            "set_link": self._network.set_link,
            "replace": self._network.replace,
            "start_capture": self._start_capture,
            "stop_capture": self._stop_capture,
            "nat_entries": self._nat_entries,
            "statistics": self._statistics,
        }
        self._sources: dict[int, tuple[Outlet, Port]] = {}
        """By descriptor."""
        self._outlets: dict[tuple[str, int], Outlet] = {}
        """By node and port."""
        self._leaving: list[tuple[Outlet, Packet]] = []
        """What is to be written."""
        for descriptor, (node, number, framing) in zip(descriptors, places, strict=True):
            outlet = self._outlets[node, number] = Outlet(Plug(descriptor=descriptor, framing=framing))
            self._sources[descriptor] = outlet, self._network.port(node, number)
        self._epoll = epoll
        for descriptor in descriptors:
            epoll.register(descriptor, select.EPOLLIN)

    def run(self) -> None:
        """Until the other end of the control socket is gone. Raises: EOFError then."""
        network, poll, clock = self._network, self._epoll.poll, time.monotonic
        try:
            while True:
                if not (events := poll(0)):
                    wake_at = network.wake_at
                    if wake_at == NEVER:
                        events = poll()
                    elif (seconds := wake_at - clock()) > 0:
                        # epoll counts in milliseconds, which is too coarse for a link's delay; select does not.
                        select.select((self._epoll,), (), (), seconds)
                        events = poll(0)
                network.run_until(clock())
                self._write()
                for descriptor, _ in events:
                    if source := self._sources.get(descriptor):
                        self._read(descriptor, *source)
                        self._write()
                    else:
                        self._serve()
        finally:
            self._stop_capture()

    def _read(self, descriptor: int, outlet: Outlet, port: Port) -> None:
        try:
            packets = outlet.read()
        except OSError as error:
            if error.errno != errno.ENETDOWN:  # what is down will be up again; of what is gone nothing more is heard
                self._epoll.unregister(descriptor)
            return
        send, now = self._network.send, time.monotonic()
        for packet in packets:
            send(port, packet, now)

    def _deliver(self, node: str, port: int, packet: Packet, now: float) -> None:
        outlet = self._outlets.get((node, port))
        if outlet is not None:
            self._leaving.append((outlet, packet))

    def _write(self) -> None:
        for outlet, packet in self._leaving:
            outlet.write(packet)
        self._leaving.clear()

    def _make_node(self, part: Part) -> Node | None:
        if isinstance(part, RouterPart):
            return Router(part)
        return Nat(part, self._random) if isinstance(part, NatPart) else None

    # -- what it is told --

    def _serve(self) -> None:
        name, arguments = receive_message(self._control)
        try:
            answer = True, self._requests[name](**arguments)
        except (LookupError, ValueError, OSError) as error:
            answer = False, str(error)
        send_message(self._control, answer)

    def _start_capture(self, path: str, nodes: tuple[str, ...] | None) -> None:
        from midair.lab.wire.recorder import Recorder  # not before it is needed: the process is to start fast

        self._stop_capture()
        self._recorder = Recorder(path, nodes)
        self._network.observer = self._recorder.observe

    def _stop_capture(self) -> None:
        recorder, self._recorder = self._recorder, None
        self._network.observer = None
        if recorder is not None:
            recorder.close()

    def _nat_entries(self, node: str) -> object:
        machine = self._network.node(node)
        if not isinstance(machine, Nat):
            raise ValueError(f"{node} is no NAT of the lab's own")
        return machine.entries(time.monotonic())

    def _statistics(self) -> dict[str, int]:
        counters = ("received", "delivered", "malformed", "refused")
        return {name: sum(getattr(outlet, name) for outlet in self._outlets.values()) for name in counters}


def _ask_the_kernel() -> None:
    """To kill this process when the thread that started it ends, even if it hangs; to wake it on time, and before
    others; and to let it have as many interfaces as may be."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    with contextlib.suppress(PermissionError):
        os.nice(_NICENESS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
