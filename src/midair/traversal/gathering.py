"""Gathering our own candidates (RFC 8445 5.1.1): the interfaces' addresses, and what a reflector sees of our port."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import ifaddr

from midair import events
from midair.config import ServerURL
from midair.endpoint import Endpoint, Family
from midair.port import LocalPort, resolve
from midair.stun import StunError, request_binding
from midair.traversal.candidates import Candidate, CandidateType, dialable, priority, select

__all__ = ["Gathered", "gather", "host_endpoints"]

_log = logging.getLogger("midair.traversal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What we can tell the peer, and what keeps it true."""

    candidates: tuple[Candidate, ...]
    loopback: bool
    """Whether the server is on this machine; then loopback addresses are candidates, ours and the peer's."""
    reflectors: tuple[socket.socket, ...]
    """The connections to the reflector; the NAT's mapping lives on them (RFC 6544 11.2: keep them until ICE ends)."""


async def gather(port: LocalPort, server: ServerURL, *, wait: float, on_event: events.Listener) -> Gathered:
    """Candidates for ``port``, after at most ``wait`` seconds; a reflector that fails only leaves its candidate out.

    Both families are asked at once, where the server's name has both. Cancelling closes every connection made here.
    """
    reflections: list[tuple[socket.socket, Endpoint]] = []
    loopback = server.host == "localhost"
    try:
        async with asyncio.timeout(wait):
            endpoints = await resolve(server.host, server.port)
            loopback = endpoints[0].address.is_loopback
            first_by_family = {endpoint.family: endpoint for endpoint in reversed(endpoints)}
            async with asyncio.TaskGroup() as tasks:
                for family in first_by_family.keys() & port.families:
                    tasks.create_task(_reflect(port, first_by_family[family], reflections, on_event))
    except (TimeoutError, OSError) as error:
        _log.debug("no reflexive candidate from %s: %r", server, error)
    except BaseException:
        for sock, _ in reflections:
            sock.close()
        raise
    hosts = host_endpoints(port.number, port.families, loopback=loopback)
    mapped = [endpoint for _, endpoint in reflections if dialable(endpoint, loopback=loopback)]
    candidates = [*_candidates(CandidateType.HOST, hosts), *_candidates(CandidateType.SERVER_REFLEXIVE, mapped)]
    return Gathered(candidates=select(candidates), loopback=loopback, reflectors=tuple(sock for sock, _ in reflections))


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


def _candidates(kind: CandidateType, endpoints: Iterable[Endpoint]) -> list[Candidate]:
    return [
        Candidate(type=kind, endpoint=endpoint, priority=priority(kind, endpoint, order))
        for order, endpoint in enumerate(endpoints)
    ]


async def _reflect(
    port: LocalPort,
    reflector: Endpoint,
    reflections: list[tuple[socket.socket, Endpoint]],
    on_event: events.Listener,
) -> None:
    sock: socket.socket | None = None
    try:
        sock = await port.connect(reflector)
        local = Endpoint.from_sockaddr(sock.getsockname())
        mapped = await request_binding(sock, secrets.token_bytes(12))
        reflections.append((sock, mapped))
        sock = None
    except (OSError, StunError) as error:
        _log.debug("the reflector at %s failed: %s", reflector, error)
        return
    finally:
        if sock is not None:
            sock.close()
    on_event(events.Reflected(local=str(local), mapped=str(mapped)))
