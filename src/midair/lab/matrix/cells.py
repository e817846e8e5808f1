"""Which cells the matrix has: topologies, and how much later b starts. Pure.

``quick_cells`` has every box of the catalogue and every value of every knob in it, for each commit; ``full_cells`` all
pairs of all boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Final

from midair.lab.catalogue import BOXES, KERNEL_PREFIX, NO_BOX, parse_topology
from midair.lab.description import KernelKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from midair.lab.description import Topology

__all__ = ["SKEWS", "Cell", "cells_like", "full_cells", "quick_cells"]

SKEWS: Final = (0.0, 0.1)
"""Seconds by which b starts later: at once, so that the SYNs cross, and later than a SYN takes (50 ms)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A pair under one condition."""

    topology: Topology
    skew: float
    """Seconds by which b starts later than a; a contender may agree on something better."""

    def __str__(self) -> str:
        return f"{self.topology} @ {1000 * self.skew:g} ms"

    @property
    def is_kernel(self) -> bool:
        """Whether a Linux router is in it, which only the wire has."""
        return KERNEL_PREFIX in str(self.topology)


_CORE: Final = (
    NO_BOX,
    "firewall",
    "drop",
    "rst",
    "icmp",
    "full-cone",
    "restricted",
    "symmetric",
    "symmetric-sequential",
    "strict",
    "no-simopen",
    "silent-dmz",
)
"""One of each kind that makes a difference to a pair."""
_KERNEL_CORE: Final = (
    KernelKind.MASQUERADE_DROP,
    KernelKind.MASQUERADE_RST,
    KernelKind.MASQUERADE_REJECT_ICMP,
    KernelKind.MASQUERADE_DMZ,
)
_TURNED: Final = (
    "drop,on-rst=keeps x rst",
    "drop,on-rst=ignores x rst",
    "drop,on-icmp=deletes x icmp",
    "drop,on-icmp=ignores x icmp",
    "strict,on-icmp=deletes x icmp-host",
    "rst,filtering=connection-dependent x rst,filtering=connection-dependent",
    "rst,filtering=connection-dependent x firewall-rst,filtering=connection-dependent",
    "drop,addresses=4,pooling=by-destination x full-cone",
    "drop,mapping=address-and-port-dependent,rule=preserving x drop",
    "symmetric-sequential,step=-1 x drop",
    "symmetric-blocks,block=64 x restricted",
    "drop,opening=0.09 x rst",
    "drop,half-open=1 x drop",
    "drop,new-per-second=2 x drop",
    "exposed,simultaneous-open=drops x no-simopen",
)
"""Knobs that no box of the catalogue has turned."""
_ROWS: Final = (
    "drop>carrier x drop>carrier",
    "drop>carrier x rst",
    "rst>carrier x strict>carrier",
    "drop>carrier-symmetric x drop",
    "drop>carrier-symmetric x full-cone>carrier",
    "symmetric>drop x restricted>drop",
    "mobile x drop>carrier",
    "kernel:masquerade-drop>kernel:masquerade-drop x kernel:masquerade-drop>kernel:masquerade-drop",
    "kernel:masquerade-drop>kernel:masquerade-fully-random x drop",
    "kernel:masquerade-drop>carrier x drop",
)
"""NATs behind one another."""
_SHARED: Final = (
    "(none + none) > drop",
    "(none + none) > hairpin",
    "(none + none) > hairpin-internal",
    "(none + none) > rfc5382",
    "(none + none) > kernel:cone-hairpin",
    "(none + none) > kernel:masquerade-drop",
    "(drop + drop) > carrier",
    "(drop + rst) > carrier",
    "(drop + drop) > carrier-symmetric",
    "(drop + none) > carrier",
    "(none + none) > firewall",
    "(drop + drop) > firewall>carrier",
)
"""On one LAN, or behind one carrier."""
_OTHERS: Final = (
    "(drop & mobile) x drop",
    "(symmetric & none) x drop",
    "(drop & none) x (rst & none)",
    "firewall x firewall with ipv6",
    "symmetric x symmetric with ipv6",
    "drop x rst with ipv6",
    "kernel:firewall-drop x kernel:firewall-drop with ipv6",
    "kernel:masquerade-fully-random x kernel:masquerade-fully-random with ipv6",
    "drop x drop with a.delay=0.1 b.delay=0.005",
    "drop x rst with a.lose-syns=1",
)
"""Several interfaces, IPv6, other links."""


def quick_cells(skews: Sequence[float] = SKEWS) -> tuple[Cell, ...]:
    """Pairs of the core boxes; every other box with two partners; and one of everything else."""
    texts = [f"{a} x {b}" for a, b in combinations_with_replacement(_CORE, 2)]
    for name in BOXES:
        if name not in _CORE:
            texts += [f"{name} x drop", f"strict x {name}"]
    texts += [_kernel_pair(a, b) for a, b in combinations_with_replacement(_KERNEL_CORE, 2)]
    for kind in KernelKind:
        if kind not in _KERNEL_CORE:
            texts += [f"{KERNEL_PREFIX}{kind} x drop", _kernel_pair(KernelKind.MASQUERADE_DROP, kind)]
    texts += [
        f"{KERNEL_PREFIX}{KernelKind.MASQUERADE_DROP} x {name}" for name in ("rst", "icmp", "symmetric", "strict")
    ]
    return _cells([*texts, *_TURNED, *_ROWS, *_SHARED, *_OTHERS], skews)


def full_cells(skews: Sequence[float] = SKEWS) -> tuple[Cell, ...]:
    """All pairs of all boxes, and what ``quick_cells`` has beyond pairs."""
    everything = [NO_BOX, *BOXES, *(f"{KERNEL_PREFIX}{kind}" for kind in KernelKind)]
    pairs = [f"{a} x {b}" for a, b in combinations_with_replacement(everything, 2)]
    return _cells([*pairs, *_TURNED, *_ROWS, *_SHARED, *_OTHERS], skews)


def cells_like(pattern: str, skews: Sequence[float] = SKEWS) -> tuple[Cell, ...]:
    """Those of the full matrix whose topology matches, as file names match a shell's pattern; or the one cell that the
    pattern names, when it is a topology itself.

    Raises: ValueError when there is none.
    """
    found = tuple(cell for cell in full_cells(skews) if fnmatchcase(str(cell.topology), pattern))
    if found:
        return found
    try:
        return _cells([pattern], skews)
    except ValueError as error:
        raise ValueError(f"no cell of the full matrix is like {pattern!r}, and it is no topology: {error}") from error


def _cells(texts: Iterable[str], skews: Sequence[float]) -> tuple[Cell, ...]:
    """Each topology once."""
    topologies = list(dict.fromkeys(parse_topology(text) for text in texts))
    return tuple(Cell(topology=topology, skew=skew) for skew in skews for topology in topologies)


def _kernel_pair(a: KernelKind, b: KernelKind) -> str:
    return f"{KERNEL_PREFIX}{a} x {KERNEL_PREFIX}{b}"
