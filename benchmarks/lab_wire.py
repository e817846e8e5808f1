"""How fast the lab's wire is, how exact, and how soon it is up: iperf3 through it beside iperf3 over plain veth.

Throughput: one TCP connection from a host to another, by plain veth (no wire at all, the kernel's offloads on), by the
wire with a router, with a NAT before the router, the same with offload (large segments), and by virtual Ethernet and
packet sockets as an ordinary user has it. All kinds in turn, so that what else the computer does hits all alike. The
figures to quote are the ratios to veth in the same run; ``cpu_us`` is what one packet costs the wire process, of a
processor, in its own code and in the kernel's.

Delay: round trips over links of 50 ms one way. Pairs: as many as asked for, each host behind a NAT of its own, all on
one wire; the time until everything is up, and the time that connect() takes when all hosts dial at one instant.

    python benchmarks/lab_wire.py --output benchmarks/results/lab_wire.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import select
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midair.lab.behaviour import LinkBehaviour, NatBehaviour
from midair.lab.blueprint import Blueprint, Cable, HostPart, Interface, NatPart, RouterPart
from midair.lab.namespace import Namespace
from midair.lab.wire import Interfaces, Plug, Wire
from midair.lab.wire.rtnetlink import Rtnetlink
from midair.lab.wire.tun import can_open_tun

__all__: list[str] = []

SERVER = "192.0.2.10"
DEADLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Two namespaces that reach each other; the client's packets may pass a wire."""

    client: Namespace
    server: Namespace
    wire: Wire | None = None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the JSON there")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each kind, after one warm-up each")
    parser.add_argument("--seconds", type=int, default=3, help="of each iperf3")
    parser.add_argument("--pairs", type=int, default=100)
    options = parser.parse_args()

    kinds: dict[str, Callable[[], contextlib.AbstractContextManager[Place]]] = {"veth": plain_veth}
    if can_open_tun():
        kinds["router"] = lambda: by_wire(nat=False)
        kinds["nat"] = by_wire
        kinds["nat_offload"] = lambda: by_wire(offload=True)
    kinds["nat_without_tun"] = lambda: by_wire(ethernet=True)

    results: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for run in range(options.runs + 1):
        for kind, make in kinds.items():
            with make() as place:
                figures = throughput(place, options.seconds)
            print(
                f"{kind:16} run {run}: " + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()),
                flush=True,
            )
            if run > 0:
                results[kind].append(figures)
    report: dict[str, Any] = {
        "command": "python benchmarks/lab_wire.py",
        "machine": {"python": platform.python_version(), "cpus": os.cpu_count(), "kernel": platform.release()},
        "throughput": {kind: summary(figures, results["veth"]) for kind, figures in results.items()},
        "round_trip_50_ms_one_way": round_trips(),
        "pairs": [pairs(options.pairs) for _ in range(3)],
    }
    print(json.dumps(report, indent=2))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def summary(figures: list[dict[str, float]], veth: list[dict[str, float]]) -> dict[str, Any]:
    speeds = [figure["mbit_s"] for figure in figures]
    ratios = [mine["mbit_s"] / other["mbit_s"] for mine, other in zip(figures, veth, strict=True)]
    result: dict[str, Any] = {"mbit_s": spread(speeds, 0), "ratio_to_veth": spread(ratios, 4)}
    if "cpu_us" in figures[0]:
        result["cpu_us"] = spread([figure["cpu_us"] for figure in figures], 1)
    return result


def spread(values: Sequence[float], digits: int) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


# -- throughput --


@contextlib.contextmanager
def plain_veth() -> Iterator[Place]:
    with Namespace("client") as client, Namespace("server") as server:
        with client.entered(), Rtnetlink() as link:
            link.add_veth(
                "eth0", b"\2\0\0\0\0\1", peer="eth0", peer_hardware=b"\2\0\0\0\0\2", peer_namespace=server.fileno()
            )
            link.flush()
        for namespace, address in ((client, "192.0.2.2/24"), (server, f"{SERVER}/24")):
            with namespace.entered(), Rtnetlink() as link:
                index = socket.if_nametoindex("eth0")
                link.add_address(index, address)
                link.set_up(index)
                link.flush()
        yield Place(client=client, server=server)


