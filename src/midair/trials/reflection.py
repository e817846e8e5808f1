"""The reflector in the simulated net: tells who connects where the connection comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midair.endpoint import Endpoint
from midair.lab.packet import address_bytes, address_text
from midair.lab.simulation import Received

if TYPE_CHECKING:
    from midair.lab.simulation import Connection, Happening, SimulatedHost

__all__ = ["REQUEST", "endpoint_of", "listen_as_reflector", "reflected", "remote_of"]

REQUEST = bytes(20)


def listen_as_reflector(host: SimulatedHost, number: int) -> None:
    """Answers every request on a port, of each IP version the host has."""
    for version in (4, 6):
        if host.addresses(version):
            host.listen(number, _answer, version=version)


def reflected(data: bytes) -> Endpoint:
    """The endpoint in an answer."""
    return Endpoint.parse(data.decode())


def endpoint_of(address: bytes, port: int) -> Endpoint:
    """Of the lab's packed address."""
    return Endpoint.of(address_text(address), port)


def remote_of(endpoint: Endpoint) -> tuple[bytes, int]:
    """As the lab has it."""
    return address_bytes(str(endpoint.address)), endpoint.port


def _answer(connection: Connection, happening: Happening, now: float) -> None:
    if isinstance(happening, Received):
        connection.send(str(endpoint_of(*connection.remote)).encode(), now)
