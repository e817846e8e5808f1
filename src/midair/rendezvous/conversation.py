"""What two sides say to each other in a mailbox: SPAKE2, key confirmation, then sealed messages in order.

It knows nothing of connections or time. Messages of the other side may come in any order and more than once; each
takes effect once, when everything before it is there. What this side says stays in :attr:`Conversation.outbox`, so
that it can be said again.

    AWAITING_PAKE ── pake ── AWAITING_VERSION ── version unseals ── CONFIRMED

Who has our *version* can test one guess of the code with it, in peace. So the sender, who waits for whoever comes, says
its own only when the other side's is there: who comes and goes without it has had no guess, and the code is as good as
before. A receiver proves itself first, and loses nothing by it, since it knows when it types the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from midair.errors import CrowdedError, IncompatibleError, RemoteProtocolError, WrongCodeError
from midair.rendezvous.keys import Entropy, KeyExchange, KeyExchangeError, UnsealError, seal, unseal

__all__ = ["MAX_MESSAGES", "REORDER_WINDOW", "Confirmed", "Conversation", "Delivered", "Outcome", "Posted", "Role"]

MAX_MESSAGES: Final = 256
"""Numbered messages in each direction; a session exchanges a few dozen, and a server keeps 200 in one mailbox."""

REORDER_WINDOW: Final = 64
"""How far ahead of the next number a message may be; with the body's bound it limits what is stored unread."""

Role = Literal["sender", "receiver"]
"""Told to the other side, sealed: two senders, or two receivers, cannot do anything together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A new message of ours stands in the outbox."""

    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The other side has the same key, so it knows the code."""

    key: bytes = field(repr=False)
    peer_versions: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The next numbered message."""

    message: bytes = field(repr=False)


Outcome = Posted | Confirmed | Delivered


class Conversation:
    """One side of it. Entropy: 64 bytes for SPAKE2, 24 for each message sent."""

    def __init__(
        self, *, code: str, app_id: str, side: str, role: Role, app_versions: Mapping[str, Any], entropy: Entropy
    ) -> None:
        self._side = side
        self._role = role
        self._versions = {"app_versions": {**app_versions, "role": role}}
        self._entropy = entropy
        self._waits = role == "sender"
        self._exchange = KeyExchange(code, app_id, entropy, waits=self._waits)
        self._key: bytes | None = None
        self._confirmed = False
        self._taken: set[str] = set()
        self._stash: dict[str, bytes] = {}
        self._next_out = 0
        self._next_in = 0
        self.peer_side: str | None = None
        """Whoever spoke first besides us; nobody else may."""
        self.outbox: Final[dict[str, str]] = {"pake": self._exchange.message.hex()}
        """Everything said so far, oldest first: phase to hex body."""

    def send(self, message: bytes) -> Posted:
        """Says ``message``; only once confirmed, and at most :data:`MAX_MESSAGES` times."""
        assert self._confirmed
        assert self._next_out < MAX_MESSAGES
        phase = str(self._next_out)
        self._next_out += 1
        return self._post(phase, message)

    def receive(self, side: str, phase: str, body: str) -> list[Outcome]:
        """Takes in one message of another side, ``body`` in hex.

        Raises: CrowdedError, WrongCodeError, IncompatibleError, RemoteProtocolError.
        """
        if self.peer_side is None:
            self.peer_side = side
        elif side != self.peer_side:
            raise CrowdedError("somebody else uses the same code at the same time")
        # Phases this version does not know are for a newer one.
        if phase in self._taken or (phase not in ("pake", "version") and not self._is_numbered(phase)):
            return []
        self._taken.add(phase)
        self._stash[phase] = bytes.fromhex(body)
        return self._drain()

    def _is_numbered(self, phase: str) -> bool:
        if not (phase.isascii() and phase.isdigit()) or (len(phase) > 1 and phase[0] == "0"):
            return False
        if len(phase) > 6 or int(phase) >= min(self._next_in + REORDER_WINDOW, MAX_MESSAGES):
            raise RemoteProtocolError("the other side sent a message far out of turn")
        return True

    def _drain(self) -> list[Outcome]:
        """Works off what has become due, in its order."""
        outcomes: list[Outcome] = []
        if self._key is None:
            if "pake" not in self._stash:
                return []
            try:
                self._key = self._exchange.finish(self._stash.pop("pake"))
            except KeyExchangeError as error:
                raise RemoteProtocolError(f"the other side's key exchange is broken: {error}") from error
            if self._waits and self._exchange.peer_waits:
                raise _same_role(self._role)
            if not self._waits:
                outcomes.append(self._post_version())
        if not self._confirmed:
            if "version" not in self._stash:
                return outcomes
            if self._waits:
                # Also to one who does not know the code: it was their one guess, and they are to hear how it went.
                outcomes.append(self._post_version())
            outcomes.append(self._confirm(self._key, self._stash.pop("version")))
        while (phase := str(self._next_in)) in self._stash:
            outcomes.append(Delivered(message=self._unseal_confirmed(phase, self._stash.pop(phase))))
            self._next_in += 1
        return outcomes

    def _confirm(self, key: bytes, body: bytes) -> Confirmed:
        assert self.peer_side is not None
        try:
            text = unseal(key, self.peer_side, "version", body)
        except UnsealError:
            raise WrongCodeError("the codes on the two sides differ, or somebody tried to guess yours") from None
        try:
            versions = _VERSIONS_DECODER.decode(text).app_versions
        except (msgspec.DecodeError, RecursionError) as error:
            raise RemoteProtocolError("the other side's version message cannot be read") from error
        if versions.get("role") == self._role:
            raise _same_role(self._role)
        self._confirmed = True
        return Confirmed(key=key, peer_versions=versions)

    def _unseal_confirmed(self, phase: str, body: bytes) -> bytes:
        assert self._key is not None
        assert self.peer_side is not None
        try:
            return unseal(self._key, self.peer_side, phase, body)
        except UnsealError:
            raise RemoteProtocolError("a message was changed on its way through the server") from None

    def _post_version(self) -> Posted:
        return self._post("version", msgspec.json.encode(self._versions))

    def _post(self, phase: str, message: bytes) -> Posted:
        assert self._key is not None
        self.outbox[phase] = seal(self._key, self._side, phase, message, self._entropy(24)).hex()
        return Posted(phase=phase)


def _same_role(role: Role) -> IncompatibleError:
    both = "send" if role == "sender" else "receive"
    return IncompatibleError(f"both sides want to {both}", hint="One side sends, the other receives.")


class _VersionBody(msgspec.Struct, frozen=True):
    app_versions: dict[str, Any] = {}


_VERSIONS_DECODER: Final = msgspec.json.Decoder(_VersionBody)
