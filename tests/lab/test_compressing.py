"""Content on a narrow link, compressed where it can be, by the real commands."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from midair.lab import Lab
from support import Command, midair, serving

pytestmark = pytest.mark.lab

MIB = 1 << 20
RATE = 40e6
"""Bits a second."""
WORDS = [random.Random(1).randbytes(5).hex().encode() for _ in range(4000)]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("none x none", delay=0.005) as lab:
        lab.set_link("a", rate=RATE, queue=200_000)
        yield lab


def send(lab: Lab, source: Path, folder: Path, *options: str) -> tuple[Command, Command]:
    listen = f"{lab.server.address}:7420"
    with (
        serving(listen, spawner=lab.server.popen) as (address, _),
        midair("send", "--json", *options, "--server", address, source, spawner=lab.a.popen) as sender,
        midair(
            *("receive", "--json", "--server", address, sender.event("code")["code"], "-o", folder, "-y"),
            spawner=lab.b.popen,
        ) as receiver,
    ):
        assert (sender.wait(), receiver.wait()) == (0, 0), sender.errors + receiver.errors
    assert (folder / source.name).read_bytes() == source.read_bytes()
    assert sender.done["bytes_sent"] == source.stat().st_size
    return sender, receiver


def words(count: int) -> bytes:
    """Like a log: it packs to less than a half, and never repeats itself."""
    chosen = random.Random(2)
    return b" ".join(chosen.choices(WORDS, k=count))


def test_text_takes_less_than_it_is_and_both_sides_have_all_of_it(lab: Lab, tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "log"
    source.write_bytes(words(700_000))
    sender, receiver = send(lab, source, folder)
    assert sender.done["bytes_saved"] > source.stat().st_size // 3
    assert receiver.done["bytes_sent"] == receiver.done["bytes_hashed"] == source.stat().st_size


@pytest.mark.parametrize(
    ("options", "content"), [(("--no-compress",), words(150_000)), ((), random.Random(3).randbytes(2 * MIB))]
)
def test_where_it_may_not_be_or_does_not_pack_it_goes_as_it_is(
    lab: Lab, tmp_path: Path, folder: Path, options: tuple[str, ...], content: bytes
) -> None:
    source = tmp_path / "file"
    source.write_bytes(content)
    sender, _ = send(lab, source, folder, *options)
    assert sender.done["bytes_saved"] == 0
