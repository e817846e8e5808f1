"""What a NAT check has found, for people and for scripts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from midair.nat.check.advice import help_for, meaning_of
from midair.nat.check.report import Allocation, Filtering, Mapping, NatReport, Pooling, Reaction, YesNo
from midair.nat.check.routers import RouterReport
from midair.nat.check.survey import Survey
from midair.nat.mapping import Outcome, Protocol

__all__ = ["survey_as_json", "survey_as_text"]

_COLUMNS: Final = 79
_NAMES: Final = 24
_NOT_MEASURED: Final = "not measured"

_MAPPINGS: Final = {
    Mapping.NONE: "the same as here, for there is no NAT",
    Mapping.ENDPOINT_INDEPENDENT: "the same for everybody",
    Mapping.ADDRESS_DEPENDENT: "another one for each address",
    Mapping.ADDRESS_AND_PORT_DEPENDENT: "another one for each destination",
    Mapping.CONNECTION_DEPENDENT: "another one for each connection",
}
_ALLOCATIONS: Final = {
    Allocation.PRESERVING: "the same number as here",
    Allocation.RANDOM: "at random",
}
_FILTERINGS: Final = {
    Filtering.ENDPOINT_INDEPENDENT: "everybody",
    Filtering.ADDRESS_DEPENDENT: "computers it has dialled, from any port",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "only whom it has dialled",
}
_REACTIONS: Final = {
    Reaction.PASS: "are let in",
    Reaction.DROP: "get no answer",
    Reaction.RST: "are refused (RST)",
    Reaction.ICMP_HOST: "are refused (ICMP host unreachable)",
    Reaction.ICMP_PORT: "are refused (ICMP port unreachable)",
    Reaction.ICMP_ADMIN: "are refused (ICMP prohibited)",
    Reaction.ICMP_OTHER: "are refused (another ICMP error)",
    Reaction.ICMP_LATE: "are refused after six seconds (ICMP)",
}
_CROSSINGS: Final = {YesNo.YES: "pass", YesNo.NO: "do not pass"}
_HAIRPINS: Final = {YesNo.YES: "can be reached from inside", YesNo.NO: "cannot be reached from inside"}
_POOLINGS: Final = {
    Pooling.ONE: "always the same",
    Pooling.ARBITRARY: "one of several, by chance",
    Pooling.BY_DESTINATION: "another one for each destination",
}
_WEB: Final = {YesNo.YES: "ports 80 and 443 only", YesNo.NO: "other ports than 80 and 443, too"}
_NATS: Final = {0: "none", 1: "one", 2: "two or more"}
_PROTOCOLS: Final = {Protocol.PCP: "PCP", Protocol.NAT_PMP: "NAT-PMP", Protocol.UPNP: "UPnP"}


def survey_as_text(found: Survey) -> str:
    """Lines of at most 79 characters. It ends with what it means."""
    lines: list[str] = []
    for network in found.networks:
        lines += [f"IPv{network.family}", *_rows(network), *_notes(network), ""]
    lines += [*_routers(found), ""] if found.routers is not None else []
    lines += _wrapped(f"Not measured: {trouble}." for trouble in found.troubles)
    lines += [""] if found.troubles else []
    for network in found.networks:
        opening = found.opening(network)
        where = f"IPv{network.family}: " if len(found.networks) > 1 else ""
        sentences = (*meaning_of(network, opening), help_for(network, opening))
        lines += _wrapped([where + " ".join(each for each in sentences if each)])
    return "\n".join(lines)


def survey_as_json(found: Survey) -> dict[str, Any]:
    """``docs/reference/check.md`` says what is in it."""
    networks = []
    for network in found.networks:
        opening = found.opening(network)
        fields = asdict(network) | {"local": str(network.local), "mapped": str(network.mapped), "opening": opening}
        fields["meaning"] = " ".join(meaning_of(network, opening))
        fields["help"] = help_for(network, opening)
        networks.append(fields)
    routers = None if found.routers is None else [_router_as_json(each) for each in found.routers]
    return {"networks": networks, "port_mapping": routers, "troubles": list(found.troubles)}


def _rows(network: NatReport) -> list[str]:
    translated = network.mapping is not Mapping.NONE
    allocation = _ALLOCATIONS.get(network.allocation, _NOT_MEASURED)
    if network.allocation is Allocation.SEQUENTIAL:
        allocation = f"counted, {network.step:+d} each time"
    if network.allocation is Allocation.BAND:
        allocation = f"at random, about {network.band[0]} to {network.band[1]}"
    mapping = _MAPPINGS.get(network.mapping, _NOT_MEASURED)
    if network.pooling is Pooling.BY_DESTINATION and network.mapping is Mapping.ADDRESS_DEPENDENT:
        mapping = "the same, at each of the addresses"
    rows = [
        ("this computer", str(network.local)),
        ("as seen from outside", str(network.mapped)),
        ("NATs on the way", _NOT_MEASURED if network.nats is None else _NATS[network.nats]),
        ("address outside", _POOLINGS.get(network.pooling, _NOT_MEASURED)) if translated else None,
        ("port outside", mapping),
        ("new ports outside", allocation) if translated else None,
        ("lets in", _FILTERINGS.get(network.filtering, _NOT_MEASURED)),
        ("strangers who dial", _REACTIONS.get(network.reaction, _NOT_MEASURED)),
        ("dials that cross", _CROSSINGS.get(network.simultaneous_open, _NOT_MEASURED)),
        ("its outside address", _HAIRPINS.get(network.hairpin, _NOT_MEASURED)) if translated else None,
        ("lets out to", _WEB.get(network.only_web, _NOT_MEASURED)),
    ]
    return [f"  {row[0]:{_NAMES}}{row[1]}" for row in rows if row is not None]


def _notes(network: NatReport) -> list[str]:
    if not network.notes:
        return []
    return ["  Why not measured, or what to know:", *_wrapped((f"- {note}" for note in network.notes), indent="  ")]


def _routers(found: Survey) -> list[str]:
    if not found.routers:
        return ["No router was found that could be asked to open a port."]
    lines = ["The router, asked to open a port:"]
    for each in found.routers:
        version = " (IPv6)" if each.gateway.version == 6 else ""
        lines += _wrapped([f"{_PROTOCOLS[each.protocol] + version:{_NAMES}}{_router(each)}"], indent="  ")
    return lines


def _router(router: RouterReport) -> str:
    if router.external is not None:
        came = {YesNo.YES: ", and connections arrive", YesNo.NO: ", but nothing arrives"}.get(router.lets_in, "")
        return f"opens one{came}"
    if router.outcome in (Outcome.SILENT, Outcome.NOT_SPOKEN):
        return "not known there" if router.outcome is Outcome.NOT_SPOKEN else "no answer"
    return f"says no: {router.text}" if router.outcome is Outcome.REFUSED else router.text


def _router_as_json(router: RouterReport) -> dict[str, Any]:
    return {
        "protocol": router.protocol,
        "gateway": str(router.gateway),
        "offered": router.offered,
        "outcome": router.outcome,
        "text": router.text,
        "external": None if router.external is None else str(router.external),
        "lets_in": router.lets_in,
    }


def _wrapped(paragraphs: Iterable[str], *, indent: str = "") -> list[str]:
    return [
        line
        for paragraph in paragraphs
        for line in textwrap.wrap(
            paragraph, _COLUMNS, initial_indent=indent, subsequent_indent=indent + "  " * bool(indent)
        )
    ]
