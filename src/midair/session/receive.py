"""The receiving end of a session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from midair import events
from midair.config import ServerURL, TraversalOptions
from midair.errors import LocalIOError
from midair.rendezvous import Meeting, meet_as_receiver
from midair.session.rounds import Session
from midair.transfer import Folder, Pipe
from midair.transfer.names import escape

if TYPE_CHECKING:
    from midair.channel import Conversation
    from midair.transfer import Clash, Offer, Receiver, Resolution, Resolve

__all__ = ["ReceiveSession"]

DEFAULT_REJOIN_SECONDS = 20.0
"""A receiver whose sender was killed gives way soon: what it has is in the journal, and the person is told."""
ALONE_SECONDS = 10.0
"""The same while the server answers: a sender that lives knows after six seconds, and needs one or two to be there."""


class ReceiveSession(Session["Receiver"]):
    """Receives what ``code`` stands for into a folder, or a pipe."""

    role: ClassVar[str] = "receive"

    def __init__(
        self,
        code: str,
        server: ServerURL,
        destination: Path | Pipe,
        *,
        accept: Callable[[Offer], bool],
        resolve: Resolve | None = None,
        wait: float = 10.0,
        on_event: events.Listener = lambda event: None,
        traversal: TraversalOptions | None = None,
        rejoin: float | None = None,
        hashed: bool = True,
        verify: bool = False,
        each_file: bool = True,
    ) -> None:
        """``accept`` is asked once, in a thread of its own, before anything is written; it may take its time. So may
        ``resolve``, which is asked once about each thing that has a name of the offer and is something else; without it
        such an offer is refused. Files are ``hashed`` as they cross only if both sides want it. To ``verify``
        is to hash also what is there already, once.
        There is a ``file`` event for ``each_file``, or only for those that are not simply there in the end.

        A folder is made when it is not there. Raises: LocalIOError when it cannot be written to; nothing has been
        contacted then, and the code is as good as before.
        """
        super().__init__(
            server,
            on_event=on_event,
            traversal=traversal or TraversalOptions(),
            rejoin=DEFAULT_REJOIN_SECONDS if rejoin is None else rejoin,
        )
        if rejoin is None:
            self._alone = ALONE_SECONDS
        self._code = code
        self._destination = destination if isinstance(destination, Pipe) else Folder(_usable(destination))
        self._accept = accept
        self._resolve = resolve
        self._resolutions: dict[Clash, Resolution] = {}
        self._accepted_offer: bytes | None = None
        self._wait = wait
        self._hashed = hashed
        self._verify = verify
        self._receiver: Receiver | None = None
        self._each_file = each_file

    async def _meet(self, *, again_within: float | None) -> Meeting:
        wait = self._wait if again_within is None else again_within
        if again_within is None:
            self._emit(events.Status(text="Looking for the sender..."))
            self._prepare()
        return await meet_as_receiver(self.server, self._code, app_versions=self._versions(), wait=wait)

    def _party(self, channel: Conversation) -> Receiver:
        from midair.transfer import Receiver

        resolve = None if self._resolve is None else self._resolve_once
        self._verify = self._verify and not (self._receiver is not None and self._receiver.verified)
        self._receiver = Receiver(
            channel,
            self._destination,
            self._accept_once,
            self._emit,
            resolve=resolve,
            hashed=self._hashed,
            verify=self._verify,
            each_file=self._each_file,
        )
        return self._receiver

    def _close(self) -> None:
        self._destination.close()

    def _accept_once(self, offer: Offer) -> bool:
        """The same content, offered again after a broken connection, is not asked about again."""
        if self._accepted_offer == offer.manifest_id:
            return True
        accepted = self._accept(offer)
        if accepted:
            self._accepted_offer = offer.manifest_id
        return accepted

    def _resolve_once(self, clash: Clash) -> Resolution:
        assert self._resolve is not None
        if clash not in self._resolutions:
            self._resolutions[clash] = self._resolve(clash)
        return self._resolutions[clash]


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
