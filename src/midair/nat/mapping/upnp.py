"""UPnP over the network: finding the router's description, and a port there, kept while it is wanted.

Only the default gateway is asked, and only what it says about itself is followed: an answer to the search counts when
it comes from the gateway's address, and every URL in it must be at that address. So nobody on the network can make
us send requests to somewhere else.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from ipaddress import IPv4Address

from midair.endpoint import Endpoint
from midair.nat.mapping.http import HttpResponse, ResponseReader, Target, encode_request
from midair.nat.mapping.igd import (
    Fault,
    NotConnected,
    PortNegotiation,
    Service,
    add_arguments,
    decode_description,
    decode_reply,
    encode_action,
    external_address,
    reserved_port,
)
from midair.nat.mapping.outcome import (
    MalformedError,
    Outcome,
    PortMapping,
    Protocol,
    Result,
    can_be_external,
    is_public,
)
from midair.nat.mapping.ssdp import GROUP, PORT, decode_answer, encode_search
from midair.nat.mapping.xml import Element
from midair.port import connect_tcp, open_multicast

__all__ = ["UpnpLease", "find_services"]

_log = logging.getLogger("midair.nat")

SEARCH_SECONDS = 3.0
"""How long the router is searched for in all; a healthy one answers at once, UPnP allows it MX = 1 second."""
SEARCH_WAIT_SECONDS = 0.25
"""Until the search is repeated first; doubles."""
LOCATIONS_MAX = 4
"""Descriptions of one router that are looked at."""
EXCHANGE_SECONDS = 5.0
"""For one request and its response."""
OTHER_PORTS = 4
"""Ports tried when the one wished for is taken."""
RENEWAL_SECONDS_MIN = 4.0
_FIRST_PORT, _LAST_PORT = 32768, 60999
"""Linux's ephemeral range: what a router is least likely to use itself."""


async def find_services(gateway: IPv4Address, own: Endpoint) -> list[Service]:
    """The gateway's services that map ports, best first. Takes SEARCH_SECONDS at most. Cancelling closes everything.

    Raises: TimeoutError when nobody answers; MalformedError when what it answers makes no sense; OSError.
    """
    locations: asyncio.Queue[Target] = asyncio.Queue(LOCATIONS_MAX)
    seen: set[Target] = set()
    trouble: MalformedError | None = None

    def take(data: bytes, sender: Endpoint) -> None:
        nonlocal trouble
        if sender.address != gateway:
            return
        try:
            location = decode_answer(data, gateway)
        except MalformedError as error:
            trouble = error
            return
        if location not in seen and len(seen) < LOCATIONS_MAX:
            seen.add(location)
            locations.put_nowait(location)

    transport = await open_multicast(own, on_datagram=take)
    try:
        async with asyncio.timeout(SEARCH_SECONDS), asyncio.TaskGroup() as tasks:
            searching = tasks.create_task(_search(transport, gateway))
            while True:
                location = await locations.get()
                try:
                    response = await _exchange(gateway, location, encode_request("GET", gateway, location))
                    if response.status != 200:
                        raise MalformedError(f"HTTP status {response.status} for its description")
                    services = decode_description(response.body, gateway, location)
                except (MalformedError, OSError) as error:
                    trouble = error if isinstance(error, MalformedError) else MalformedError("no description there")
                    continue
                searching.cancel()
                return services
    except TimeoutError:
        if trouble is not None:
            raise trouble from None
        raise
    finally:
        transport.close()


async def _search(transport: asyncio.DatagramTransport, gateway: IPv4Address) -> None:
    """To everybody, as the specification has it, and to the gateway alone, which some networks let through better."""
    wait = SEARCH_WAIT_SECONDS
    while True:
        for host in (GROUP, gateway):
            for search in encode_search(host):
                transport.sendto(search, (str(host), PORT))
        await asyncio.sleep(wait)
        wait *= 2


