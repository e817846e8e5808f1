"""The sending end of a session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from midair import events
from midair.config import ServerURL, TraversalOptions
from midair.rendezvous import Meeting, meet_as_sender
from midair.session.rounds import Session
from midair.transfer import Scanning, Stream

if TYPE_CHECKING:
    from midair.channel import Conversation
    from midair.transfer import Sender

__all__ = ["SendSession"]

DEFAULT_REJOIN_SECONDS = 600.0
"""A person whose laptop slept, or who runs the receiver's command again, comes back within minutes."""


class SendSession(Session["Sender"]):
    """Sends files and folders, or a stream, to whoever knows the code."""

    role: ClassVar[str] = "send"

    def __init__(
        self,
        source: Sequence[Path] | Stream,
        server: ServerURL,
        *,
        code: str | None = None,
        command_for: Callable[[str], str] | None = None,
        on_event: events.Listener = lambda event: None,
        traversal: TraversalOptions | None = None,
        rejoin: float | None = None,
        limit_rate: float | None = None,
        hashed: bool = True,
    ) -> None:
        """``limit_rate`` is in bytes a second. ``command_for`` turns the code into the
        receiver's whole command, for the ``code`` event. Files are ``hashed`` as they cross only if both sides want it.

        Raises: LocalIOError, UsageError when the paths cannot be sent; nothing has been contacted then. Where there is
        much to look at that goes on while the other side is met, and ``run`` raises them.
        """
        super().__init__(
            server,
            on_event=on_event,
            traversal=traversal or TraversalOptions(),
            rejoin=DEFAULT_REJOIN_SECONDS if rejoin is None else rejoin,
        )
        self._source = source if isinstance(source, Stream) else Scanning(source)
        self._code = code
        self._command_for = command_for or (lambda code: f"midair receive --server {server} {code}")
        self._announced = False
        self._limit_rate = limit_rate
        self._hashed = hashed

    async def _meet(self, *, again_within: float | None) -> Meeting:
        return await meet_as_sender(
            self.server, code=self._code, app_versions=self._versions(), on_code=self._announce, wait=again_within
        )

    def _announce(self, code: str) -> None:
        self._code = code
        if not self._announced:
            self._announced = True
            self._emit(events.CodeReady(code=code, command=self._command_for(code)))
            self._prepare()

    async def _until_ready(self) -> None:
        if isinstance(self._source, Scanning):
            loop, scanned = asyncio.get_running_loop(), asyncio.Event()

            def tell() -> None:
                with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
                    loop.call_soon_threadsafe(scanned.set)

            self._source.when_done(tell)
            await scanned.wait()

    def _party(self, channel: Conversation) -> Sender:
        from midair.transfer import Sender

        source = self._source.result() if isinstance(self._source, Scanning) else self._source
        return Sender(channel, source, self._emit, limit_rate=self._limit_rate, hashed=self._hashed)

    def _close(self) -> None:
        if isinstance(self._source, Stream):
            self._source.close()
