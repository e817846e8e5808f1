"""A small internet on a wire, for its tests: two hosts and a router, behind NATs if wanted."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from midair.lab.behaviour import LinkBehaviour, NatBehaviour
from midair.lab.blueprint import Blueprint, Cable, HostPart, Interface, NatPart, RouterPart
from midair.lab.namespace import Namespace
from midair.lab.wire import Interfaces, Wire

A, B = "198.51.100.2", "203.0.113.2"
"""Outside addresses; a host's own without a NAT."""
A6, B6 = "2001:db8:a::2", "2001:db8:b::2"
INSIDE_A, INSIDE_B = "10.1.0.2", "10.2.0.2"
CORE = RouterPart(
    name="core",
    addresses=("192.0.2.1", "2001:db8::1"),
    routes=(("198.51.100.0/24", 0), ("203.0.113.0/24", 1), ("2001:db8:a::/48", 0), ("2001:db8:b::/48", 1)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a test holds."""

    wire: Wire
    a: Namespace
    b: Namespace
    parts: Mapping[str, HostPart | NatPart | RouterPart]


def host(name: str, address: str, address6: str = "") -> HostPart:
    addresses = (f"{address}/24", f"{address6}/64") if address6 else (f"{address}/24",)
    routes = ("0.0.0.0/0", "::/0") if address6 else ("0.0.0.0/0",)
    return HostPart(name=name, interfaces=(Interface(name="eth0", addresses=addresses, routes=routes),))


def nat(name: str, behaviour: NatBehaviour, outside: str, inside: str) -> NatPart:
    network = inside.rpartition(".")[0]
    return NatPart(
        name=name,
        behaviour=behaviour,
        outside=(outside,),
        inside=(f"{network}.1",),
        routes=((f"{network}.0/24", 1),),
    )


@contextlib.contextmanager
def site(
    *,
    link: LinkBehaviour | None = None,
    nat_a: NatBehaviour | None = None,
    nat_b: NatBehaviour | None = None,
    offload: bool = False,
    ethernet: bool | None = None,
    mtu: int = 1500,
) -> Iterator[Site]:
    """``link`` is that of each host, in both directions."""
    link = link or LinkBehaviour()
    parts: dict[str, HostPart | NatPart | RouterPart] = {"core": CORE}
    cables = []
    for number, (name, behaviour, outside, outside6, inside) in enumerate(
        (("a", nat_a, A, A6, INSIDE_A), ("b", nat_b, B, B6, INSIDE_B))
    ):
        if behaviour is None:
            parts[name] = host(name, outside, outside6)
            cables.append(Cable(node=name, port=0, other_node="core", other_port=number, there=link, back=link))
        else:
            parts[name] = host(name, inside)
            parts[f"nat_{name}"] = nat(f"nat_{name}", behaviour, outside, inside)
            cables += [
                Cable(node=name, port=0, other_node=f"nat_{name}", other_port=1),
                Cable(node=f"nat_{name}", port=0, other_node="core", other_port=number, there=link, back=link),
            ]
    blueprint = Blueprint(
        routers=(CORE,),
        nats=tuple(part for part in parts.values() if isinstance(part, NatPart)),
        hosts=tuple(part for part in parts.values() if isinstance(part, HostPart)),
        cables=tuple(cables),
    )
    with (
        Wire() as wire,
        Namespace("a") as a,
        Namespace("b") as b,
        Interfaces(offload=offload, ethernet=ethernet) as interfaces,
    ):
        plugs = {}
        for namespace, part in ((a, parts["a"]), (b, parts["b"])):
            assert isinstance(part, HostPart)
            plugs[part.name, 0] = interfaces.make(namespace, part.interfaces[0], mtu=mtu)
        wire.start(blueprint, plugs, seed=1)
        interfaces.close()
        yield Site(wire=wire, a=a, b=b, parts=parts)


def tcp_socket(place: Namespace, address: str = "0.0.0.0", port: int = 0) -> socket.socket:
    """Bound, not blocking."""
    with place.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.setblocking(False)
    return sock


def outcome(sock: socket.socket, seconds: float = 5.0) -> int | None:
    """How a connect() ended, as an errno, 0 for success; None when it has not."""
    _, writable, _ = select.select([], [sock], [], seconds)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if writable else None


@contextlib.contextmanager
def connected(site: Site, *, address: str = B) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection from a to b, both ends blocking, for five seconds at most."""
    with (
        tcp_socket(site.b, "::" if ":" in address else "0.0.0.0", 7000) as listener,
        tcp_socket(site.a, "::" if ":" in address else "0.0.0.0") as dialling,
    ):
        listener.listen()
        dialling.connect_ex((address, 7000))
        assert outcome(dialling) == 0
        listener.settimeout(5.0)
        accepted, _ = listener.accept()
        with accepted:
            for sock in (dialling, accepted):
                sock.settimeout(5.0)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield dialling, accepted


def round_trips(near: socket.socket, far: socket.socket, count: int) -> list[float]:
    """Seconds, sorted; nobody but the network takes time, as the one thread plays both ends."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        near.sendall(b"to")
        assert far.recv(2) == b"to"
        far.sendall(b"fro")
        assert near.recv(3) == b"fro"
        times.append(time.perf_counter() - start)
    return sorted(times)
