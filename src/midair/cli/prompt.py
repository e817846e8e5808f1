"""Questions to the person at the terminal. A script that cannot be asked is told so instead of waiting."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from midair.cli.output import Reporter, count_text, offer_text, size_text
from midair.errors import UsageError
from midair.transfer import Clash, Offer, Pipe, Resolution, Resolve
from midair.transfer.names import escape
from midair.transfer.wire import MAX_TEXT_BYTES

__all__ = ["Person", "ask_for_code", "read_text"]

_SHOWN_NAMES = 20


def ask_for_code() -> str:
    """The code, typed or piped in.

    Raises: UsageError when there is none.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("no code was given")
    if sys.stdin.isatty():
        print("Code: ", end="", file=sys.stderr, flush=True)  # noqa: T201
    line = sys.stdin.readline(1000).strip()
    if not line:
        raise UsageError("no code was given", hint="Run `midair receive CODE` with the code the sender shows.")
    return line


def read_text() -> str:
    """All of stdin, typed or piped in.

    Raises: UsageError when there is none, or it is no text.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("there is no stdin to read the text from")
    if sys.stdin.isatty():
        print("The text, ended by Ctrl-D on a line of its own:", file=sys.stderr, flush=True)  # noqa: T201
    try:
        return _read_stdin(MAX_TEXT_BYTES + 1).decode()
    except UnicodeDecodeError:
        raise UsageError("what came in on stdin is not text", hint="Send it with - instead.") from None


def _read_stdin(most: int) -> bytes:
    """To its end, or ``most`` bytes of it.

    A signal that comes on the way into a read is only told when the read is over, which here a person decides. So the
    wait is for the signal, too.
    """
    if os.name == "nt":  # select is for sockets only; Ctrl-C ends a read from a console there. Not tried.
        return sys.stdin.buffer.read(most)
    descriptor = sys.stdin.fileno()
    content = bytearray()
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    before = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    try:
        while len(content) < most:
            ready, _, _ = select.select([descriptor, woken], [], [])
            if woken in ready:
                os.read(woken, 100)  # whoever handles the signal has by now, or does before the next wait
            if descriptor in ready:
                piece = os.read(descriptor, most - len(content))
                if not piece:
                    break
                content += piece
        return bytes(content)
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(waker)


class Person:
    """Who runs the receiver: asked at the terminal, unless the command line has said it all. Called from threads."""

    def __init__(
        self,
        reporter: Reporter,
        place: Path | Pipe,
        *,
        yes: bool,
        existing: Literal["overwrite", "rename", "skip"] | None,
    ) -> None:
        """``place`` is where things go, ``existing`` what is done where something else has their name.

        Raises: UsageError at once when somebody has to be asked and nobody is there, while the code is still good.
        """
        self._reporter = reporter
        self._place = place
        self._yes = yes
        self._existing = None if existing is None else Resolution(existing)
        self._withdrawn: Callable[[], bool] = lambda: False
        self._there = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
        if not yes and not self._there:
            raise UsageError(
                "somebody has to accept the files, and there is no terminal to ask at",
                hint="Run it with -y to accept what the code stands for.",
            )

    def accepts(self, offer: Offer) -> bool:
        """Whether to receive it at all."""
        self._withdrawn = offer.withdrawn
        if self._yes:
            return True
        self._reporter.pause()
        lines = [f"    {name}" for name in offer.names[:_SHOWN_NAMES]]
        if len(offer.names) > _SHOWN_NAMES:
            lines.append(f"    and {len(offer.names) - _SHOWN_NAMES} more")
        if offer.present:
            lines.append(f"Something stands there already under {count_text(offer.present, 0, 'name')} of it.")
        answer = self._ask("\n".join([*lines, self._question(offer)]))
        return answer.strip().lower() in ("", "y", "yes")

    def _question(self, offer: Offer) -> str:
        if offer.kind == "text":
            return f"Show {offer_text(offer)}? [Y/n] "
        place = "stdout" if isinstance(self._place, Pipe) else escape(str(self._place.resolve()))
        return f"Receive {offer_text(offer)} into {place}? [Y/n] "

    @property
    def resolves(self) -> Resolve | None:
        """What decides about things that are in the way; None where nobody can."""
        return self._resolve if self._there or self._existing is not None else None

    def _resolve(self, clash: Clash) -> Resolution:
        if self._existing is not None and (clash.replaceable or self._existing is not Resolution.OVERWRITE):
            return self._existing
        if not self._there:
            return Resolution.REFUSE
        self._reporter.pause()
        answers = {"r": Resolution.RENAME, "s": Resolution.SKIP, "q": Resolution.REFUSE}
        words = "[r]ename, [s]kip, [q]uit"
        if clash.replaceable:
            answers["o"] = Resolution.OVERWRITE
            words = f"[o]verwrite, {words}"
        question = f"{_describe(clash)}\n{words}; a capital letter decides for all that follow: "
        while True:
            answer = self._ask(question).strip()
            question = f"{words}: "
            if (resolution := answers.get(answer[:1].lower())) is not None:
                if answer[0].isupper():
                    self._existing = resolution
                return resolution

    def _ask(self, question: str) -> str:
        """A line from the terminal, looked for in small steps so that a transfer that ends meanwhile ends the question.

        ``q`` where there is no answer to be had, which is a no to every question here.
        """
        print(question, end="", file=sys.stderr, flush=True)  # noqa: T201
        while not self._withdrawn():
            ready, _, _ = select.select([sys.stdin], [], [], 0.2)
            if ready:
                return sys.stdin.readline(100) or "q"
        return "q"


def _describe(clash: Clash) -> str:
    there = f"{_KINDS[clash.there]} of {size_text(clash.there_size)} from {_time_text(clash.there_mtime_ns)}"
    new = "a stream"
    if clash.new_size is not None and clash.new_mtime_ns is not None:
        new = f"{_KINDS[clash.new]} of {size_text(clash.new_size)} from {_time_text(clash.new_mtime_ns)}"
    return f"{clash.name} is already there and differs:\n    there: {there}\n    new:   {new}"


_KINDS = {"file": "a file", "folder": "a folder", "link": "a symbolic link", "other": "no file"}


def _time_text(mtime_ns: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(mtime_ns / 1e9))
    except (OverflowError, ValueError, OSError):
        return "no date"
