"""Ordinary listeners, and taking connections."""

from __future__ import annotations

import asyncio
import socket

import pytest
from port_sockets import listening, local

from midair.endpoint import Endpoint
from midair.port import PortUnavailableError, accept, listen_tcp


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_a_listener_is_non_blocking_and_where_it_was_asked_to_be(host: str) -> None:
    with listen_tcp(host, 0) as listener:
        assert listener.gettimeout() == 0
        assert local(listener).address == Endpoint.of(host, 0).address
        assert local(listener).port


def test_both_families_can_have_one_number() -> None:
    with listening("0.0.0.0") as (_, where), listen_tcp("::", where.port) as six:
        assert local(six).port == where.port


def test_a_taken_port_is_an_error_with_a_hint() -> None:
    with listening() as (_, where), pytest.raises(PortUnavailableError, match=f"{where}.*EADDRINUSE") as caught:
        listen_tcp("127.0.0.1", where.port)
    assert "Another program" in caught.value.hint
    assert caught.value.exit_code == 13


def test_an_address_that_is_not_ours_is_an_error_with_a_hint() -> None:
    with pytest.raises(PortUnavailableError, match="EADDRNOTAVAIL") as caught:
        listen_tcp("192.0.2.1", 0)
    assert "does not have that address" in caught.value.hint


@pytest.mark.parametrize(("host", "port"), [("localhost", 0), ("", 0), ("fe80::1%lo", 0), ("127.0.0.1", 65536)])
def test_what_is_no_address_is_an_error_with_a_hint(host: str, port: int) -> None:
    with pytest.raises(PortUnavailableError) as caught:
        listen_tcp(host, port)
    assert "Name an address" in caught.value.hint


async def test_connections_come_in_order_and_with_their_source() -> None:
    with listening() as (listener, where):
        clients = [socket.create_connection(where.to_sockaddr()) for _ in range(3)]
        for client in clients:
            accepted, source = await accept(listener)
            with client, accepted:
                assert source == local(client)
                assert accepted.gettimeout() == 0


async def test_waiting_ends_when_somebody_comes() -> None:
    with listening() as (listener, where):
        waiting = asyncio.create_task(accept(listener))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        with socket.create_connection(where.to_sockaddr()):
            accepted, _ = await waiting
            accepted.close()


async def test_cancelling_in_the_worst_moment_loses_no_connection() -> None:
    """The connection is there, the waiter has been woken and has not run yet."""
    with listening() as (listener, where):
        waiting = asyncio.create_task(accept(listener))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with socket.create_connection(where.to_sockaddr()) as client:
            asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(waiting.cancel))
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            async with asyncio.timeout(5):
                accepted, source = await accept(listener)
            with accepted:
                assert source == local(client)


async def test_a_cancelled_wait_leaves_nothing_behind_on_the_loop() -> None:
    """A descriptor still watched after its close would be somebody else's next."""
    with listening() as (listener, _):
        waiting = asyncio.create_task(accept(listener))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not asyncio.get_running_loop().remove_reader(listener.fileno())


async def test_a_loop_that_cannot_watch_descriptors_still_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' default loop is one."""
    loop = asyncio.get_running_loop()

    def add_reader(*arguments: object) -> None:
        raise NotImplementedError

    with listening() as (listener, where):
        monkeypatch.setattr(loop, "add_reader", add_reader)
        waiting = asyncio.create_task(accept(listener))
        await asyncio.sleep(0)
        with socket.create_connection(where.to_sockaddr()):
            accepted, _ = await waiting
            accepted.close()


async def test_a_busy_listener_lets_others_run() -> None:
    """Ten connections wait; between two of them the loop goes round."""
    with listening() as (listener, where):
        clients = [socket.create_connection(where.to_sockaddr()) for _ in range(10)]
        rounds = 0

        def count() -> None:
            nonlocal rounds
            rounds += 1
            asyncio.get_running_loop().call_soon(count)

        count()
        for client in clients:
            accepted, _ = await accept(listener)
            accepted.close()
            client.close()
        assert rounds >= 10
