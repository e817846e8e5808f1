"""Through a proxy: SOCKS 5 and HTTP CONNECT, each a pure handshake, and the driver of both."""

from __future__ import annotations

from midair.proxy.tunnel import open_tunnel

__all__ = ["open_tunnel"]
