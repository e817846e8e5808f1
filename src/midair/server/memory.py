"""The store of one process: dictionaries, and nothing that waits.

Every nameplate belongs to a mailbox that is there, and goes with it; so what bounds the mailboxes bounds everything. A
number rests for ten minutes after its release, and as long as its mailbox lives: a pair that loses its connection meets
again by claiming it, and must not find others there.
"""

from __future__ import annotations

import math
import secrets
import time
from base64 import b32encode
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from midair.config import ServerLimits
from midair.rendezvous.wire import Message
from midair.server.store import MailboxKey, Place, StoreRefusal, size_of

__all__ = ["MemoryStore"]

REST_SECONDS = 600.0
"""How long a released number is not handed out; a peer that can come back has done so by then."""
DAY_SECONDS = 86400
MAX_LISTED = 1000
"""Nameplates told to one who lists them: it is for the completion of what a person types."""
MAX_STORED_BYTES = 256 << 20
"""All messages of all mailboxes together. A meeting keeps under 10 KiB, for a minute."""


@dataclass(slots=True)
class _Nameplate:
    mailbox: _Mailbox
    claims: dict[str, bool] = field(default_factory=dict)  # side -> claims it still


@dataclass(slots=True)
class _Mailbox:
    key: MailboxKey
    owner: str
    updated: float
    nameplate: str | None = None
    opened: dict[str, bool] = field(default_factory=dict)  # side -> has it open still
    messages: list[Message] = field(default_factory=list)


