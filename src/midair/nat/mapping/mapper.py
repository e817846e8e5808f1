"""Asking the routers of this host for a port, in every protocol they may speak, and giving it back at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Coroutine, Sequence
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

from midair.endpoint import Endpoint
from midair.nat.mapping.datagrams import DatagramLease, hear_announcements, own_endpoint
from midair.nat.mapping.gateway import default_gateways
from midair.nat.mapping.igd import Service
from midair.nat.mapping.outcome import MalformedError, MappingReport, PortMapping, Protocol
from midair.nat.mapping.routes import Gateway
from midair.nat.mapping.upnp import UpnpLease, find_services

__all__ = ["LIFETIME_SECONDS", "REMOVAL_SECONDS", "PortMapper"]

LIFETIME_SECONDS = 7200
"""What RFC 6886 section 3.3 recommends to ask for; renewed at half of what is given."""
REMOVAL_SECONDS = 1.0
"""How long leaving may take, in all."""


class _Site:
    """One router, and what we know and have there."""

    def __init__(self, gateway: Gateway, own: Endpoint) -> None:
        self.gateway = gateway
        self.own = own
        self.leases: list[DatagramLease | UpnpLease] = []
        self.services: asyncio.Future[list[Service]] | None = None
        """Where UPnP is to be tried."""
        self.announcements: asyncio.DatagramTransport | None = None

    def announced(self, data: bytes) -> None:
        """The router has told everybody something."""
        for lease in self.leases:
            if isinstance(lease, DatagramLease):
                lease.take(data)


class PortMapper:
    """Ports at the routers of this host, held as long as the context lasts. A context manager, used once.

    Entering it starts the search for a UPnP router, so do that early. What the routers do never raises; it stands in
    ``report``.
    """

    def __init__(
        self,
        *,
        gateways: Sequence[Gateway] | None = None,
        protocols: Collection[Protocol] = tuple(Protocol),
        lifetime: int = LIFETIME_SECONDS,
    ) -> None:
        """``gateways`` None: the system's default ones. ``lifetime`` is in seconds."""
        self._gateways = gateways
        self._wanted = frozenset(protocols)
        self._lifetime = lifetime
        self._sites: list[_Site] = []
        self._running: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        gateways = await default_gateways() if self._gateways is None else self._gateways
        try:
            for gateway in gateways:
                own = own_endpoint(gateway)
                if own is not None and own.address != gateway.address:
                    await self._visit(_Site(gateway, own))
        except BaseException:
            await self._end_tasks(raising=False)
            self._close()
            raise
        return self

    async def open_mapping(self, local_port: int, *, budget: float = 0.25) -> list[PortMapping]:
        """Asks every router for our TCP port, within ``budget`` seconds; gives what there is then, or as soon as each
        router has given a port or refused.

        What comes later is in ``mappings``. Cancelling it leaves what was asked for to the end of the context.
        """
        if not 0 < local_port <= 65535:
            raise ValueError(f"port {local_port} cannot be mapped")
        asked: list[list[DatagramLease | UpnpLease]] = []
        for site in self._sites:
            asked.append(await self._ask(site, local_port))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(budget):
                while not all(_answered(leases) for leases in asked):
                    self._changed.clear()
                    await self._changed.wait()
        return [lease.mapping for leases in asked for lease in leases if lease.mapping is not None]

    @property
    def mappings(self) -> tuple[PortMapping, ...]:
        """What the routers hold for us now."""
        return tuple(lease.mapping for lease in self._leases() if lease.mapping is not None)

    @property
    def report(self) -> MappingReport:
        """How each protocol went at each router so far."""
        seen = {lease.double_nat for lease in self._leases()}
        return MappingReport(
            results=tuple(result for lease in self._leases() for result in lease.results()),
            double_nat=True if True in seen else False if False in seen else None,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the mappings, which takes REMOVAL_SECONDS at most. Cancelling it leaves them to run out."""
        try:
            await self._end_tasks(raising=kind is None)
        finally:
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REMOVAL_SECONDS):
                        await asyncio.gather(*(lease.remove() for lease in self._leases()))
            finally:
                self._close()

    async def _visit(self, site: _Site) -> None:
        self._sites.append(site)
        address = site.gateway.address
        # UPnP is for the home: a gateway with a public address is the provider's, and is not searched for it.
        if Protocol.UPNP in self._wanted and address.version == 4 and address.is_private:
            site.services = asyncio.get_running_loop().create_future()
            self._start(_search(IPv4Address(address), site.own, site.services))
        if self._wanted & {Protocol.PCP, Protocol.NAT_PMP}:
            site.announcements = await hear_announcements(site.gateway, site.own, site.announced)

    async def _end_tasks(self, *, raising: bool) -> None:
        # No TaskGroup: it would wrap what is raised within our context.
        for task in self._running:
            task.cancel()
        for outcome in await asyncio.gather(*self._running, return_exceptions=True):
            if raising and isinstance(outcome, Exception):
                raise outcome

    def _close(self) -> None:
        for lease in self._leases():
            lease.close()
        for site in self._sites:
            if site.announcements is not None:
                site.announcements.close()
            if site.services is not None:
                site.services.cancel()

    def _leases(self) -> list[DatagramLease | UpnpLease]:
        return [lease for site in self._sites for lease in site.leases]

    async def _ask(self, site: _Site, local_port: int) -> list[DatagramLease | UpnpLease]:
        internal = Endpoint(site.own.address, local_port)
        datagrams = DatagramLease(
            site.gateway,
            internal,
            lifetime=self._lifetime,
            protocols=self._wanted,
            on_change=self._changed.set,
        )
        leases: list[DatagramLease | UpnpLease] = [datagrams]
        site.leases.append(datagrams)
        await datagrams.open()
        if site.services is not None:
            upnp = UpnpLease(
                IPv4Address(site.gateway.address),
                internal,
                site.services,
                lifetime=self._lifetime,
                needed=lambda: datagrams.mapping is None,
                on_change=self._changed.set,
            )
            site.leases.append(upnp)
            leases.append(upnp)
            self._start(upnp.run())
        return leases

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._running.append(asyncio.create_task(work))


def _answered(leases: Sequence[DatagramLease | UpnpLease]) -> bool:
    return any(lease.mapping is not None for lease in leases) or all(lease.settled for lease in leases)


async def _search(gateway: IPv4Address, own: Endpoint, services: asyncio.Future[list[Service]]) -> None:
    try:
        found = await find_services(gateway, own)
    except (OSError, MalformedError) as error:
        services.set_exception(error)
        services.exception()  # nobody may ever ask, and that is no fault
    else:
        services.set_result(found)
