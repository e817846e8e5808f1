"""PCP and NAT-PMP over the network: :class:`~midair.nat.mapping.machine.MappingMachine` on a socket and the clock."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address

from midair.endpoint import Endpoint, Family
from midair.nat.mapping import pcp
from midair.nat.mapping.dialects import Denied, Dialect, NatPmp, Pcp
from midair.nat.mapping.machine import (
    Deny,
    Event,
    Finish,
    Hold,
    Lose,
    MappingMachine,
    PortClosed,
    Received,
    Released,
    Send,
    Started,
    TimePassed,
)
from midair.nat.mapping.outcome import Address, Outcome, PortMapping, Protocol, Result
from midair.nat.mapping.routes import Gateway
from midair.port import hear_group, open_datagrams, source_address, source_towards

__all__ = ["CLIENT_PORT", "SERVER_PORT", "DatagramLease", "hear_announcements", "own_endpoint"]

_log = logging.getLogger("midair.nat")

SERVER_PORT = 5351
CLIENT_PORT = 5350
"""Where a router tells everybody on its link that it has started or that its address has changed."""
_ALL_HOSTS: dict[Family, Address] = {4: IPv4Address("224.0.0.1"), 6: IPv6Address("ff02::1")}
RECOVERY_SECONDS_MAX = 5.0
"""RFC 6887 section 14.1.3: so that not all hosts ask at once when the router has started anew."""


def own_endpoint(gateway: Gateway) -> Endpoint | None:
    """Our address as the router should know it, with port 0; None where there is none.

    Towards a link-local address the kernel would start from one too, for which no mapping makes sense.
    """
    if gateway.address.version == 6 and gateway.address.is_link_local:
        return source_address(6)
    address = source_towards(gateway.address)
    return None if address is None else Endpoint(address, 0)


class DatagramLease:
    """One port asked of one router. ``on_change`` is called whenever ``mapping`` or ``settled`` changes."""

    def __init__(
        self,
        gateway: Gateway,
        internal: Endpoint,
        *,
        lifetime: int,
        protocols: Collection[Protocol],
        on_change: Callable[[], None],
    ) -> None:
        self.mapping: PortMapping | None = None
        self.settled = False
        """Whether there was a first answer, of any kind."""
        self.double_nat: bool | None = None
        self._gateway = gateway
        self._internal = internal
        self._on_change = on_change
        dialects: list[Dialect] = []
        if Protocol.PCP in protocols:
            dialects.append(Pcp(internal, secrets.token_bytes(12)))
        if Protocol.NAT_PMP in protocols and internal.family == 4:
            dialects.append(NatPmp(internal))
        self._protocols = [dialect.protocol for dialect in dialects]
        self._machine = MappingMachine(
            dialects,
            wish=Endpoint(IPv4Address(0) if internal.family == 4 else IPv6Address(0), internal.port),
            lifetime=lifetime,
            recovery_delay=random.uniform(0.0, RECOVERY_SECONDS_MAX),
        )
        self._denials: dict[Protocol, Denied] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._finished = asyncio.Event()

    async def open(self) -> None:
        """Sends the first request. Never raises OSError: a router without a way there is a silent one."""
        if not self._protocols:
            self.settled = True
            return
        try:
            self._transport = await open_datagrams(
                Endpoint(self._gateway.address, SERVER_PORT),
                interface=self._gateway.interface,
                source=Endpoint(self._internal.address, 0),
                on_datagram=self.take,
                on_closed=lambda: self._feed(PortClosed()),
            )
        except OSError as error:
            _log.debug("the router cannot be asked: %s", error)
            self.settled = True
            return
        self._feed(Started())

    def take(self, data: bytes) -> None:
        """A datagram from the router: on our socket, or told to everybody."""
        if len(data) <= pcp.MESSAGE_BYTES_MAX:
            self._feed(Received(data))

    def results(self) -> list[Result]:
        """How each protocol went so far."""
        return [self._result(protocol) for protocol in self._protocols]

    async def remove(self) -> None:
        """Removes the mapping at the router and waits until that says so; set a deadline. Cancelling is safe."""
        if self._transport is not None:
            self._feed(Released())
            await self._finished.wait()

    def close(self) -> None:
        """Gives the socket back. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _feed(self, event: Event) -> None:
        if self._transport is None:
            return
        loop = asyncio.get_running_loop()
        for command in self._machine.handle(event, loop.time()):
            match command:
                case Send(data=data):
                    self._transport.sendto(data)
                case Hold():
                    self._hold(command)
                case Lose():
                    self.mapping = None
                    self._on_change()
                case Deny(protocol=protocol, denied=denied):
                    self._denied(protocol, denied)
                case Finish():
                    self._finished.set()
        if self._timer is not None:
            self._timer.cancel()
        if (wake_at := self._machine.wake_at) is not None:
            self._timer = loop.call_at(wake_at, self._feed, TimePassed())

    def _hold(self, hold: Hold) -> None:
        self.mapping = PortMapping(
            protocol=hold.protocol,
            gateway=self._gateway.address,
            internal=self._internal,
            external=hold.external,
            lifetime=hold.lifetime,
        )
        if hold.external.family == 4:
            self.double_nat = not self.mapping.public
        self._denials.pop(hold.protocol, None)
        self.settled = True
        self._on_change()

    def _denied(self, protocol: Protocol, denied: Denied) -> None:
        self._denials[protocol] = denied
        self.double_nat = denied.double_nat or self.double_nat
        self.settled = not self._machine.asked
        self._on_change()

    def _result(self, protocol: Protocol) -> Result:
        if self.mapping is not None and self.mapping.protocol is protocol:
            outcome, code, text = Outcome.MAPPED, None, ""
        elif denied := self._denials.get(protocol):
            outcome, code, text = _outcome(denied), denied.code, denied.text
        else:
            outcome, code, text = Outcome.SILENT, None, "no answer so far"
        return Result(gateway=self._gateway.address, protocol=protocol, outcome=outcome, code=code, text=text)


def _outcome(denied: Denied) -> Outcome:
    if denied.broken:
        return Outcome.BROKEN
    return Outcome.NOT_SPOKEN if denied.other_version else Outcome.REFUSED


async def hear_announcements(
    gateway: Gateway, own: Endpoint, on_datagram: Callable[[bytes], None]
) -> asyncio.DatagramTransport | None:
    """What this router tells everybody; None where it cannot be heard, and then renewals find out."""

    def take(data: bytes, sender: Endpoint) -> None:
        if (sender.address, sender.port) == (gateway.address, SERVER_PORT):
            on_datagram(data)

    group = Endpoint(_ALL_HOSTS[own.family], CLIENT_PORT)
    try:
        return await hear_group(group, interface=gateway.interface, at=own, on_datagram=take)
    except OSError as error:
        _log.debug("announcements of the router cannot be heard: %s", error)
        return None
