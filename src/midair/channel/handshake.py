"""The handshake, pure: what to send, how many bytes may be read, and whether the peer is the peer.

Both sides send a preface at once; neither waits, so it is the same after connect(), accept() or crossing SYNs. With
both prefaces each knows the cipher, derives the connection's keys and sends a CONFIRM record, which the other must
open. It costs one round trip, and whoever does not hold the session key has seen 44 bytes, of which 4 tell how fast
this machine is with the ciphers it has, and 24 it cannot open.

    AWAIT_PREFACE ── 44 bytes ── AWAIT_CONFIRM ── 24 bytes ── DONE
          └──────── AuthenticationError ──┴──── FAILED

What it stops: a stranger who happens to live at a candidate address (Ford et al. 4.2 step 5), one who speaks something
else (told by its first bytes), one who sends our own bytes back (the nonce is ours; the keys of the two directions
differ), one who replays another connection (fresh nonces).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from midair.channel.cipher import ForgedRecordError, Opener, Sealer
from midair.channel.failures import AuthenticationError, Suspicion
from midair.channel.keys import Role, SessionKey, derive
from midair.channel.suites import Suite, agree
from midair.channel.wire import (
    HEADER_BYTES,
    MAGIC,
    PREFACE_BYTES,
    TAG_BYTES,
    VERSION,
    RecordType,
    decode_preface,
    encode_header,
    encode_preface,
)

__all__ = ["CONFIRM_BYTES", "Established", "Handshake", "State"]

CONFIRM_BYTES = HEADER_BYTES + TAG_BYTES
_CONFIRM_HEADER = encode_header(0, RecordType.CONFIRM)


class State(Enum):
    """Where a handshake stands."""

    AWAIT_PREFACE = "await preface"
    AWAIT_CONFIRM = "await confirm"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Established:
    """What a finished handshake leaves behind."""

    sealer: Sealer
    opener: Opener
    connection_id: bytes
    suite: Suite


class Handshake:
    """One side of it. The driver sends ``preface``, then feeds at most ``wanted`` bytes at a time until that is 0."""

    def __init__(self, key: SessionKey, role: Role, nonce: bytes, costs: bytes) -> None:
        """``nonce`` is 32 fresh random bytes, ``costs`` what the ciphers cost here."""
        self._key = key
        self._role = role
        self._nonce = nonce
        self._costs = costs
        self._received = b""
        self._established: Established | None = None
        self.state = State.AWAIT_PREFACE
        self.preface = encode_preface(nonce, costs)
        """What to send first, without waiting."""

    @property
    def wanted(self) -> int:
        """How many bytes may be read now, and no more: what follows them belongs to the records."""
        match self.state:
            case State.AWAIT_PREFACE:
                return PREFACE_BYTES - len(self._received)
            case State.AWAIT_CONFIRM:
                return CONFIRM_BYTES - len(self._received)
            case State.DONE | State.FAILED:
                return 0

    @property
    def established(self) -> Established:
        """The ciphers; only when DONE."""
        assert self.state is State.DONE
        assert self._established is not None
        return self._established

    def feed(self, data: bytes) -> bytes:
        """Take in what came; what to send now, perhaps nothing. ``b""`` means that the peer has ended its stream.

        Raises: AuthenticationError, as soon as the bytes cannot become right.
        """
        assert len(data) <= self.wanted
        if not data:
            raise self._failed("the other end closed the connection", "closed")
        self._received += data
        if self.state is State.AWAIT_PREFACE:
            self._judge_magic()
            return b"" if self.wanted else self._take_preface()
        if not self.wanted:
            self._take_confirm()
        return b""

    def _judge_magic(self) -> None:
        seen = self._received[: len(MAGIC)]
        if not MAGIC.startswith(seen):
            raise self._failed("the other end does not speak our protocol", "stranger")
        version = self._received[len(MAGIC) : len(MAGIC) + 2]
        if len(version) == 2 and int.from_bytes(version, "big") != VERSION:
            number = int.from_bytes(version, "big")
            raise self._failed(f"the other end speaks version {number} of the channel, we speak {VERSION}", "version")

    def _take_preface(self) -> bytes:
        _, _, theirs, their_costs = decode_preface(self._received)
        if theirs == self._nonce:
            raise self._failed("our own bytes came back", "reflection")
        suite = agree(self._costs, their_costs)
        if suite is None:
            raise self._failed("the other end has no cipher that we have", "version")
        ours, theirs = self._nonce + self._costs, theirs + their_costs
        keys = derive(self._key, *((ours, theirs) if self._role is Role.A else (theirs, ours)), suite)
        self._established = Established(
            sealer=Sealer(keys.sending(self._role), suite),
            opener=Opener(keys.sending(self._role.other), suite),
            connection_id=keys.connection_id,
            suite=suite,
        )
        self._received = b""
        self.state = State.AWAIT_CONFIRM
        return self._established.sealer.seal(RecordType.CONFIRM, b"")

    def _take_confirm(self) -> None:
        assert self._established is not None
        header, sealed = self._received[:HEADER_BYTES], self._received[HEADER_BYTES:]
        if header != _CONFIRM_HEADER:
            raise self._failed("the other end did not confirm the session key", "key")
        try:
            self._established.opener.open(header, sealed)
        except ForgedRecordError as error:
            raise self._failed("the other end does not hold the session key", "key") from error
        self.state = State.DONE

    def _failed(self, message: str, suspicion: Suspicion) -> AuthenticationError:
        self.state = State.FAILED
        self._established = None
        return AuthenticationError(message, suspicion=suspicion)
