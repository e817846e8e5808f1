"""The best that a set of techniques can do for a pair of hosts, by which of them, and why. Pure.

For each way between the two hosts (:mod:`ways`), each strategy the techniques allow (:mod:`strategies`) is played on
paper (:mod:`play`). Where the peer's next endpoint is not known, what a play yields is multiplied with the probability
of guessing it (:mod:`outside`, :mod:`coverage`). The best of all is the ceiling.

Knobs of a NAT that make no difference here: ``rewrites_payload``, since what the peers tell each other is encrypted;
``decrements_ttl``, since a low TTL only has to end between the two NATs, wherever that is counted from;
timers but ``opening``, since the plays are short.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from midair.lab.behaviour import Allocation, Mapping
from midair.lab.ceiling.conditions import Conditions
from midair.lab.ceiling.guessing import guess
from midair.lab.ceiling.outside import outside_of
from midair.lab.ceiling.play import play
from midair.lab.ceiling.strategies import strategies
from midair.lab.ceiling.technique import EVERY, Technique
from midair.lab.ceiling.ways import Gate, Way, behaviour_of_box, ways

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from midair.lab.ceiling.outside import Outside
    from midair.lab.description import Topology

__all__ = ["Ceiling", "ceiling", "estimates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What is possible."""

    probability: float
    """0 to 1."""
    technique: Technique | None
    """By which it is; None when nothing is possible."""
    reasoning: str
    """Why so, and by what it fails if it is 0: sentences for a person."""
    with_luck: float = 0.0
    """The probability if the SYNs happen to cross, as those of a busy computer may. Not less than ``probability``."""


def ceiling(
    topology: Topology, techniques: frozenset[Technique] = EVERY, conditions: Conditions | None = None
) -> Ceiling:
    """The best of :func:`estimates`; of equals the technique that costs least."""
    conditions = conditions or Conditions()
    best = _best(estimates(topology, techniques, conditions))
    with_luck = best.probability
    if with_luck < 1 and Technique.SIMULTANEOUS_OPEN in techniques and Technique.TIMED_OPEN not in techniques:
        lucky = _best(estimates(topology, techniques | {Technique.TIMED_OPEN}, conditions))
        with_luck = max(with_luck, lucky.probability)
    return replace(best, with_luck=with_luck)


def _best(found: Iterable[Ceiling]) -> Ceiling:
    order = list(Technique)
    found = list(found)
    possible = [each for each in found if each.technique is not None]
    if possible:
        return min(possible, key=lambda each: (-each.probability, order.index(each.technique or Technique.RELAY)))
    reasons = dict.fromkeys(each.reasoning for each in found)
    return Ceiling(probability=0.0, technique=None, reasoning=" ".join(reasons))


def estimates(topology: Topology, techniques: frozenset[Technique], conditions: Conditions) -> Iterator[Ceiling]:
    """What each way and technique can do, also nothing at all."""
    mapped = conditions.port_mapping and Technique.PORT_MAPPING in techniques
    for way in ways(topology, port_mapping=mapped):
        if way.needs is None or way.needs in techniques:
            yield from _over(way, techniques, conditions)
    if Technique.RELAY in techniques:
        yield _relayed(topology, conditions)


def _over(way: Way, techniques: frozenset[Technique], conditions: Conditions) -> Iterator[Ceiling]:
    """One way's."""
    if way.barred:
        yield _impossible([way.barred])
        return
    outsides = {letter: outside_of(way.gates(letter), held=conditions.held) for letter in ("a", "b")}
    surprising = {letter: outside for letter, outside in outsides.items() if not outside.known}
    reasons = [_surprise(letter, outside) for letter, outside in surprising.items()]
    as_it_is = _played(way, techniques, conditions, reasons=reasons)
    yield as_it_is
    if not surprising or as_it_is.probability == 1:
        return
    guessed = guess(way, surprising, techniques, conditions)
    if guessed is None:
        return
    known = replace(
        way,
        a=_as_guessed(way.a) if "a" in surprising else way.a,
        b=_as_guessed(way.b) if "b" in surprising else way.b,
        common=_as_guessed(way.common),
    )
    played = _played(known, techniques, conditions, reasons=reasons, guessed=frozenset(surprising))
    if played.technique is None:
        yield played
    else:
        yield Ceiling(
            probability=played.probability * guessed.probability,
            technique=way.needs or guessed.technique or played.technique,
            reasoning=" ".join([_text([*reasons, *guessed.reasons]), played.reasoning]),
        )


def _played(
    way: Way,
    techniques: frozenset[Technique],
    conditions: Conditions,
    *,
    reasons: list[str],
    guessed: frozenset[str] = frozenset(),
) -> Ceiling:
    """The best strategy. ``guessed``: the sides whose endpoints were, so that the one towards the server is another."""
    held = frozenset("ab") - guessed if conditions.held else frozenset[str]()
    best = _impossible(reasons)
    for strategy in strategies(way, techniques, conditions):
        outcomes = [
            play(way, strategy.a, strategy.b, skew=skew, seconds=conditions.seconds, held=held)
            for skew in strategy.skews
        ]
        worked = [outcome for outcome in outcomes if outcome.seconds is not None]
        probability = len(worked) / len(outcomes)
        if probability > best.probability:
            told = worked[0]
            said = [strategy.in_words + (f", {way.through}" if way.through else ""), *told.notes, told.ending]
            if probability < 1:
                failed = next(outcome for outcome in outcomes if outcome.seconds is None)
                said += [f"at {len(outcomes) - len(worked)} of {len(outcomes)} offsets of the start it fails"]
                said += [note for note in failed.notes if note not in said]
            best = Ceiling(probability=probability, technique=way.needs or strategy.technique, reasoning=_text(said))
            if probability == 1:
                break
        elif best.technique is None and strategy.technique is not Technique.ADDRESS_PERMISSION:
            best = _impossible([*reasons, *outcomes[-1].notes])
    return best


def _relayed(topology: Topology, conditions: Conditions) -> Ceiling:
    if not conditions.relay:
        return _impossible(["a relay is not wanted"])
    for whose, boxes in (("a's", topology.a.boxes), ("b's", topology.b.boxes), ("the shared", topology.shared)):
        for box in boxes:
            ports = behaviour_of_box(box.kind).only_ports
            if ports and not set(ports) & set(conditions.server_ports):
                return _impossible([f"{whose} {box.name} lets nothing out to the ports of the server"])
    return Ceiling(probability=1.0, technique=Technique.RELAY, reasoning=_text(["both reach the server, which relays"]))


def _as_guessed(gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
    """As they are for who knows the endpoint."""
    return tuple(
        replace(
            gate,
            behaviour=replace(gate.behaviour, mapping=Mapping.ENDPOINT_INDEPENDENT, allocation=Allocation()),
        )
        if gate.behaviour.translates
        else gate
        for gate in gates
    )


def _surprise(letter: str, outside: Outside) -> str:
    assert outside.because is not None
    return (
        f"{letter}'s next connection has another endpoint than the server sees, since the mapping of "
        f"{outside.because.name} is {outside.mapping.value}"
    )


def _impossible(reasons: list[str]) -> Ceiling:
    return Ceiling(probability=0.0, technique=None, reasoning=_text(reasons) or "No technique for this.")


def _text(reasons: list[str]) -> str:
    """Sentences."""
    return " ".join(f"{reason[0].upper()}{reason[1:]}." for reason in reasons if reason)
