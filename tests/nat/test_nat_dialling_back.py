"""What the server dials for a NAT check, seen on the wire: nobody but who asks, and not often."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.lab import Lab
from midair.lab.capture.pcapng import Record, read_capture
from midair.lab.packet import ACK, RST, SYN, TCP, address_text
from midair.nat.check.wire import CONNECT_BACK, DialBack, Result, decode_answer, encode_request
from midair.port import connect_tcp, listen_tcp
from midair.server import Server, dialling_back
from midair.stun import StunConnection, StunError
from midair.stun.wire import (
    MappedAddress,
    Message,
    MessageClass,
    OtherAddress,
    RawAttribute,
    ResponseOrigin,
    XorMappedAddress,
    decode,
    encode,
)
from midair.trials.nat_checking import inside, serving

ID = bytes(range(12))
IMPOSSIBLE = 4
LIMIT = ServerLimits().dials_back_per_minute
VICTIM_PORT = 8080


async def ask(server: Endpoint, request: bytes, *, seconds: float = 6.0) -> Result | None:
    """The last answer; None when the connection was closed or nothing came."""
    sock = await connect_tcp(str(server.address), server.port, timeout=5)
    with sock, contextlib.suppress(StunError, OSError):
        return await ask_on(sock, request, seconds=seconds)
    return None


async def ask_on(sock: socket.socket, request: bytes, *, seconds: float = 6.0) -> Result:
    """A connection begins with a binding request, by which the server knows what it is."""
    connection = StunConnection(sock)
    await connection.binding(bytes(12), deadline=seconds)
    answer = decode_answer(await connection.ask(request, ID, deadline=seconds))
    if not isinstance(answer, Result):
        answer = decode_answer(await connection.answer(ID))
    assert isinstance(answer, Result)
    return answer


async def ask_from(source: tuple[str, int], server: Endpoint, request: bytes) -> Result:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.bind(source)
        await asyncio.get_running_loop().sock_connect(sock, server.to_sockaddr())
        return await ask_on(sock, request)


def naming(victim: Endpoint) -> list[bytes]:
    """Requests that name somebody else in every attribute there is for an address or a port."""
    plain = decode(encode_request(DialBack(seconds=1), ID)).attributes
    port = victim.port.to_bytes(2, "big")
    raw = b"\x00\x01" + port + victim.address.packed
    others = (
        MappedAddress(victim),
        XorMappedAddress(victim),
        OtherAddress(victim),
        RawAttribute(0x0012, raw),  # XOR-PEER-ADDRESS
        RawAttribute(0x0003, b"\x00\x00\x00\x06"),  # CHANGE-REQUEST
        RawAttribute(0x0027, port + b"\x00\x00"),  # RESPONSE-PORT
        RawAttribute(0x8023, raw),  # ALTERNATE-SERVER
        ResponseOrigin(victim),
    )
    requests = []
    for other in others:
        for attributes in ((*plain, other), (other, *plain)):
            requests.append(
                encode(
                    Message(
                        method=CONNECT_BACK,
                        message_class=MessageClass.REQUEST,
                        transaction_id=ID,
                        attributes=attributes,
                    )
                )
            )
    return requests


def opened_by_server(path: Path, server: Sequence[str]) -> set[tuple[str, int]]:
    """Whom it sent SYNs."""
    return {
        (address_text(each.packet.destination), each.packet.destination_port)
        for each in sent(path, server)
        if each.packet.flags & (SYN | ACK) == SYN
    }


def sent(path: Path, server: Sequence[str]) -> list[Record]:
    with path.open("rb") as file:
        return [
            each
            for each in read_capture(file)
            if each.packet.protocol == TCP and address_text(each.packet.source) in server
        ]


@pytest.mark.lab
def test_nothing_that_is_asked_reaches_anybody_but_the_asker(tmp_path: Path) -> None:
    with Lab("none x none") as lab:
        ours = lab.server.addresses
        first = Endpoint.of(ours[0], 7420)
        endpoints = [first, Endpoint.of(ours[1], 7420)]
        victim = Endpoint.of(lab.b.address, VICTIM_PORT)
        odd = [encode_request(DialBack(port=port, seconds=1), ID) for port in (0, 1024, 65535)]
        odd += [encode_request(DialBack(other_address=other, crossing=True, seconds=1), ID) for other in (False, True)]
        refused = [encode_request(DialBack(port=port, seconds=1), ID) for port in (22, 1023)]

        async def attack() -> list[Result | None]:
            return await asyncio.gather(*(ask(first, each) for each in [*naming(victim), *odd, *refused]))

        with serving(lab.server, endpoints), lab.capture(tmp_path / "all.pcapng"):
            answers = inside(lab.a, attack)
        dialled = opened_by_server(tmp_path / "all.pcapng", ours)
        packets = sent(tmp_path / "all.pcapng", ours)
        asker = lab.a.address
    assert {address for address, _ in dialled} == {asker}
    assert {address_text(each.packet.destination) for each in packets} == {asker}
    assert all(port >= 1024 for _, port in dialled)
    assert answers[-len(refused) :] == [None] * len(refused)
    assert any(answer is not None and answer.answer != IMPOSSIBLE for answer in answers)


@pytest.mark.lab
def test_a_server_dials_no_service_even_if_the_request_came_from_its_port(tmp_path: Path) -> None:
    with Lab("none x none") as lab:
        server = Endpoint.of(lab.server.address, 7420)

        async def asked() -> Result:
            return await ask_from((lab.a.address, 80), server, encode_request(DialBack(seconds=1), ID))

        with serving(lab.server, [server]), lab.capture(tmp_path / "all.pcapng"):
            assert inside(lab.a, asked) == Result(answer=IMPOSSIBLE)
        assert opened_by_server(tmp_path / "all.pcapng", lab.server.addresses) == set()


@pytest.mark.lab
def test_a_server_dials_one_address_back_only_so_often_in_a_minute_and_says_nothing_there(tmp_path: Path) -> None:
    with Lab("none x none", delay=0.01) as lab:
        first = Endpoint.of(lab.server.addresses[0], 7420)

        async def attack() -> list[Result | None]:
            listener = listen_tcp("0.0.0.0", 9000)
            try:
                request = encode_request(DialBack(port=9000, seconds=1), ID)
                return await asyncio.gather(*(ask(first, request) for _ in range(2 * LIMIT)))
            finally:
                listener.close()

        with serving(lab.server, [first]), lab.capture(tmp_path / "all.pcapng"):
            answers = inside(lab.a, attack)
        mine = [each for each in sent(tmp_path / "all.pcapng", lab.server.addresses) if each.node == "a"]
    back = [each for each in mine if each.packet.destination_port == 9000]
    sources = {each.packet.source_port for each in back}
    assert len(sources) == LIMIT
    assert all(not each.packet.payload for each in back)
    assert sum(bool(each.packet.flags & RST) for each in back) == LIMIT  # closed at once
    assert sum(answer is not None and answer.answer == IMPOSSIBLE for answer in answers) == LIMIT


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_server_does_not_look_into_the_machine_it_is_on(address: str) -> None:
    """Who asks from there is a proxy before the server, who asks for anybody."""
    with contextlib.closing(listen_tcp(address, 0)) as service:
        port = service.getsockname()[1]
        async with Server([listen_tcp(address, 0)]) as server:
            (endpoint,) = server.endpoints
            answer = await ask(endpoint, encode_request(DialBack(port=port, seconds=1), ID))
        assert answer == Result(answer=IMPOSSIBLE)
        with pytest.raises(BlockingIOError):
            service.accept()


@pytest.mark.lab
@pytest.mark.parametrize("own", ["10.1.0.1/24", "100.64.0.1/24"])
def test_a_server_does_not_look_into_the_private_network_it_is_in(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's host, or a proxy in the next machine."""
    monkeypatch.setattr(dialling_back, "is_own_address", lambda address: False)
    with Lab("none x none") as lab:
        address, _, length = own.partition("/")
        neighbour = address.rpartition(".")[0] + ".2"
        for each in (f"{neighbour}/{length}", own):
            done = lab.server.run(["ip", "addr", "add", each, "dev", "eth0"])
            assert done.returncode == 0, done.stderr

        async def asked() -> Result:
            request = encode_request(DialBack(port=9000, seconds=1), ID)
            return await ask_from((neighbour, 0), Endpoint.of(address, 7420), request)

        with serving(lab.server, [Endpoint.of(address, 7420)]):
            assert inside(lab.server, asked) == Result(answer=IMPOSSIBLE)
