"""What a person, or a script, sees of a session: four reporters over the same events.

stdout is for data: the JSON lines, or with ``--quiet`` the code. Everything a person reads goes to stderr. Whoever
closes our stdout does not stop the transfer.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from midair import events
from midair.transfer.names import escape, escape_lines

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from midair.transfer import Offer

__all__ = ["Reporter", "choose_reporter", "count_text", "offer_text", "size_text"]

_PLAIN_PROGRESS_SECONDS = 5.0
_WAITING = "waiting for the other side..."
_TAKEN: dict[events.OfferKind, str] = {"files": "stored", "stream": "taken", "text": "shown"}


class Reporter(Protocol):
    """Takes events from any thread; ``pause`` makes room for a question on the terminal."""

    def __call__(self, event: events.Event) -> None: ...

    def pause(self) -> None: ...

    def close(self) -> None: ...


def choose_reporter(*, as_json: bool, quiet: bool) -> Reporter:
    """JSON when asked for; a bar on a terminal; lines elsewhere."""
    if as_json:
        return JSONReporter(sys.stdout)
    if quiet:
        return QuietReporter(sys.stdout)
    if sys.stderr.isatty() and _terminal_can_draw():
        return BarReporter(sys.stderr)
    return PlainReporter(sys.stderr)


def size_text(count: float) -> str:
    """1536 -> 1.5 KiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def _terminal_can_draw() -> bool:
    import os

    return os.environ.get("TERM", "") not in ("dumb", "")


class _Writer:
    """Lines to one stream, from several threads, until nobody reads them any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        with self._lock:
            if self._stream is None:
                return
            try:
                print(text, file=self._stream, flush=True)
            except (BrokenPipeError, ValueError):
                self._stream = None


class JSONReporter:
    """One object a line; the contract is in docs/reference/events.md."""

    def __init__(self, stream: TextIO) -> None:
        self._writer = _Writer(stream)
        self._start = time.monotonic()

    def __call__(self, event: events.Event) -> None:
        self._writer.line(json.dumps(events.to_dict(event, time.monotonic() - self._start)))

    def pause(self) -> None:
        pass

    def close(self) -> None:
        pass


class QuietReporter:
    """The code, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._writer = _Writer(stream)

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.CodeReady):
            self._writer.line(event.code)
        if isinstance(event, events.TextReceived):
            show_text(event.text)

    def pause(self) -> None:
        pass

    def close(self) -> None:
        pass


class PlainReporter:
    """Whole lines, for logs and terminals that cannot draw."""

    def __init__(self, stream: TextIO) -> None:
        self._writer = _Writer(stream)
        self._path = ""
        self._kind: events.OfferKind = "files"
        self._last_progress = time.monotonic()

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.TextReceived):
            show_text(event.text)
            return
        if isinstance(event, events.PathChosen):
            self._path = _path_label(event)
        if isinstance(event, events.OfferSeen):
            self._kind = event.kind
        if isinstance(event, events.Progress):
            now = time.monotonic()
            if now - self._last_progress < _PLAIN_PROGRESS_SECONDS:
                return
            self._last_progress = now
            self._writer.line(_progress_line(event, self._path))
            return
        for line in describe(event, self._kind):
            self._writer.line(line)

    def pause(self) -> None:
        pass

    def close(self) -> None:
        pass