@contextlib.contextmanager
def by_wire(*, nat: bool = True, offload: bool = False, ethernet: bool = False) -> Iterator[Place]:
    core = RouterPart(name="core", addresses=("192.0.2.1",), routes=(("198.51.100.0/24", 0), ("192.0.2.0/24", 1)))
    client = host("client", "10.1.0.2" if nat else "198.51.100.2")
    server = host("server", SERVER)
    to_server = Cable(node="server", port=0, other_node="core", other_port=1)
    if nat:
        blueprint = Blueprint(
            routers=(core,),
            nats=(home_nat("nat", "198.51.100.2", "10.1.0"),),
            hosts=(client, server),
            cables=(
                to_server,
                Cable(node="client", port=0, other_node="nat", other_port=1),
                Cable(node="nat", port=0, other_node="core", other_port=0),
            ),
        )
    else:
        cable = Cable(node="client", port=0, other_node="core", other_port=0)
        blueprint = Blueprint(routers=(core,), hosts=(client, server), cables=(to_server, cable))
    with (
        Wire() as wire,
        Namespace("client") as client_space,
        Namespace("server") as server_space,
        Interfaces(offload=offload, ethernet=ethernet) as interfaces,
    ):
        wire.start(
            blueprint,
            {
                ("client", 0): interfaces.make(client_space, client.interfaces[0]),
                ("server", 0): interfaces.make(server_space, server.interfaces[0]),
            },
        )
        interfaces.close()
        yield Place(client=client_space, server=server_space, wire=wire)


def throughput(place: Place, seconds: int) -> dict[str, float]:
    server = place.server.popen(["iperf3", "-s", "-1", "-B", SERVER], stdout=subprocess.DEVNULL)
    await_listener(server.pid, 5201)
    packets, cpu = work(place.wire)
    done = place.client.run(["iperf3", "-c", SERVER, "-t", str(seconds), "-J"], timeout=seconds + DEADLINE_SECONDS)
    packets_now, cpu_now = work(place.wire)
    if done.returncode != 0:
        raise SystemExit(f"iperf3 failed: {done.stdout}{done.stderr}")
    server.wait(timeout=DEADLINE_SECONDS)
    end = json.loads(done.stdout)["end"]
    figures = {"mbit_s": end["sum_received"]["bits_per_second"] / 1e6}
    if place.wire is not None:
        figures["cpu_us"] = (cpu_now - cpu) / (packets_now - packets) * 1e6
    return figures


