"""A small internet on one computer: hosts, routers and NATs in Linux network namespaces, for tests and demonstrations.

    with Lab(NatKind.DROP, NatKind.RST) as lab:
        with lab.server.entered():
            listener = socket.create_server((lab.server.address, 7420))
        lab.a.popen(["midair", "send", "FILE"])

Needs Linux, root, ``ip`` and ``nft``; ``available()`` says what is missing. Nothing of it is ever visible outside: the
interfaces are made inside the namespaces, and the namespaces have no name, so they go when the process goes, even
when it is killed. Imports nothing else of midair.
"""

from midair.lab.kernel_nat import Filtering, Mapping, NatBehaviour, NatKind, Reaction
from midair.lab.namespace import Namespace
from midair.lab.observe import SynCounts
from midair.lab.requirements import LabUnavailable, available
from midair.lab.topology import Host, Lab

__all__ = [
    "Filtering",
    "Host",
    "Lab",
    "LabUnavailable",
    "Mapping",
    "Namespace",
    "NatBehaviour",
    "NatKind",
    "Reaction",
    "SynCounts",
    "available",
]
