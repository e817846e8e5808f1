"""The lab itself: two hosts, the NATs before them, a server, and the internet between, up in well under a second.

``plan.py`` has the map and the addresses. Every node is a network namespace, every cable a virtual Ethernet pair,
every NAT the kernel's own.

**What this lab cannot show.** The cables have no delay: a reply can arrive while the call that caused it still runs.
Two SYNs cross only if nobody answers the first one, so two NATs that answer by RST, which a real path lets through
whenever the peers start within one one-way delay of each other, hardly ever pass here; ICMPv6 errors may be lost
because the kernel ignores them while connect() holds the socket. A success here is a success; a failure between two
NATs that answer, and every timing, is the lab's own. There is no loss, no jitter and no limit of the rate either.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

from midair.lab.kernel_nat import NatKind, ruleset
from midair.lab.namespace import Namespace, end_processes
from midair.lab.observe import SynCounts, read_syn_counts
from midair.lab.plan import CORE, SERVER, Cable, Node, make_plan
from midair.lab.requirements import LabUnavailable, available

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["Host", "Lab"]

_LINKS_UP_SECONDS = 5.0
"""The link watch runs at least once a second."""


class Host(Namespace):
    """A namespace with an address: one of the two peers, or the server."""

    def __init__(self, name: str, *, addresses: Sequence[str], outside: str) -> None:
        super().__init__(name)
        self.addresses = tuple(address for address in addresses if ":" not in address)
        """Its own IPv4 addresses; private behind a NAT. The server has two."""
        self.addresses6 = tuple(address for address in addresses if ":" in address)
        """Its own global IPv6 addresses; empty unless the lab has IPv6."""
        self.outside = outside
        """The IPv4 address under which the internet sees it: the NAT's, or its own."""

    @property
    def address(self) -> str:
        """Its first own IPv4 address."""
        return self.addresses[0]


