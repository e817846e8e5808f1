"""One number, one listener, many dials."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from port_sockets import listening, local, unused_number

from midair.endpoint import Endpoint, Family
from midair.port import (
    ConnectFailedError,
    ConnectFailure,
    LocalPort,
    PortUnavailableError,
    Strategy,
    accept,
    listen_tcp,
    local_port,
    sockets,
)
from support import wait_until

NO_SUCH_FAMILY = 255
SHARING = [Strategy.REUSEPORT, Strategy.BIND_FIRST]
LOOPBACK: dict[Family, str] = {4: "127.0.0.1", 6: "::1"}


@pytest.fixture
def sockets_made(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """The listening and dialling sockets a port makes, kept from being collected."""
    new_socket, made = sockets.new_socket, []

    def remember(*arguments: Any) -> socket.socket:
        made.append(new_socket(*arguments))
        return made[-1]

    monkeypatch.setattr(sockets, "new_socket", remember)
    return made


@pytest.fixture
def silent() -> Iterator[Endpoint]:
    """Somebody who lets SYNs go unanswered: his backlog is full."""
    with listen_tcp("127.0.0.1", 0, backlog=0) as listener, socket.create_connection(listener.getsockname()):
        yield local(listener)


def without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sockets._ADDRESS_FAMILIES, 6, cast("socket.AddressFamily", NO_SUCH_FAMILY))


def time_wait(number: int) -> bool:
    """Whether a connection of the port is in TIME_WAIT."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    return any(row[1].endswith(f":{number:04X}") and row[3] == "06" for row in rows)


@pytest.mark.parametrize("strategy", SHARING)
@pytest.mark.parametrize("family", [4, 6])
async def test_the_port_listens_and_dials_at_once(strategy: Strategy, family: Family) -> None:
    """The seed's case: the outgoing socket is bound to the port that listens already."""
    with LocalPort.open(strategy=strategy) as port, listening(LOOPBACK[family]) as (remote, where):
        listener = port.listen(family)
        with await port.connect(where) as dialled:
            seen, source = await accept(remote)
            with seen:
                assert source == local(dialled) == Endpoint.of(LOOPBACK[family], port.number)
            with socket.socket(listener.family) as stranger:
                stranger.setblocking(False)
                await asyncio.get_running_loop().sock_connect(stranger, (LOOPBACK[family], port.number))
                incoming, source = await accept(listener)
                with incoming:
                    assert source == local(stranger)
                    assert local(incoming).port == port.number


async def test_two_ports_reach_each_other_while_both_listen() -> None:
    with LocalPort.open() as ours, LocalPort.open() as theirs:
        ours.listen(4)
        listener = theirs.listen(4)
        with await ours.connect(Endpoint.of("127.0.0.1", theirs.number)) as dialled:
            accepted, source = await accept(listener)
            with accepted:
                assert source.port == ours.number
                assert dialled.getpeername() == accepted.getsockname()


async def test_everything_handed_out_is_non_blocking_and_ipv6_stays_ipv6() -> None:
    with LocalPort.open() as port, listening() as (_, where):
        assert port.listen(4).gettimeout() == 0
        assert port.listen(6).getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        with await port.connect(where) as dialled:
            assert dialled.gettimeout() == 0


@pytest.mark.parametrize("strategy", [*SHARING, Strategy.EXCLUSIVE])
def test_the_number_is_the_same_in_both_families(strategy: Strategy) -> None:
    with LocalPort.open(strategy=strategy) as port:
        assert port.families == {4, 6}
        assert local(port.listen(4)).port == local(port.listen(6)).port == port.number


def test_another_number_is_tried_when_the_chosen_one_is_taken_in_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = local_port._claim
    refused: list[int] = []

    def taken_three_times(family: Family, number: int, strategy: Strategy) -> socket.socket:
        if family == 6 and len(refused) < 3:
            refused.append(number)
            raise OSError(errno.EADDRINUSE, "")
        return claim(family, number, strategy)

    monkeypatch.setattr(local_port, "_claim", taken_three_times)
    with LocalPort.open() as port:
        assert port.families == {4, 6}
    assert len(refused) == 3


def test_the_search_for_a_common_number_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = local_port._claim
    tries: list[int] = []

    def always_taken(family: Family, number: int, strategy: Strategy) -> socket.socket:
        if family == 6:
            tries.append(number)
            raise OSError(errno.EADDRINUSE, "")
        return claim(family, number, strategy)

    monkeypatch.setattr(local_port, "_claim", always_taken)
    with pytest.raises(PortUnavailableError):
        LocalPort.open()
    assert len(tries) == local_port.NUMBER_TRIES_MAX


