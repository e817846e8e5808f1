"""Which proxy the server is reached through: what was said to midair, else the environment's, as other programs take
it."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import replace

from midair.cli.settings import find_setting
from midair.config import ProxyURL, ServerURL
from midair.errors import UsageError

__all__ = ["choose_proxy", "named_in", "spared"]

_NONE = "none"
_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
"""In curl's order. HTTP_PROXY is not among them: the server may always speak TLS, and is asked for a tunnel."""


def choose_proxy(server: ServerURL, option: str | None, *, direct_only: bool) -> ServerURL:
    """The server with the proxy to use, if there is one. What was said to midair itself counts always, and the
    environment's neither for what NO_PROXY names nor for this machine itself.

    Raises: UsageError for a proxy that cannot be used, and for one where only direct connections are allowed.
    """
    setting = find_setting("proxy", option)
    if setting is not None:
        named = None if setting.text.strip().lower() == _NONE else (setting.source, setting.text)
    else:
        named = None if spared(server.host, server.port, _no_proxy(os.environ)) else named_in(os.environ)
    if named is None:
        return server
    source, text = named
    proxy = ProxyURL.parse(text, named_by=source)
    if direct_only:
        raise UsageError(
            f"--direct-only and a proxy ({source}) exclude each other: through a proxy only the relay is reached",
            hint="Allow the relay, or do without the proxy by --proxy none.",
        )
    return replace(server, proxy=proxy)


def named_in(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable that names a proxy, and what it says."""
    return next(((name, value) for name in _VARIABLES if (value := environment.get(name, "").strip())), None)


def _no_proxy(environment: Mapping[str, str]) -> str:
    return environment.get("no_proxy") or environment.get("NO_PROXY") or ""


def spared(host: str, port: int, no_proxy: str) -> bool:
    """Whether a host is reached without the environment's proxy: this machine, and what ``no_proxy`` names.

    That is a list of names, each of which stands for what is below it too, of addresses and of networks, each with a
    port or without; or ``*``.
    """
    name = host.lower().rstrip(".")
    address = _address(name)
    if name == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_names(entry.lower(), name, address, port) for entry in re.split(r"[\s,]+", no_proxy) if entry)


def _names(entry: str, name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    match = re.fullmatch(r"(\[[^]]*\]|[^:]*):(\d{1,5})", entry)
    if match is not None:
        if int(match[2]) != port:
            return False
        entry = match[1]
    entry = entry.strip("[]")
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except (ValueError, TypeError):
            return False
    domain = entry.removeprefix("*").strip(".")
    return bool(domain) and (name == domain or name.endswith("." + domain))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
