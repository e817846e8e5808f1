"""Closing with care, and at once; and the options of a bulk connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from midair.port import abort, allow_unsent, closing, listen_tcp, retire, tune_for_bulk, tuning
from support import wait_until


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a TCP connection over loopback; the second one blocking."""
    with listen_tcp("127.0.0.1", 0) as listener:
        near = socket.create_connection(listener.getsockname())
        listener.setblocking(True)
        far, _ = listener.accept()
    far.settimeout(5)
    with near, far:
        yield near, far


Pair = tuple[socket.socket, socket.socket]


def ending(sock: socket.socket) -> str:
    """What the other end sees: EOF, or the RST."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass
        return "fin"
    return "rst"


async def test_retiring_with_unread_data_sends_no_reset(pair: Pair) -> None:
    near, far = pair
    far.sendall(b"hello" * 1000)
    far.shutdown(socket.SHUT_WR)
    await retire(near)
    assert near.fileno() == -1
    assert ending(far) == "fin"


def test_a_careless_close_with_unread_data_does_send_one(pair: Pair) -> None:
    """What retire() is for; if this ever passes without RST, the test above proves nothing."""
    near, far = pair
    far.sendall(b"hello" * 1000)
    near.close()
    assert ending(far) == "rst"


async def test_retiring_waits_for_the_other_end_and_not_longer(pair: Pair) -> None:
    near, far = pair
    retiring = asyncio.create_task(retire(near, seconds=10))
    assert await asyncio.to_thread(far.recv, 1) == b""  # our FIN is first
    assert not retiring.done()
    far.sendall(b"a last word")
    far.close()
    async with asyncio.timeout(5):
        await retiring
    assert near.fileno() == -1


async def test_retiring_from_somebody_who_says_nothing_is_bounded_in_time(pair: Pair) -> None:
    near, _ = pair
    async with asyncio.timeout(5):
        await retire(near, seconds=0.02)
    assert near.fileno() == -1


async def test_retiring_from_somebody_who_never_stops_is_bounded_in_bytes(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "DRAIN_BYTES_MAX", 256 * 1024)
    near, far = pair

    def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                far.sendall(bytes(65536))

    thread = threading.Thread(target=flood)
    thread.start()
    async with asyncio.timeout(10):
        await retire(near, seconds=60)
    thread.join()
    assert near.fileno() == -1


async def test_cancelled_retiring_closes_at_once(pair: Pair) -> None:
    near, _ = pair
    retiring = asyncio.create_task(retire(near, seconds=60))
    await asyncio.sleep(0)
    retiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await retiring
    assert near.fileno() == -1


async def test_what_is_not_connected_or_closed_already_retires_too() -> None:
    sock = socket.socket()
    await retire(sock)
    await retire(sock)
    assert sock.fileno() == -1


def test_aborting_wakes_a_blocked_thread(pair: Pair) -> None:
    near, _ = pair
    tune_for_bulk(near)
    descriptor = hex(near.fileno())

    def read() -> None:
        with contextlib.suppress(OSError):
            near.recv(1)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    # "NUMBER ARGUMENT …" of the system call it sleeps in, or "running".
    call = Path(f"/proc/self/task/{thread.native_id}/syscall")
    wait_until(lambda: call.read_text("ascii").split()[1:2] == [descriptor], "the thread blocks in recv()")
    abort(near)
    thread.join(5)
    assert not thread.is_alive()
    abort(near)
    assert near.fileno() == -1


def test_a_bulk_connection_has_its_options_and_keeps_the_kernels_buffers(pair: Pair) -> None:
    near, _ = pair
    near.setblocking(False)
    buffers = [near.getsockopt(socket.SOL_SOCKET, name) for name in (socket.SO_SNDBUF, socket.SO_RCVBUF)]
    tune_for_bulk(near)
    assert near.gettimeout() is None

    def tcp(number: int) -> int:
        return near.getsockopt(socket.IPPROTO_TCP, number)

    assert tcp(socket.TCP_NODELAY) == 1
    assert near.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert [tcp(n) for n in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)] == [10, 5, 3]
    assert tcp(25) == 128 * 1024  # TCP_NOTSENT_LOWAT
    assert tcp(18) == 30_000  # TCP_USER_TIMEOUT
    assert [near.getsockopt(socket.SOL_SOCKET, name) for name in (socket.SO_SNDBUF, socket.SO_RCVBUF)] == buffers


def test_a_fast_connection_may_hold_more_that_is_not_sent_and_a_closed_one_does_not_matter(pair: Pair) -> None:
    near, _ = pair
    tune_for_bulk(near)
    allow_unsent(near, 4 << 20)
    assert near.getsockopt(socket.IPPROTO_TCP, 25) == 4 << 20  # TCP_NOTSENT_LOWAT
    near.close()
    allow_unsent(near, 4 << 20)


def test_numbers_of_linux_are_not_used_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    assert tuning._number("TCP_USER_TIMEOUT", "linux") == 18
    assert tuning._number("TCP_USER_TIMEOUT", "darwin") is None


def test_an_option_the_kernel_refuses_is_left_out(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_OPTIONS", (("TCP_NODELAY", 1), ("NO_SUCH_OPTION", 1), ("REFUSED", 1)))
    monkeypatch.setattr(socket, "REFUSED", 9999, raising=False)
    tune_for_bulk(pair[0])
    assert pair[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
