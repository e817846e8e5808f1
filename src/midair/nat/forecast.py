"""Which outside ports a NAT will give us next, judged by those it has given. Pure.

Behind a NAT whose mappings depend on the destination, the port a reflector saw is not the one our peer must expect. But
there is a rule in it: most of these NATs count (RFC 5382 calls for none of this; Guha and Francis, IMC 2005, found that
most can be predicted), others draw at random from the whole range or from a band that a carrier gives each customer.

If we dial from ``m`` ports, and the peer has opened its own NAT for ``k`` of the ``n`` ports of the band, some SYN gets
through with probability 1 - (1 - k/n)**m.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Protocol

import msgspec

__all__ = [
    "COVERED_MAX",
    "FAN_MAX",
    "PROBES",
    "Coverage",
    "Forecast",
    "covered_ports",
    "forecast",
    "seen_band",
    "size_coverage",
]

FIRST_PORT = 1024
LAST_PORT = 65535
"""Where NATs take ports from: what RFC 4787 4.2.1 calls the others are left to services."""
FAN_MAX = 256
"""Local ports one side dials from at most."""
COUNTED_FAN = 8
"""Local ports that are dialled from where the ports are counted."""
PROBES = 12
"""Ports to judge by, besides that of the port itself."""
COVERED_MAX = 1024
"""Remote ports the other side dials at most."""
WANTED = 0.995
"""A coverage that is more certain than this is large enough."""
_WIDENED_BY = 0.25
"""Of the spread of a sample, on each side: a fresh draw falls between the extremes of n others only (n-1)/(n+1) of the
time."""
WHOLE_RANGE = 16384
"""A sample as wide as this is of the whole range."""
_STEP_MAX = 64
_SEQUENTIAL_SLACK = 48
"""Ports after those we need ourselves: the NAT counts for other connections, too."""

_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What the peer should expect of our NAT.

    Raises: ValueError for a band that ends before it begins.
    """

    low: _Port
    high: _Port
    """The band new ports come from, both ends included; of a counting NAT: the next ones."""
    step: Annotated[int, msgspec.Meta(ge=-_STEP_MAX, le=_STEP_MAX)] = 0
    """Of a counting NAT, which begins at ``low``, or at ``high`` if it counts down; 0: the ports are random."""

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("a band of ports ends before it begins")


class Coverage(msgspec.Struct, frozen=True):
    """How a band is covered."""

    covered: int
    """Ports of the band the far side dials."""
    fan: int
    """Local ports the near side dials from."""


class Draw(Protocol):
    """What is needed of ``random.Random``."""

    def sample(self, population: Sequence[int], k: int) -> list[int]: ...


def forecast(samples: Sequence[tuple[int, int]]) -> Forecast | None:
    """From pairs of local and outside port, the oldest first. None when the NAT keeps ports, or there is nothing to
    judge by."""
    if not samples or sum(local == outside for local, outside in samples) * 2 > len(samples):
        return None
    ports = [outside for _, outside in samples]
    ordered = sorted(set(ports))
    steps = Counter(after - before for before, after in pairwise(ordered))
    if steps:
        step, times = steps.most_common(1)[0]
        if step <= _STEP_MAX and times * 2 >= len(ordered) - 1 and len(ordered) > 3:
            return _counting(ports, step)
    low, high = ordered[0], ordered[-1]
    margin = int((high - low) * _WIDENED_BY) + 1
    first = min(FIRST_PORT, low)
    if high - low >= WHOLE_RANGE:
        return Forecast(low=first, high=LAST_PORT)
    return Forecast(low=max(first, low - margin), high=min(LAST_PORT, high + margin))


def _counting(ports: Sequence[int], step: int) -> Forecast:
    # Probes made at once are counted in any order; but what came before them all is at the end the NAT began with.
    down = ports[0] > sorted(ports)[len(ports) // 2]
    width = step * (len(ports) + _SEQUENTIAL_SLACK)
    if down:
        high = max(1, min(ports) - step)
        return Forecast(low=max(1, high - width), high=high, step=-step)
    low = min(LAST_PORT, max(ports) + step)
    return Forecast(low=low, high=min(LAST_PORT, low + width), step=step)


def size_coverage(expected: Forecast) -> Coverage:
    """How many ports to cover and to dial from, no more than it takes."""
    if expected.step:
        ports = len(range(expected.low, expected.high + 1, abs(expected.step)))
        return Coverage(min(ports, COVERED_MAX), COUNTED_FAN)
    width = expected.high - expected.low + 1
    coverage = Coverage(min(width, 32), 8)
    while coverage.covered < min(width, COVERED_MAX) or coverage.fan < FAN_MAX:
        if 1 - (1 - coverage.covered / width) ** coverage.fan >= WANTED:
            break
        coverage = Coverage(min(coverage.covered * 2, width, COVERED_MAX), min(coverage.fan * 2, FAN_MAX))
    return coverage


def seen_band(expected: Forecast) -> range:
    """The part of a band, not of a count, between the extremes of what was seen: a port that is certain to be of the
    band is hit as often as any other of it."""
    width = expected.high - expected.low
    margin = int(width * _WIDENED_BY / (1 + 2 * _WIDENED_BY)) if width < WHOLE_RANGE else 0
    return range(max(expected.low + margin, FIRST_PORT), expected.high - margin + 1)


def covered_ports(expected: Forecast, random: Draw) -> list[int]:
    """The ports of the band to dial, in this order; none of those where services are, whatever the peer says."""
    if expected.step > 0:
        counted = range(expected.low, expected.high + 1, expected.step)
    elif expected.step < 0:
        counted = range(expected.high, expected.low - 1, expected.step)
    else:
        band = range(max(expected.low, FIRST_PORT), expected.high + 1)
        return random.sample(band, min(len(band), size_coverage(expected).covered))
    return [port for port in counted if port >= FIRST_PORT][:COVERED_MAX]
