"""midair sends files straight from one computer to another over TCP, through the NATs in between.

What stands here is public; everything else may change tomorrow. Names are imported when they are first used, so that
``import midair`` costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""What type checkers take for true. Importing ``typing`` for it would double what ``import midair`` costs."""

if TYPE_CHECKING:
    from midair.config import ProxyURL, ServerLimits, ServerURL, TraversalOptions
    from midair.connection import Connection, connect, host, punch
    from midair.endpoint import Endpoint
    from midair.errors import MidairError
    from midair.port import LocalPort
    from midair.server import Server
    from midair.session import ReceiveSession, SendSession, Summary

__version__ = "0.1.0"

__all__ = [
    "Connection",
    "Endpoint",
    "LocalPort",
    "MidairError",
    "ProxyURL",
    "ReceiveSession",
    "SendSession",
    "Server",
    "ServerLimits",
    "ServerURL",
    "Summary",
    "TraversalOptions",
    "__version__",
    "connect",
    "host",
    "punch",
]

_HOMES = {
    "Connection": "connection",
    "Endpoint": "endpoint",
    "LocalPort": "port",
    "MidairError": "errors",
    "ProxyURL": "config",
    "ReceiveSession": "session",
    "SendSession": "session",
    "Server": "server",
    "ServerLimits": "config",
    "ServerURL": "config",
    "Summary": "session",
    "TraversalOptions": "config",
    "connect": "connection",
    "host": "connection",
    "punch": "connection",
}


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'midair' has no attribute {name!r}") from None
    from importlib import import_module

    return getattr(import_module(f"midair.{home}"), name)
