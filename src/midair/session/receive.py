"""The receiving end of a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from midair import events
from midair.config import ServerURL, TraversalOptions
from midair.rendezvous import Meeting, meet_as_receiver
from midair.session.rounds import Session
from midair.transfer import Offer, Receiver
from midair.traversal import PathResult

__all__ = ["ReceiveSession"]

DEFAULT_REJOIN_SECONDS = 30.0
"""A receiver whose sender was killed gives way soon: what it has is in the journal, and the person is told."""


class ReceiveSession(Session[Receiver]):
    """Receives what ``code`` stands for into ``directory``."""

    role: ClassVar[str] = "receive"

    def __init__(
        self,
        code: str,
        server: ServerURL,
        directory: Path,
        *,
        accept: Callable[[Offer], bool],
        wait: float = 10.0,
        on_event: events.Listener = lambda event: None,
        traversal: TraversalOptions | None = None,
        rejoin: float | None = None,
    ) -> None:
        """``accept`` is asked once, in the transfer's thread, before anything is written; it may take its time."""
        super().__init__(
            server,
            on_event=on_event,
            traversal=traversal or TraversalOptions(),
            rejoin=DEFAULT_REJOIN_SECONDS if rejoin is None else rejoin,
        )
        self._code = code
        self._directory = directory
        self._accept = accept
        self._accepted_offer: bytes | None = None
        self._wait = wait

    async def _meet(self, *, again_within: float | None) -> Meeting:
        wait = self._wait if again_within is None else again_within
        return await meet_as_receiver(self.server, self._code, app_versions=self._versions(), wait=wait)

    def _party(self, result: PathResult) -> Receiver:
        return Receiver(result.channel, self._directory, self._accept_once, self._emit)

    def _accept_once(self, offer: Offer) -> bool:
        """The same content, offered again after a broken connection, is not asked about again."""
        if self._accepted_offer == offer.manifest_id:
            return True
        accepted = self._accept(offer)
        if accepted:
            self._accepted_offer = offer.manifest_id
        return accepted
