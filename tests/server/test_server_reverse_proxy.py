"""Behind HTTP reverse proxies that have the certificate, with the settings in deploy/: real nginx, real HAProxy."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import trustme
from server_peers import metric, port_of, running

from midair.config import ServerURL
from midair.lab.programs import find_program
from midair.relay import open_leg
from midair.relay.client import HEDGE_SECONDS
from midair.rendezvous import meet_as_receiver, meet_as_sender

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    """Certificate and key in one file."""
    path = tmp_path / "both.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


def replaced(text: str, replacements: dict[str, str]) -> str:
    for pattern, new in replacements.items():
        text, count = re.subn(pattern, new, text, flags=re.MULTILINE)
        assert count, pattern
    return text


@contextmanager
def nginx(folder: Path, server_port: int, certificate: Path) -> Iterator[int]:
    port = free_port()
    settings = replaced(
        (DEPLOY / "nginx-http.conf").read_text(),
        {
            r"listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            r"(ssl_certificate(_key)?) .*;": rf"\1 {certificate};",
            r"127\.0\.0\.1:7420": f"127.0.0.1:{server_port}",
        },
    )
    paths = "".join(
        f"{name}_temp_path {folder / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder / 'pid'}; error_log stderr;\nevents {{ }}\n"
        f"http {{ access_log off;\n{paths}{settings} }}\n"
    )
    command: list[str | Path] = [
        find_program("nginx") or "nginx",
        "-p",
        folder,
        "-e",
        "stderr",
        "-c",
        folder / "nginx.conf",
    ]
    with running_until_the_end(command, port):
        yield port


@contextmanager
def haproxy(folder: Path, server_port: int, certificate: Path) -> Iterator[int]:
    port = free_port()
    settings = replaced(
        (DEPLOY / "haproxy-http.cfg").read_text(),
        {
            r"bind :443 ssl crt \S+": f"bind 127.0.0.1:{port} ssl crt {certificate}",
            r"server one \S+": f"server one 127.0.0.1:{server_port}",
            r"^    server two .*\n": "",
        },
    )
    (folder / "haproxy.cfg").write_text(settings)
    command: list[str | Path] = [find_program("haproxy") or "haproxy", "-db", "-f", folder / "haproxy.cfg"]
    with running_until_the_end(command, port):
        yield port


@contextmanager
def running_until_the_end(command: list[str | Path], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                assert process.poll() is None
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                except ConnectionRefusedError:
                    pass
            yield
        finally:
            process.kill()


Kind = Callable[[Path, int, Path], AbstractContextManager[int]]


@pytest.mark.parametrize(("kind", "from_a_proxy"), [(nginx, []), (haproxy, ["127.0.0.1"])])
async def test_peers_meet_and_are_relayed_behind_an_http_proxy(
    kind: Kind,
    from_a_proxy: list[str],
    authority: trustme.CA,
    certificate: Path,
    tmp_path: Path,
) -> None:
    """A plain leg is answered with an error there, or closed; so its WebSocket is there at once."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with running(proxied_from=from_a_proxy) as server:
        with kind(tmp_path, port_of(server), certificate) as port:
            url = ServerURL(secure=True, host="127.0.0.1", port=port)
            loop = asyncio.get_running_loop()
            code: asyncio.Future[str] = loop.create_future()
            sending = asyncio.create_task(
                meet_as_sender(url, app_versions={}, on_code=code.set_result, ssl_context=trusting)
            )
            receiving = await meet_as_receiver(url, await code, app_versions={}, ssl_context=trusting)
            async with receiving as receiver, await sending as sender:
                assert sender.key == receiver.key
            started = loop.time()
            legs = [open_leg(url, b"t" * 32, side * 8, timeout=5, ssl_context=trusting) for side in (b"a", b"b")]
            one, other = await asyncio.gather(*legs)
            assert loop.time() - started < HEDGE_SECONDS
            with one, other:
                await loop.sock_sendall(one, b"x" * 1_000_000)
                one.shutdown(socket.SHUT_WR)
                received = 0
                while data := await asyncio.wait_for(loop.sock_recv(other, 1 << 16), 5):
                    received += len(data)
                assert received == 1_000_000
        assert metric(server, "midair_relay_bytes_total") == 1_000_000
