"""Where a Redis is and how it is entered: ``redis://``, ``rediss://`` (with TLS) and ``unix://``. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from midair.errors import UsageError

__all__ = ["RedisAddress"]

DEFAULT_PORT = 6379

_HINT = (
    "Write it as redis://HOST:PORT/0, rediss:// with TLS, or unix:///PATH; who logs in is USER:PASSWORD@ before the "
    "host, with @ : / # ? as %40 %3A %2F %23 %3F."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """``str`` leaves out who logs in, so that no password is ever shown."""

    host: str | None = None
    """None: behind the Unix socket at ``path``."""
    port: int = DEFAULT_PORT
    path: str = ""
    secure: bool = False
    ca_file: str | None = None
    """Authorities to trust instead of the system's."""
    database: int = 0
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> RedisAddress:
        """Raises: UsageError, in which nothing of ``text`` stands: there may be a password in it."""
        try:
            parts = urlsplit(text.strip())
            return cls._parse(text, parts.scheme)
        except ValueError as error:
            raise UsageError("the address of the store cannot be understood", hint=_HINT) from error

    @classmethod
    def _parse(cls, text: str, scheme: str) -> RedisAddress:
        parts = urlsplit(text.strip())
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
        database, ca_file = query.pop("db", ["0"])[-1], query.pop("ssl_ca_certs", [None])[-1]
        if query or parts.fragment or scheme not in ("redis", "rediss", "unix"):
            raise ValueError("unknown scheme or option")
        path = unquote(parts.path)
        local = scheme == "unix"
        if not local and path.strip("/"):
            database = path.strip("/")
        if not database.isdecimal() or (not path if local else not parts.hostname):
            raise ValueError("no place, or no database")
        return cls(
            host=None if local else parts.hostname,
            port=parts.port or DEFAULT_PORT,
            path=path if local else "",
            secure=scheme == "rediss",
            ca_file=ca_file,
            database=int(database),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.host is None else f"redis://{self.host}:{self.port}/{self.database}"
