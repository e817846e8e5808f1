"""The meeting point: mailbox, reflector, relay, metrics and a page, all on one TCP port."""

from __future__ import annotations

from midair.server.memory import MemoryStore
from midair.server.server import Server
from midair.server.store import MailboxStore

__all__ = ["MailboxStore", "MemoryStore", "Server"]
