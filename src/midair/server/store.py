"""Where nameplates, mailboxes and messages live: the interface, and what may be asked of it.

Each operation is atomic and changes all it names or nothing. The methods are coroutines so that a store across the
network fits; the one in memory never suspends. ``now`` is seconds on the store's own :meth:`MailboxStore.clock`.
``owner`` is whom a new mailbox is counted for (:func:`midair.server.admission.owner_of`). Where several nodes share a
store any operation may raise :class:`StoreUnavailable`, and each node hears through a :class:`Listener` what the others
have added.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from midair.rendezvous.wire import Message

__all__ = ["Listener", "MailboxKey", "MailboxStore", "Place", "StoreRefusal", "StoreUnavailable", "size_of"]

MailboxKey = tuple[str, str]
"""Application id and mailbox id."""


class StoreRefusal(Exception):
    """The store says no; nothing has changed.

    ``str(error)`` goes to the client: ``crowded`` and ``reclaimed`` are magic-wormhole's words, what begins with
    ``limit:`` is one of the limits. ``reason`` is the word in the metrics.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

    @classmethod
    def of(cls, reason: str) -> Self:
        """For one of the reasons every store knows."""
        return cls(reason, _TEXTS[reason])


_TEXTS = {
    "crowded": "crowded",
    "reclaimed": "reclaimed",
    "gone": "this mailbox is closed",
    "mailbox-full": "limit: this mailbox is full",
    "mailboxes": "limit: this server keeps no more mailboxes",
    "mailboxes-per-address": "limit: too many mailboxes for your address",
    "mailboxes-per-day": "limit: too many mailboxes for your address in one day",
    "nameplates-full": "limit: this server has no free nameplate",
    "store-full": "limit: this server has no room for more messages",
}


class StoreUnavailable(Exception):
    """What the nodes share does not answer. Whether the operation has taken place is not known.

    Whoever asked is sent away to come again, and says everything again then: all operations bear that.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place at a nameplate was taken, or had been taken by the same side before."""

    mailbox: str
    met: bool
    """This was the second side: a pair has met."""


class Listener(Protocol):
    """What a shared store tells a node; each call is awaited before the next."""

    async def posted(self, mailbox: MailboxKey, index: int, message: Message) -> None:
        """Another node has added message number ``index`` to a mailbox that was opened here."""

    async def missed(self) -> None:
        """Some may have been added of which nothing was heard."""

    async def forgotten(self) -> None:
        """The store has come back empty."""


class MailboxStore(Protocol):
    """What the post office needs. A side is one of two; the third is refused as ``crowded``."""

    @property
    def mailboxes(self) -> int:
        """Mailboxes there are, as last heard."""

    def clock(self) -> float:
        """Seconds on the clock that all who use this store go by."""

    async def waiting(self, app: str) -> list[str]:
        """Nameplates at which one side waits, the short ones first; at most a thousand."""

    async def allocate(self, app: str, side: str, *, owner: str, now: float) -> str:
        """Picks a free nameplate, as short as there is one, and claims it. Raises: StoreRefusal."""

    async def claim(self, app: str, nameplate: str, side: str, *, owner: str, now: float) -> Place:
        """Takes a place and opens the mailbox for ``side``; again by the same side changes nothing.

        Raises: StoreRefusal; ``reclaimed`` when this side has released it while the other still holds it.
        """

    async def release(self, app: str, nameplate: str, side: str, *, now: float) -> None:
        """Gives the place back; no matter when there is none."""

    async def open(self, app: str, mailbox: str, side: str, *, owner: str, now: float) -> tuple[Message, ...]:
        """Opens a mailbox for ``side``, a new one where it is not there: its messages so far. Raises: StoreRefusal."""

    async def add(self, app: str, mailbox: str, message: Message, *, now: float) -> int:
        """Keeps one more message: how many were there before it. Raises: StoreRefusal."""

    async def read(self, app: str, mailbox: str, start: int) -> tuple[Message, ...]:
        """The messages from number ``start`` on; none when it is not there."""

    async def close(self, app: str, mailbox: str, side: str, *, now: float) -> None:
        """``side`` is done; when both are, or there was only one, all is forgotten. No matter when it is not there."""

    async def touch(self, mailboxes: Iterable[MailboxKey], *, now: float) -> None:
        """Somebody is connected to these: they are not idle."""

    async def prune(self, *, now: float) -> int:
        """Forgets what has been idle too long: how many mailboxes."""

    async def count(self) -> int:
        """Mailboxes there are."""


def size_of(message: Message) -> int:
    """Bytes ``message`` is counted for. The fixed part is about what Python's values around the texts take."""
    return 512 + len(message.side) + len(message.phase) + len(message.body)