class Lab:
    """Two hosts, each behind what ``nat_a`` and ``nat_b`` name, and a public server; a context manager.

    ``same_lan`` puts both hosts on one LAN behind one router, whose kind both arguments name. ``ipv6`` adds IPv6:
    global addresses for all, no translation, the same filtering; without it only loopback has IPv6.

    Leaving the block ends the processes started in the lab and lets the namespaces go, whatever happened. Everything is
    gone as well when this process is killed.

    Raises: ValueError for a LAN that cannot be; on entering LabUnavailable, with nothing left of what was begun.
    """

    a: Host
    b: Host
    server: Host
    core: Namespace
    """The internet: one router that knows all public networks and no private one."""
    nat_a: Namespace | None
    """The router before ``a``; None for a public host."""
    nat_b: Namespace | None
    """The router before ``b``; with ``same_lan`` it is ``nat_a``."""

    def __init__(self, nat_a: NatKind, nat_b: NatKind, *, same_lan: bool = False, ipv6: bool = False) -> None:
        self._plan = make_plan(nat_a, nat_b, same_lan=same_lan, ipv6=ipv6)
        self._same_lan = same_lan
        self._ipv6 = ipv6
        self._namespaces: dict[str, Namespace] = {}

    def __enter__(self) -> Self:
        if lack := available():
            raise LabUnavailable(lack)
        if self._namespaces:
            raise RuntimeError("this lab is already up")
        try:
            for node in self._plan.nodes:
                namespace = _make_namespace(node)
                self._namespaces[node.name] = namespace
                _set_parameters(namespace, node, ipv6=self._ipv6)
            _lay_cables(self._plan.cables, self._namespaces)
            for node in self._plan.nodes:
                _configure(self._namespaces[node.name], node)
            for node in self._plan.nodes:
                if node.router:  # of a host's cable, the host's end came up last, so it works at once
                    _await_links(self._namespaces[node.name], node)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.close()
            raise LabUnavailable(f"the lab cannot be made: {error}") from error
        except BaseException:
            self.close()
            raise
        self.a, self.b, self.server = (self._host(name) for name in ("a", "b", SERVER))
        self.core = self._namespaces[CORE]
        self.nat_a = self._namespaces.get("nat_a")
        self.nat_b = self.nat_a if self._same_lan else self._namespaces.get("nat_b")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes (2 seconds at most) and lets the namespaces go. Idempotent."""
        namespaces, self._namespaces = self._namespaces, {}
        end_processes([process for namespace in namespaces.values() for process in namespace.processes])
        with contextlib.ExitStack() as stack:
            for namespace in namespaces.values():
                stack.callback(namespace.close)

    def syn_counts(self) -> dict[str, SynCounts]:
        """What each router saw so far, by the side it stands before: ``a``, ``b``; a public host has none."""
        return {
            node.name.removeprefix("nat_"): read_syn_counts(self._namespaces[node.name])
            for node in self._plan.nodes
            if node.nat
        }

    def _host(self, name: str) -> Host:
        host = self._namespaces[name]
        assert isinstance(host, Host)
        return host


def _make_namespace(node: Node) -> Namespace:
    if node.router:
        return Namespace(node.name)
    return Host(node.name, addresses=node.addresses, outside=node.outside)


def _set_parameters(namespace: Namespace, node: Node, *, ipv6: bool) -> None:
    """Before there are interfaces, because these take over what ``default`` says when they are made."""
    if ipv6:
        # Addresses are of use at once, not after a second of asking whether somebody else has them.
        namespace.sysctl("net/ipv6/conf/default/accept_dad", 0)
        namespace.sysctl("net/ipv6/conf/default/router_solicitations", 0)
    else:
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6 is fine then
            namespace.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
    if node.router:
        namespace.sysctl("net/ipv4/ip_forward", 1)
        # By default a Linux router answers six SYNs of one host by ICMP and then one a second, so a peer that dials
        # fast enough finds a gap. That would measure the router's token bucket: here each SYN is answered, and that is
        # harder than life. The mask (no type is limited) covers the limit per host and the one for all.
        namespace.sysctl("net/ipv4/icmp_ratemask", 0)
        if ipv6:
            namespace.sysctl("net/ipv6/conf/all/forwarding", 1)
            namespace.sysctl("net/ipv6/icmp/ratelimit", 0)


def _lay_cables(cables: Sequence[Cable], namespaces: dict[str, Namespace]) -> None:
    """One ``ip`` for all; both ends are born inside, so that not even a crash in between leaves one in the open."""

    def where(node: str) -> str:
        return f"netns /proc/self/fd/{namespaces[node].fileno()}"

    lines = [
        f"link add name {cable.interface} {where(cable.node)}"
        f" type veth peer name {cable.other_interface} {where(cable.other_node)}"
        for cable in cables
    ]
    descriptors = [namespace.fileno() for namespace in namespaces.values()]
    _command(namespaces[CORE], ("ip", "-batch", "-"), "\n".join(lines), pass_fds=descriptors)


def _configure(namespace: Namespace, node: Node) -> None:
    """Addresses, routes and rules, in two commands at most."""
    lines = ["link set lo up"]
    for interface in node.interfaces:
        if interface.bridge:
            lines.append(f"link add name {interface.name} type bridge")
            lines += [f"link set {port} master {interface.name} up" for port in interface.bridge]
        # Up before it has addresses: the kernel joins the multicast group by which IPv6 neighbours ask for an address
        # at once then, else a little later, and a question lost meanwhile costs the first connection a second.
        lines.append(f"link set {interface.name} up")
        lines += [f"address add {address} dev {interface.name}" for address in interface.addresses]
    lines += [f"route add {route}" for route in node.routes]
    _command(namespace, ("ip", "-batch", "-"), "\n".join(lines))
    if node.nat:
        _command(namespace, ("nft", "-f", "-"), ruleset(node.nat))


def _await_links(namespace: Namespace, node: Node) -> None:
    """Waits until everything sent from here would leave.

    The end of a cable that was up before the other drops what it sends until the kernel's link watch has noticed the
    other: mostly at once, some milliseconds later on a busy computer. A first SYN lost in between comes back only after
    a second. (Asked for one interface by name, newer kernels let the link watch run before they answer.)
    """
    names = [name for interface in node.interfaces for name in (*interface.bridge, interface.name)]
    question = "\n".join(f"link show dev {name}" for name in names)
    deadline = time.monotonic() + _LINKS_UP_SECONDS
    while _command(namespace, ("ip", "-oneline", "-batch", "-"), question).count(" state UP ") < len(names):
        if time.monotonic() > deadline:
            raise LabUnavailable(f"the lab cannot be made: a cable of {namespace.name} does not come up")
        time.sleep(0.002)


def _command(namespace: Namespace, argv: Sequence[str], text: str, *, pass_fds: Sequence[int] = ()) -> str:
    done = namespace.run(argv, input=text + "\n", pass_fds=pass_fds)
    if done.returncode != 0:
        raise LabUnavailable(f"the lab cannot be made: {argv[0]} failed in {namespace.name}: {done.stderr.strip()}")
    return done.stdout
