"""A home on one machine: a host behind a Linux router, and a peer on the internet. Plain veth, no delay.

The router's outside address must be one that miniupnpd takes for public, so it is not from a block for documentation;
nothing of it leaves the namespaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from typing import Any, Self, TypeVar

from midair.lab.description import KernelKind
from midair.lab.kernel import ruleset
from midair.lab.namespace import Namespace

HOST, ROUTER, PEER = "10.1.0.2", "10.1.0.1", "20.1.1.2"
OUTSIDE = "20.1.1.1"
HOST_6, PEER_6 = "2001:db8:a::2", "2001:db8:b::2"
ROUTER_6 = "fe80::1"

_T = TypeVar("_T")


class Home:
    """The three, as namespaces; a context manager."""

    def __init__(self, *, outside: str = OUTSIDE, ipv6: bool = True) -> None:
        self.outside = outside
        self._stack = ExitStack()
        with self._stack:
            self.host, self.router, self.peer = (
                self._stack.enter_context(Namespace(name)) for name in ("host", "router", "peer")
            )
            for place in (self.host, self.router, self.peer):
                # Otherwise an address of IPv6 is of no use in its first second or two.
                place.sysctl("net/ipv6/conf/default/accept_dad", 0)
            self._wire(ipv6)
            self._stack = self._stack.pop_all()

    def _wire(self, ipv6: bool) -> None:
        peer = self.outside.rpartition(".")[0] + ".2"
        ends = {f"/proc/self/fd/{place.fileno()}": place for place in (self.host, self.peer)}
        inside, beyond = ends
        fds = [place.fileno() for place in ends.values()]
        _ip(
            self.router,
            f"link add lan0 type veth peer name eth0 netns {inside}",
            f"link add wan type veth peer name eth0 netns {beyond}",
            "link set lo up",
            f"addr add {ROUTER}/24 dev lan0",
            f"addr add {self.outside}/24 dev wan",
            "link set lan0 up",
            "link set wan up",
            pass_fds=fds,
        )
        _ip(self.host, "link set lo up", f"addr add {HOST}/24 dev eth0", "link set eth0 up")
        _ip(self.host, f"route add default via {ROUTER}")
        _ip(self.peer, "link set lo up", f"addr add {peer}/24 dev eth0", "link set eth0 up")
        self.router.sysctl("net/ipv4/ip_forward", 1)
        if ipv6:
            _ip(self.router, f"addr add {ROUTER_6}/64 dev lan0", "addr add 2001:db8:a::1/64 dev lan0")
            _ip(self.router, "addr add 2001:db8:b::1/64 dev wan")
            _ip(self.host, f"addr add {HOST_6}/64 dev eth0", f"route add default via {ROUTER_6} dev eth0")
            _ip(self.peer, f"addr add {PEER_6}/64 dev eth0", "route add 2001:db8:a::/64 via 2001:db8:b::1")
            self.router.sysctl("net/ipv6/conf/all/forwarding", 1)
        self.reset_rules()

    def reset_rules(self) -> None:
        """The router's rules as at first: unsolicited SYNs are dropped, and nothing is mapped."""
        done = self.router.run(("nft", "-f", "-"), input=ruleset(KernelKind.MASQUERADE_DROP))
        assert done.returncode == 0, done.stderr

    def mapped_ports(self) -> set[int]:
        """The ports the router passes on, to either family."""
        rules = self.router.run(("nft", "list", "table", "inet", "midair_lab")).stdout
        chains = re.findall(r"chain mapped_(?:destination|forward) \{(.*?)\}", rules, re.DOTALL)
        return {int(port) for chain in chains for port in re.findall(r"dport (\d+)", chain)}

    def play(self, scenario: Coroutine[Any, Any, _T]) -> _T:
        """Runs a coroutine on the host; whatever it opens is there."""
        with self.host.entered():
            return asyncio.run(scenario)

    @contextlib.contextmanager
    def as_another_host(self) -> Iterator[str]:
        """While it lasts, what starts on the host comes from a second address of it, which this yields."""
        other = "10.1.0.3"
        _ip(self.host, f"addr add {other}/24 dev eth0", f"route replace 10.1.0.0/24 dev eth0 src {other}")
        try:
            yield other
        finally:
            _ip(self.host, f"route replace 10.1.0.0/24 dev eth0 src {HOST}", f"addr del {other}/24 dev eth0")

    async def dial(self, address: str, port: int) -> str:
        """What a stranger on the internet gets who connects there: the bytes it is greeted with, or the error."""

        def dial() -> str:
            with self.peer.entered():
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_STREAM)
            with sock:
                sock.settimeout(0.3)
                try:
                    sock.connect((address, port))
                    return sock.recv(100).decode()
                except OSError as error:
                    return type(error).__name__

        return await asyncio.to_thread(dial)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _ip(place: Namespace, *commands: str, pass_fds: list[int] | None = None) -> None:
    done = place.run(("ip", "-batch", "-"), input="\n".join(commands) + "\n", pass_fds=pass_fds or [])
    assert done.returncode == 0, done.stderr