def test_a_family_the_host_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ipv6(monkeypatch)
    with LocalPort.open() as port:
        assert port.families == {4}
        with pytest.raises(ValueError, match="no IPv6"):
            port.listen(6)


def test_a_host_without_any_family_has_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ipv6(monkeypatch)
    with pytest.raises(PortUnavailableError, match="EAFNOSUPPORT") as caught:
        LocalPort.open(families=[6])
    assert caught.value.hint


async def test_a_dial_to_a_family_the_port_lacks_fails_at_once() -> None:
    with LocalPort.open(families=[4]) as port, pytest.raises(ConnectFailedError) as caught:
        await port.connect(Endpoint.of("::1", 9))
    assert (caught.value.failure, caught.value.errno_name) == (ConnectFailure.UNREACHABLE, "EAFNOSUPPORT")


@pytest.mark.parametrize("strategy", [*SHARING, Strategy.EXCLUSIVE])
def test_a_number_somebody_listens_on_is_never_replaced_by_another(strategy: Strategy) -> None:
    with listening("0.0.0.0") as (_, where):
        with pytest.raises(PortUnavailableError, match=str(where.port)) as caught:
            LocalPort.open(where.port, strategy=strategy)
        assert "Another program" in caught.value.hint


@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("second", SHARING)
def test_two_programs_do_not_share_one_number(second: Strategy, listens: bool) -> None:
    """With SO_REUSEPORT the kernel would let them, and each would get half of the connections."""
    with LocalPort.open() as port:
        if listens:
            port.listen(4)
        with pytest.raises(PortUnavailableError, match="EADDRINUSE"):
            LocalPort.open(port.number, strategy=second)


async def test_the_number_can_be_had_again_while_its_connections_live_or_linger() -> None:
    """A session that meets again opens the same port; TIME_WAIT of the last run must not stop it."""
    with listening() as (remote, where):
        with LocalPort.open() as port:
            port.listen(4)
            dialled = await port.connect(where)
        accepted, _ = await accept(remote)
        with accepted:
            with dialled, LocalPort.open(port.number) as again:  # established
                again.listen(4)
            assert await asyncio.get_running_loop().sock_recv(accepted, 1) == b""
    wait_until(lambda: time_wait(port.number), "TIME_WAIT")
    with LocalPort.open(port.number) as again:
        again.listen(4)


@pytest.mark.parametrize("strategy", SHARING)
def test_there_is_one_listener_a_family(strategy: Strategy) -> None:
    with LocalPort.open(strategy=strategy) as port:
        port.listen(4)
        with pytest.raises(RuntimeError, match="listens already"):
            port.listen(4)
        port.listen(6)


@pytest.mark.parametrize("strategy", [*SHARING, Strategy.EXCLUSIVE])
async def test_it_stops_listening_and_listens_again(strategy: Strategy) -> None:
    with LocalPort.open(strategy=strategy, diallers=2) as port:
        for _ in range(4):
            listener = port.listen(4)
            with socket.create_connection(("127.0.0.1", port.number)) as client:
                accepted, source = await accept(listener)
                with accepted:
                    assert source == local(client)
            port.stop_listening(4)
            port.stop_listening(4)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port.number))


async def test_a_second_dial_to_the_same_peer_is_a_duplicate() -> None:
    with LocalPort.open() as port, listening() as (_, where):
        first = await port.connect(where)
        with first, pytest.raises(ConnectFailedError) as caught:
            await port.connect(where)
    assert (caught.value.failure, caught.value.errno_name) == (ConnectFailure.DUPLICATE, "EADDRNOTAVAIL")
    assert caught.value.remote == where


