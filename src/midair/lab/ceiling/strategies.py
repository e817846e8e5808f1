"""Which plays there are for a set of techniques: how each side goes about it, and when each starts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from midair.lab.ceiling.packets import Kind
from midair.lab.ceiling.play import INSTANT, Manner
from midair.lab.ceiling.technique import Technique

if TYPE_CHECKING:
    from collections.abc import Iterator

    from midair.lab.ceiling.conditions import Conditions
    from midair.lab.ceiling.ways import Way

__all__ = ["Strategy", "strategies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way to use some techniques."""

    technique: Technique
    """The one that makes the difference."""
    a: Manner
    b: Manner
    skews: tuple[float, ...]
    """By how much b may start after a; all of them count alike."""
    in_words: str


def strategies(way: Way, techniques: frozenset[Technique], conditions: Conditions) -> Iterator[Strategy]:
    """Those that can be told from one another here, the simplest first."""
    yield from _one_dials(techniques)
    if Technique.SIMULTANEOUS_OPEN in techniques:
        yield from _both_dial(way, techniques, conditions)
    if Technique.ADDRESS_PERMISSION in techniques:
        yield from _one_knocks(way)


def _one_dials(techniques: frozenset[Technique]) -> Iterator[Strategy]:
    """The other has been told through the server and listens."""
    dialling = Manner(pause=INSTANT)
    listening = Manner(dials=False)
    if Technique.DIRECT_DIAL in techniques:
        yield Strategy(
            technique=Technique.DIRECT_DIAL, a=dialling, b=listening, skews=(0.0,), in_words="a dials, b listens"
        )
    if Technique.REVERSAL in techniques:
        yield Strategy(
            technique=Technique.REVERSAL, a=listening, b=dialling, skews=(0.0,), in_words="b dials, a listens"
        )


def _both_dial(way: Way, techniques: frozenset[Technique], conditions: Conditions) -> Iterator[Strategy]:
    plain = Manner(pause=conditions.pause)
    instant = Manner(pause=INSTANT)
    silent = Manner(pause=INSTANT, listens=False)
    skews = conditions.skews
    yield _same(Technique.SIMULTANEOUS_OPEN, plain, skews, "both dial and listen on one port")
    if Technique.INSTANT_REDIAL in techniques:
        yield _same(Technique.INSTANT_REDIAL, instant, skews, "both dial again at once whatever fails")
    if Technique.REFUSAL_IMMUNITY in techniques:
        yield from _immune(plain, skews)
    if Technique.NO_LISTENER in techniques:
        yield _same(Technique.NO_LISTENER, silent, skews, "both dial, and nobody listens")
    if Technique.TIMED_OPEN in techniques:
        error = conditions.timing_error
        apart = 2 * way.delay + error
        for order, said in (
            ((-error, 0.0, error), "both dial at the same moment"),
            ((apart,), "a dials a round trip before b, as agreed"),
            ((-apart,), "b dials a round trip before a, as agreed"),
        ):
            yield _same(Technique.TIMED_OPEN, plain, order, said)
    if Technique.LOW_TTL in techniques:
        hold = max(map(abs, conditions.skews)) + 2 * way.delay
        opening = Manner(pause=INSTANT, short_for=hold)
        yield _same(
            Technique.LOW_TTL,
            opening,
            skews,
            "both open their own NATs by SYNs that do not reach the peer's, then dial",
        )


def _same(technique: Technique, manner: Manner, skews: tuple[float, ...], in_words: str) -> Strategy:
    return Strategy(technique=technique, a=manner, b=manner, skews=skews, in_words=in_words)


def _one_knocks(way: Way) -> Iterator[Strategy]:
    """Who knocks may then be dialled from any port of the address that was knocked at."""
    knocking = Manner(pause=INSTANT, knocks=True)
    dialling = Manner(pause=INSTANT)
    later = 2 * way.delay
    yield Strategy(
        technique=Technique.ADDRESS_PERMISSION,
        a=knocking,
        b=dialling,
        skews=(later,),
        in_words="a sends a SYN to another port of b's address and listens, then b dials",
    )
    yield Strategy(
        technique=Technique.ADDRESS_PERMISSION,
        a=dialling,
        b=knocking,
        skews=(-later,),
        in_words="b sends a SYN to another port of a's address and listens, then a dials",
    )


def _immune(plain: Manner, skews: tuple[float, ...]) -> Iterator[Strategy]:
    """Immunity to RSTs can be had on both sides, to ICMP errors only on one: it takes SYNs with a low TTL there, and
    with a higher one on the other side."""
    immune_to_rst = Manner(pause=plain.pause, immune=Kind.RST)
    immune_to_icmp = Manner(pause=plain.pause, immune=Kind.ICMP)
    for a, b, said in (
        (immune_to_rst, immune_to_rst, "the sockets of both ignore RSTs that a NAT made"),
        (immune_to_icmp, plain, "a's socket ignores ICMP errors about its SYNs"),
        (plain, immune_to_icmp, "b's socket ignores ICMP errors about its SYNs"),
    ):
        yield Strategy(technique=Technique.REFUSAL_IMMUNITY, a=a, b=b, skews=skews, in_words=said)
