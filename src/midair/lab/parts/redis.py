"""A Redis server in a lab host, which keeps nothing on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midair.lab.parts.service import Service, program

if TYPE_CHECKING:
    from midair.lab.namespace import Namespace

__all__ = ["RedisServer"]


class RedisServer(Service):
    """A running server, open to all; a context manager.

    Raises: ServiceUnavailable.
    """

    def __init__(self, host: Namespace, *, address: str, port: int = 6379) -> None:
        settings = (
            f"bind {address}",
            f"port {port}",
            "protected-mode no",
            # No dump is written, nor one read that happens to lie in the current folder: nothing can lie there.
            'save ""',
            "dir /proc",
            "appendonly no",
            "daemonize no",
            'logfile ""',
        )
        super().__init__(
            host,
            [program("redis-server", "redis-server"), "{configuration}"],
            listens=[("tcp", port)],
            configuration="\n".join((*settings, "")),
        )
        self.url = f"redis://{f'[{address}]' if ':' in address else address}:{port}"
