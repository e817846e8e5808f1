"""Asking over a real TCP connection, with a server that the test plays."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from midair.endpoint import Endpoint
from midair.stun import StunError, client, request_binding, respond
from midair.stun.wire import (
    BINDING,
    Attribute,
    ErrorCode,
    MappedAddress,
    Message,
    MessageClass,
    OtherAddress,
    RawAttribute,
    ResponseOrigin,
    XorMappedAddress,
    encode,
)

TRANSACTION_ID = bytes(range(12))
MAPPED = Endpoint.of("192.0.2.7", 41000)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The client's end, non-blocking, and the server's, blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.settimeout(5)
    with near, far:
        yield near, far


def answer(
    *attributes: Attribute,
    message_class: MessageClass = MessageClass.SUCCESS,
    transaction_id: bytes = TRANSACTION_ID,
    method: int = BINDING,
) -> bytes:
    message = Message(method=method, message_class=message_class, transaction_id=transaction_id, attributes=attributes)
    return encode(message)


GOOD = answer(XorMappedAddress(MAPPED))


async def test_it_learns_its_endpoint_and_leaves_the_connection_open(pair: Pair) -> None:
    near, far = pair
    asking = asyncio.create_task(request_binding(near, TRANSACTION_ID, deadline=5))
    request = await asyncio.to_thread(far.recv, 100)
    source = Endpoint.from_sockaddr(far.getpeername())
    response = respond(request, source)
    assert response is not None
    for byte in response:  # in the smallest pieces there are
        far.sendall(bytes([byte]))
        await asyncio.sleep(0)
    assert await asking == source == Endpoint.from_sockaddr(near.getsockname())
    far.sendall(b"more")
    assert await asyncio.get_running_loop().sock_recv(near, 100) == b"more"


@pytest.mark.parametrize("origin", ["127.0.0.1", "10.0.0.5"])
async def test_the_servers_other_ports_are_where_we_have_come_to(pair: Pair, origin: str) -> None:
    """Its own address may be another, which is translated on the way."""
    near, far = pair
    port = near.getpeername()[1]
    told: list[Attribute] = [
        XorMappedAddress(MAPPED),
        OtherAddress(Endpoint.of(origin, 7421)),
        OtherAddress(Endpoint.of(origin, port)),
        OtherAddress(Endpoint.of("192.0.2.11", 7420)),
        ResponseOrigin(Endpoint.of(origin, port)),
    ]
    far.sendall(answer(*told))
    _, others = await client.StunConnection(near).binding(TRANSACTION_ID, deadline=5)
    assert others == [Endpoint.of("127.0.0.1", 7421), Endpoint.of("192.0.2.11", 7420)]


async def test_it_reads_nothing_past_the_answer(pair: Pair) -> None:
    near, far = pair
    far.sendall(GOOD + b"what comes next")
    assert await request_binding(near, TRANSACTION_ID, deadline=5) == MAPPED
    assert await asyncio.get_running_loop().sock_recv(near, 100) == b"what comes next"


async def test_answers_to_older_requests_are_passed_over(pair: Pair) -> None:
    near, far = pair
    stale = answer(XorMappedAddress(Endpoint.of("192.0.2.99", 1)), transaction_id=bytes(12))
    echoed = encode(Message(method=BINDING, message_class=MessageClass.REQUEST, transaction_id=TRANSACTION_ID))
    far.sendall(stale + echoed + GOOD)
    assert await request_binding(near, TRANSACTION_ID, deadline=5) == MAPPED


async def test_a_flood_of_other_messages_is_not_followed(pair: Pair) -> None:
    near, far = pair
    far.sendall(answer(transaction_id=bytes(12)) * (client.STRAY_MESSAGES_MAX + 1) + GOOD)
    with pytest.raises(StunError, match="other things"):
        await request_binding(near, TRANSACTION_ID, deadline=5)


async def test_an_old_servers_plain_address_is_taken(pair: Pair) -> None:
    near, far = pair
    far.sendall(answer(MappedAddress(MAPPED)))
    assert await request_binding(near, TRANSACTION_ID, deadline=5) == MAPPED


async def test_an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address(pair: Pair) -> None:
    near, far = pair
    mapped = Endpoint(IPv6Address("::ffff:192.0.2.7"), 41000)
    far.sendall(answer(XorMappedAddress(mapped)))
    assert await request_binding(near, TRANSACTION_ID, deadline=5) == MAPPED


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (answer(), "no address"),
        (answer(XorMappedAddress(Endpoint.of("192.0.2.7", 0))), "cannot be anybody's"),
        (answer(XorMappedAddress(Endpoint.of("0.0.0.0", 41000))), "cannot be anybody's"),
        (answer(XorMappedAddress(Endpoint.of("ff02::1", 41000))), "cannot be anybody's"),
        (answer(XorMappedAddress(MAPPED), RawAttribute(0x7F00, b"")), "0x7f00"),
        (answer(XorMappedAddress(MAPPED), method=3), "another method"),
        (answer(message_class=MessageClass.ERROR), "without a reason"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a STUN stream"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_an_error(pair: Pair, reply: bytes, complaint: str) -> None:
    near, far = pair
    far.sendall(reply)
    with pytest.raises(StunError, match=complaint):
        await request_binding(near, TRANSACTION_ID, deadline=5)


async def test_a_refusal_carries_its_code_and_not_the_servers_words(pair: Pair) -> None:
    near, far = pair
    far.sendall(answer(ErrorCode(420, "\x1b[31mboo"), message_class=MessageClass.ERROR))
    with pytest.raises(StunError, match="420") as caught:
        await request_binding(near, TRANSACTION_ID, deadline=5)
    assert caught.value.code == 420
    assert "boo" not in str(caught.value)


@pytest.mark.parametrize("sent", [b"", GOOD[:10], GOOD[:-1]])
async def test_a_server_that_closes_early_is_an_error(pair: Pair, sent: bytes) -> None:
    near, far = pair
    far.sendall(sent)
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(StunError, match="closed"):
        await request_binding(near, TRANSACTION_ID, deadline=5)


async def test_a_reset_is_an_os_error(pair: Pair) -> None:
    near, far = pair
    asking = asyncio.create_task(request_binding(near, TRANSACTION_ID, deadline=5))
    await asyncio.sleep(0)
    far.close()  # with the request unread: that is a RST
    with pytest.raises(OSError, match=r"."):
        await asking


async def test_the_deadline_ends_it(pair: Pair) -> None:
    near, far = pair
    far.sendall(GOOD[:-1])
    with pytest.raises(TimeoutError):
        await request_binding(near, TRANSACTION_ID, deadline=0.02)
    assert near.fileno() != -1


async def test_no_deadline_is_longer_than_the_rfcs(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.TI_SECONDS == 39.5
    monkeypatch.setattr(client, "TI_SECONDS", 0.02)
    with pytest.raises(TimeoutError):
        await request_binding(pair[0], TRANSACTION_ID, deadline=1000)
