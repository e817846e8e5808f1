"""Word that one side has left a connection, for the other, who may still wait there and hear nothing.

A connection that dies is not always noticed by both at the same time. A computer whose address has changed knows it;
what the other one gets is silence, which may also be an outage that will be over soon. But both reach the server. So
who leaves in a silence goes to the relay, with a token that only the two have; who hears nothing for a while goes there
too, and both meet again seconds earlier. Nothing is left or looked for there as long as the connection is well.

The word is proved by bytes that only the two can make, so whoever runs the relay cannot say it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import Final

from midair.channel import MovingChannel
from midair.config import ServerURL
from midair.errors import QuotaError
from midair.port import retire, seconds_since_heard
from midair.relay import RelayError, open_leg
from midair.rendezvous.keys import derive_key

__all__ = ["Leaving"]

SUSPICION_SECONDS: Final = 1.25
"""After so long without a byte the word is looked for: one sign of life is late. Whoever leaves because of a silence
knows by then that it is one."""
LOOK_SECONDS: Final = 0.25
"""Between two looks at the connection."""
WAIT_SECONDS: Final = 8.0
"""How long the word waits for the other side, and the other way round; a silence is over after six."""

_LEAVES, _STAYS = b"leaves\0\0", b"stays\0\0\0"
_log = logging.getLogger("midair.session")


class Leaving:
    """One side's part in one round, whose session key is ``key``."""

    def __init__(self, server: ServerURL, key: bytes, role: str) -> None:
        self._server = server
        self._key = key
        self._role = role
        self.suspicious = False
        """Whether there was a silence."""
        self.heard = False
        """Whether the other side has said that it has left."""

    async def watch(self, channel: MovingChannel) -> None:
        """Aborts ``channel`` when the other side has left it. Goes on until it is cancelled."""
        other = "receive" if self._role == "send" else "send"
        while True:
            # Where that is not known there is no suspicion.
            if (seconds_since_heard(channel.incoming) or 0.0) >= SUSPICION_SECONDS:
                self.suspicious = True
                if await self._hear(other):
                    self.heard = True
                    channel.abort()
                    return
            await asyncio.sleep(LOOK_SECONDS)

    async def tell(self) -> None:
        """That we have left, should the other side look for it. Takes WAIT_SECONDS at most, and never raises."""
        try:
            sock = await open_leg(self._server, self._token(self._role), _LEAVES, timeout=WAIT_SECONDS)
        except (RelayError, QuotaError) as error:
            _log.debug("nobody asked whether we had left: %s", error)
            return
        try:
            await asyncio.get_running_loop().sock_sendall(sock, self._proof(self._role))
        except OSError as error:
            _log.debug("the word that we have left was lost: %s", error)
        finally:
            await retire(sock)

    async def _hear(self, who: str) -> bool:
        try:
            sock = await open_leg(self._server, self._token(who), _STAYS, timeout=WAIT_SECONDS)
        except (RelayError, QuotaError) as error:
            _log.debug("no word that the other side has left: %s", error)
            return False
        proof, said = self._proof(who), b""
        loop = asyncio.get_running_loop()
        with sock:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    while len(said) < len(proof) and (piece := await loop.sock_recv(sock, len(proof) - len(said))):
                        said += piece
            except OSError as error:  # TimeoutError is one
                _log.debug("the word that the other side has left was lost: %s", error)
        return hmac.compare_digest(said, proof)

    def _token(self, who: str) -> bytes:
        return derive_key(self._key, f"midair left {who} token")

    def _proof(self, who: str) -> bytes:
        return derive_key(self._key, f"midair left {who} proof")
