"""A transfer in the background beside another flow on one narrow link, by the real commands."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_sockets import listening

from midair.lab import Lab
from midair.port import use_congestion_control
from support import Command, midair, serving, wait_until

pytestmark = pytest.mark.lab

MIB = 1 << 20
RATE = 40e6
"""Bits a second."""
NEAR = 0.01
"""Seconds one way."""
SETTLING = 3 * MIB
COUNTED = 6 * MIB
"""Bytes of the other flow."""


class Other:
    """A flow from ``a`` to ``b`` that takes what it can get, as TCP ever did."""

    def __init__(self, lab: Lab) -> None:
        self.arrived = 0
        with listening(lab.b, lab.b.address, 9000) as listener:
            with lab.a.entered():
                self._near = socket.create_connection((lab.b.address, 9000), timeout=5)
            self._far, _ = listener.accept()
        use_congestion_control(self._near, "cubic")
        for sock in (self._near, self._far):
            sock.settimeout(None)
        self._threads = [threading.Thread(target=work) for work in (self._send, self._take)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._near.sendall(bytes(65536))

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while count := len(self._far.recv(65536)):
                self.arrived += count

    def wait_for(self, count: int) -> None:
        """Until so many more bytes have arrived."""
        until = self.arrived + count
        wait_until(lambda: self.arrived >= until, f"{count} bytes of the other flow")

    def close(self) -> None:
        for sock in (self._near, self._far):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._near.close()
        self._far.close()


@contextlib.contextmanager
def transfer(lab: Lab, source: Path, folder: Path, *options: str) -> Iterator[tuple[Command, Command]]:
    listen = f"{lab.server.address}:7420"
    with (
        serving(listen, spawner=lab.server.popen) as (address, _),
        midair("send", "--json", *options, "--server", address, source, spawner=lab.a.popen) as sender,
        midair(
            *("receive", "--json", "--server", address, sender.event("code")["code"], "-o", folder, "-y"),
            spawner=lab.b.popen,
        ) as receiver,
    ):
        yield sender, receiver


def durable(receiver: Command) -> int:
    return int((receiver.of("progress") or [{"bytes": 0}])[-1]["bytes"])


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("none x none", delay=NEAR) as lab:
        lab.set_link("a", rate=RATE, queue=int(RATE / 8 * 4 * NEAR))
        yield lab


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    with path.open("wb") as file:
        for number in range(48):
            file.write(number.to_bytes(1, "big") * MIB)
    return path


def test_beside_another_flow_it_leaves_nearly_all_to_that_one(lab: Lab, source: Path, folder: Path) -> None:
    other = Other(lab)
    try:
        other.wait_for(SETTLING)
        with transfer(lab, source, folder, "--background") as (_, receiver):
            receiver.event("progress")
            other.wait_for(SETTLING)
            before = durable(receiver)
            other.wait_for(COUNTED)
            ours = durable(receiver) - before
    finally:
        other.close()
    assert ours < COUNTED * 0.2, f"{ours} bytes beside {COUNTED}"


def test_alone_it_takes_the_link(lab: Lab, source: Path, folder: Path) -> None:
    with transfer(lab, source, folder, "--background") as (sender, receiver):
        receiver.event("progress", lambda event: event["bytes"] > SETTLING)
        began, before = time.monotonic(), durable(receiver)
        receiver.event("progress", lambda event: event["bytes"] >= before + 2 * COUNTED)
        rate = (durable(receiver) - before) * 8 / (time.monotonic() - began)
        assert sender.of("tuned")[-1]["background"]
    assert rate > 0.5 * RATE, f"{rate / 1e6:.1f} Mbit/s"
