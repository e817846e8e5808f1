"""From two peers who can exchange messages to one authenticated connection between them."""

from __future__ import annotations

from midair.traversal.result import PathResult
from midair.traversal.runner import Exchange, connect_peers

__all__ = ["Exchange", "PathResult", "connect_peers"]
