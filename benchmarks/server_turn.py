"""midair's relay beside coturn as a relay of TCP connections (RFC 6062): how long until both sides are joined, how
fast, at which cost; and whether coturn keeps what a peer says too early.

Over loopback, where a round trip costs nothing: what the round trips cost elsewhere is their number, which is counted.
Needs turnserver (Debian: coturn).

    python benchmarks/server_turn.py --output benchmarks/results/turn.json
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import json
import os
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from server_processes import server, usage_of
from server_relay import Connected, carry, dial, through_midair

__all__: list[str] = []

ALLOCATE, CREATE_PERMISSION, CONNECTION_BIND, CONNECTION_ATTEMPT = 0x003, 0x008, 0x00B, 0x01C
"""RFC 8656 section 17, RFC 6062 section 6.1; the last is an indication, which sets a bit more."""
USERNAME, INTEGRITY, ERROR, PEER, REALM, NONCE, RELAYED, TRANSPORT, CONNECTION_ID = (
    *(0x0006, 0x0008, 0x0009, 0x0012, 0x0014, 0x0015, 0x0016, 0x0019, 0x002A),
)
_COOKIE = 0x2112A442
_USER, _PASSWORD, _REALM = b"midair", b"secret", b"example.org"
_KEY = hashlib.md5(b":".join((_USER, _REALM, _PASSWORD)), usedforsecurity=False).digest()
_SETTINGS = """listening-ip=127.0.0.1
relay-ip=127.0.0.1
listening-port={port}
realm=example.org
lt-cred-mech
user=midair:secret
no-udp
no-udp-relay
no-tls
no-dtls
no-cli
allow-loopback-peers
userdb={folder}/turndb
pidfile={folder}/turnserver.pid
log-file={folder}/turnserver.log
simple-log
"""


class Allocation:
    """A relayed TCP address at coturn, over one control connection. Counts the round trips it has taken."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.control = dial(port)
        self.round_trips = 1
        self.nonce = b""
        transport = (TRANSPORT, b"\x06\0\0\0")
        refused = self.ask(self.control, ALLOCATE, [transport], signed=False)  # the nonce is in the refusal
        self.nonce = refused[NONCE]
        port_field = self.ask(self.control, ALLOCATE, [transport])[RELAYED][2:4]
        self.relayed = int.from_bytes(port_field, "big") ^ _COOKIE >> 16
        peer = struct.pack(">BBHI", 0, 1, 0, int.from_bytes(socket.inet_aton("127.0.0.1"), "big") ^ _COOKIE)
        self.ask(self.control, CREATE_PERMISSION, [(PEER, peer)])

    def bind(self) -> socket.socket:
        """Waits until the peer has connected; the connection on which it is heard."""
        self.round_trips += 1  # the peer's own connection, which this side waits for
        kind, attributes = _receive(self.control)
        assert kind == CONNECTION_ATTEMPT, kind
        data = dial(self._port)
        self.round_trips += 1
        self.ask(data, CONNECTION_BIND, [(CONNECTION_ID, attributes[CONNECTION_ID])])
        return data

    def ask(
        self, sock: socket.socket, method: int, attributes: list[tuple[int, bytes]], *, signed: bool = True
    ) -> dict[int, bytes]:
        """One request and its answer, an error only to one that is not signed. Raises: ConnectionError."""
        if signed:
            attributes = [*attributes, (USERNAME, _USER), (REALM, _REALM), (NONCE, self.nonce)]
        sock.sendall(_message(method, attributes, signed=signed))
        self.round_trips += 1
        kind, answer = _receive(sock)
        if kind & 0x0110 == 0x0110 and signed:
            raise ConnectionError(f"coturn refused method {method}: {answer.get(ERROR, b'')!r}")
        return answer


def _message(method: int, attributes: list[tuple[int, bytes]], *, signed: bool) -> bytes:
    body = b"".join(struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4) for kind, value in attributes)
    head = struct.pack(">HHI", method, len(body) + 24 * signed, _COOKIE) + os.urandom(12)
    if signed:
        body += struct.pack(">HH", INTEGRITY, 20) + hmac.new(_KEY, head + body, hashlib.sha1).digest()
    return head + body


def _receive(sock: socket.socket) -> tuple[int, dict[int, bytes]]:
    kind, length = struct.unpack(">HH", _exactly(sock, 20)[:4])
    body, attributes = _exactly(sock, length), {}
    while body:
        attribute, size = struct.unpack_from(">HH", body)
        attributes[attribute] = body[4 : 4 + size]
        body = body[4 + size + -size % 4 :]
    return kind, attributes


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError("coturn has closed the connection")
        data += more
    return data


@contextlib.contextmanager
def coturn(folder: Path) -> Iterator[tuple[int, int]]:
    """A turnserver of our own: its port and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "turnserver.conf"
    settings.write_text(_SETTINGS.format(port=port, folder=folder))
    with subprocess.Popen(["turnserver", "-c", str(settings)], stdout=subprocess.DEVNULL) as process:
        try:
            dial(port).close()
            yield port, process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def through_coturn(port: int, pid: int) -> Iterator[Connected]:
    with contextlib.ExitStack() as stack:
        allocation = Allocation(port)
        stack.enter_context(allocation.control)
        peer = stack.enter_context(dial(allocation.relayed))
        yield peer, stack.enter_context(allocation.bind()), pid


def keeps_early_words(port: int, tries: int) -> int:
    """How often what the peer says at once arrives; it should every time (RFC 6062 section 5.3)."""
    kept = 0
    for _ in range(tries):
        allocation = Allocation(port)
        with allocation.control, dial(allocation.relayed) as peer:
            peer.sendall(b"early")
            time.sleep(0.02)
            with allocation.bind() as data:
                data.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    kept += data.recv(5) == b"early"
    return kept


def measure(folder: Path, *, mib: int, runs: int) -> dict[str, Any]:
    """Both relays in turn."""
    with coturn(folder) as (turn_port, turn_pid), server(folder) as (port, pid):
        ways: dict[str, Callable[[], contextlib.AbstractContextManager[Connected]]] = {
            "midair": lambda: through_midair(port, pid),
            "coturn": lambda: through_coturn(turn_port, turn_pid),
        }
        result: dict[str, Any] = {}
        opening: dict[str, list[float]] = {name: [] for name in ways}
        speed: dict[str, list[float]] = {name: [] for name in ways}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(runs):
            for name, way in ways.items():
                started = time.perf_counter()
                with way() as (source, target, process):
                    opening[name].append(time.perf_counter() - started)
                    assert process is not None
                    before = usage_of(process).cpu_seconds
                    speed[name].append(mib / carry(source, target, mib << 20))
                    cpu[name].append((usage_of(process).cpu_seconds - before) * 1024 / mib)
        for name in ways:
            result[name] = {
                "opening_ms": round(1000 * statistics.median(opening[name]), 2),
                "mib_per_second": sorted(map(round, speed[name])),
                "cpu_seconds_per_gib": sorted(round(each, 2) for each in cpu[name]),
            }
        allocation = Allocation(turn_port)
        with allocation.control, dial(allocation.relayed), allocation.bind():
            result["coturn"]["round_trips"] = allocation.round_trips
        result["midair"]["round_trips"] = 2  # the connection; the preamble and its OK
        result["coturn"]["early_words_kept_of_20"] = keeps_early_words(turn_port, 20)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="write the result there, as JSON")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="midair-turn-") as folder:
        result = {
            "command": "python benchmarks/server_turn.py",
            **measure(Path(folder), mib=options.mib, runs=options.runs),
        }
    print(json.dumps(result, indent=1))
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
