"""Two channels over loopback, transfers in threads, and peers that say what a test tells them to."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from hypothesis import settings

from midair import events
from midair.channel import Channel, ChannelClosed, Received, Role, SessionKey, authenticate
from midair.errors import ConnectionLostError, RemoteProtocolError
from midair.port import tune_for_bulk
from midair.transfer import Folder, Offer, Outcome, Pipe, Receiver, Resolve, Sender, Stream, scan, wire
from midair.transfer.link import LinkLimits
from midair.transfer.manifest import Entry, ManifestBuilder, encode_records
from midair.transfer.names import UnacceptableName

__all__ = [
    "DEADLINE",
    "IMPATIENT",
    "Log",
    "Running",
    "Script",
    "announce",
    "channels",
    "say_yes",
    "send_and_receive",
    "start_receiving",
    "start_sending",
    "tree",
    "unhurried",
]

DEADLINE = 15.0
unhurried = settings(deadline=None)
"""For Hypothesis: a busy machine is no failure."""
IMPATIENT = LinkLimits(ping=0.05, silence=0.4, stall=0.8, quiet=0.2, linger=0.2, cancel=0.5)

_KEY = SessionKey(bytes(range(32)))


@contextlib.contextmanager
def channels() -> Iterator[tuple[Channel, Channel]]:
    """Both ends of one authenticated connection, ready for threads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for sock in (near, far):
        sock.setblocking(False)

    async def both() -> tuple[Channel, Channel]:
        return await asyncio.gather(
            authenticate(near, _KEY, Role.A, os.urandom(32)), authenticate(far, _KEY, Role.B, os.urandom(32))
        )

    a, b = asyncio.run(both())
    for channel in (a, b):
        tune_for_bulk(channel.sock)
    try:
        yield a, b
    finally:
        a.abort()
        b.abort()


class Log:
    """An event listener that remembers."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: events.Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def of(self, kind: type[events.Event]) -> list[events.Event]:
        with self._changed:
            return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, matching: Callable[[events.Event], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(matching, self.events)), DEADLINE), self.events


class Running:
    """A Sender or Receiver at work in a thread."""

    def __init__(self, party: Sender | Receiver) -> None:
        self.party = party
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._outcome = self.party.run()
        except BaseException as error:
            self._error = error

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _join(self) -> None:
        self._thread.join(DEADLINE)
        if self._thread.is_alive():
            faulthandler.dump_traceback(all_threads=True)
            raise AssertionError("it hangs")

    def outcome(self) -> Outcome:
        self._join()
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        return self._outcome

    def error(self) -> BaseException:
        self._join()
        assert self._error is not None, "it did not fail"
        return self._error


def send_and_receive(
    paths: Sequence[Path],
    directory: Path,
    *,
    sent: Log | None = None,
    received: Log | None = None,
    resolve: Resolve | None = None,
) -> tuple[Outcome, Outcome]:
    """A whole transfer that goes well: the sender's and the receiver's outcome."""
    with channels() as (a, b):
        sender = start_sending(a, paths, log=sent)
        receiver = start_receiving(b, directory, log=received, resolve=resolve)
        return sender.outcome(), receiver.outcome()


class Script:
    """A peer made of a bare channel: sends what it is told to, expects what it is told to."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def say(self, *messages: wire.Message) -> None:
        for message in messages:
            self.channel.send(wire.MESSAGE, wire.encode(message))

    def offer_stream(self, kind: Literal["stream", "text"] = "stream", name: str = "x", total: int = 0) -> None:
        stream = wire.StreamOffer(kind=kind, name=name)
        self.say(wire.Announce(version=wire.VERSION, entries=1, total=total, manifest_id=bytes(16), stream=stream))

    def data(self, position: int, content: bytes) -> None:
        self.channel.send(wire.DATA, position.to_bytes(8, "big") + content)

    def offer(self, entries: Sequence[Entry]) -> None:
        self.say(announce(entries))
        for payload in encode_records(entries):
            self.channel.send(wire.MANIFEST, payload)

    def hear(self) -> wire.Message:
        """The next message other than a Ping."""
        while True:
            received = self.channel.receive()
            assert received.type == wire.MESSAGE
            try:
                message: wire.Message = wire.decode_from_receiver(received.payload)
            except RemoteProtocolError:
                message = wire.decode_from_sender(received.payload)
            if not isinstance(message, wire.Ping):
                return message

    def hear_all(self) -> list[wire.Message]:
        """Everything up to the end of the connection."""
        heard: list[wire.Message] = []
        with contextlib.suppress(ChannelClosed, ConnectionLostError):
            while True:
                heard.append(self.hear())
        return heard


def announce(entries: Sequence[Entry]) -> wire.Announce:
    """A true one, as far as there can be one for entries that break the rules."""
    builder = ManifestBuilder()
    try:
        for entry in entries:
            builder.add(entry)
        manifest_id = builder.finish().id
    except UnacceptableName:
        manifest_id = bytes(16)
    return wire.Announce(
        version=wire.VERSION,
        entries=max(1, len(entries)),
        total=sum(entry.size for entry in entries),
        manifest_id=manifest_id,
    )


def tree(root: Path) -> dict[str, tuple[bytes | None, int, int]]:
    """Every path below ``root`` with content (None for a folder), permissions and time."""
    return {
        str(path.relative_to(root)): (
            None if path.is_dir() else path.read_bytes(),
            path.stat().st_mode & 0o777,
            path.stat().st_mtime_ns,
        )
        for path in sorted(root.rglob("*"))
    }


def cut_after(channel: Channel, records: int) -> None:
    """The connection breaks when the receiver has had so many records."""
    real = channel.receive

    def receive() -> Received:
        nonlocal records
        if records == 0:
            channel.abort()
        records -= 1
        return real()

    channel.receive = receive  # type: ignore[method-assign]


def say_yes(offer: Offer) -> bool:
    return True


def start_receiving(
    channel: Channel,
    destination: Path | Folder | Pipe,
    *,
    accept: Callable[[Offer], bool] = say_yes,
    resolve: Resolve | None = None,
    log: Log | None = None,
    limits: LinkLimits | None = None,
) -> Running:
    if isinstance(destination, Path):
        destination = Folder(destination)
    return Running(Receiver(channel, destination, accept, log or Log(), resolve=resolve, limits=limits))


def start_sending(
    channel: Channel,
    source: Sequence[Path] | Stream,
    *,
    log: Log | None = None,
    limits: LinkLimits | None = None,
    limit_rate: float | None = None,
) -> Running:
    found = source if isinstance(source, Stream) else scan(source)
    return Running(Sender(channel, found, log or Log(), limits=limits, limit_rate=limit_rate))


def crash_steps(kind: Literal["steps", "merge"], here: Path, there: Path, first: int) -> int:
    """Runs crash_steps.py from its ``first`` step in threes; returns how many steps there were."""
    script = Path(__file__).with_name("crash_steps.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), kind, str(here), str(there), str(first), "3"],
        check=False,
        timeout=18,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout)