class BarReporter:
    """Lines for what happened and a bar for how far it is: name, %, bytes, rate, time left, path."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        # rich looks at NO_COLOR itself. Its markup stays off: file names are not ours.
        self._console = Console(file=stream, markup=False, highlight=False, emoji=False)
        self._lock = threading.RLock()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._path = ""
        self._kind: events.OfferKind = "files"

    def __call__(self, event: events.Event) -> None:
        with self._lock:
            if isinstance(event, events.PathChosen):
                self._path = _path_label(event)
            if isinstance(event, events.OfferSeen):
                self._kind = event.kind
                self._label = _short(", ".join(event.names), 24)
            if isinstance(event, events.Progress):
                self._advance(event)
                return
            if isinstance(event, events.Waiting) and self._progress is not None and self._task is not None:
                self._progress.update(self._task, rate="", left="", path=_WAITING)
                return
            if isinstance(event, events.Done | events.ConnectionLost | events.TextReceived):
                self._stop()
            if isinstance(event, events.TextReceived):
                show_text(event.text)
            for line in describe(event, self._kind):
                self._console.print(line, soft_wrap=True)

    def pause(self) -> None:
        with self._lock:
            self._stop()

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _advance(self, event: events.Progress) -> None:
        if self._progress is None:
            self._start(event.total)
        assert self._progress is not None
        assert self._task is not None
        of = "" if event.total is None else f"/{size_text(event.total)}"
        self._progress.update(
            self._task,
            completed=event.bytes,
            total=event.total,
            sizes=f"{size_text(event.bytes)}{of}",
            rate=f"{size_text(event.rate)}/s",
            left=_left(event),
            path=self._path,
        )

    def _start(self, total: int | None) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        def text(field: str) -> TextColumn:
            return TextColumn(f"{{task.fields[{field}]}}", markup=False)

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            text("sizes"),
            text("rate"),
            text("left"),
            text("path"),
            console=self._console,
            # Ten a second is plenty, and a busier screen takes the GIL from the data threads.
            refresh_per_second=5,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=True,
        )
        self._task = self._progress.add_task(
            self._label, total=1 if total == 0 else total, sizes="", rate="", left="", path=self._path
        )
        self._progress.start()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._task = None


def describe(event: events.Event, kind: events.OfferKind) -> list[str]:
    """The lines a person reads for one event; none for what only scripts want. ``kind`` is what was offered."""
    match event:
        case events.Status(text=text):
            return [text]
        case events.CodeReady(code=code, command=command):
            return [
                f"Code: {code}",
                "On the other computer run:",
                "",
                f"    {command}",
                "",
                "Waiting for the receiver...",
            ]
        case events.Met(resumed=resumed):
            return ["Met again." if resumed else "Met. Both sides know the code."]
        case events.PathChosen(path="relay", later=True):
            return [f"It stays on the relay. Why not direct: {event.reason}"]
        case events.PathChosen():
            how = "Moved on" if event.later else "Connected"
            lines = [f"{how}: {_path_label(event)}, {event.remote}, {event.attempts} dials in {event.seconds:.2f} s"]
            if event.searching:
                lines.append("A direct connection is still being looked for.")
            if event.reason:
                lines.append(f"Why not direct: {event.reason}")
            return lines
        case events.OfferSeen():
            return [f"{_short(', '.join(event.names), 60)}: {offer_text(event)}"]
        case events.Resumed(bytes=count):
            return [f"Going on where it stopped: {size_text(count)} are already there."]
        case events.Waiting():
            return [_WAITING]
        case events.ConnectionLost(text=text):
            return [f"Connection lost ({escape(text)}); meeting again..."]
        case events.FileFinished(stored_as=str(path)):
            return [f"{escape(event.file)}: stored as {escape(path)}"]
        case events.FileFinished(outcome="kept"):
            return [f"{escape(event.file)}: not stored, what was there stays"]
        case events.FileFinished(outcome=outcome) if outcome not in ("received", "identical"):
            return [f"{escape(event.file)}: not stored: {escape(event.detail or outcome)}"]
        case events.Done(ok=True):
            there = event.outcomes.get("identical", 0)
            already = f"; {count_text(there, 0)} {'was' if there == 1 else 'were'} there already" if there else ""
            sent = event.bytes_sent - event.bytes_saved
            less = f"; sent as {size_text(sent)}, compressed" if event.bytes_saved else ""
            return [f"Done: {size_text(event.bytes)}, verified and {_TAKEN[kind]} by the receiver{already}{less}."]
        case _:
            return []


def offer_text(offer: events.OfferSeen | Offer) -> str:
    """3 files in 1 folder, 4.5 KiB."""
    if offer.kind == "text":
        return f"a text of {offer.bytes} bytes"
    if offer.kind == "stream":
        return "a stream, of unknown size"
    size = "of unknown size" if offer.bytes is None else size_text(offer.bytes)
    return f"{count_text(offer.files, offer.directories)}, {size}"


def count_text(files: int, directories: int, noun: str = "file") -> str:
    """3 files in 1 folder."""
    text = f"{files} {noun}{'' if files == 1 else 's'}"
    return f"{text} in {directories} folder{'' if directories == 1 else 's'}" if directories else text


def show_text(text: str) -> None:
    """A text that was received, on stdout: as it is for a program, escaped for a terminal."""
    shown = escape_lines(text) if sys.stdout.isatty() else text
    with contextlib.suppress(BrokenPipeError, ValueError):
        sys.stdout.buffer.write(shown.encode())
        if sys.stdout.isatty() and not shown.endswith("\n"):
            sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()


def _path_label(event: events.PathChosen) -> str:
    return "through the relay" if event.path == "relay" else f"direct ({event.how})"


def _progress_line(event: events.Progress, path: str) -> str:
    if event.total is None:
        return f"{size_text(event.bytes)}, {size_text(event.rate)}/s, {path}"
    percent = 100 * event.bytes / event.total if event.total else 100.0
    sizes = f"{size_text(event.bytes)} of {size_text(event.total)}"
    left = f", {_left(event)}" if event.rate > 0 else ""
    return f"{percent:3.0f} % {sizes}, {size_text(event.rate)}/s{left}, {path}"


def _left(event: events.Progress) -> str:
    if event.total is None or event.rate <= 0:
        return ""
    return f"{_clock((event.total - event.bytes) / event.rate)} left"


def _clock(seconds: float) -> str:
    whole = int(seconds + 0.5)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
