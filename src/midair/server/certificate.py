"""The server's certificate, which is renewed while it serves: new connections get the new one."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from midair.errors import UsageError

__all__ = ["Certificate"]

log = logging.getLogger("midair.server.certificate")

LOOK_SECONDS = 30.0
"""How often the files are looked at."""


class Certificate:
    """A chain and its key, in files."""

    def __init__(self, chain: str, key: str | None = None) -> None:
        """Raises: UsageError."""
        self._chain, self._key = chain, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._look()
        try:
            self.context.load_cert_chain(chain, key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"the certificate cannot be used: {error}") from error

    def reload(self) -> bool:
        """Reads the files again; when they cannot be used, the old certificate stays, and that is logged."""
        self._seen = self._look()
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A context that was given a chain without its key has lost both.
            trial.load_cert_chain(self._chain, self._key)
            self.context.load_cert_chain(self._chain, self._key)
        except (OSError, ssl.SSLError) as error:
            log.error("the certificate cannot be read again, the old one stays: %s", error)
            return False
        log.info("the certificate was read again")
        return True

    async def watch(self) -> None:
        """Reads them again whenever they have changed; until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._look() != self._seen:
                self.reload()

    def _look(self) -> tuple[object, ...]:
        seen = []
        for name in (self._chain, self._key):
            try:
                status = Path(name).stat() if name is not None else None
            except OSError:
                status = None
            seen.append(status and (status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(seen)