class MemoryStore:
    """A :class:`midair.server.store.MailboxStore`. Takes the clock and chance as arguments."""

    def __init__(
        self,
        limits: ServerLimits | None = None,
        *,
        max_stored_bytes: int = MAX_STORED_BYTES,
        randbelow: Callable[[int], int] = secrets.randbelow,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or ServerLimits()
        self._room = max_stored_bytes
        self._randbelow = randbelow
        self._clock = clock
        self._mailboxes: dict[MailboxKey, _Mailbox] = {}
        self._nameplates: dict[str, dict[str, _Nameplate]] = {}  # app -> number -> nameplate
        self._resting: OrderedDict[tuple[str, str], float] = OrderedDict()  # until when
        self._owned: Counter[str] = Counter()
        self._day = 0
        self._opened_today: Counter[str] = Counter()

    @property
    def mailboxes(self) -> int:
        return len(self._mailboxes)

    def clock(self) -> float:
        return self._clock()

    async def waiting(self, app: str) -> list[str]:
        plates = self._nameplates.get(app, {})
        alone = [number for number, plate in plates.items() if len(plate.claims) == 1]
        return sorted(alone, key=lambda number: (len(number), number))[:MAX_LISTED]

    async def allocate(self, app: str, side: str, *, owner: str, now: float) -> str:
        number = self._free_number(app, now)
        await self.claim(app, number, side, owner=owner, now=now)
        return number

    async def claim(self, app: str, nameplate: str, side: str, *, owner: str, now: float) -> Place:
        plate = self._nameplates.get(app, {}).get(nameplate)
        if plate is None:
            name = b32encode(self._randbelow(1 << 80).to_bytes(10, "big")).decode().lower()
            mailbox = self._new_mailbox((app, name), owner, now)
            mailbox.nameplate = nameplate
            plate = self._nameplates.setdefault(app, {})[nameplate] = _Nameplate(mailbox)
        claimed = plate.claims.get(side)
        if claimed is False:
            raise StoreRefusal.of("reclaimed")
        self._enter(plate.mailbox, side, now)  # who has claimed has opened, so this also keeps the third side out
        plate.claims[side] = True
        return Place(mailbox=plate.mailbox.key[1], met=claimed is None and len(plate.claims) == 2)

    async def release(self, app: str, nameplate: str, side: str, *, now: float) -> None:
        plate = self._nameplates.get(app, {}).get(nameplate)
        if plate is None or side not in plate.claims:
            return
        plate.claims[side] = False
        plate.mailbox.updated = now
        if not any(plate.claims.values()):
            self._drop_nameplate(app, nameplate)
            self._rest(app, nameplate, math.inf)

    async def open(self, app: str, mailbox: str, side: str, *, owner: str, now: float) -> tuple[Message, ...]:
        box = self._mailboxes.get((app, mailbox))
        if box is None:
            box = self._new_mailbox((app, mailbox), owner, now)
        self._enter(box, side, now)
        return tuple(box.messages)

    async def add(self, app: str, mailbox: str, message: Message, *, now: float) -> int:
        box = self._mailboxes.get((app, mailbox))
        if box is None:
            raise StoreRefusal.of("gone")
        if len(box.messages) >= self._limits.messages_per_mailbox:
            raise StoreRefusal.of("mailbox-full")
        if size_of(message) > self._room:
            raise StoreRefusal.of("store-full")
        self._room -= size_of(message)
        box.messages.append(message)
        box.updated = now
        return len(box.messages) - 1

    async def read(self, app: str, mailbox: str, start: int) -> tuple[Message, ...]:
        box = self._mailboxes.get((app, mailbox))
        return () if box is None else tuple(box.messages[start:])

    async def close(self, app: str, mailbox: str, side: str, *, now: float) -> None:
        box = self._mailboxes.get((app, mailbox))
        if box is None or side not in box.opened:
            return
        box.opened[side] = False
        box.updated = now
        if not any(box.opened.values()):
            self._forget(box, now)

    async def touch(self, mailboxes: Iterable[MailboxKey], *, now: float) -> None:
        for key in mailboxes:
            if box := self._mailboxes.get(key):
                box.updated = now

    async def prune(self, *, now: float) -> int:
        oldest = now - self._limits.mailbox_idle_seconds
        idle = [box for box in self._mailboxes.values() if box.updated < oldest]
        for box in idle:
            self._forget(box, now)
        for key in [key for key, until in self._resting.items() if until <= now]:
            del self._resting[key]
        return len(idle)

    async def count(self) -> int:
        return len(self._mailboxes)

    def _free_number(self, app: str, now: float) -> str:
        taken = self._nameplates.get(app, {})
        for rested in (True, False):
            for digits in (1, 2, 3):
                free = [
                    number
                    for number in map(str, range(10 ** (digits - 1), 10**digits))
                    if number not in taken and not (rested and self._resting.get((app, number), 0.0) > now)
                ]
                if free:
                    return free[self._randbelow(len(free))]
        for _ in range(100):
            number = str(1000 + self._randbelow(999_000))
            if number not in taken:
                return number
        raise StoreRefusal.of("nameplates-full")

    def _new_mailbox(self, key: MailboxKey, owner: str, now: float) -> _Mailbox:
        if len(self._mailboxes) >= self._limits.mailboxes:
            raise StoreRefusal.of("mailboxes")
        if self._owned[owner] >= self._limits.mailboxes_per_address:
            raise StoreRefusal.of("mailboxes-per-address")
        day = int(now // DAY_SECONDS)
        if day != self._day:
            self._day, self._opened_today = day, Counter()
        if self._opened_today[owner] >= self._limits.mailboxes_per_address_and_day:
            raise StoreRefusal.of("mailboxes-per-day")
        self._opened_today[owner] += 1
        self._owned[owner] += 1
        box = self._mailboxes[key] = _Mailbox(key, owner, now)
        return box

    def _enter(self, box: _Mailbox, side: str, now: float) -> None:
        if side not in box.opened and len(box.opened) == 2:
            raise StoreRefusal.of("crowded")
        box.opened[side] = True
        box.updated = now

    def _forget(self, box: _Mailbox, now: float) -> None:
        app, _ = box.key
        del self._mailboxes[box.key]
        self._room += sum(size_of(message) for message in box.messages)
        self._owned[box.owner] -= 1
        if not self._owned[box.owner]:
            del self._owned[box.owner]
        if box.nameplate is not None:
            plate = self._nameplates.get(app, {}).get(box.nameplate)
            if plate is not None and plate.mailbox is box:
                self._drop_nameplate(app, box.nameplate)
            self._rest(app, box.nameplate, now + REST_SECONDS)

    def _drop_nameplate(self, app: str, number: str) -> None:
        plates = self._nameplates[app]
        del plates[number]
        if not plates:
            del self._nameplates[app]

    def _rest(self, app: str, number: str, until: float) -> None:
        # Whoever claims and closes all day fills this list and nothing else: the oldest number goes first.
        self._resting[app, number] = until
        self._resting.move_to_end((app, number))
        if len(self._resting) > self._limits.mailboxes:
            self._resting.popitem(last=False)
