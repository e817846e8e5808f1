"""Whole sessions whose connection breaks in between: they meet again and go on, whatever is sent."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midair import events, traversal
from midair.channel import Conversation
from midair.config import ServerURL
from midair.errors import NoPathError, PartialError, SourceChangedError
from midair.session import ReceiveSession, SendSession, Summary
from midair.transfer import Clash, Pipe, Resolution, Sender, Stream
from midair.traversal import PathResult, connect_peers

MiB = 1 << 20


class Breaking(SendSession):
    """Its connections can be broken from outside."""

    channel: Conversation | None = None
    connections = 0

    def _party(self, channel: Conversation) -> Sender:
        self.channel = channel
        self.connections += 1
        return super()._party(channel)

    def break_once(self) -> None:
        if self.connections == 1 and self.channel is not None:
            self.channel.abort()


def story(seen: list[events.Event]) -> list[str]:
    return [event.name for event in seen if event.name in ("met", "lost", "resumed", "text")]


async def both(
    server: str,
    source: list[Path] | Stream,
    destination: Path | Pipe,
    break_when: Callable[[events.Event], bool] = lambda event: False,
    resolve: Callable[[Clash], Resolution] | None = None,
    limit_rate: float | None = None,
) -> tuple[list[Summary | BaseException], list[events.Event], Breaking]:
    """The two results, the receiver's events, and the sending session; the connection breaks after such an event."""
    url = ServerURL.parse(server)
    seen: list[events.Event] = []
    code = asyncio.get_running_loop().create_future()

    def on_event(event: events.Event) -> None:
        seen.append(event)
        if break_when(event):
            sender.break_once()

    def on_code(event: events.Event) -> None:
        if isinstance(event, events.CodeReady) and not code.done():
            code.set_result(event.code)

    sender = Breaking(source, url, on_event=on_code, rejoin=10.0, limit_rate=limit_rate)
    sending = asyncio.ensure_future(sender.run())
    receiver = ReceiveSession(
        await code, url, destination, accept=lambda offer: True, resolve=resolve, on_event=on_event, rejoin=10.0
    )
    results = await asyncio.gather(sending, receiver.run(), return_exceptions=True)
    return list(results), seen, sender


@pytest.mark.parametrize("size", [100, 60 * MiB])
async def test_a_stream_survives_a_path_that_breaks(server: str, size: int) -> None:
    content = os.urandom(size)
    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()
    received = bytearray()

    def produce() -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(write_in, view) :]
        os.close(write_in)

    def consume() -> None:
        while piece := os.read(read_out, 1 << 16):
            received.extend(piece)

    threads = [threading.Thread(target=produce), threading.Thread(target=consume)]
    for thread in threads:
        thread.start()
    results, seen, sender = await both(
        server,
        Stream(read_in, "stdin"),
        Pipe(write_out),
        lambda event: isinstance(event, events.Progress) and (size == 100 or event.bytes > 20 * MiB),
    )
    os.close(write_out)
    for thread in threads:
        thread.join()
    os.close(read_in)
    os.close(read_out)
    assert bytes(received) == content
    assert sender.connections == 2
    for result in results:
        assert isinstance(result, Summary), result
        assert (result.committed, result.bytes_committed) == (True, size)
    assert story(seen)[:3] == ["met", "lost", "met"]


async def test_a_text_whose_last_acknowledgement_was_lost_is_shown_once(server: str, tmp_path: Path) -> None:
    results, seen, sender = await both(
        server, Stream.of_text("hello"), tmp_path, lambda event: isinstance(event, events.TextReceived)
    )
    assert all(isinstance(result, Summary) for result in results), results
    assert sender.connections == 2
    assert story(seen).count("text") == 1
    assert os.listdir(tmp_path) == []


async def test_a_lost_last_acknowledgement_is_cleared_up_by_asking_again(server: str, tmp_path: Path) -> None:
    """Also when not everything was stored; and nobody is asked a second time."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t/new").write_bytes(os.urandom(MiB))
    (tmp_path / "t/kept").write_bytes(b"12345")
    (tmp_path / "there/t").mkdir(parents=True)
    (tmp_path / "there/t/kept").write_bytes(b"mine")
    asked: list[Clash] = []

    def resolve(clash: Clash) -> Resolution:
        asked.append(clash)
        return Resolution.SKIP

    results, _, sender = await both(
        server,
        [tmp_path / "t"],
        tmp_path / "there",
        lambda event: isinstance(event, events.FileFinished),
        resolve,
    )
    assert sender.connections == 2
    for result in results:
        assert isinstance(result, PartialError), result
        assert "t/kept" in result.message
    assert len(asked) == 1
    assert sender.summary.outcomes == {"kept": 1, "received": 1}
    assert sender.summary.bytes_crossed == MiB
    assert sorted(os.listdir(tmp_path / "there")) == ["t"]


async def test_where_nothing_at_all_could_be_stored_the_reason_is_the_error(server: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    results, _, _ = await both(
        server,
        [tmp_path / "x"],
        tmp_path / "there",
        lambda event: isinstance(event, events.OfferSeen) and bool((tmp_path / "x").write_bytes(b"other")),
    )
    for result in results:
        assert isinstance(result, SourceChangedError), result
        assert "x changed" in result.message


async def test_about_what_is_in_the_way_a_person_is_asked_once_however_often_it_breaks(
    server: str, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(os.urandom(40 * MiB))
    (tmp_path / "there").mkdir()
    (tmp_path / "there/x").write_bytes(b"mine")
    asked: list[Clash] = []

    def resolve(clash: Clash) -> Resolution:
        asked.append(clash)
        return Resolution.OVERWRITE

    results, seen, sender = await both(
        server,
        [tmp_path / "x"],
        tmp_path / "there",
        lambda event: isinstance(event, events.Progress) and 0 < event.bytes < 40 * MiB,
        resolve,
        limit_rate=40 * MiB,
    )
    assert all(isinstance(result, Summary) for result in results), results
    assert (sender.connections, len(asked)) == (2, 1)
    assert "resumed" in story(seen)
    assert (tmp_path / "there/x").read_bytes() == (tmp_path / "x").read_bytes()


async def test_a_path_that_cannot_be_made_again_at_once_is_looked_for_once_more(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time both meet again, the server goes away before they are connected."""
    (tmp_path / "x").write_bytes(os.urandom(20 * MiB))
    calls = 0

    async def connect(*arguments: Any, **options: Any) -> PathResult:
        nonlocal calls
        calls += 1
        if calls in (3, 4):
            raise NoPathError("nothing answers")
        return await connect_peers(*arguments, **options)

    monkeypatch.setattr(traversal, "connect_peers", connect)
    results, seen, _ = await both(
        server,
        [tmp_path / "x"],
        tmp_path / "there",
        lambda event: isinstance(event, events.Progress) and 0 < event.bytes < 20 * MiB,
        limit_rate=20 * MiB,
    )
    assert all(isinstance(result, Summary) for result in results), results
    assert calls == 6
    assert story(seen) == ["met", "lost", "met", "lost", "met", "resumed"]
    assert (tmp_path / "there/x").read_bytes() == (tmp_path / "x").read_bytes()
