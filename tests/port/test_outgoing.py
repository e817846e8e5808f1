"""Ordinary outgoing connections: names, several addresses, deadlines."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from port_sockets import listening, local, unused_number

from midair.endpoint import Endpoint
from midair.port import ConnectFailedError, ConnectFailure, accept, connect_tcp, listen_tcp, outgoing, resolve, sockets

Found = list[tuple[Any, ...]]


@pytest.fixture
def silent() -> Iterator[Endpoint]:
    """Somebody who lets SYNs go unanswered: his backlog is full."""
    with listen_tcp("127.0.0.1", 0, backlog=0) as listener, socket.create_connection(listener.getsockname()):
        yield local(listener)


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[tuple[Any, ...]]], None]:
    """Sets what the resolver says."""

    def answer(addresses: Found) -> None:
        async def getaddrinfo(*arguments: Any, **options: Any) -> Found:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    return answer


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_it_connects_to_a_literal_and_to_a_name(host: str) -> None:
    with listening("::1" if host == "::1" else "127.0.0.1") as (listener, where):
        sock = await connect_tcp(host, where.port, timeout=5)
        accepted, source = await accept(listener)
        with sock, accepted:
            assert sock.gettimeout() == 0
            assert source == local(sock)


async def test_a_refused_connection_says_so() -> None:
    with pytest.raises(ConnectFailedError) as caught:
        await connect_tcp("127.0.0.1", unused_number(), timeout=5)
    assert (caught.value.failure, caught.value.errno_name) == (ConnectFailure.REFUSED, "ECONNREFUSED")


async def test_the_deadline_ends_it(silent: Endpoint) -> None:
    with pytest.raises(TimeoutError):
        await connect_tcp("127.0.0.1", silent.port, timeout=0.05)


async def test_a_silent_address_does_not_keep_the_next_one_waiting(
    silent: Endpoint, names: Callable[[Found], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "ATTEMPT_DELAY_SECONDS", 0.01)
    with listening() as (_, where):
        names([("127.0.0.1", silent.port), ("127.0.0.1", where.port)])
        with await connect_tcp("two.example", 1, timeout=5) as sock:
            assert sock.getpeername()[1] == where.port
    await asyncio.sleep(0)  # the loser is cancelled in the next round; left open, it would warn


async def test_of_two_connections_at_once_the_second_is_closed(
    names: Callable[[Found], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "ATTEMPT_DELAY_SECONDS", 0)
    made: list[socket.socket] = []

    async def dial_both_before_anybody_looks(remote: Endpoint) -> socket.socket:
        sock = socket.create_connection(remote.to_sockaddr())
        made.append(sock)
        if len(made) == 2:
            both.set()
        await both.wait()
        return sock

    both = asyncio.Event()
    monkeypatch.setattr(outgoing, "_dial_anew", dial_both_before_anybody_looks)
    with listening() as (_, first), listening() as (_, second):
        names([first.to_sockaddr(), second.to_sockaddr()])
        winner = await connect_tcp("two.example", 1, timeout=5)
        await asyncio.sleep(0)
        assert sorted(sock.fileno() == -1 for sock in made) == [False, True]
        assert winner.fileno() != -1
        winner.close()


async def test_when_all_addresses_fail_each_failure_is_there(names: Callable[[Found], None]) -> None:
    names([("127.0.0.1", unused_number()), ("127.0.0.2", unused_number())])
    with pytest.raises(ConnectFailedError) as caught:
        await connect_tcp("two.example", 1, timeout=5)
    everywhere = [caught.value, *caught.value.others]
    assert [error.failure for error in everywhere] == [ConnectFailure.REFUSED] * 2
    assert {str(error.remote.address) for error in everywhere if error.remote} == {"127.0.0.1", "127.0.0.2"}


async def test_the_addresses_of_one_name_are_bounded(names: Callable[[Found], None]) -> None:
    names([(f"127.0.0.{n}", 1) for n in range(1, 101)])
    with pytest.raises(ConnectFailedError) as caught:
        await connect_tcp("many.example", 1, timeout=5)
    assert 1 + len(caught.value.others) == outgoing.ADDRESSES_MAX


async def test_cancelling_closes_every_dial(
    silent: Endpoint, names: Callable[[Found], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "ATTEMPT_DELAY_SECONDS", 0.001)
    new_socket = sockets.new_socket
    made: list[socket.socket] = []
    both = asyncio.Event()

    def remember(family: Any) -> socket.socket:
        made.append(new_socket(family))
        if len(made) == 2:
            both.set()
        return made[-1]

    monkeypatch.setattr(outgoing, "new_socket", remember)
    names([("127.0.0.1", silent.port), ("127.0.0.2", silent.port)])
    with listening("127.0.0.2", silent.port) as (other, _):
        other.listen(0)
        with socket.create_connection(("127.0.0.2", silent.port)):
            dialling = asyncio.create_task(connect_tcp("two.example", 1, timeout=5))
            async with asyncio.timeout(5):
                await both.wait()
            await asyncio.sleep(0)
            dialling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialling
            await asyncio.sleep(0)
            assert [sock.fileno() for sock in made] == [-1, -1]


async def test_names_give_endpoints_of_both_families_in_turn_and_each_once(names: Callable[[Found], None]) -> None:
    names(
        [
            ("192.0.2.1", 80),
            ("192.0.2.1", 80),
            ("192.0.2.2", 80),
            ("2001:db8::1", 80, 0, 0),
            ("fe80::1", 80, 0, 3),  # link-local: useless without its zone
        ]
    )
    assert [str(endpoint) for endpoint in await resolve("mixed.example", 80)] == [
        "[2001:db8::1]:80",
        "192.0.2.1:80",
        "192.0.2.2:80",
    ]


async def test_a_name_with_no_usable_address_fails(names: Callable[[Found], None]) -> None:
    names([("fe80::1", 80, 0, 3)])
    with pytest.raises(ConnectFailedError, match="EAI_NONAME"):
        await resolve("zone.example", 80)


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example"])
async def test_a_name_that_cannot_be_one_fails_like_any_other(name: str) -> None:
    with pytest.raises(ConnectFailedError, match="EAI_") as caught:
        await resolve(name, 80)
    assert caught.value.failure is ConnectFailure.OTHER


async def test_a_name_nobody_has_fails_with_the_resolvers_word(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*arguments: Any, **options: Any) -> Found:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(ConnectFailedError, match=r"Name or service not known \(EAI_NONAME\)"):
        await connect_tcp("nobody.example", 80, timeout=5)
