"""The main job where one side gets out to a proxy only: real commands, real proxies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from midair.lab import Lab
from midair.lab.capture import read_capture
from midair.lab.packet import TCP, address_text
from midair.lab.parts import HttpProxy, ServiceUnavailable, SocksProxy
from midair.lab.parts.service import program
from support import Command, midair, serving

pytestmark = pytest.mark.lab

KINDS = [(SocksProxy, "socks5"), (HttpProxy, "http")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """``a`` is behind an ordinary NAT, ``b`` gets out to its proxy only."""
    for name in ("microsocks", "tinyproxy"):
        try:
            program(name, name)
        except ServiceUnavailable as lack:
            pytest.skip(str(lack))
    with Lab("drop x proxy-only", delay=0.01) as found:
        yield found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


def talked_with(capture: Path, node: str) -> set[str]:
    with capture.open("rb") as file:
        return {
            address_text(record.packet.destination)
            for record in read_capture(file)
            if record.node == node and record.direction == "sent" and record.packet.protocol == TCP
        }


@pytest.fixture
def certificate(lab: Lab, tmp_path: Path) -> dict[str, Path]:
    """For the server, and who vouches for it."""
    authority = trustme.CA()
    issued = authority.issue_cert(lab.server.address)
    paths = {name: tmp_path / f"{name}.pem" for name in ("cert", "key", "authority")}
    paths["cert"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    paths["key"].write_bytes(issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(paths["authority"]))
    return paths


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
def test_what_gets_out_to_a_proxy_only_meets_and_receives_through_it(
    kind: type[SocksProxy] | type[HttpProxy],
    scheme: str,
    lab: Lab,
    certificate: dict[str, Path],
    source: Path,
    folder: Path,
    tmp_path: Path,
) -> None:
    """With a password, which nobody gets to see, and TLS with the server, on the port that proxies let out to. The
    other side needs no proxy."""
    proxy, trusted = f"{scheme}://lab:s%65cret@{lab.proxy.address}:3128", str(certificate["authority"])
    server = (f"{lab.server.address}:443", "--cert", str(certificate["cert"]), "--key", str(certificate["key"]))
    capture = tmp_path / "packets.pcapng"
    with (
        kind(lab.proxy, address=lab.proxy.address, port=3128, user="lab", password="secret"),
        serving(*server, spawner=lab.server.popen) as (address, _),
        lab.capture(capture),
        midair("send", "--json", "--server", address, source, spawner=lab.a.popen, SSL_CERT_FILE=trusted) as sender,
    ):
        code = sender.event("code")["code"]
        arguments = ("receive", "--debug", "--json", "--server", address, code, "-o", folder, "-y")
        with midair(*arguments, spawner=lab.b.popen, MIDAIR_PROXY=proxy, SSL_CERT_FILE=trusted) as receiver:
            assert (receiver.wait(), sender.wait()) == (0, 0), receiver.errors + sender.errors
    assert address.startswith("wss://")
    assert (folder / "file.bin").read_bytes() == source.read_bytes()
    assert receiver.of("path")[-1]["reason"] == "a proxy stands between this computer and the internet"
    assert sender.of("path")[-1]["reason"] == "a proxy stands between the other side and the internet"
    assert talked_with(capture, "b") == {lab.proxy.address}
    for text in ("secret", "s%65cret"):
        assert text not in receiver.errors + "".join(receiver.lines)


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
@pytest.mark.parametrize(
    ("login", "words"), [("", "wants a user and password"), ("lab:wrong@", "does not take this user and password")]
)
def test_a_proxy_that_wants_another_password_is_named(
    kind: type[SocksProxy] | type[HttpProxy], scheme: str, login: str, words: str, lab: Lab
) -> None:
    with kind(lab.proxy, address=lab.proxy.address, port=3128, user="lab", password="secret"):
        check_end(lab, f"{scheme}://{login}{lab.proxy.address}:3128", words, "MIDAIR_PROXY")


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
def test_a_server_that_the_proxy_cannot_reach_is_told_from_the_proxy(
    kind: type[SocksProxy] | type[HttpProxy], scheme: str, lab: Lab
) -> None:
    """Nothing listens at the server."""
    with kind(lab.proxy, address=lab.proxy.address, port=3128):
        check_end(lab, f"{scheme}://{lab.proxy.address}:3128", f"cannot reach the server at {lab.server.address}:7420")


def test_a_proxy_that_is_started_again_in_mid_transfer_is_used_again(lab: Lab, source: Path, folder: Path) -> None:
    first = HttpProxy(lab.proxy, address=lab.proxy.address)
    arguments = ("-o", folder, "-y", "--proxy", f"http://{lab.proxy.address}:8888", "--json", "--server")
    with (
        first,
        serving(f"{lab.server.address}:7420", spawner=lab.server.popen) as (address, _),
        midair("send", "--json", "--limit-rate", "500K", "--server", address, source, spawner=lab.a.popen) as sender,
        midair("receive", *arguments, address, sender.event("code")["code"], spawner=lab.b.popen) as receiver,
    ):
        receiver.event("progress", lambda event: 0 < event["bytes"] < event["total"])
        first.close()
        receiver.event("lost")
        with HttpProxy(lab.proxy, address=lab.proxy.address):
            assert (receiver.wait(), sender.wait()) == (0, 0), receiver.errors + sender.errors
    assert (folder / "file.bin").read_bytes() == source.read_bytes()


def test_a_check_says_that_a_proxy_is_there_and_leads_to_the_server(lab: Lab) -> None:
    with (
        HttpProxy(lab.proxy, address=lab.proxy.address),
        serving(f"{lab.server.address}:7420", spawner=lab.server.popen) as (address, _),
        midair("check", "--server", address, spawner=lab.b.popen, HTTPS_PROXY=f"{lab.proxy.address}:8888") as command,
    ):
        assert command.wait() == 0, command.errors
    assert command.lines[0].startswith(f"The proxy at http://{lab.proxy.address}:8888 stands between")


def check_end(lab: Lab, proxy: str, *words: str) -> Command:
    """A receiver behind the proxy ends with its code and a line with these words."""
    arguments = (
        "receive",
        "--json",
        "--proxy",
        proxy,
        "--server",
        f"ws://{lab.server.address}:7420",
        "7-some-code",
        "-y",
    )
    with midair(*arguments, spawner=lab.b.popen) as command:
        assert command.wait() == 21, command.errors
    assert command.done["reason"] == "proxy"
    assert len(command.errors.splitlines()) == 2
    assert command.errors.startswith(f"midair: the proxy at {proxy.partition('://')[0]}://{lab.proxy.address}:3128 ")
    for word in words:
        assert word in command.errors
    return command
