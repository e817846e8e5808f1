"""A program's connection where only TLS gets out, and the certificate is one that only the program trusts."""

from __future__ import annotations

import asyncio
import ssl

import trustme

import midair
from midair.config import ServerURL, TraversalOptions
from midair.port import listen_tcp
from middle_box import middle_box

RELAYED = TraversalOptions(policy="relay")


async def test_the_relay_is_trusted_as_the_meeting_is() -> None:
    authority = trustme.CA()
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)
    code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def answer(url: ServerURL) -> bytes:
        async with midair.host(url, on_code=code.set_result, options=RELAYED, ssl_context=trusting) as connection:
            said = await connection.read()
            await connection.write(said.upper())
            return said

    async with (
        midair.Server([listen_tcp("127.0.0.1", 0)], ssl_context=serving) as server,
        middle_box("tls", to=("127.0.0.1", server.endpoints[0].port), otherwise="close") as box,
    ):
        url = ServerURL(secure=True, host="127.0.0.1", port=box.port)
        answering = asyncio.create_task(answer(url))
        async with midair.connect(await code, url, options=RELAYED, ssl_context=trusting) as connection:
            await connection.write(b"hello")
            assert await connection.read() == b"HELLO"
        assert await answering == b"hello"
        assert box.stopped == 2  # the plain legs
