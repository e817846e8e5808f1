"""The receiving end of a session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from midair import events
from midair.config import ServerURL, TraversalOptions
from midair.errors import LocalIOError
from midair.rendezvous import Meeting, meet_as_receiver
from midair.session.rounds import Session
from midair.transfer import Offer, Receiver
from midair.transfer.names import escape
from midair.traversal import PathResult

__all__ = ["ReceiveSession"]

DEFAULT_REJOIN_SECONDS = 20.0
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
        """``accept`` is asked once, in a thread of its own, before anything is written; it may take its time.

        ``directory`` is made when it is not there. Raises: LocalIOError when it cannot be written to; nothing has been
        contacted then, and the code is as good as before.
        """
        super().__init__(
            server,
            on_event=on_event,
            traversal=traversal or TraversalOptions(),
            rejoin=DEFAULT_REJOIN_SECONDS if rejoin is None else rejoin,
        )
        self._code = code
        self._directory = _usable(directory)
        self._accept = accept
        self._accepted_offer: bytes | None = None
        self._wait = wait

    async def _meet(self, *, again_within: float | None) -> Meeting:
        wait = self._wait if again_within is None else again_within
        if again_within is None:
            self._emit(events.Status(text="Looking for the sender..."))
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


def _usable(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalIOError(
            f"{escape(str(directory))} cannot be the folder to receive into: {error.strerror}"
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise LocalIOError(f"{escape(str(directory))} is a folder that cannot be written to")
    return directory
