"""Gathering our own candidates (RFC 8445 5.1.1): the interfaces' addresses, what a reflector sees of our port, and the
port that the home router gives us for it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

import ifaddr

from midair import events
from midair.config import ServerURL
from midair.endpoint import Endpoint, Family
from midair.nat.forecast import PROBES, Forecast, forecast
from midair.nat.told import ToldReport
from midair.port import LocalPort, PortUnavailableError, resolve
from midair.port.own_address import is_own_address
from midair.stun import StunError, request_binding
from midair.traversal.candidates import Candidate, CandidateType, dialable, priority, select
from midair.traversal.knowledge import Earlier, our_reports, router_opens_nothing
from midair.traversal.mapped_port import MappedPort
from midair.traversal.planning import Network

__all__ = ["Gathered", "gather", "host_endpoints", "own_networks"]

_log = logging.getLogger("midair.traversal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What we can tell the peer, and what keeps it true."""

    candidates: tuple[Candidate, ...]
    loopback: bool
    """Whether the server is on this machine; then loopback addresses are candidates, ours and the peer's."""
    reflectors: tuple[socket.socket, ...]
    """The connections to the reflector; the NAT's mapping lives on them (RFC 6544 11.2: keep them until ICE ends)."""
    networks: tuple[Network, ...] = ()
    """Those our interfaces are in."""
    mapped: MappedPort | None = None
    """Where the home router was asked for a port: what it gave, until this is closed."""
    fan: tuple[LocalPort, ...] = ()
    """More ports: where the NAT does not keep ports those it was judged by, else the spare one."""
    forecast: Forecast | None = None
    """What is to be expected of the NAT."""
    spare: int = 0
    """The number of the spare port; 0: there is none."""
    reports: tuple[ToldReport, ...] = ()
    """What is known of the NATs, from now and from before."""


async def gather(
    port: LocalPort,
    server: ServerURL | None,
    *,
    wait: float,
    port_mapping: bool = True,
    earlier: Sequence[Earlier] = (),
    cut: asyncio.Event | None = None,
    on_event: events.Listener,
) -> Gathered:
    """Candidates for ``port``, after at most ``wait`` seconds; a reflector that fails only leaves its candidate out.
    Without a server there is none.

    Both families are asked at once, where the server's name has both. Where the NAT has changed the port, a fan of
    ports is opened and asked about as well, which takes two more round trips. With ``port_mapping`` the home router is
    asked for a port meanwhile, unless the server is on this machine, and so perhaps the peer; it is waited for only
    where the reflector has not helped, or where the NAT changes ports. ``earlier`` is what checks have found: where one
    is of this network its report is told, and a router that it says opens nothing is not waited for. ``cut`` is set
    when the reflector cannot answer; then it is waited for no longer. Cancelling closes everything made here.
    """
    seen = _Reflections(on_event)
    loopback = server is not None and server.host == "localhost"
    mapped_port: MappedPort | None = None
    try:
        async with _at_most(wait, cut):
            endpoints = [] if server is None else await resolve(server.host, server.port)
            loopback = any(endpoint.address.is_loopback for endpoint in endpoints[:1])
            if port_mapping and not any(is_own_address(endpoint.address) for endpoint in endpoints):
                mapped_port = MappedPort(port.number, port.families)
            first_by_family = {endpoint.family: endpoint for endpoint in reversed(endpoints)}
            async with asyncio.TaskGroup() as tasks:
                for family in first_by_family.keys() & port.families:
                    tasks.create_task(seen.ask(port, first_by_family[family]))
            changed = any(local != mapped.port for local, mapped in seen.mappings if mapped.family == 4)
            if changed:
                await seen.ask_from_a_fan(first_by_family[4])
            else:
                seen.open_a_spare()
            if mapped_port is not None and (changed or not seen.mappings):
                own = [str(each.address) for each in host_endpoints(port.number, port.families, loopback=loopback)]
                if not router_opens_nothing([str(mapped.address) for _, mapped in seen.mappings], own, earlier):
                    await mapped_port.answered()
    except (TimeoutError, OSError) as error:
        _log.debug("no reflexive candidate from %s: %r", server, error)
    except BaseException:
        seen.close()
        if mapped_port is not None:
            await mapped_port.close()
        raise
    hosts = host_endpoints(port.number, port.families, loopback=loopback)
    reflexive = [
        mapped for local, mapped in seen.mappings if local == port.number and dialable(mapped, loopback=loopback)
    ]
    given = [] if mapped_port is None else mapped_port.mappings
    for mapping in given:
        told = events.Mapped(
            local=str(mapping.internal), external=str(mapping.external), protocol=mapping.protocol.value
        )
        on_event(told)
    external = [mapping.external for mapping in given if dialable(mapping.external, loopback=loopback)]
    candidates = [
        *_candidates(CandidateType.HOST, hosts),
        *_candidates(CandidateType.MAPPED, external),
        *_candidates(CandidateType.SERVER_REFLEXIVE, reflexive),
    ]
    expected = forecast([(local, mapped.port) for local, mapped in seen.mappings if mapped.family == 4])
    addresses = {str(endpoint.address) for endpoint in hosts}
    return Gathered(
        candidates=select(candidates),
        loopback=loopback,
        networks=own_networks(),
        reflectors=tuple(seen.connections),
        mapped=mapped_port,
        fan=tuple(seen.fan),
        spare=seen.spare,
        forecast=expected,
        reports=our_reports(seen.mappings, addresses, expected, earlier),
    )