async def _exchange(host: IPv4Address, target: Target, request: bytes) -> HttpResponse:
    """One request on a connection of its own. Raises: OSError, TimeoutError among them; MalformedError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(EXCHANGE_SECONDS):
        sock = await connect_tcp(str(host), target.port, timeout=EXCHANGE_SECONDS)
        with sock:
            await loop.sock_sendall(sock, request)
            reader = ResponseReader()
            while True:
                response = reader.feed(await loop.sock_recv(sock, 16 * 1024))
                if response is not None:
                    return response


class UpnpLease:
    """One port asked of one router by UPnP. ``on_change`` is called whenever ``mapping`` or ``settled`` changes."""

    def __init__(
        self,
        gateway: IPv4Address,
        internal: Endpoint,
        services: asyncio.Future[list[Service]],
        *,
        lifetime: int,
        needed: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        """``services`` is what :func:`find_services` gives; ``needed``: whether nobody else has given us a port yet."""
        self.mapping: PortMapping | None = None
        self.settled = False
        self.double_nat: bool | None = None
        self._gateway = gateway
        self._internal = internal
        self._services = services
        self._lifetime = lifetime
        self._needed = needed
        self._on_change = on_change
        self._result = self._as_result(Outcome.SILENT, "no answer so far")
        self._asked: dict[int, Service] = {}
        """Ports that we may hold there, whether or not the answer has come."""

    async def run(self) -> None:
        """Asks, and then keeps the mapping until cancelled. Never raises what the router can cause."""
        try:
            services = await asyncio.shield(self._services)
        except TimeoutError:
            self._settle(self._result)
            return
        except (MalformedError, OSError) as error:
            self._settle(self._as_result(Outcome.BROKEN, str(error)))
            return
        while True:
            wait = await self._round(services)
            if wait is None:
                return
            await asyncio.sleep(wait)

    def results(self) -> list[Result]:
        """How it went so far."""
        return [self._result]

    async def remove(self) -> None:
        """Removes the mapping; call it when ``run`` has ended, and set a deadline. Never raises OSError."""
        for port, service in list(self._asked.items()):
            arguments = {"NewRemoteHost": "", "NewExternalPort": str(port), "NewProtocol": "TCP"}
            try:
                await self._call(service, "DeletePortMapping", arguments)
            except (Fault, MalformedError, OSError) as error:
                _log.debug("the router did not confirm that the mapping is gone: %s", error)
            del self._asked[port]

    def close(self) -> None:
        """There is nothing that stays open."""

    # -- asking --

    async def _round(self, services: list[Service]) -> float | None:
        """Asks once for the mapping, or for more time. Gives the seconds until the next round; None: there is none."""
        loop = asyncio.get_running_loop()
        held = self.mapping
        try:
            service, address = await self._find_outside(services)
            if held is None and not self._needed():
                self._settle(self._as_result(Outcome.NOT_NEEDED, "another protocol has given us a port"))
                return None
            mapping = await self._map(service, address, held)
        except Fault as fault:
            trouble = self._as_result(Outcome.REFUSED, str(fault), fault.code)
        except NotConnected as lack:
            trouble = self._as_result(Outcome.REFUSED, str(lack))
        except TimeoutError:
            trouble = self._as_result(Outcome.SILENT, "no answer in time")
        except (MalformedError, OSError) as error:
            trouble = self._as_result(Outcome.BROKEN, str(error))
        else:
            self._expires_at = loop.time() + (mapping.lifetime or 0.0)
            self.mapping = mapping
            self.double_nat = not mapping.public
            self._settle(self._as_result(Outcome.MAPPED, ""))
            return None if mapping.lifetime is None else max(RENEWAL_SECONDS_MIN, mapping.lifetime / 2)
        if held is None or held.lifetime is None:
            self._settle(trouble)
            return None
        if loop.time() >= self._expires_at:
            self.mapping = None
            self._settle(trouble)
        return max(RENEWAL_SECONDS_MIN, held.lifetime / 8)

    async def _find_outside(self, services: list[Service]) -> tuple[Service, IPv4Address]:
        """The first service that is connected. It is asked for the address before it is for a port, because a port
        that cannot be used should not be opened."""
        trouble: Fault | NotConnected | MalformedError = MalformedError("no service")
        for service in services:
            try:
                address = external_address(await self._call(service, "GetExternalIPAddress", {}))
                if not can_be_external(Endpoint(address, 1)):
                    raise MalformedError("an outside address that cannot be one")
            except (Fault, NotConnected, MalformedError) as error:
                trouble = error
                continue
            return service, address
        raise trouble

    async def _map(self, service: Service, address: IPv4Address, held: PortMapping | None) -> PortMapping:
        negotiation = PortNegotiation(
            internal_port=self._internal.port,
            lifetime=self._lifetime,
            other_ports=random.sample(range(_FIRST_PORT, _LAST_PORT), OTHER_PORTS) if held is None else [],
            picks_ports=service.picks_ports and held is None,
            wish=None if held is None else held.external.port,
        )
        while True:
            try:
                port = await self._add(service, negotiation)
            except Fault as fault:
                if not negotiation.refused(fault.code):
                    if not is_public(address):
                        self.double_nat = True
                    raise
            else:
                return PortMapping(
                    protocol=Protocol.UPNP,
                    gateway=self._gateway,
                    internal=self._internal,
                    external=Endpoint(address, port),
                    lifetime=negotiation.lifetime or None,
                )

    async def _add(self, service: Service, negotiation: PortNegotiation) -> int:
        """Raises: Fault, and the port is certainly not ours then; MalformedError; OSError."""
        wish = negotiation.external_port
        arguments = add_arguments(
            external_port=wish,
            internal_port=self._internal.port,
            client=IPv4Address(self._internal.address),
            lifetime=negotiation.lifetime,
        )
        already, self._asked[wish] = wish in self._asked, service
        try:
            reply = await self._call(service, negotiation.action, arguments)
            if negotiation.action == "AddPortMapping":
                return wish
            port = reserved_port(reply)
        except Fault:
            if not already:
                del self._asked[wish]
            raise
        if port != wish:
            del self._asked[wish]
        self._asked[port] = service
        return port

    async def _call(self, service: Service, action: str, arguments: dict[str, str]) -> Element:
        headers, body = encode_action(service, action, arguments)
        request = encode_request("POST", self._gateway, service.control, headers=headers, body=body)
        return decode_reply(await _exchange(self._gateway, service.control, request), action)

    def _as_result(self, outcome: Outcome, text: str, code: int | None = None) -> Result:
        return Result(gateway=self._gateway, protocol=Protocol.UPNP, outcome=outcome, code=code, text=text)

    def _settle(self, result: Result) -> None:
        self._result = result
        self.settled = True
        self._on_change()
