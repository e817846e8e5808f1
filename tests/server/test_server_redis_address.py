"""Where the shared store is: what is understood, and that no password is ever shown."""

from __future__ import annotations

import pytest

from midair.errors import UsageError
from midair.server.shared.redis_address import RedisAddress


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis://10.0.0.5", RedisAddress(host="10.0.0.5")),
        ("redis://10.0.0.5:6380/3", RedisAddress(host="10.0.0.5", port=6380, database=3)),
        ("redis://[::1]:6380", RedisAddress(host="::1", port=6380)),
        ("redis://h?db=4", RedisAddress(host="h", database=4)),
        ("rediss://u:p%40%2F@h/0", RedisAddress(host="h", secure=True, user="u", password="p@/")),
        ("rediss://h?ssl_ca_certs=/ca.pem", RedisAddress(host="h", secure=True, ca_file="/ca.pem")),
        ("redis://:only@h", RedisAddress(host="h", password="only")),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock")),
        ("unix://:p@/run/redis.sock?db=2", RedisAddress(path="/run/redis.sock", password="p", database=2)),
    ],
)
def test_an_address_is_understood(text: str, address: RedisAddress) -> None:
    parsed = RedisAddress.parse(text)
    assert parsed == address
    assert (parsed.user, parsed.password) == (address.user, address.password)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.5:6379",
        "http://:hidden@h",
        "redis://",
        "redis://:hidden@",
        "redis://:hidden@h/x",
        "redis://:hidden@h:99999",
        "redis://:hidden@h:hidden",
        "redis://:hid#den@h",
        "redis://h?socket_timeout=5",
        "unix://",
        "redis://[:hidden",
    ],
)
def test_what_is_none_is_said_without_what_was_said(text: str) -> None:
    with pytest.raises(UsageError, match="the address of the store cannot be understood") as caught:
        RedisAddress.parse(text)
    assert "hid" not in f"{caught.value} {caught.value.hint}"


def test_a_password_is_never_shown() -> None:
    address = RedisAddress.parse("redis://somebody:hidden@h/1")
    assert f"{address}" == "redis://h:6379/1"
    assert "hidden" not in repr(address)
    assert "somebody" not in repr(address)
