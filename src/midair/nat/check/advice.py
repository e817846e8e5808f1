"""What a NAT check's result means for the person behind the NAT, in two sentences, and what would help. Pure."""

from __future__ import annotations

from midair.nat.check.report import Allocation, Filtering, Mapping, NatReport, Opening, Reaction, YesNo

__all__ = ["help_for", "meaning_of"]

_CHANGING = (Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.CONNECTION_DEPENDENT)
_EVERYBODY = "Direct connections work with everybody who can make outgoing connections."
_NEARLY_ALL = "Direct connections work with nearly all other networks, since both sides dial at once."


def meaning_of(report: NatReport, opening: Opening = Opening.NOT_MEASURED) -> tuple[str, str]:
    """What it is, and whom it connects with directly."""
    if report.only_web is YesNo.YES:
        return (
            "A firewall lets this computer's connections out to the ports of the web only, 80 and 443.",
            "Direct connections work with those who can be reached at one of these; with all others the relay is used.",
        )
    if _is_open(report):
        if report.mapping is Mapping.NONE:
            return "This computer is open to the internet.", _EVERYBODY
        return "The router (NAT) lets anybody in through a port that this computer has used.", _EVERYBODY
    if opening is Opening.OPENED:
        what = "firewall" if report.mapping is Mapping.NONE else "router (NAT)"
        return f"The {what} lets in only answers, but opens a port when midair asks for one.", _EVERYBODY
    if report.mapping is Mapping.NONE:
        if report.reaction is Reaction.NOT_MEASURED and report.filtering is Filtering.NOT_MEASURED:
            return "This computer has a public address; whether a firewall is before it was not measured.", _NEARLY_ALL
        return "This computer has a public address, behind a firewall that lets in only answers.", _NEARLY_ALL
    if _changes(report):
        return _changing(report)
    if report.simultaneous_open is YesNo.NO:
        return (
            "The router (NAT) keeps port numbers, but drops connections that cross each other on the way.",
            "Direct connections work with all networks but those that do the same.",
        )
    if report.mapping is Mapping.NOT_MEASURED:
        return (
            "The router (NAT) keeps port numbers, as most home routers do; whether everybody sees the same was not"
            " measured.",
            "If so, direct connections work with nearly all other networks, since both sides dial at once.",
        )
    return "The router (NAT) shows the same port to everybody, and lets in only answers, as in most homes.", _NEARLY_ALL


def help_for(report: NatReport, opening: Opening = Opening.NOT_MEASURED) -> str:
    """What would make it better; empty when nothing needs to be."""
    if report.only_web is YesNo.YES:
        return "Whoever runs the network would have to let TCP out to other ports."
    if opening is Opening.OPENED or _is_open(report):
        return ""
    if report.mapping is Mapping.NONE:
        return "Opening a TCP port in the firewall, and naming it by --port, would let everybody in."
    if (report.nats or 0) > 1:
        return (
            "A port opened in the router does not help, because there is another NAT after it, most likely the"
            " provider's; IPv6 would help, or a public address from the provider."
        )
    if opening is Opening.IN_VAIN:
        return (
            "The router says that it has opened a port, but nothing arrives there: its firewall, or another NAT after"
            " it, would have to let it through."
        )
    if opening is Opening.REFUSED:
        return (
            "The router can open ports but refuses to; if its settings do not say why, forwarding a TCP port there and"
            " naming it by --port would make this computer reachable for everybody."
        )
    enough = "; one of the two sides is enough" if _changes(report) else ""
    return (
        "Turning on UPnP, NAT-PMP or PCP in the router, or forwarding a TCP port there and naming it by --port, would"
        f" make this computer reachable for everybody{enough}."
    )


def _is_open(report: NatReport) -> bool:
    if report.filtering is Filtering.ENDPOINT_INDEPENDENT:
        return True
    return report.mapping is Mapping.NONE and report.reaction is Reaction.PASS


def _changes(report: NatReport) -> bool:
    """Whether another port is seen by others; where that was not measured, a NAT that keeps none is taken for one."""
    if report.mapping is Mapping.NOT_MEASURED:
        return report.allocation is not Allocation.PRESERVING
    return report.mapping in _CHANGING


def _changing(report: NatReport) -> tuple[str, str]:
    if report.allocation is Allocation.PRESERVING:
        return (
            "The network keeps ports, but shows different addresses to different destinations.",
            "Direct connections work with networks that let anybody in, and with some others.",
        )
    if report.allocation is Allocation.SEQUENTIAL:
        return (
            "The router or the provider (NAT) counts port numbers up or down with each connection.",
            "Direct connections work with networks that keep ports, and with others that count: the next port is met.",
        )
    where = "out of a band" if report.allocation is Allocation.BAND else "out of all there are"
    return (
        f"The router or the provider (NAT) takes a random port, {where}, for each connection, as mobile carriers do.",
        "Direct connections work with networks that keep ports, after up to some seconds of trying many; between two"
        " like this one the relay is used.",
    )
