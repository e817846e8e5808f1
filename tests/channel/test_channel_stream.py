"""Channels over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import mmap
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from midair.channel import (
    MAX_PAYLOAD,
    AuthenticationError,
    Channel,
    ChannelClosed,
    RecordType,
    Role,
    SessionKey,
    authenticate,
)
from midair.channel.stream import CONTENT_AT
from midair.errors import ConnectionLostError, RemoteProtocolError

KEY = SessionKey(os.urandom(32))


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


@contextlib.asynccontextmanager
async def channels() -> AsyncIterator[tuple[Channel, Channel]]:
    with connected() as (near, far):
        a, b = await asyncio.gather(
            authenticate(near, KEY, Role.A, os.urandom(32)), authenticate(far, KEY, Role.B, os.urandom(32))
        )
        try:
            yield a, b
        finally:
            a.abort()
            b.abort()


@contextlib.asynccontextmanager
async def bulk() -> AsyncIterator[tuple[Channel, Channel]]:
    async with channels() as (a, b):
        a.sock.setblocking(True)
        b.sock.setblocking(True)
        yield a, b


async def test_both_sides_know_the_connection_by_the_same_name_and_their_ends_mirrored() -> None:
    async with channels() as (a, b):
        assert a.connection_id == b.connection_id
        assert len(a.connection_id) == 8
        assert (a.local, a.remote) == (b.remote, b.local)


async def test_small_records_go_both_ways_before_the_transfer() -> None:
    async with channels() as (a, b):
        await a.send_async(RecordType.NOMINATE, b"")
        assert (await b.receive_async()).type == RecordType.NOMINATE
        await b.send_async(RecordType.PING, b"x" * 1000)
        assert (await a.receive_async()).payload == b"x" * 1000


async def test_nothing_is_read_ahead_so_threads_can_take_over_in_mid_stream() -> None:
    async with channels() as (a, b):
        await a.send_async(RecordType.NOMINATE, b"now")
        await a.send_async(16, b"bulk")
        assert (await b.receive_async()).payload == b"now"
        b.sock.setblocking(True)
        received = await asyncio.to_thread(b.receive)
        assert (received.type, bytes(received.payload)) == (16, b"bulk")


async def test_frames_of_every_size_arrive_unchanged_and_in_order() -> None:
    sizes = [0, 1, 4096, MAX_PAYLOAD - 1, MAX_PAYLOAD, 17]
    contents = [os.urandom(size) for size in sizes]
    async with bulk() as (a, b):

        def send() -> None:
            frame = a.new_frame()
            for number, content in enumerate(contents):
                frame.payload[: len(content)] = content
                a.send_frame(16 + number, frame, len(content), flags=number)

        def receive() -> list[tuple[int, int, bytes]]:
            return [(r.type, r.flags, bytes(r.payload)) for r in (b.receive() for _ in contents)]

        with ThreadPoolExecutor(2) as pool:
            sending, receiving = pool.submit(send), pool.submit(receive)
            got = await asyncio.wrap_future(receiving)
            sending.result()
        assert got == [(16 + number, number, content) for number, content in enumerate(contents)]


def place_in_page(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) % mmap.PAGESIZE


async def test_content_lies_in_the_middle_of_a_page_where_it_is_sent_from_and_where_it_arrives() -> None:
    async with bulk() as (a, b):
        frame = a.new_frame()
        assert len(frame.payload) == MAX_PAYLOAD
        assert place_in_page(frame.payload[CONTENT_AT:]) == mmap.PAGESIZE // 2
        with ThreadPoolExecutor(1) as pool:
            for size in (100, MAX_PAYLOAD):
                sending = pool.submit(a.send_frame, 16, frame, size)
                payload = b.receive().payload
                assert len(payload) == size
                assert place_in_page(payload[CONTENT_AT:]) == mmap.PAGESIZE // 2
                await asyncio.wrap_future(sending)


async def test_many_threads_may_send_at_once() -> None:
    async with bulk() as (a, b):

        def send(thread: int) -> None:
            frame = a.new_frame()
            for number in range(50):
                if number % 2:
                    frame.payload[:2] = bytes([thread, number])
                    a.send_frame(16, frame, 2)
                else:
                    a.send(16, bytes([thread, number]))

        def receive() -> dict[int, list[int]]:
            seen: dict[int, list[int]] = {}
            for _ in range(200):
                thread, number = b.receive().payload
                seen.setdefault(thread, []).append(number)
            return seen

        with ThreadPoolExecutor(5) as pool:
            receiving = pool.submit(receive)
            for sending in [pool.submit(send, thread) for thread in range(4)]:
                await asyncio.wrap_future(sending)
            seen = await asyncio.wrap_future(receiving)
        assert seen == {thread: list(range(50)) for thread in range(4)}


async def test_a_clean_close_is_told_from_a_connection_that_was_cut() -> None:
    async with bulk() as (a, b):
        await asyncio.to_thread(a.send, 16, b"last words")
        with ThreadPoolExecutor(1) as pool:
            closing = pool.submit(a.close)
            assert bytes(b.receive().payload) == b"last words"
            for _ in range(2):
                with pytest.raises(ChannelClosed):
                    b.receive()
            b.close()
            closing.result()
        a.close()
    async with bulk() as (a, b):
        a.abort()
        with pytest.raises(ConnectionLostError):
            b.receive()


async def test_a_connection_cut_in_mid_record_is_lost_not_closed() -> None:
    async with bulk() as (a, b):
        a.sock.sendall(b"\0\0\1\0\x10\0\0\0half of it")
        a.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionLostError, match="cut off"):
            b.receive()


@pytest.mark.parametrize(
    "record",
    [b"\x7f\xff\xff\xff\x10\0\0\0", b"\0\0\0\0\x10\0\0\1", b"\0\0\0\4\x10\0\0\0" + bytes(20)],
    ids=["too long", "reserved bits", "forged"],
)
async def test_a_forged_record_ends_the_connection_and_leaves_nothing_to_read(record: bytes) -> None:
    async with bulk() as (a, b):
        a.sock.sendall(record)
        with pytest.raises(RemoteProtocolError):
            b.receive()
        with pytest.raises(ConnectionLostError):
            b.receive()


async def test_a_small_record_of_a_transfers_size_is_refused_before_it_is_read() -> None:
    async with channels() as (a, b):
        await asyncio.get_running_loop().sock_sendall(a.sock, b"\0\2\0\0\x10\0\0\0")
        with pytest.raises(RemoteProtocolError):
            await b.receive_async()


@pytest.mark.parametrize("end", [Channel.receive, lambda channel: send_forever(channel)], ids=["receive", "send"])
async def test_abort_wakes_a_blocked_thread(end: Callable[[Channel], object]) -> None:
    async with bulk() as (a, _):
        inside = threading.Event()

        def work() -> None:
            inside.set()
            end(a)

        with ThreadPoolExecutor(1) as pool:
            blocked = pool.submit(work)
            inside.wait(5)
            a.abort()
            with pytest.raises(ConnectionLostError):
                await asyncio.wrap_future(blocked)
        assert a.sock.fileno() == -1
        a.abort()


def send_forever(channel: Channel) -> None:
    frame = channel.new_frame()
    while True:
        channel.send_frame(16, frame, MAX_PAYLOAD)


async def test_the_last_words_of_a_peer_that_has_gone_can_still_be_read_after_sending_failed() -> None:
    async with bulk() as (a, b):
        b.send(17, b"disk full")
        b.sock.shutdown(socket.SHUT_RDWR)
        b.sock.close()
        with pytest.raises(ConnectionLostError):
            send_forever(a)
        assert bytes(a.receive().payload) == b"disk full"


async def test_close_does_not_wait_for_a_peer_that_does_not_read() -> None:
    async with bulk() as (a, _):
        with ThreadPoolExecutor(1) as pool:
            blocked = pool.submit(send_forever, a)
            assert await asyncio.to_thread(holds, a._sending.locked)
            started = time.monotonic()
            await asyncio.to_thread(a.close, linger=0.1)
            assert time.monotonic() - started < 2
            with pytest.raises(ConnectionLostError):
                await asyncio.wrap_future(blocked)


def holds(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


# -- strangers --


async def refused(sock: socket.socket, **options: float) -> str:
    with pytest.raises(AuthenticationError) as caught:
        await authenticate(sock, KEY, Role.A, os.urandom(32), **options)
    assert sock.fileno() == -1
    return caught.value.suspicion


@pytest.mark.parametrize(
    ("words", "suspicion"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "stranger"), (b"\xff" * 100_000, "stranger"), (b"midair\0\1", "version")],
    ids=["http", "noise", "version 1"],
)
async def test_a_stranger_that_speaks_is_refused_at_once(words: bytes, suspicion: str) -> None:
    with connected() as (near, far):
        far.send(words)
        assert await refused(near) == suspicion


async def test_a_stranger_that_says_nothing_is_given_up_in_time() -> None:
    with connected() as (near, _):
        assert await refused(near, timeout=0.05) == "timeout"


async def test_a_stranger_that_drips_a_byte_at_a_time_gets_no_more_time() -> None:
    with connected() as (near, far):
        refusal = asyncio.ensure_future(refused(near, timeout=0.1))
        for byte in b"midair\0\3" + bytes(31):
            with contextlib.suppress(OSError):
                far.send(bytes([byte]))
            await asyncio.sleep(0.02)
            if refusal.done():
                break
        assert await refusal == "timeout"


async def test_a_mirror_is_refused() -> None:
    with connected() as (near, far):

        async def mirror() -> None:
            loop = asyncio.get_running_loop()
            with contextlib.suppress(OSError):
                while data := await loop.sock_recv(far, 4096):
                    await loop.sock_sendall(far, data)

        mirroring = asyncio.ensure_future(mirror())
        assert await refused(near) == "reflection"
        await mirroring


async def test_one_with_another_key_is_refused_on_both_sides() -> None:
    with connected() as (near, far):
        results = await asyncio.gather(
            authenticate(near, KEY, Role.A, os.urandom(32)),
            authenticate(far, SessionKey(os.urandom(32)), Role.B, os.urandom(32)),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [AuthenticationError] * 2


async def test_a_connection_that_breaks_is_refused() -> None:
    with connected() as (near, far):
        far.shutdown(socket.SHUT_RDWR)
        far.close()
        assert await refused(near) in ("closed", "broken")


async def test_cancelling_closes_the_socket() -> None:
    with connected() as (near, _):
        task = asyncio.ensure_future(authenticate(near, KEY, Role.A, os.urandom(32)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert near.fileno() == -1
