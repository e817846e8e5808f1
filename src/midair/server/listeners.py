"""Who listens to which mailbox, and how far each has heard.

The messages of a mailbox are numbered from 0. A listener gets each number once and in order, in whatever order and
however often this node hears of them: where numbers are missing, :meth:`Listeners.lacking` says from which on they have
to be read. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from midair.rendezvous.wire import Message
from midair.server.store import MailboxKey

__all__ = ["Listeners"]


@dataclass(slots=True)
class _Listener:
    heard: int = 0
    admitted: bool = False
    late: bool = False  # something was posted before it was admitted


class Listeners:
    """All listeners of one node; a client is a number."""

    def __init__(self) -> None:
        # Inner dictionaries are in the order of opening.
        self._listeners: dict[MailboxKey, dict[int, _Listener]] = {}

    @property
    def keys(self) -> Iterable[MailboxKey]:
        """The mailboxes somebody listens to."""
        return self._listeners.keys()

    def enter(self, key: MailboxKey, client: int) -> None:
        """``client`` asks for the mailbox; it gets nothing yet."""
        self._listeners.setdefault(key, {})[client] = _Listener()

    def is_late(self, key: MailboxKey, client: int) -> bool:
        """Whether something was posted since it entered, or since this was last asked."""
        listener = self._listeners[key][client]
        late, listener.late = listener.late, False
        return late

    def admit(self, key: MailboxKey, client: int, past: Sequence[Message]) -> list[tuple[int, Message]]:
        """It may listen; ``past`` is all there has been."""
        self._listeners[key][client].admitted = True
        return self.deliver(key, 0, past)

    def leave(self, key: MailboxKey, client: int) -> None:
        """The opposite of :meth:`enter`. Idempotent."""
        listeners = self._listeners.get(key, {})
        listeners.pop(client, None)
        if not listeners:
            self._listeners.pop(key, None)

    def lacking(self, key: MailboxKey, index: int) -> int | None:
        """The first number somebody lacks before ``index``; None when nobody does."""
        heard = [listener.heard for listener in self._listeners.get(key, {}).values() if listener.admitted]
        first = min(heard, default=index)
        return first if first < index else None

    def heard(self, key: MailboxKey) -> int | None:
        """How many everybody has heard; None when nobody listens."""
        return min((listener.heard for listener in self._listeners.get(key, {}).values()), default=None)

    def deliver(self, key: MailboxKey, start: int, messages: Sequence[Message]) -> list[tuple[int, Message]]:
        """``messages``, of which the first has number ``start``, to those who lack them: who gets what."""
        out = []
        for client, listener in self._listeners.get(key, {}).items():
            if not listener.admitted:
                listener.late = True
            elif start <= listener.heard < start + len(messages):
                out += [(client, message) for message in messages[listener.heard - start :]]
                listener.heard = start + len(messages)
        return out
