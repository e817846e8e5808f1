"""What several nodes share: mailboxes and waiting relay legs, in a Redis or Valkey. Needs midair[redis]."""

from __future__ import annotations

from midair.server.shared.link import Link
from midair.server.shared.state import Shared
from midair.server.shared.store import RedisStore

__all__ = ["Link", "RedisStore", "Shared"]
