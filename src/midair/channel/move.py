"""One side of a conversation that moves from one connection to another. Pure; :mod:`midair.channel.moving` drives it.

Each direction moves by itself. A side's last record on the old connection is MOVE, which names the new one; its next
record is the first one there. Whoever reads takes in the old connection up to MOVE, then the new one. So nothing is
lost, doubled or out of order, and nothing has to be asked for again, however fast the one and slow the other is.

    leading     both have agreed on the new connection   ->  MOVE
    following   MOVE has come, and has been agreed on    ->  MOVE

The following side does not move by itself: that it has agreed may not be known to the leading one, whose connection may
have died under the answer. So a new connection that dies before MOVE costs nothing. CLOSE can take the place of MOVE:
then that direction ends on the old connection.
"""

from __future__ import annotations

__all__ = ["Move", "MoveError"]


class MoveError(ValueError):
    """The peer moves, and cannot: there is nothing agreed on, it has moved already, or it does not lead."""


class Move:
    """What has been agreed, sent and received. A connection is named by its id."""

    def __init__(self, *, leading: bool) -> None:
        self._leading = leading
        self._agreed: bytes | None = None
        self._named: bytes | None = None
        self._departing = False
        self._sent = False
        self._ended = False

    def agree(self, name: bytes) -> None:
        """Both sides have the connection called ``name``, and have said so to each other.

        Raises: MoveError when the peer's MOVE came before, and named another.
        """
        assert self._agreed is None, "a conversation moves once"
        self._agreed = name
        if self._named is not None:
            self._fit(self._named)

    def take(self, name: bytes) -> None:
        """The peer's MOVE came. Raises: MoveError."""
        if self._named is not None:
            raise MoveError("the peer moves a second time")
        if self._leading and not self._departing:
            raise MoveError("the peer moves without being led")
        self._fit(name)
        self._named = name

    def departs(self) -> None:
        """Our MOVE is going out. The peer's may come before we know that it is out."""
        assert self.due
        self._departing = True

    def sent(self) -> None:
        """Our MOVE is out."""
        assert self._departing
        self._sent = True

    def ended(self) -> None:
        """Our CLOSE is out, or is the next record: no MOVE any more."""
        self._ended = True

    def _fit(self, name: bytes) -> None:
        if self._agreed is not None and name != self._agreed:
            raise MoveError("the peer moves to another connection than was agreed on")

    @property
    def due(self) -> bool:
        """Whether our next record has to be MOVE."""
        return self._agreed is not None and not self._sent and not self._ended and (self._leading or self.arrives)

    @property
    def departed(self) -> bool:
        """Whether our records go over the new connection."""
        return self._sent

    @property
    def arrives(self) -> bool:
        """Whether the peer's records come over the new connection."""
        return self._agreed is not None and self._named == self._agreed

    @property
    def early(self) -> bool:
        """Whether the peer's MOVE has come before the agreement, so that nothing can be read as yet."""
        return self._named is not None and self._agreed is None

    @property
    def over(self) -> bool:
        """Whether nothing comes or goes over the old connection any more."""
        return self._sent and self.arrives
