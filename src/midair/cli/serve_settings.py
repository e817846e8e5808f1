"""What ``midair serve`` is told: the command line, over the environment, over a file, over the defaults.

    listen = ["0.0.0.0:7420", "[::]:7420"]
    cert = "/etc/midair/cert.pem"
    store = "redis://10.0.0.5:6379/0"

    [limits]
    relay_bytes = 10_000_000_000

What can stand under ``[limits]`` is :class:`midair.config.ServerLimits`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from midair.config import ServerLimits
from midair.errors import UsageError

__all__ = ["ServeSettings", "load_settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """All of it."""

    listen: list[str] = field(default_factory=list)
    """HOST:PORT; none: the default port, of all addresses."""
    cert: str | None = None
    key: str | None = None
    store: str | None = None
    """Where the nodes share what they know; None: in this process alone."""
    node_address: str | None = None
    proxied_from: list[str] = field(default_factory=list)
    """Addresses and networks of load balancers that speak the PROXY protocol."""
    secret_file: str | None = None
    """For a private server: the secrets that let people in, one on each line."""
    motd: str | None = None
    log: Literal["text", "json"] = "text"
    limits: ServerLimits = field(default_factory=ServerLimits)


def load_settings(config: str | None, options: dict[str, Any]) -> ServeSettings:
    """``options`` as click gives them, None or empty where nothing was said. Raises: UsageError."""
    settings = ServeSettings() if config is None else _from_file(Path(config))
    given = {name: value for name, value in options.items() if value not in (None, ())}
    limits = {name: given.pop(name) for name in ("relay_bytes", "drain_seconds") if name in given}
    settings = replace(settings, **given, limits=replace(settings.limits, **limits))
    if settings.key is not None and settings.cert is None:
        raise UsageError("--key needs --cert")
    if settings.node_address is not None and settings.store is None:
        raise UsageError("--node-address needs --store")
    return settings


def _from_file(path: Path) -> ServeSettings:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        _check_names(table, ServeSettings)
        limits = table.get("limits", {})
        if isinstance(limits, dict):
            _check_names(limits, ServerLimits)
            for name, value in limits.items():
                if isinstance(value, int | float) and value < 0:
                    raise UsageError(f"{path}: limits.{name} is below 0")
        return msgspec.convert(table, ServeSettings)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: {error}") from error


def _check_names(table: dict[str, Any], known: type[Any]) -> None:
    names = [each.name for each in fields(known)]
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise UsageError(f"unknown setting {unknown[0][:60]!r}", hint=f"Known settings: {', '.join(names)}.")
