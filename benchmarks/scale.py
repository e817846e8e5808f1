"""What a meeting point for the internet would take: nodes, memory, bandwidth and money for so many transfers a day.

What a peer, a meeting and a relayed byte cost is measured (results/server.json), and who is relayed comes from the
populations (results/population.json). The rest is assumed, each with where it is from, and can be set on the command
line. The tables of the page are written anew:

    python benchmarks/scale.py --page docs/explanation/scale.md
    python benchmarks/scale.py --mean-mib 20 --waiting-seconds 300
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

__all__: list[str] = []

RESULTS = Path(__file__).parent / "results"
PER_DAY = (10**4, 10**6, 10**8)
DAY_SECONDS = 86400
TB = 10**12


def because(value: Any, reason: str) -> Any:
    """A field with a default and where that is from."""
    return field(default=value, metadata={"reason": reason})


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What nobody measured here."""

    mean_mib: float = because(100, "MiB a transfer; a guess, and the one that matters most: try 10 and 1000")
    waiting_seconds: float = because(60, "from the sender's code to the receiver who types it; a guess")
    peak: float = because(3, "the busiest hour over the mean one; a guess")
    mix: str = because("ipfs-2025", "which population the peers are (`midair lab population`)")
    head_start_mb: float = because(0.2, "MB a direct transfer sends by the relay before it moves (ADR 5)")
    relayed_mbit: float = because(50, "Mbit/s of one relayed transfer: the slower of two homes; a guess")
    load: float = because(0.5, "how much of anything is used in the busiest hour, so that a node may die")
    node_gib: float = because(4, "GiB of memory of a node with one core: what small rented machines have")
    node_gbit: float = because(1, "Gbit/s of its link, each way")
    node_dollars: float = because(10, "dollars a month; a round number for such a machine")
    dollars_per_tb: float = because(
        2.5, "what leaves the data centre; croc pays 100 dollars for 40 TB (schollz/croc#931)"
    )
    cloud_dollars_per_tb: float = because(80, "the same in a large cloud, by list prices of some 0.08 dollars a GB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the results say."""

    peer_kib: float
    connections: int
    """A process may hold (ServerLimits)."""
    meeting_cpu: float
    """CPU-seconds of the nodes for one pair to meet."""
    opening_cpu: float
    """And for what else it does: two TLS handshakes, two questions to the reflector, a relayed pair to begin with."""
    redis_cpu: float
    """And of Redis."""
    relay_cpu: float
    """CPU-seconds for a GiB."""
    relayed: float
    """The share of pairs that end on the relay."""

    @classmethod
    def read(cls, mix: str) -> Measured:
        server = json.loads((RESULTS / "server.json").read_text())
        populations = [json.loads(line) for line in (RESULTS / "population.json").read_text().splitlines()]
        endings = next(each for each in populations if each["mix"] == mix)["results"]["midair"]["endings"]
        meeting, openings = server["meeting"], server["openings"]
        cpu = server["relay"]["midair"]["cpu_seconds_per_gib"]
        return cls(
            peer_kib=server["waiting"]["kib_per_peer"] + KERNEL_KIB,
            connections=10_000,
            opening_cpu=(
                2 * (openings["page_with_tls_cpu_ms"] - openings["page_cpu_ms"])
                + 2 * openings["reflector_cpu_ms"]
                + openings["relayed_pair_cpu_ms"]
            )
            / 1000,
            meeting_cpu=meeting["node_cpu_seconds"] / meeting["pairs_met"],
            redis_cpu=meeting["redis_cpu_seconds"] / meeting["pairs_met"],
            relay_cpu=cpu[len(cpu) // 2],
            relayed=1 - endings["direct"] / sum(endings.values()),
        )


KERNEL_KIB = 4.5
"""For each connection, beside the process (benchmarks/server_waiting.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What ``transfers`` a day take, in the busiest hour unless said otherwise."""

    transfers: float
    pairs_per_second: float
    waiting: float
    relayed_at_once: float
    meeting_cores: float
    relay_cores: float
    redis_cores: float
    relayed_gbit: float
    memory_gib: float
    tb_per_month: float

    @classmethod
    def of(cls, transfers: float, assumed: Assumed, measured: Measured, *, nodes: int = 1) -> Need:
        """With more than one node, most relayed pairs come to two of them, and their bytes pass both."""
        mean = transfers / DAY_SECONDS
        peak = mean * assumed.peak
        bytes_each = measured.relayed * assumed.mean_mib * 2**20 + (1 - measured.relayed) * assumed.head_start_mb * 1e6
        twice = 1 + (nodes - 1) / nodes
        waiting = peak * assumed.waiting_seconds
        relayed_seconds = assumed.mean_mib * 2**20 * 8 / (assumed.relayed_mbit * 1e6)
        return cls(
            transfers=transfers,
            pairs_per_second=peak,
            waiting=waiting,
            relayed_at_once=peak * measured.relayed * relayed_seconds,
            meeting_cores=peak * (measured.meeting_cpu + measured.opening_cpu),
            relay_cores=peak * bytes_each / 2**30 * measured.relay_cpu * twice,
            redis_cores=peak * measured.redis_cpu,
            relayed_gbit=peak * bytes_each * 8 / 1e9 * twice,
            memory_gib=waiting * measured.peer_kib / 2**20,
            tb_per_month=mean * bytes_each * DAY_SECONDS * 30 / TB,
        )

    def nodes(self, assumed: Assumed, measured: Measured) -> dict[str, float]:
        """How many nodes each thing alone would take."""
        return {
            "a core": (self.meeting_cores + self.relay_cores) / assumed.load,
            "the link": self.relayed_gbit / (assumed.node_gbit * assumed.load),
            "memory": self.memory_gib / (assumed.node_gib * assumed.load),
            "connections": (self.waiting + 2 * self.relayed_at_once) / (measured.connections * assumed.load),
        }


def needed(transfers: float, assumed: Assumed, measured: Measured) -> tuple[Need, int]:
    """And the number of nodes, at least two as soon as one is not enough."""
    nodes = 1
    while True:
        need = Need.of(transfers, assumed, measured, nodes=nodes)
        least = math.ceil(max(need.nodes(assumed, measured).values()))
        if least <= nodes:
            return need, nodes
        nodes = max(least, nodes + 1)


def breaks(assumed: Assumed, measured: Measured) -> list[tuple[str, float]]:
    """What one process, and then one Redis, has too little of, and from how many transfers a day on; soonest first."""
    one = Need.of(1, assumed, measured)
    alone = {f"{name} of one process": 1 / share for name, share in one.nodes(assumed, measured).items()}
    many = Need.of(1, assumed, measured, nodes=10**6)
    return sorted(
        [*alone.items(), ("the core of one Redis", assumed.load / many.redis_cores)], key=lambda each: each[1]
    )


def tables(assumed: Assumed, measured: Measured) -> dict[str, str]:
    """The page's, by name."""
    columns = [needed(transfers, assumed, measured) for transfers in PER_DAY]
    rows: list[tuple[str, Callable[[Need, int], str]]] = [
        ("pairs a second, in the busiest hour", lambda need, nodes: number(need.pairs_per_second)),
        ("peers that wait", lambda need, nodes: number(need.waiting)),
        ("relayed transfers at once", lambda need, nodes: number(need.relayed_at_once)),
        ("memory for who waits, GiB", lambda need, nodes: number(need.memory_gib)),
        ("cores for meetings", lambda need, nodes: number(need.meeting_cores)),
        ("cores for the relay", lambda need, nodes: number(need.relay_cores)),
        ("cores for Redis", lambda need, nodes: "none" if nodes == 1 else number(need.redis_cores)),
        ("relayed, Gbit/s each way, between nodes included", lambda need, nodes: number(need.relayed_gbit)),
        ("**nodes**", lambda need, nodes: f"**{nodes:,}**"),
        ("what the nodes are full of first", lambda need, nodes: fullest(need, assumed, measured)),
        ("relayed, TB a month", lambda need, nodes: number(need.tb_per_month)),
        ("nodes, dollars a month", lambda need, nodes: number(nodes * assumed.node_dollars)),
        ("traffic, dollars a month", lambda need, nodes: number(need.tb_per_month * assumed.dollars_per_tb)),
        ("the same in a large cloud", lambda need, nodes: number(need.tb_per_month * assumed.cloud_dollars_per_tb)),
    ]
    return {
        "needs": table(
            ["transfers a day", *(f"{each:,}" for each in PER_DAY)],
            [[name, *(value(*column) for column in columns)] for name, value in rows],
        ),
        "breaks": table(["", "transfers a day"], [[name, number(limit)] for name, limit in breaks(assumed, measured)]),
        "measured": table(
            ["measured", ""],
            [
                ["memory for a peer that waits, the kernel's included", f"{measured.peer_kib:.1f} KiB"],
                ["CPU for a meeting, of all nodes", f"{1000 * measured.meeting_cpu:.1f} ms"],
                ["CPU for the pair's TLS, reflector and relay legs", f"{1000 * measured.opening_cpu:.1f} ms"],
                ["CPU for a meeting, of Redis", f"{1000 * measured.redis_cpu:.2f} ms"],
                ["CPU for a relayed GiB", f"{measured.relay_cpu:.2f} s"],
                ["pairs that end on the relay", f"{100 * measured.relayed:.1f} %"],
            ],
        ),
        "assumed": table(
            ["assumed", "", "because"],
            [
                [f"`{each.name}`", shown(getattr(assumed, each.name)), each.metadata["reason"]]
                for each in fields(Assumed)
            ],
        ),
    }


def fullest(need: Need, assumed: Assumed, measured: Measured) -> str:
    """Which of its things a node runs out of first."""
    return max(need.nodes(assumed, measured).items(), key=lambda each: each[1])[0]


def number(value: float) -> str:
    """Two digits that mean something."""
    if value == 0:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, help="write the tables anew there")
    for each in fields(Assumed):
        kind = str if each.type == "str" else float
        name = "--" + each.name.replace("_", "-")
        parser.add_argument(name, type=kind, default=each.default, help=each.metadata["reason"])
    options = parser.parse_args()
    assumed = Assumed(**{each.name: getattr(options, each.name) for each in fields(Assumed)})
    written = tables(assumed, Measured.read(assumed.mix))
    if options.page is None:
        print("\n".join(written.values()), end="")
        return 0
    text = options.page.read_text()
    for name, content in written.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{content}\n{end}{rest.partition(end)[2]}"
    options.page.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