async def test_a_refused_dial_says_so_and_the_next_one_uses_the_same_port() -> None:
    with LocalPort.open() as port:
        nobody = Endpoint.of("127.0.0.1", unused_number())
        for _ in range(3):
            with pytest.raises(ConnectFailedError) as caught:
                await port.connect(nobody)
            assert (caught.value.failure, caught.value.errno_name) == (ConnectFailure.REFUSED, "ECONNREFUSED")
        with listening(port=nobody.port), await port.connect(nobody) as dialled:
            assert local(dialled).port == port.number


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1"])
async def test_our_own_endpoint_is_refused_without_a_dial(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dial(sock: socket.socket, remote: Endpoint) -> None:
        raise AssertionError("it dialled")

    monkeypatch.setattr(local_port, "dial", dial)
    with LocalPort.open() as port, pytest.raises(ConnectFailedError) as caught:
        await port.connect(Endpoint.of(address, port.number))
    assert caught.value.failure is ConnectFailure.SELF


async def test_the_same_port_number_elsewhere_is_not_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled: list[Endpoint] = []

    async def dial(sock: socket.socket, remote: Endpoint) -> None:
        dialled.append(remote)
        sock.close()

    monkeypatch.setattr(local_port, "dial", dial)
    with LocalPort.open() as port:
        elsewhere = Endpoint.of("192.0.2.1", port.number)
        await port.connect(elsewhere)
    assert dialled == [elsewhere]


async def test_a_connection_that_turns_out_to_be_to_ourselves_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """On loopback a SYN to one's own port really connects; the look at the address beforehand is switched off here."""
    monkeypatch.setattr(local_port, "is_own_address", lambda address: False)
    with LocalPort.open() as port, pytest.raises(ConnectFailedError, match="to itself") as caught:
        await port.connect(Endpoint.of("127.0.0.1", port.number))
    assert caught.value.failure is ConnectFailure.SELF


async def test_a_cancelled_dial_closes_its_socket(silent: Endpoint, sockets_made: list[socket.socket]) -> None:
    with LocalPort.open() as port:
        before = len(sockets_made)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await port.connect(silent)
        assert [sock.fileno() for sock in sockets_made[before:]] == [-1]


async def test_a_failed_dial_closes_its_socket(sockets_made: list[socket.socket]) -> None:
    with LocalPort.open() as port:
        before = len(sockets_made)
        with pytest.raises(ConnectFailedError):
            await port.connect(Endpoint.of("127.0.0.1", unused_number()))
        assert all(sock.fileno() == -1 for sock in sockets_made[before:])


async def test_bind_first_has_as_many_dials_as_it_prepared() -> None:
    with LocalPort.open(strategy=Strategy.BIND_FIRST, diallers=3) as port, listening() as (_, where):
        port.listen(4)
        nobody = Endpoint.of("127.0.0.1", unused_number())
        with await port.connect(where) as dialled:
            assert local(dialled).port == port.number
            for _ in range(2):
                with pytest.raises(ConnectFailedError, match="ECONNREFUSED"):
                    await port.connect(nobody)
            with pytest.raises(ConnectFailedError, match="all 3 dialling sockets") as caught:
                await port.connect(nobody)
            assert caught.value.failure is ConnectFailure.RESOURCES
            port.stop_listening(4)
            port.listen(4)
            with pytest.raises(ConnectFailedError, match="ECONNREFUSED"):
                await port.connect(nobody)


async def test_bind_first_dials_without_end_while_nobody_listens() -> None:
    with LocalPort.open(strategy=Strategy.BIND_FIRST, diallers=1) as port:
        for _ in range(5):
            with pytest.raises(ConnectFailedError, match="ECONNREFUSED"):
                await port.connect(Endpoint.of("127.0.0.1", unused_number()))


async def test_an_exclusive_port_does_one_thing_at_a_time() -> None:
    with LocalPort.open(strategy=Strategy.EXCLUSIVE) as port, listening() as (_, where):
        port.listen(4)
        with pytest.raises(ConnectFailedError) as caught:
            await port.connect(where)
        assert caught.value.failure is ConnectFailure.IN_USE
        port.stop_listening(4)
        with await port.connect(where) as dialled:
            assert local(dialled).port == port.number


async def test_closing_keeps_what_was_handed_out(sockets_made: list[socket.socket]) -> None:
    with listening() as (remote, where):
        port = LocalPort.open()
        port.listen(4)
        with await port.connect(where) as dialled:
            accepted, _ = await accept(remote)
            port.close()
            port.close()
            with accepted:
                await asyncio.get_running_loop().sock_sendall(dialled, b"still here")
                assert await asyncio.get_running_loop().sock_recv(accepted, 100) == b"still here"
            mine = [sock for sock in sockets_made if sock not in (remote, dialled)]
            assert all(sock.fileno() == -1 for sock in mine)


async def test_a_closed_port_neither_listens_nor_dials() -> None:
    port = LocalPort.open()
    port.close()
    with pytest.raises(RuntimeError, match="closed"):
        port.listen(4)
    with pytest.raises(ConnectFailedError, match="closed"):
        await port.connect(Endpoint.of("127.0.0.1", 9))


def test_opening_without_enough_descriptors_leaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bind = sockets.bind_wildcard
    made: list[socket.socket] = []

    def at_most_ten(*arguments: Any) -> socket.socket:
        if len(made) == 10:
            raise OSError(errno.EMFILE, "")
        made.append(bind(*arguments))
        return made[-1]

    monkeypatch.setattr(local_port, "bind_wildcard", at_most_ten)
    with pytest.raises(PortUnavailableError, match="EMFILE"):
        LocalPort.open(strategy=Strategy.BIND_FIRST)
    assert [sock.fileno() for sock in made] == [-1] * 10