def work(wire: Wire | None) -> tuple[int, float]:
    """Packets, and seconds of a processor, so far."""
    if wire is None:
        return 0, 0.0
    fields = Path(f"/proc/{wire.pid}/stat").read_text().rpartition(")")[2].split()
    return wire.statistics().received, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def await_listener(pid: int, port: int) -> None:
    """Waits until the process, or another in its namespace, listens on the port."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while f":{port:04X} 00000000:0000 0A" not in Path(f"/proc/{pid}/net/tcp").read_text():
        if time.monotonic() > deadline:
            raise SystemExit("the iperf3 server does not listen")
        time.sleep(0.01)


# -- delay --


def round_trips() -> dict[str, Any]:
    """In milliseconds; the one thread plays both ends, so that nobody has to be woken up."""
    times = []
    delayed = LinkBehaviour(delay=0.05)
    with by_wire(nat=True) as place:
        assert place.wire is not None
        place.wire.set_link(("client", 0), there=delayed, back=delayed)
        with place.server.entered(), socket.create_server((SERVER, 7000)) as listener:
            with place.client.entered():
                near = socket.create_connection((SERVER, 7000), timeout=5)
            far, _ = listener.accept()
            with near, far:
                for sock in (near, far):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(50):
                    start = time.perf_counter()
                    near.sendall(b"to")
                    far.recv(2)
                    far.sendall(b"fro")
                    near.recv(3)
                    times.append((time.perf_counter() - start) * 1000)
    times.sort()
    return {"median": round(statistics.median(times), 2), "min": round(times[0], 2), "p95": round(times[47], 2)}


# -- many pairs --


def pairs(count: int) -> dict[str, float]:
    """Times in milliseconds."""
    core_routes, nats, hosts, cables = [], [], [], []
    delayed = LinkBehaviour(delay=0.025)
    for number in range(2 * count):
        outside = f"100.{64 + number // 256}.{number % 256}"
        inside = f"10.{number // 256}.{number % 256}"
        hosts.append(host(f"h{number}", f"{inside}.2"))
        nats.append(home_nat(f"n{number}", f"{outside}.2", inside))
        core_routes.append((f"{outside}.0/24", number))
        cables += [
            Cable(node=f"h{number}", port=0, other_node=f"n{number}", other_port=1),
            Cable(node=f"n{number}", port=0, other_node="core", other_port=number, there=delayed, back=delayed),
        ]
    core = RouterPart(name="core", addresses=("192.0.2.1",), routes=tuple(core_routes))
    blueprint = Blueprint(routers=(core,), nats=tuple(nats), hosts=tuple(hosts), cables=tuple(cables))
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(Wire())
        interfaces = stack.enter_context(Interfaces())
        namespaces = [stack.enter_context(Namespace(part.name)) for part in hosts]
        namespaces_made = time.perf_counter()
        plugs: dict[tuple[str, int], Plug] = {
            (part.name, 0): interfaces.make(namespace, part.interfaces[0])
            for part, namespace in zip(hosts, namespaces, strict=True)
        }
        interfaces_made = time.perf_counter()
        wire.start(blueprint, plugs)
        interfaces.close()
        up = time.perf_counter()
        durations, failed = punch(namespaces, [nat.outside[0] for nat in nats])
        punched = time.perf_counter()
    down = time.perf_counter()
    return {
        "pairs": count,
        "ms_namespaces": round((namespaces_made - start) * 1e3),
        "ms_interfaces": round((interfaces_made - namespaces_made) * 1e3),
        "ms_wire": round((up - interfaces_made) * 1e3),
        "ms_up": round((up - start) * 1e3),
        "ends_connected": len(durations),
        "ends_failed": failed,
        "ms_connect_median": round(statistics.median(durations) * 1e3, 1),
        "ms_connect_max": round(max(durations) * 1e3, 1),
        "ms_down": round((down - punched) * 1e3),
    }


def punch(namespaces: Sequence[Namespace], outside: Sequence[str]) -> tuple[list[float], int]:
    """All hosts dial at one instant, each its neighbour; how many seconds connect() took, and how often it failed."""
    with contextlib.ExitStack() as stack:
        started: dict[int, float] = {}
        socks: dict[int, socket.socket] = {}
        for namespace in namespaces:
            with namespace.entered():
                sock = stack.enter_context(socket.socket())
            sock.bind(("0.0.0.0", 4000))
            sock.setblocking(False)
            socks[sock.fileno()] = sock
        waiting = select.poll()
        for number, sock in enumerate(socks.values()):
            started[sock.fileno()] = time.perf_counter()
            sock.connect_ex((outside[number ^ 1], 4000))
            waiting.register(sock, select.POLLOUT)
        durations: list[float] = []
        failed = 0
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(durations) + failed < len(socks) and time.monotonic() < deadline:
            for descriptor, _ in waiting.poll(1000):
                waiting.unregister(descriptor)
                if socks[descriptor].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    failed += 1
                else:
                    durations.append(time.perf_counter() - started[descriptor])
        return durations, failed


# -- parts --


def host(name: str, address: str) -> HostPart:
    interface = Interface(name="eth0", addresses=(f"{address}/24",), routes=("0.0.0.0/0",))
    return HostPart(name=name, interfaces=(interface,))


def home_nat(name: str, outside: str, inside: str) -> NatPart:
    return NatPart(
        name=name,
        behaviour=NatBehaviour(),
        outside=(outside,),
        inside=(f"{inside}.1",),
        routes=((f"{inside}.0/24", 1),),
    )


if __name__ == "__main__":
    raise SystemExit(main())
