"""Which addresses this machine has."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from midair.endpoint import Family
from midair.port import is_own_address, own_address, own_addresses

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 192.0.2.0
        /24 link UNICAST
Local:
  +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
  +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.10
           /32 host LOCAL
        |-- 192.0.2.11
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""
INTERFACES = """20010db8000500000000000000000010 02 40 00 80     eth0
20010db8000500000000000000000011 02 40 00 01     eth0
20010db8000500000000000000000012 02 40 00 a0     eth0
fe800000000000000000000000000001 02 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_listed_is_ours(family: Family) -> None:
    assert all(is_own_address(address) for address in own_addresses(family))


def test_the_system_s_lists_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without networks, loopback and link-local addresses, and those that will be gone tomorrow."""
    files: dict[Family, Path] = {4: tmp_path / "fib_trie", 6: tmp_path / "if_inet6"}
    files[4].write_text(TRIE)
    files[6].write_text(INTERFACES)
    monkeypatch.setattr(own_address, "_FILES", files)
    assert own_addresses(4) == [ip_address("192.0.2.10"), ip_address("192.0.2.11")]
    assert own_addresses(6) == [ip_address("2001:db8:5::10")]


def test_a_system_without_such_lists_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(own_address, "_FILES", {4: tmp_path / "nothing"})
    assert own_addresses(4) == []
