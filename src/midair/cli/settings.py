"""The configuration file: what is the same every time. The command line wins, then the environment, then the file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from midair.config import ServerURL
from midair.errors import UsageError

__all__ = ["config_path", "server_from"]

_KNOWN = {"server"}


def config_path() -> Path:
    """Where the file is looked for: ``config.toml`` in the system's folder for midair's settings."""
    import platformdirs

    return platformdirs.user_config_path("midair") / "config.toml"


def server_from(option: str | None) -> ServerURL | None:
    """The server named by option or environment (click has looked there), else by the file, else None.

    Raises: UsageError for a file or an address that cannot be understood.
    """
    if option:
        return ServerURL.parse(option)
    path = config_path()
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    unknown = sorted(set(settings) - _KNOWN)
    if unknown:
        raise UsageError(
            f"{path}: unknown setting {unknown[0]!r}", hint=f"Known settings: {', '.join(sorted(_KNOWN))}."
        )
    server = settings.get("server")
    if server is None:
        return None
    if not isinstance(server, str):
        raise UsageError(f'{path}: server must be text, such as "ws://example.org:7420"')
    return ServerURL.parse(server)
