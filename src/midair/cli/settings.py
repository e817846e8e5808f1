"""What is the same every time. The command line wins, then the environment, then the configuration file."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from midair.config import ServerURL
from midair.errors import UsageError

__all__ = ["AS_IF_NOTHING_WAS_SET", "Setting", "check_path", "config_path", "find_setting", "server_from"]

_KNOWN: dict[str, tuple[type, ...]] = {
    "background": (bool,),
    "cc": (str,),
    "compress": (bool,),
    "ip": (str, int),
    "path": (str,),
    "port": (str, int),
    "portmap": (bool,),
    "proxy": (str,),
    "server": (str,),
}
"""The names in the file, and what each may be there. In the environment the same is called MIDAIR_PORT."""


AS_IF_NOTHING_WAS_SET = {
    "MIDAIR_BACKGROUND": "no",
    "MIDAIR_COMPRESS": "yes",
    "MIDAIR_IP": "both",
    "MIDAIR_PATH": "auto",
    "MIDAIR_PORT": "0",
    "MIDAIR_PORTMAP": "yes",
    "MIDAIR_PROXY": "none",
}
"""An environment in which neither the file nor another proxy counts."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What somebody has said, as text, and where: for what has to be said about it."""

    text: str
    source: str


def find_setting(name: str, option: str | None) -> Setting | None:
    """What the option says that is called like the setting, else the environment, else the file; None when all are
    silent.

    Raises: UsageError for a file that cannot be understood.
    """
    in_file = _read_file(config_path()).get(name)  # looked at first, because a broken file is worth knowing of
    if option is not None:
        return Setting(option, f"--{name}")
    variable = f"MIDAIR_{name.upper()}"
    if told := os.environ.get(variable):
        return Setting(told, variable)
    return None if in_file is None else Setting(in_file, f"{config_path()}: {name}")


def config_path() -> Path:
    """Where the file is looked for: ``config.toml`` in the system's folder for midair's settings."""
    import platformdirs

    return platformdirs.user_config_path("midair") / "config.toml"


def check_path() -> Path:
    """Where `midair check` leaves what it finds for the transfers that follow, in the system's folder for caches."""
    import platformdirs

    return platformdirs.user_cache_path("midair") / "networks.json"


def server_from(option: str | None) -> ServerURL | None:
    """The server named by option, environment or file, else None.

    Raises: UsageError for a file or an address that cannot be understood.
    """
    setting = find_setting("server", option or None)
    if setting is None:
        return None
    url = ServerURL.parse(setting.text)
    if url.secret and option and option != os.environ.get("MIDAIR_SERVER"):
        raise UsageError(
            "a secret in a command line is seen by everybody on this computer",
            hint=f"Put the server with its secret into MIDAIR_SERVER, or into {config_path()}.",
        )
    return url


def _read_file(path: Path) -> dict[str, str]:
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    unknown = sorted(set(settings) - set(_KNOWN))
    if unknown:
        raise UsageError(
            f"{path}: unknown setting {unknown[0]!r}", hint=f"Known settings: {', '.join(sorted(_KNOWN))}."
        )
    for name, value in settings.items():
        if type(value) not in _KNOWN[name]:
            wanted = 'text, such as "ws://example.org:7420"' if name == "server" else "text in quotes"
            raise UsageError(f"{path}: {name} must be {'true or false' if bool in _KNOWN[name] else wanted}")
    return {name: ("no", "yes")[value] if isinstance(value, bool) else str(value) for name, value in settings.items()}
