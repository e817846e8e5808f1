"""The experiment of 2007 against what Linux was measured to do."""

from __future__ import annotations

import socket

import pytest

from midair.port.matrix import SocketRow, socket_row, socket_table

LINUX = """
reuseaddr reuseport order             bind        listen      connect     second_connect
no        no        listen-then-bind  EADDRINUSE  ok          EADDRINUSE  EADDRINUSE
no        no        bind-then-listen  EADDRINUSE  EADDRINUSE  EADDRINUSE  EADDRINUSE
yes       no        listen-then-bind  EADDRINUSE  ok          EADDRINUSE  EADDRINUSE
yes       no        bind-then-listen  ok          ok          ok          EADDRINUSE
no        yes       listen-then-bind  ok          ok          ok          EADDRNOTAVAIL
no        yes       bind-then-listen  ok          ok          ok          EADDRNOTAVAIL
yes       yes       listen-then-bind  ok          ok          ok          EADDRNOTAVAIL
yes       yes       bind-then-listen  ok          ok          ok          EADDRNOTAVAIL
"""


def as_text(rows: list[SocketRow]) -> list[list[str]]:
    def word(value: bool) -> str:
        return "yes" if value else "no"

    return [
        [word(row.reuseaddr), word(row.reuseport), row.order, row.bind, row.listen, row.connect, row.second_connect]
        for row in rows
    ]


def test_the_table_is_the_measured_one() -> None:
    assert as_text(socket_table()) == [line.split() for line in LINUX.strip().splitlines()[1:]]


def test_an_option_the_system_lacks_is_shown_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    row = socket_row(reuseaddr=True, reuseport=True, order="listen-then-bind")
    assert (row.bind, row.listen, row.connect, row.second_connect) == ("ENOPROTOOPT",) * 4
