"""Why a punch did not get through, as far as its story tells. Pure.

The causes are those that traces of failing pairs show. Each leaves marks in what the two ends saw: the errors of their
dials, who opened what, and the outside endpoints in use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midair.lab.puncher.story import EndStory, Punch

__all__ = ["reason"]

_REFUSALS = {"ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "EACCES"}
"""What a RST or an ICMP error does to a dial."""


def reason(punch: Punch) -> str:
    """Empty when it got through."""
    if punch.through:
        return ""
    views = ((punch.a, punch.b), (punch.b, punch.a))
    lost = [end.name for end, _ in views if not end.seen]
    if lost:
        return f"{' and '.join(lost)} did not reach the server"
    if turned_away := _turned_away(punch):
        return turned_away
    causes = [cause(end, other) for end, other in views for cause in (_half_open, _moved, _held_back)]
    return "; ".join(filter(None, causes)) or _refused(punch) or _one_sided(punch) or _silence(punch)


def _turned_away(punch: Punch) -> str:
    host = _host(punch.a.seen)
    if host != _host(punch.b.seen) or punch.a.opened or punch.b.opened:
        return ""
    return f"no hairpin: both are behind {host}, and what goes there from inside does not come back"


def _half_open(end: EndStory, other: EndStory) -> str:
    if end.errors.count("EADDRNOTAVAIL") < 2:
        return ""
    first = next((error for error in end.errors if error != "EADDRNOTAVAIL"), "none")
    return (
        f"half-open at {end.name}: its dial had failed ({first}) when the SYN of {other.name} came, so the listener "
        "took it; the listener's SYN-ACK has a new initial sequence number and does not get through, and meanwhile the "
        "half-open connection holds the 4-tuple (EADDRNOTAVAIL)"
    )


def _moved(end: EndStory, other: EndStory) -> str:
    if not end.towards_peer or end.seen in end.towards_peer:
        return ""
    moved = f"port changed at {end.name}: {end.seen} for the server, {end.towards_peer[0]} for {other.name}"
    if _port(end.seen) == _port(end.local):
        return (
            f"{moved}; the NAT keeps ports, so this one was taken, by an entry that an early SYN of {other.name} left"
        )
    return f"{moved}; the NAT's mapping depends on the destination"


def _held_back(end: EndStory, other: EndStory) -> str:
    return f"held back at {end.name}: no SYN to {other.name} left its NATs" if end.towards_peer == () else ""


def _refused(punch: Punch) -> str:
    a, b = (sum(error in _REFUSALS for error in end.errors) for end in (punch.a, punch.b))
    if min(a, b) >= 2:
        refused = f"each NAT refuses the other side's SYN (a {a} times, b {b} times)"
        if _crossed(punch):
            return f"crossing refused: {refused} although its own host's has passed it"
        return f"lockstep: {refused} and forgets its own host's when it is refused; with equal pauses they never cross"
    if max(a, b) >= 2:
        end, other = (punch.a, punch.b) if a > b else (punch.b, punch.a)
        return (
            f"refused at {end.name}: {max(a, b)} dials ended by {_kinds(end)}, and nothing of {other.name} got through"
        )
    return ""


def _crossed(punch: Punch) -> bool:
    """Whether SYNs of both ends were under way at once; a refused dial takes a round trip."""
    a, b = ([end.started + note.at for note in end.notes if note.what == "dialled"] for end in (punch.a, punch.b))
    failed = next(note.at for note in punch.a.notes if note.what == "failed")
    one_way = (failed - punch.a.notes[0].at) / 2
    return any(abs(at - other) < 0.9 * one_way for at in a for other in b)


def _one_sided(punch: Punch) -> str:
    for end, other in ((punch.a, punch.b), (punch.b, punch.a)):
        if end.opened and not other.opened:
            return f"one-sided: {end.name} has a connection, of which {other.name} knows nothing"
    return ""


def _silence(punch: Punch) -> str:
    if punch.a.opened:
        return "no bytes: there was a connection at each end, but neither heard the other on it"
    if punch.a.towards_peer and punch.b.towards_peer:
        return "no answer: the SYNs left by the right ports, and none got through to the other end"
    return "no answer to any SYN"


def _kinds(end: EndStory) -> str:
    return " and ".join(dict.fromkeys(error for error in end.errors if error in _REFUSALS))


def _host(endpoint: str) -> str:
    return endpoint.rpartition(":")[0]


def _port(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]
