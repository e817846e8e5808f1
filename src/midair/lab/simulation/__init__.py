"""The lab's network in memory under a virtual clock: the same routers, NATs and links as on the wire, and hosts whose
TCP behaves as Linux's. Pure but for the seed it makes its randomness from.

    simulation = Simulation(blueprint, seed=1)
    host = simulation.host("a")
    connection = host.dial((address_bytes("192.0.2.10"), 7420), handler, now=simulation.now)
    simulation.run(until=5.0)

A handler is called with the connection, what happened to it, and the time; it may do with any socket what it likes.
"""

from midair.lab.simulation.connection import Connection
from midair.lab.simulation.happenings import Accepted, Ended, Failed, Handler, Happening, Opened, Received
from midair.lab.simulation.host import SimulatedHost
from midair.lab.simulation.listener import Listener
from midair.lab.simulation.simulation import Simulation
from midair.lab.simulation.state import State

__all__ = [
    "Accepted",
    "Connection",
    "Ended",
    "Failed",
    "Handler",
    "Happening",
    "Listener",
    "Opened",
    "Received",
    "SimulatedHost",
    "Simulation",
    "State",
]
