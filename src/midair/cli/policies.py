"""What connections may be used, and over what: from options, environment and configuration file to
``TraversalOptions``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from midair.cli.proxies import choose_proxy
from midair.cli.settings import Setting, find_setting
from midair.config import PathPolicy, ServerURL, TraversalOptions
from midair.endpoint import Family
from midair.errors import NoPathError, UsageError
from midair.port import check_congestion_control

__all__ = ["Policies", "add_help", "find_congestion_control", "gives_way", "may_compress"]

_PATHS: dict[str, PathPolicy] = {"auto": "auto", "direct": "direct", "relay": "relay"}
_FAMILIES: dict[str, tuple[Family, ...]] = {"4": (4,), "6": (6,), "both": (4, 6)}
_YES_OR_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The options of the command line, as they were given; None and False are: not at all."""

    direct_only: bool = False
    relay_only: bool = False
    path: str | None = None
    ipv4: bool = False
    ipv6: bool = False
    port: str | None = None
    portmap: bool | None = None
    proxy: str | None = None

    def traversal(self) -> TraversalOptions:
        """Raises: UsageError for what does not go together, or cannot be understood."""
        return TraversalOptions(
            policy=self._policy(), families=self.families(), local_port=self._local_port(), port_mapping=self.mapping()
        )

    def way_to(self, server: ServerURL) -> ServerURL:
        """The server, with the proxy through which it is reached, if there is one. Raises: UsageError."""
        return choose_proxy(server, self.proxy, direct_only=self._policy() == "direct")

    def families(self) -> tuple[Family, ...]:
        """Raises: UsageError."""
        if self.ipv4 and self.ipv6:
            raise UsageError("-4 and -6 exclude each other", hint="Without either of them both are used.")
        option = "4" if self.ipv4 else "6" if self.ipv6 else None
        return _one_of(_FAMILIES, find_setting("ip", option)) or (4, 6)

    def mapping(self) -> bool:
        """Whether the home router may be asked for a port. Raises: UsageError."""
        found = _yes_or_no("portmap", self.portmap)
        return True if found is None else found

    def _policy(self) -> PathPolicy:
        said = {
            **({"--direct-only": "direct"} if self.direct_only else {}),
            **({"--relay-only": "relay"} if self.relay_only else {}),
            **({f"--path {self.path}": self.path} if self.path else {}),
        }
        if len(set(said.values())) > 1:
            raise UsageError(
                f"{' and '.join(said)} exclude each other",
                hint="Without any of them a connection is direct where it can be, and else goes through the relay.",
            )
        return _one_of(_PATHS, find_setting("path", next(iter(said.values()), None))) or "auto"

    def _local_port(self) -> int | tuple[int, int]:
        setting = find_setting("port", self.port)
        if setting is None:
            return 0
        match = _PORTS.fullmatch(setting.text.strip())
        low = int(match[1]) if match else -1
        high = int(match[2] or low) if match else -1
        if not (1 <= low <= high <= 65535 or low == high == 0):
            raise UsageError(
                f"{setting.source}: {setting.text[:40]!r} is no port and no range of ports",
                hint="Write it as 50000 or 50000-50010; ports go up to 65535.",
            )
        return low if low == high else (low, high)


def find_congestion_control(option: str | None) -> str | None:
    """The one that a person has named anywhere. Raises: UsageError, which says what there is, when it cannot be had."""
    setting = find_setting("cc", option)
    if setting is None:
        return None
    name = setting.text.strip()
    try:
        check_congestion_control(name)
    except UsageError as error:
        raise UsageError(f"{setting.source}: {error.message}", hint=error.hint) from None
    return name


def may_compress(option: bool | None) -> bool:
    """Whether content may be compressed on its way. Raises: UsageError."""
    return _yes_or_no("compress", option) is not False


def gives_way(option: bool | None) -> bool:
    """Whether everybody else's traffic is to go first. Raises: UsageError."""
    return bool(_yes_or_no("background", option))


def add_help(error: NoPathError, policy: PathPolicy) -> None:
    """What a person can do about it, in the command line's words."""
    if error.hint:
        return
    if policy == "direct":
        error.hint = (
            "Without --direct-only the relay would have carried it. UPnP in a router, or a port forwarded there and "
            "named by --port, on either side, helps; `midair check` tells more."
        )
    elif policy == "relay":
        error.hint = "Without --relay-only a direct connection would have been tried as well."
    else:
        error.hint = "`midair check` tells what the network here does to a connection."


def _yes_or_no(name: str, option: bool | None) -> bool | None:
    """None when nothing was said. Raises: UsageError."""
    found: bool | None = _one_of(_YES_OR_NO, find_setting(name, None if option is None else ("no", "yes")[option]))
    return found


def _one_of(values: dict[str, Any], setting: Setting | None) -> Any:
    """None when nothing was said. Raises: UsageError."""
    if setting is None:
        return None
    try:
        return values[setting.text.strip().lower()]
    except KeyError:
        raise UsageError(
            f"{setting.source}: {setting.text[:40]!r} is not known", hint=f"It can be {', '.join(values)}."
        ) from None
