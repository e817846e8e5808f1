"""The sending end of a session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from midair import events
from midair.config import ServerURL, TraversalOptions
from midair.port import check_congestion_control, check_pacing
from midair.rendezvous import Meeting, meet_as_sender
from midair.session.rounds import Session
from midair.transfer import Scanning, Stream

if TYPE_CHECKING:
    from midair.channel import Channel, Conversation
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
        congestion_control: str | None = None,
        background: bool = False,
        hashed: bool = True,
        compress: bool = True,
        each_file: bool = True,
    ) -> None:
        """``limit_rate`` is in bytes a second. ``congestion_control`` is one that the system has, None is what suits
        the path; in the ``background`` everybody else's traffic goes first. ``command_for`` turns the code into the
        receiver's whole command, for the ``code`` event. Files are ``hashed`` as they cross only if both sides want it.
        Content may be sent ``compress``ed.
        There is a ``file`` event for ``each_file``, or only for those that are not simply there in the end.

        Raises: LocalIOError, UsageError when the paths cannot be sent, or not in this way; nothing has been contacted
        then. Where there is much to look at that goes on while the other side is met, and ``run`` raises them.
        """
        super().__init__(
            server,
            on_event=on_event,
            traversal=traversal or TraversalOptions(),
            rejoin=DEFAULT_REJOIN_SECONDS if rejoin is None else rejoin,
        )
        if congestion_control is not None:
            check_congestion_control(congestion_control)
        if background:
            check_pacing()
        self._congestion_control = congestion_control
        self._background = background
        self._source = source if isinstance(source, Stream) else Scanning(source)
        self._code = code
        self._command_for = command_for or (lambda code: f"midair receive --server {server} {code}")
        self._announced = False
        self._limit_rate = limit_rate
        self._hashed = hashed
        self._compress = compress
        self._each_file = each_file

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
        return Sender(
            channel,
            source,
            self._emit,
            limit_rate=self._limit_rate,
            background=self._background,
            hashed=self._hashed,
            compress=self._compress,
            each_file=self._each_file,
        )

    def _tune(self, channel: Channel) -> None:
        from midair.session.congestion import choose_congestion_control

        super()._tune(channel)
        self._emit(choose_congestion_control(channel, self._congestion_control, background=self._background))

    def _close(self) -> None:
        if isinstance(self._source, Stream):
            self._source.close()
