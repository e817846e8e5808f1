"""What a NAT check's result means for the person behind the NAT, in two sentences, and what would help. Pure."""

from __future__ import annotations

from collections.abc import Collection

from midair.nat.check.report import Allocation, Filtering, Mapping, NatReport, Reaction, YesNo

__all__ = ["help_for", "meaning_of"]

_CHANGING = (Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.CONNECTION_DEPENDENT)


def meaning_of(report: NatReport) -> tuple[str, str]:
    """What it is, and whom it connects with directly."""
    if report.mapping is Mapping.NONE and report.reaction is Reaction.PASS:
        return (
            "This computer is open to the internet.",
            "Everybody who can make outgoing connections can connect to it directly.",
        )
    if report.filtering is Filtering.ENDPOINT_INDEPENDENT:
        return (
            "The network lets anybody in through a port that this computer has used.",
            "Direct connections work with everybody who can make outgoing connections.",
        )
    if report.mapping is Mapping.NONE:
        return (
            "This computer has a public address, behind a firewall that lets in only answers.",
            "Direct connections work with nearly all other networks, since both sides dial at once.",
        )
    if report.mapping in _CHANGING or (
        report.mapping is Mapping.NOT_MEASURED and report.allocation is not Allocation.PRESERVING
    ):
        return _changing(report)
    if report.simultaneous_open is YesNo.NO:
        return (
            "The NAT keeps ports, but drops connections that cross each other on the way.",
            "Direct connections work with all networks but those that do the same.",
        )
    return (
        "The NAT shows the same port to everybody, and lets in only answers.",
        "Direct connections work with nearly all other networks, since both sides dial at once.",
    )


def _changing(report: NatReport) -> tuple[str, str]:
    if report.allocation is Allocation.SEQUENTIAL:
        return (
            "The NAT counts ports up or down with each connection.",
            "Direct connections work with networks that keep ports, and with others that count: the next port is met.",
        )
    where = "out of a band" if report.allocation is Allocation.BAND else "out of all there are"
    return (
        f"The NAT takes a random port, {where}, for each connection, as mobile carriers do.",
        "Direct connections work with networks that keep ports, after up to some seconds of trying many; between two"
        " like this one the relay is used.",
    )


def help_for(report: NatReport, *, port_mapping: Collection[str], double_nat: bool | None) -> str:
    """What would make it better; empty when nothing needs to be. ``port_mapping``: the protocols the router offers."""
    if report.filtering is Filtering.ENDPOINT_INDEPENDENT or report.reaction is Reaction.PASS:
        return ""
    if double_nat:
        return "The router is itself behind another NAT, so a port opened there does not help. IPv6 would."
    if report.mapping is Mapping.NONE:
        return "Opening a TCP port in the firewall, and naming it by --port, would let everybody in."
    if port_mapping:
        return ""
    return (
        "Turning on UPnP, NAT-PMP or PCP in the router, or forwarding a TCP port there and naming it by --port, would"
        " make this computer reachable for everybody."
    )
