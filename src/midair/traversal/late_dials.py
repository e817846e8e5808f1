"""What is dialled besides the candidates, a while after the start: in turns, and in great numbers. Pure.

Both sides come to matching halves of it, each from what both have told.

**In turns.** Some NATs refuse a SYN that crosses one of their host's. There the other side has to dial first, so that
its own NAT is open, and be dialled a while later, from a port that has not been used towards it: an earlier SYN would
be the one that is crossed. Nobody knows which side has that NAT. So each has a spare port besides its own, and

    after T       we dial their spare port from our own one, and they dial ours likewise;
    TURN later    we dial their own port from our spare one, and they dial ours likewise.

Of each pair of ports, one dials first and one second, once in each order. The spare port listens, too: a NAT that lets
strangers in, but no crossing SYN, is reached at a port that has dialled nobody yet.

**In numbers.** Where one side's NAT changes ports, the other opens its own for those to be expected, then the first
dials it from a fan of ports. From the same fan it dials the spare port, too, and when all are out the other side dials
the expected ports once more from there: then the order is the reverse, as such a NAT has to have it, and everybody
else has a second try.
"""

from __future__ import annotations

from dataclasses import replace

from midair.endpoint import Endpoint
from midair.nat.forecast import FIRST_PORT, Draw, Forecast, covered_ports, seen_band, size_coverage
from midair.traversal.agent import LateDial
from midair.traversal.sync import Description

__all__ = ["SPARE", "late_dials"]

SPARE = 1
"""The number of the spare port, as in Dial: the first of the fan."""
TURNS_AFTER = 0.5
COVERAGE_AFTER = 0.75
"""Seconds from the start until all this begins: where neither NAT is special, the peers are connected by then. The
turns, which are two SYNs, may come too early for some; who is known to need them does not wait at all."""
TURN = 0.5
"""Seconds from who dials first to who dials second: more than a one-way delay and what the start is off, and so much
less than the second after which the kernel repeats a SYN that the answer is there by then."""
COVER_GAP = 0.002
FAN_GAP = 0.004
FAN_MARGIN = 0.05
REVERSAL_MARGIN = 0.25
DIAGONAL_GAP = 0.020
"""Seconds between two SYNs of a coverage, which is 500 a second at most; between the two halves of it; until it is
repeated in the other order, for which the last of the fan has to be refused; and between two where both NATs count, in
step."""
DIAGONALS = 8
NARROW = 2048
"""Ports: where both sides change theirs, a band as wide as this is worth trying."""
COVERED_TWICE_MAX = 512
"""SYNs that this may take on each side, besides the fan."""
COVERED_WIDE_MAX = 256
"""Where the band is wider there is hardly hope; so much is tried, in case only one side does change ports."""


def late_dials(
    ours: Description,
    theirs: Description,
    outside: Endpoint,
    dialled_by_them: int,
    random: Draw,
    *,
    turns_at_once: bool = False,
) -> tuple[LateDial, ...]:
    """Our half, the earliest first. ``outside``: what the peer's own port looks like; ``dialled_by_them``: how many of
    our candidates the peer dials; ``turns_at_once``: it is known that the turns are needed."""
    if ours.forecast is None and theirs.forecast is None:
        return _in_turns(ours, theirs, outside, begin=0.0 if turns_at_once else TURNS_AFTER)
    if ours.forecast is not None and theirs.forecast is not None:
        if ours.forecast.step and theirs.forecast.step:
            return _in_step(theirs.forecast, outside, dialled_by_them)
        return _both_surprise(ours.forecast, theirs.forecast, outside, dialled_by_them, random)
    if theirs.forecast is not None:
        return _covering(theirs.forecast, outside, dialled_by_them, random, spare=bool(ours.spare))
    assert ours.forecast is not None
    return _from_a_fan(ours.forecast, outside, spare=theirs.spare, begin=_fan_begins(ours.forecast))


def _in_turns(ours: Description, theirs: Description, outside: Endpoint, *, begin: float) -> tuple[LateDial, ...]:
    late = []
    if theirs.spare:
        late.append(LateDial(replace(outside, port=theirs.spare), 0, begin))
    if ours.spare:
        late.append(LateDial(outside, SPARE, begin + TURN))
    return tuple(late)


