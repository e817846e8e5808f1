"""What a pair meets under, apart from its NATs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from midair.lab.ceiling.coverage import Budget

__all__ = ["Conditions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Defaults are those of the lab's matrix."""

    skews: tuple[float, ...] = (0.0,)
    """Seconds by which b may start later than a, negative for earlier, where they do not agree on a moment; all of them
    are as likely."""
    held: bool = True
    """Each side keeps its connection to the server open, which keeps the mapping of its port alive."""
    timing_error: float = 0.01
    """The same where they do agree on one. It works when this is less than the delay between them."""
    pause: float = 0.2
    """Seconds between a failure and the next dial, where that is not instant: the plain puncher's."""
    seconds: float = 3.5
    """Until a simultaneous open must have worked."""
    budget: Budget = field(default_factory=Budget)
    """For port coverage."""
    strangers: float = 0.0
    """Ports that other hosts take at a NAT between the look at its counter and the dial, on average."""
    port_mapping: bool = False
    """Whether home routers, the innermost boxes, map ports on request. Carriers do not."""
    relay: bool = True
    """Whether both sides accept to be relayed."""
    server_ports: tuple[int, ...] = (443,)
    """Where the relay listens; also behind an HTTP proxy, if a NAT lets its hosts out to nothing else."""
