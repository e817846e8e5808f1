"""Nothing of a wire outlives the program that built it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from midair.lab.wire import Wire
from midair.lab.wire.tun import can_open_tun

pytestmark = pytest.mark.lab

KINDS = [
    pytest.param("TUN", marks=pytest.mark.skipif(not can_open_tun(), reason="/dev/net/tun is closed to us")),
    "veth",
]


@pytest.mark.parametrize("kind", KINDS)
def test_after_kill_9_there_is_no_process_namespace_interface_or_file(kind: str, tmp_path: Path) -> None:
    """An interface lives in a namespace, so it is gone when that is; a namespace is gone when the kernel has taken back
    the number by which we know it."""
    interfaces_before = {name for _, name in socket.if_nameindex()}
    with _victim(kind, tmp_path) as (victim, built):
        descriptors = [os.open(f"/proc/{victim.pid}/fd/{number}", os.O_RDONLY) for number in built["namespaces"]]
        numbers = {victim.pid * 2 + index for index in range(len(descriptors))}
        for number, descriptor in zip(numbers, descriptors, strict=True):
            _give_number(descriptor, number)
            os.close(descriptor)
        assert numbers <= _numbered_namespaces()
        victim.kill()
        victim.wait(timeout=5)
        assert _eventually(lambda: not Path(f"/proc/{built['wire']}").exists())
        assert _eventually(lambda: not numbers & _numbered_namespaces())
    assert {name for _, name in socket.if_nameindex()} == interfaces_before
    assert list(tmp_path.iterdir()) == []


def test_a_wire_that_hangs_is_killed_with_its_parent_all_the_same(tmp_path: Path) -> None:
    with _victim("TUN" if can_open_tun() else "veth", tmp_path) as (victim, built):
        os.kill(built["wire"], 19)  # SIGSTOP: it can see no end of its input now
        victim.kill()
        victim.wait(timeout=5)
        assert _eventually(lambda: not Path(f"/proc/{built['wire']}").exists())


def test_a_wire_does_not_notice_when_the_thread_that_made_it_ends() -> None:
    made: list[Wire] = []
    thread = threading.Thread(target=lambda: made.append(Wire()))
    thread.start()
    thread.join()
    [wire] = made
    with wire:
        assert not _eventually(lambda: not Path(f"/proc/{wire.pid}").exists(), seconds=0.3)


def test_closing_a_wire_ends_its_process() -> None:
    with Wire() as wire:
        process = wire.pid
        assert Path(f"/proc/{process}").exists()
    assert not Path(f"/proc/{process}").exists()


@contextlib.contextmanager
def _victim(kind: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    program = Path(__file__).with_name("wire_victim.py")
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [sys.executable, str(program), kind],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as victim:
        try:
            assert victim.stdout is not None
            assert select.select([victim.stdout], [], [], 10.0)[0]
            yield victim, json.loads(victim.stdout.readline())
        finally:
            victim.kill()


def _eventually(condition: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _give_number(descriptor: int, number: int) -> None:
    """A number for a namespace, in ours: the kernel forgets it when the namespace is gone (RTM_NEWNSID)."""
    attributes = struct.pack("=HHi", 8, 1, number) + struct.pack("=HHI", 8, 3, descriptor)
    [error] = [kind for kind, _ in _ask(88, 0x5, attributes) if kind == 2]
    assert error


def _numbered_namespaces() -> set[int]:
    """RTM_GETNSID, all of them."""
    return {struct.unpack_from("=i", body, 8)[0] for kind, body in _ask(90, 0x301, b"") if kind == 88}


def _ask(kind: int, flags: int, attributes: bytes) -> list[tuple[int, bytes]]:
    message = struct.pack("=IHHIIB3x", 20 + len(attributes), kind, flags, 0, 0, 0) + attributes
    answers = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        link.settimeout(5.0)
        link.send(message)
        while True:
            data = link.recv(65536)
            while data:
                length, found, _, _, _ = struct.unpack_from("=IHHII", data)
                answers.append((found, data[16:length]))
                if found == 2:
                    code = struct.unpack_from("=i", data, 16)[0]
                    assert code == 0, os.strerror(-code)
                data = data[(length + 3) & ~3 :]
                if found in (2, 3):  # an acknowledgement, or the end of a dump
                    return answers
