"""The main job where the network lets out only what a box knows: TLS through a proxy, or WebSockets. Real commands."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import middle_box
from midair.lab import Lab
from support import Command, Spawner, midair, serving, tree_digest

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """``a`` is behind an ordinary NAT, ``b`` gets out to one host only, where a box stands."""
    with Lab("drop x proxy-only", delay=0.01) as found:
        yield found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file.bin").write_bytes(bytes(range(256)) * 4096)
    (path / "empty").write_bytes(b"")
    return path


@pytest.fixture
def certificate(lab: Lab, tmp_path: Path) -> dict[str, str]:
    """For the server, and who vouches for it."""
    authority = trustme.CA()
    issued = authority.issue_cert(lab.server.address)
    paths = {name: tmp_path / f"{name}.pem" for name in ("cert", "key", "authority")}
    paths["cert"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    paths["key"].write_bytes(issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(paths["authority"]))
    return {name: str(path) for name, path in paths.items()}


@contextlib.contextmanager
def box(spawner: Spawner, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Stands when the block begins; killed at its end, and all its connections with it."""
    argv = [sys.executable, str(Path(middle_box.__file__)), *arguments]
    with spawner(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def cut_and_resume(
    receiver: Command, sender: Command, first: contextlib.ExitStack, again: contextlib.AbstractContextManager[object]
) -> None:
    """Cuts the way in mid-transfer and opens it again; both sides end well."""
    receiver.event("progress", lambda event: 0 < event["bytes"] < event["total"])
    first.close()
    receiver.event("lost")
    with again:
        assert (receiver.wait(), sender.wait()) == (0, 0), receiver.errors + sender.errors


def test_a_proxy_that_passes_only_tls_is_passed_and_a_cut_leg_is_opened_again(
    lab: Lab, certificate: dict[str, str], source: Path, folder: Path
) -> None:
    server = (f"{lab.server.address}:443", "--cert", certificate["cert"], "--key", certificate["key"])
    trusted = certificate["authority"]
    arguments = ("tls", "hold", f"{lab.proxy.address}:3128")
    with (
        contextlib.ExitStack() as stack,
        serving(*server, spawner=lab.server.popen) as (address, _),
        midair(
            "send",
            "--json",
            "--limit-rate",
            "500K",
            "--server",
            address,
            source,
            spawner=lab.a.popen,
            SSL_CERT_FILE=trusted,
        ) as sender,
    ):
        stack.enter_context(box(lab.proxy.popen, *arguments))
        code = sender.event("code")["code"]
        with midair(
            *("receive", "--json", "--server", address, code, "-o", folder, "-y"),
            spawner=lab.b.popen,
            SSL_CERT_FILE=trusted,
            MIDAIR_PROXY=f"http://{lab.proxy.address}:3128",
        ) as receiver:
            cut_and_resume(receiver, sender, stack, box(lab.proxy.popen, *arguments))
    assert tree_digest(folder / "tree") == tree_digest(source)
    assert {event["path"] for event in receiver.of("path")} == {"relay"}


def test_a_box_that_passes_only_websockets_is_passed_and_a_cut_leg_is_opened_again(
    lab: Lab, source: Path, folder: Path
) -> None:
    """No proxy, which would be known; the box stands in the way, and what it does not know it drops."""
    arguments = ("http", "hold", f"{lab.proxy.address}:80", f"{lab.server.address}:80")
    with (
        contextlib.ExitStack() as stack,
        serving(f"{lab.server.address}:80", spawner=lab.server.popen) as (address, _),
        midair("send", "--json", "--limit-rate", "500K", "--server", address, source, spawner=lab.a.popen) as sender,
    ):
        stack.enter_context(box(lab.proxy.popen, *arguments))
        code, through = sender.event("code")["code"], f"ws://{lab.proxy.address}:80"
        with midair(
            *("receive", "--json", "--server", through, code, "-o", folder, "-y"), spawner=lab.b.popen
        ) as receiver:
            cut_and_resume(receiver, sender, stack, box(lab.proxy.popen, *arguments))
    assert tree_digest(folder / "tree") == tree_digest(source)
    assert {event["path"] for event in receiver.of("path")} == {"relay"}
