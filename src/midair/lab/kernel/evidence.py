"""What a Linux router saw: the SYNs on its outside interface, counted by nftables, and its table of connections."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from midair.lab.kernel.names import COUNTER_INCOMING, COUNTER_OUTGOING, COUNTER_REFUSED, TABLE
from midair.lab.programs import find_program

if TYPE_CHECKING:
    from midair.lab.namespace import Namespace

__all__ = ["SynCounts", "connection_table", "read_syn_counts"]

_TABLE_FILE = "/proc/thread-self/net/nf_conntrack"


@dataclass(frozen=True, slots=True, kw_only=True)
class SynCounts:
    """SYNs without ACK at one router's outside interface since it was configured, kernel retransmissions included."""

    outgoing: int
    """Let out to the internet."""
    incoming: int
    """Arrived from the internet."""
    refused: int
    """Of those that arrived: unsolicited, so dropped, answered by RST or ICMP, or given to a host that is silent."""


def read_syn_counts(router: Namespace) -> SynCounts:
    """Asks the router's nftables.

    Raises: OSError when nft fails.
    """
    answer = router.run([find_program("nft") or "nft", "--json", "list", "counters", "table", "inet", TABLE])
    if answer.returncode != 0:
        raise OSError(f"nft cannot read the counters of {router.name}: {answer.stderr.strip()}")
    packets: dict[str, int] = {}
    for item in json.loads(answer.stdout)["nftables"]:
        if counter := item.get("counter"):
            packets[counter["name"]] = int(counter["packets"])
    return SynCounts(
        outgoing=packets[COUNTER_OUTGOING], incoming=packets[COUNTER_INCOMING], refused=packets[COUNTER_REFUSED]
    )


def connection_table(router: Namespace) -> str:
    """The entries of connection tracking, one a line, as ``conntrack -L`` writes them: protocol, seconds left, state,
    both tuples. For evidence; the format is the kernel's.

    Raises: OSError when the kernel shows the table neither in /proc nor to ``conntrack``.
    """
    try:
        with router.entered(), open(_TABLE_FILE, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:  # a kernel without CONFIG_NF_CONNTRACK_PROCFS
        pass
    conntrack = find_program("conntrack")
    if conntrack is None:
        raise OSError("this kernel shows its connections only to conntrack (on Debian: apt-get install conntrack)")
    answer = router.run([conntrack, "-L", "-o", "extended"])
    if answer.returncode != 0:
        raise OSError(f"conntrack cannot read the table of {router.name}: {answer.stderr.strip()}")
    return answer.stdout
