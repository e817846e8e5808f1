"""Datagrams: who is heard, and who is not."""

from __future__ import annotations

import asyncio
import socket

import pytest

from midair.endpoint import Endpoint
from midair.port import hear_group, open_datagrams, open_multicast, source_towards

LOOPBACK = Endpoint.of("127.0.0.1", 0)


def bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(2)
    return sock


async def test_only_the_remote_it_is_connected_to_is_heard() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    with bound() as remote, bound() as stranger:
        transport = await open_datagrams(
            Endpoint.from_sockaddr(remote.getsockname()), on_datagram=heard.put_nowait, on_closed=lambda: None
        )
        try:
            ours = transport.get_extra_info("sockname")
            transport.sendto(b"hello")
            assert remote.recvfrom(100) == (b"hello", ours)
            stranger.sendto(b"not from me", ours)
            remote.sendto(b"from me", ours)
            assert await asyncio.wait_for(heard.get(), 2) == b"from me"
            assert heard.empty()
        finally:
            transport.close()


async def test_a_remote_where_nobody_listens_says_so() -> None:
    closed = asyncio.Event()
    with bound() as remote:
        gone = Endpoint.from_sockaddr(remote.getsockname())
    transport = await open_datagrams(gone, on_datagram=lambda data: None, on_closed=closed.set)
    try:
        transport.sendto(b"anybody?")
        await asyncio.wait_for(closed.wait(), 2)
    finally:
        transport.close()


async def test_a_source_can_be_chosen_and_must_be_ours() -> None:
    with bound() as remote:
        there = Endpoint.from_sockaddr(remote.getsockname())
        transport = await open_datagrams(
            there, source=Endpoint.of("127.0.0.9", 0), on_datagram=lambda data: None, on_closed=lambda: None
        )
        transport.sendto(b"hello")
        assert remote.recvfrom(100)[1][0] == "127.0.0.9"
        transport.close()
        with pytest.raises(OSError, match="assign"):
            await open_datagrams(
                there, source=Endpoint.of("192.0.2.1", 0), on_datagram=lambda data: None, on_closed=lambda: None
            )


async def test_a_group_is_heard_by_all_who_want_to_with_who_it_was() -> None:
    first: asyncio.Queue[tuple[bytes, Endpoint]] = asyncio.Queue()
    second: asyncio.Queue[tuple[bytes, Endpoint]] = asyncio.Queue()
    with bound() as unused:
        group = Endpoint.of("239.255.255.249", unused.getsockname()[1])
    listeners = [
        await hear_group(group, at=LOOPBACK, on_datagram=lambda *heard: first.put_nowait(heard)),
        await hear_group(group, at=LOOPBACK, on_datagram=lambda *heard: second.put_nowait(heard)),
    ]
    speaker = await open_multicast(LOOPBACK, on_datagram=lambda data, sender: None)
    try:
        speaker.sendto(b"hello", group.to_sockaddr())
        us = Endpoint.from_sockaddr(speaker.get_extra_info("sockname"))
        for heard in (first, second):
            assert await asyncio.wait_for(heard.get(), 2) == (b"hello", us)
    finally:
        for transport in (speaker, *listeners):
            transport.close()


async def test_what_is_sent_to_this_host_alone_does_not_reach_a_listener_to_a_group() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    with bound() as stranger:
        group = Endpoint.of("239.255.255.249", stranger.getsockname()[1])
    listener = await hear_group(group, at=LOOPBACK, on_datagram=lambda data, sender: heard.put_nowait(data))
    try:
        with bound() as stranger:
            stranger.sendto(b"to you alone", ("127.0.0.1", group.port))
            stranger.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            stranger.sendto(b"to all", group.to_sockaddr())
            assert await asyncio.wait_for(heard.get(), 2) == b"to all"
    finally:
        listener.close()


def test_packets_to_loopback_start_from_loopback() -> None:
    source = source_towards(Endpoint.of("127.1.2.3", 0).address)
    assert source is not None
    assert source.is_loopback
