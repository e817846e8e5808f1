"""Real programs in the lab: a port mapping daemon, a database, a TURN server, proxies.

with Miniupnpd(router), RedisServer(lab.server, address=lab.server.address):
    ...
"""

from midair.lab.parts.miniupnpd import Miniupnpd
from midair.lab.parts.proxies import HttpProxy, SocksProxy
from midair.lab.parts.redis import RedisServer
from midair.lab.parts.service import Service, ServiceUnavailable
from midair.lab.parts.turn import TurnServer

__all__ = [
    "HttpProxy",
    "Miniupnpd",
    "RedisServer",
    "Service",
    "ServiceUnavailable",
    "SocksProxy",
    "TurnServer",
]
