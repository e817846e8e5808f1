"""What the two sides tell each other through the mailbox before they dial, and when to start.

    controlling  Ping, controlled  Pong        the time of one round trip through the mailbox, while both gather
    both         Description        candidates and what paths are allowed
    controlling  Go                 starts half a round trip later; the controlled side starts when it arrives

Starting within one one-way delay of each other makes the SYNs cross: neither NAT has a reason to refuse one. This is
the timing of libp2p's DCUtR, where 97.6 % of successes are first attempts.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from midair.endpoint import Endpoint
from midair.errors import IncompatibleError, RemoteProtocolError
from midair.nat.forecast import Forecast
from midair.nat.told import MAX_TOLD, ToldReport
from midair.traversal.candidates import MAX_CANDIDATES, Candidate, CandidateType, dialable, select

__all__ = [
    "MAX_MESSAGE_BYTES",
    "VERSION",
    "Description",
    "Go",
    "Message",
    "Ping",
    "Pong",
    "WireCandidate",
    "candidates_of",
    "decode",
    "describe",
    "encode",
    "start_delay",
]

VERSION = 2
"""2: the Ping comes first, while candidates are gathered."""
MAX_MESSAGE_BYTES = 8 * 1024
MAX_START_DELAY = 2.0
"""Seconds; a mailbox slower than 4 s a round trip cannot be used for timing anyway."""
_LATER = 1.1
"""Of the time that Go takes. More would spare BBR more often, but at 1.3 and on a busy machine some SYNs no longer
crossed, and behind a router with a DMZ host that is the end of it: 3 of 20 pairs of two such were not direct."""

_Text = Annotated[str, msgspec.Meta(max_length=64)]
_Priority = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]


class WireCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate as text, not yet judged."""

    kind: _Text
    endpoint: _Text
    priority: _Priority


class Description(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="description"):
    """One side of a session, as the other needs to know it."""

    version: int
    controlling: bool
    """Whether the side that says this takes the controlling role (RFC 8445 2.3)."""
    direct: bool
    """Whether it allows direct connections."""
    relay: bool
    """Whether it opens a leg to the relay."""
    moves: bool = False
    """Whether what begins on the relay can go on on a direct connection."""
    candidates: Annotated[tuple[WireCandidate, ...], msgspec.Meta(max_length=MAX_CANDIDATES)] = ()
    forecast: Forecast | None = None
    """What to expect of its NAT, if that does not keep ports."""
    spare: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """Another IPv4 port, which is the same outside and has dialled nobody; 0: there is none."""
    reports: Annotated[tuple[ToldReport, ...], msgspec.Meta(max_length=MAX_TOLD)] = ()
    """What is known of its NATs, for each IP version; empty from a release that does not tell."""
    proxied: bool = False
    """Whether a proxy stands between it and the server, which is why it allows no direct connection."""


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping"):
    """Asks for a Pong at once. It may be the first message of all, so it says the version too."""

    version: int = VERSION


class Pong(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    """Answers a Ping."""


class Go(msgspec.Struct, frozen=True, tag_field="type", tag="go"):
    """Start when this arrives."""


Message = Description | Ping | Pong | Go


class _Versioned(msgspec.Struct):
    version: int = VERSION


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_version_decoder = msgspec.json.Decoder(_Versioned)


def encode(message: Message) -> bytes:
    """JSON, with a ``type``."""
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """Raises: RemoteProtocolError; IncompatibleError when it is of another version, whatever else it then says."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(f"the other side sent {len(data)} bytes where {MAX_MESSAGE_BYTES} are allowed")
    try:
        version = _version_decoder.decode(data).version
        if version != VERSION:
            raise IncompatibleError(
                f"the other side speaks version {version} of the traversal, we speak {VERSION}",
                hint="Use the same release of midair on both sides.",
            )
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError("the other side sent a message that cannot be understood") from error


def describe(
    candidates: tuple[Candidate, ...],
    *,
    controlling: bool,
    direct: bool,
    relay: bool,
    forecast: Forecast | None = None,
    spare: int = 0,
    reports: tuple[ToldReport, ...] = (),
    proxied: bool = False,
    moves: bool = False,
) -> Description:
    """Our own description."""
    return Description(
        version=VERSION,
        controlling=controlling,
        direct=direct,
        relay=relay,
        candidates=tuple(
            WireCandidate(kind=candidate.type.value, endpoint=str(candidate.endpoint), priority=candidate.priority)
            for candidate in candidates
        ),
        forecast=forecast,
        spare=spare,
        reports=reports,
        proxied=proxied,
        moves=moves,
    )


def candidates_of(description: Description, *, loopback: bool) -> tuple[Candidate, ...]:
    """The peer's candidates that can be dialled, best first; the others, and kinds not known here, are left out."""
    return select(
        candidate
        for wire in description.candidates
        if (candidate := _parse(wire)) is not None and dialable(candidate.endpoint, loopback=loopback)
    )


def _parse(wire: WireCandidate) -> Candidate | None:
    try:
        return Candidate(type=CandidateType(wire.kind), endpoint=Endpoint.parse(wire.endpoint), priority=wire.priority)
    except ValueError:
        return None


def start_delay(round_trip: float) -> float:
    """Seconds from sending Go to starting: what Go takes to arrive, and a little more, so that whoever sends the
    content seldom begins first. Where SYNs cross, that side's kernel takes the first round trip for less than half of
    what it is, and BBR keeps to that for ten seconds (docs/adr/0017)."""
    return min(max(round_trip, 0.0) / 2 * _LATER, MAX_START_DELAY)
