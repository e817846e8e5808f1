"""Finding a UPnP router: the search and its answers (UPnP Device Architecture 1.1, section 1.3)."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from urllib.parse import SplitResult, urlsplit

from midair.nat.mapping.http import Target
from midair.nat.mapping.outcome import MalformedError

__all__ = ["GROUP", "PORT", "decode_answer", "encode_search", "target_at"]

GROUP = IPv4Address("239.255.255.250")
PORT = 1900
ANSWER_BYTES_MAX = 2048
_PATH_CHARACTERS_MAX = 1024
_SEARCH_TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)


def encode_search(host: IPv4Address) -> list[bytes]:
    """Searches for routers of either version, to be sent to the group or to one host.

    A router of version 2 has to answer the search for version 1 as well; not each does. ``MX``, the seconds over which
    answers may be spread, is the shortest; to one host version 1.1 leaves it out, and version 1.0 hears nothing
    without it.
    """
    return [
        "\r\n".join(
            (
                "M-SEARCH * HTTP/1.1",
                f"HOST: {host}:{PORT}",
                'MAN: "ssdp:discover"',
                "MX: 1",
                f"ST: {target}",
                "",
                "",
            )
        ).encode("ascii")
        for target in _SEARCH_TARGETS
    ]


def decode_answer(data: bytes, sender: IPv4Address) -> Target:
    """Where the description is, of the router that answered; only at ``sender`` itself.

    Raises: MalformedError, and nothing else.
    """
    if len(data) > ANSWER_BYTES_MAX:
        raise MalformedError("the answer is too long")
    status, *lines = data.decode("latin-1").split("\r\n")
    if not status.startswith("HTTP/1.") or status.split(" ")[1:2] != ["200"]:
        raise MalformedError("not an answer to a search")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not _is_router(fields.get("st", "")):
        raise MalformedError("not a router")
    return target_at(sender, fields.get("location", ""))


def _is_router(search_target: str) -> bool:
    return any(search_target.startswith(each[:-1]) for each in _SEARCH_TARGETS)


def target_at(host: IPv4Address, url: str, base: Target | None = None) -> Target:
    """What a router's URL points at, if that is the router itself; relative ones count from ``base``.

    Raises: MalformedError: a URL to anywhere else, by name, or with characters that do not belong there, is refused.
    """
    if len(url) > _PATH_CHARACTERS_MAX or not url or not all("!" <= character <= "~" for character in url):
        raise MalformedError("no usable URL")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise MalformedError("no usable URL") from error
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not parts.scheme and not parts.netloc and base is not None:
        if not path.startswith("/"):
            path = f"{base.path.partition('?')[0].rpartition('/')[0]}/{path}"
        return Target(port=base.port, path=path)
    if not _is_at(host, parts):
        raise MalformedError("a URL that leads elsewhere")
    if port == 0 or not path.startswith("/"):
        raise MalformedError("no usable URL")
    return Target(port=80 if port is None else port, path=path)


def _is_at(host: IPv4Address, parts: SplitResult) -> bool:
    if parts.scheme != "http" or parts.username is not None or parts.password is not None:
        return False
    try:
        return ip_address(parts.hostname or "") == host
    except ValueError:
        return False