def _in_step(theirs: Forecast, outside: Endpoint, dialled_by_them: int) -> tuple[LateDial, ...]:
    """Both count: the n-th dial of each side goes to the port that the other's n-th dial comes from. The dials of the
    candidates have counted already."""
    return tuple(
        LateDial(replace(outside, port=port), number + 1, COVERAGE_AFTER + number * DIAGONAL_GAP)
        for number, port in enumerate(_counted(theirs, dialled_by_them, DIAGONALS))
    )


def _covering(
    theirs: Forecast, outside: Endpoint, dialled_by_them: int, random: Draw, *, spare: bool
) -> tuple[LateDial, ...]:
    """We keep ports, they do not."""
    ports = covered_ports(theirs, random)
    if theirs.step:
        # Of a NAT that counts, the first ones have dialled us already. A router that has passed those SYNs on to
        # somebody gives our port away, and Linux then gives us the other one towards everybody.
        ports = ports[dialled_by_them:] + ports[:dialled_by_them]
    late = _cover(ports, outside, local=0, begin=COVERAGE_AFTER)
    if spare:
        begin = _fan_ends(theirs) + REVERSAL_MARGIN
        late += _cover(covered_ports(theirs, random), outside, local=SPARE, begin=begin)
    return tuple(late)


def _cover(ports: list[int], outside: Endpoint, *, local: int, begin: float) -> list[LateDial]:
    return [
        LateDial(replace(outside, port=port), local, begin + number * COVER_GAP)
        for number, port in enumerate(ports)
        if port != outside.port
    ]


def _from_a_fan(ours: Forecast, outside: Endpoint, *, spare: int, begin: float) -> tuple[LateDial, ...]:
    """They keep ports, we do not. ``spare`` is the peer's, 0 if it has none; ``begin``: seconds after the start."""
    late = []
    for number in range(size_coverage(ours).fan):
        late.append(LateDial(outside, number + 1, begin + number * FAN_GAP))
        if spare:
            at = begin + number * FAN_GAP + FAN_GAP / 2
            late.append(LateDial(replace(outside, port=spare), number + 1, at))
    return tuple(late)


def _fan_begins(expected: Forecast) -> float:
    """Not before the peer has opened its NAT for all ports: a SYN that comes too early may be refused, or take the
    place in the NAT's table that the peer's own dial should have had."""
    return COVERAGE_AFTER + size_coverage(expected).covered * COVER_GAP + FAN_MARGIN


def _fan_ends(expected: Forecast) -> float:
    return _fan_begins(expected) + size_coverage(expected).fan * FAN_GAP


def _both_surprise(
    ours: Forecast, theirs: Forecast, outside: Endpoint, dialled_by_them: int, random: Draw
) -> tuple[LateDial, ...]:
    """Both change ports, and at least one of them at random: each of our SYNs has a port of its own, and is dialled at
    one that one of theirs may have. Two of them have to fit, of ``n`` each: where the band is not much wider than
    that, it is worth trying."""
    narrow = max(_width(ours), _width(theirs)) <= NARROW
    count = min(COVERED_TWICE_MAX, max(_width(ours), _width(theirs))) if narrow else COVERED_WIDE_MAX
    late: list[LateDial] = []
    if theirs.step:
        late += _cover(_counted(theirs, dialled_by_them, count), outside, local=0, begin=COVERAGE_AFTER)
    else:
        band = seen_band(theirs)
        ports = random.sample(band, min(len(band), count))
        # There are more SYNs than ports, so the same ones are dialled again from another one of ours.
        for number in range(0, count if ports else 0, max(1, len(ports))):
            begin = COVERAGE_AFTER + number * COVER_GAP
            late += _cover(ports[: count - number], outside, local=number // len(ports), begin=begin)
    begin = late[-1].after + FAN_MARGIN if late else COVERAGE_AFTER
    return (*late, *_from_a_fan(ours, outside, spare=0, begin=begin))


def _width(expected: Forecast) -> int:
    """How many ports may be the next one."""
    return 1 if expected.step else expected.high - expected.low + 1


def _counted(expected: Forecast, first: int, count: int) -> list[int]:
    """The next ports of a NAT that counts, so many after the ``first``."""
    start = expected.low if expected.step > 0 else expected.high
    ports = [start + (first + number) * expected.step for number in range(count)]
    return [port for port in ports if FIRST_PORT <= port < 65536]
