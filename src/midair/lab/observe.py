"""What the routers saw: the SYNs on their outside interfaces, counted by nftables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from midair.lab.kernel_nat import COUNTER_INCOMING, COUNTER_OUTGOING, COUNTER_REFUSED, TABLE

if TYPE_CHECKING:
    from midair.lab.namespace import Namespace

__all__ = ["SynCounts", "read_syn_counts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SynCounts:
    """SYNs without ACK at one router's outside interface since it was made, kernel retransmissions included."""

    outgoing: int
    """Let out to the internet."""
    incoming: int
    """Arrived from the internet."""
    refused: int
    """Of those that arrived: unsolicited, so dropped or answered by RST or ICMP."""


def read_syn_counts(router: Namespace) -> SynCounts:
    """Asks the router's nftables.

    Raises: RuntimeError when nft fails.
    """
    answer = router.run(["nft", "--json", "list", "counters", "table", "inet", TABLE])
    if answer.returncode != 0:
        raise RuntimeError(f"nft cannot read the counters of {router.name}: {answer.stderr.strip()}")
    packets: dict[str, int] = {}
    for item in json.loads(answer.stdout)["nftables"]:
        if counter := item.get("counter"):
            packets[counter["name"]] = int(counter["packets"])
    return SynCounts(
        outgoing=packets[COUNTER_OUTGOING], incoming=packets[COUNTER_INCOMING], refused=packets[COUNTER_REFUSED]
    )
