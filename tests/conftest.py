"""Fixtures for everybody. Its being here also puts this folder on the path, so that tests can import ``support``."""

from __future__ import annotations

import os
import pty
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Command, serving

__all__: list[str] = []

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts into the background so. The commands that tests start would inherit it, and be deaf to
    # Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def server() -> Iterator[str]:
    """The ws:// address of a real ``midair serve`` on loopback."""
    with serving() as (address, _):
        yield address


@pytest.fixture
def server_command() -> Iterator[tuple[str, Command]]:
    """The same, with the running command, to be killed."""
    with serving() as pair:
        yield pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a receiver puts things."""
    target = tmp_path / "received"
    target.mkdir()
    return target


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """One to send from, one to receive into."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    return here, there


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: ours, and the one for a command."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)
