"""What people write where a proxy is to be named."""

from __future__ import annotations

import pytest

from midair.config import ProxyURL, ServerURL
from midair.errors import UsageError


@pytest.mark.parametrize(
    ("text", "shown", "login"),
    [
        ("socks5://10.0.0.1:9050", "socks5://10.0.0.1:9050", ("", "")),
        ("socks5h://proxy.example", "socks5://proxy.example:1080", ("", "")),
        ("http://proxy.example", "http://proxy.example:80", ("", "")),
        ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128", ("", "")),
        ("proxy:3128", "http://proxy:3128", ("", "")),
        ("ann:s%40cret@proxy:3128", "http://proxy:3128", ("ann", "s@cret")),
        ("socks5://ann@[2001:db8::1]:1080", "socks5://[2001:db8::1]:1080", ("ann", "")),
        ("http://ann:a:b@proxy:1", "http://proxy:1", ("ann", "a:b")),
    ],
)
def test_these_are_understood_and_shown_without_who_uses_them(text: str, shown: str, login: tuple[str, str]) -> None:
    proxy = ProxyURL.parse(text)
    assert str(proxy) == shown
    assert (proxy.user, proxy.password) == login


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "https://ann:hunter2@proxy:443",
        "socks4://ann:hunter2@proxy:1080",
        "http://ann:hunter2@proxy:99999",
        "http://ann:hunter2@proxy:0",
        "http://ann:hunter2@proxy:3128/path",
        "http://ann:hunter2/more@proxy:3128",
        "http://ann:hunter2%00@proxy:3128",
        "http://ann:hunter2%ff@proxy:3128",
        "http://ann%3Abell:hunter2@proxy",
        "socks5://ann:" + "hunter2" * 40 + "@proxy",
        "http://ann:hunter2@[proxy",
        "ftp://proxy",
    ],
)
def test_these_are_refused_without_a_password_in_the_words(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ProxyURL.parse(text, named_by="ALL_PROXY")
    assert caught.value.message.startswith("ALL_PROXY: ")
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_no_way_to_show_a_server_shows_the_password_of_its_proxy() -> None:
    proxy = ProxyURL.parse("http://ann:hunter2@proxy:3128")
    server = ServerURL(secure=False, host="example.org", port=7420, proxy=proxy)
    for shown in (str(server), repr(server), str(proxy), repr(proxy)):
        assert "hunter2" not in shown
        assert "ann" not in shown
