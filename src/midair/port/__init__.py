"""One port, many sockets: the only place that calls setsockopt, bind, listen and connect.

:class:`LocalPort` is what a punch needs: one port number that listens and dials. The rest are ordinary connections, and
closing them with care.
"""

from midair.port.closing import abort, retire
from midair.port.congestion import (
    check_congestion_control,
    congestion_control_of,
    congestion_controls,
    use_congestion_control,
)
from midair.port.descriptors import make_room_for
from midair.port.failures import ConnectFailedError, ConnectFailure, PortUnavailableError, classify
from midair.port.hearing import seconds_since_heard
from midair.port.listening import accept, listen_tcp
from midair.port.local_port import LocalPort
from midair.port.matrix import SocketRow, socket_table
from midair.port.observed_dial import Answer, DialOutcome, ObservedDial
from midair.port.outgoing import connect_tcp, resolve
from midair.port.own_address import is_own_address, own_addresses, source_address, source_towards
from midair.port.pacing import PathReading, check_pacing, pace, read_path
from midair.port.probe import probe_strategy
from midair.port.rules import Strategy
from midair.port.tuning import allow_unsent, tune_for_bulk
from midair.port.udp import hear_group, open_datagrams, open_multicast

__all__ = [
    "Answer",
    "ConnectFailedError",
    "ConnectFailure",
    "DialOutcome",
    "LocalPort",
    "ObservedDial",
    "PathReading",
    "PortUnavailableError",
    "SocketRow",
    "Strategy",
    "abort",
    "accept",
    "allow_unsent",
    "check_congestion_control",
    "check_pacing",
    "classify",
    "congestion_control_of",
    "congestion_controls",
    "connect_tcp",
    "hear_group",
    "is_own_address",
    "listen_tcp",
    "make_room_for",
    "open_datagrams",
    "open_multicast",
    "own_addresses",
    "pace",
    "probe_strategy",
    "read_path",
    "resolve",
    "retire",
    "seconds_since_heard",
    "socket_table",
    "source_address",
    "source_towards",
    "tune_for_bulk",
    "use_congestion_control",
]