@contextlib.asynccontextmanager
async def _at_most(seconds: float, cut: asyncio.Event | None) -> AsyncIterator[None]:
    """Raises: TimeoutError, also as soon as ``cut`` is set."""

    async def end_with(cut: asyncio.Event) -> None:
        await cut.wait()
        limit.reschedule(asyncio.get_running_loop().time())

    async with asyncio.timeout(seconds) as limit:
        watching = None if cut is None else asyncio.create_task(end_with(cut))
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()


def host_endpoints(number: int, families: Iterable[Family], *, loopback: bool) -> list[Endpoint]:
    """This host's addresses with the port ``number``, in the system's order."""
    wanted = set(families)
    endpoints: list[Endpoint] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ipaddress.ip_address(text.partition("%")[0])
            endpoint = Endpoint(address, number)
            if endpoint.family in wanted and dialable(endpoint, loopback=loopback):
                endpoints.append(endpoint)
    return list(dict.fromkeys(endpoints))


def own_networks() -> tuple[Network, ...]:
    """The networks that this host's interfaces are in."""
    found: list[Network] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            found.append(ipaddress.ip_network(f"{text.partition('%')[0]}/{ip.network_prefix}", strict=False))
    return tuple(dict.fromkeys(found))


def _candidates(kind: CandidateType, endpoints: Iterable[Endpoint]) -> list[Candidate]:
    return [
        Candidate(type=kind, endpoint=endpoint, priority=priority(kind, endpoint, order))
        for order, endpoint in enumerate(endpoints)
    ]


class _Reflections:
    """What the reflector says of our ports, and the connections on which it says so."""

    def __init__(self, on_event: events.Listener) -> None:
        self.connections: list[socket.socket] = []
        self.fan: list[LocalPort] = []
        self.mappings: list[tuple[int, Endpoint]] = []
        """Local ports and what they look like from outside, the oldest first."""
        self.spare = 0
        self._on_event = on_event

    async def ask(self, port: LocalPort, reflector: Endpoint) -> None:
        """Of one port; a failure is only logged."""
        sock: socket.socket | None = None
        try:
            sock = await port.connect(reflector)
            local = Endpoint.from_sockaddr(sock.getsockname())
            mapped = await request_binding(sock, secrets.token_bytes(12))
            self.mappings.append((port.number, mapped))
            self.connections.append(sock)
            sock = None
        except (OSError, StunError) as error:
            _log.debug("the reflector at %s failed: %s", reflector, error)
            return
        finally:
            if sock is not None:
                sock.close()
        self._on_event(events.Reflected(local=str(local), mapped=str(mapped)))

    async def ask_from_a_fan(self, reflector: Endpoint) -> None:
        """Of new ports, all at once."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(PROBES):
                try:
                    port = LocalPort.open(families=(reflector.family,))
                except PortUnavailableError as error:
                    _log.debug("no more ports to ask from: %s", error)
                    return
                self.fan.append(port)
                tasks.create_task(self.ask(port, reflector))

    def open_a_spare(self) -> None:
        """A port more, where IPv4 ports are known to be kept; nobody is asked about it."""
        if not any(mapped.family == 4 for _, mapped in self.mappings):
            return
        try:
            self.fan.append(LocalPort.open(families=(4,)))
        except PortUnavailableError as error:
            _log.debug("no spare port: %s", error)
        else:
            self.spare = self.fan[0].number

    def close(self) -> None:
        """Gives it all back."""
        for sock in self.connections:
            sock.close()
        for port in self.fan:
            port.close()
