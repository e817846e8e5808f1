"""A small internet on one computer: hosts in network namespaces, and every NAT, firewall and link between them.

    with Lab("drop>carrier x rst") as lab:
        with lab.server.entered():
            listener = socket.create_server((lab.server.address, 7420))
        lab.a.popen(["midair", "send", "FILE"])

Needs Linux, and root or a user namespace; ``available()`` says what is missing. Nothing of it is ever visible outside:
the interfaces are made inside the namespaces, and the namespaces have no name, so they go when the process goes, even
when it is killed. Imports nothing else of midair.

Names are imported when they are first used: the wire's own process needs few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midair.lab.behaviour import LinkBehaviour, NatBehaviour
    from midair.lab.catalogue import BOXES, DESCRIPTIONS, box_of, parse_box, parse_topology
    from midair.lab.description import Box, KernelKind, Side, Topology
    from midair.lab.host import Host
    from midair.lab.lab import Lab, Pair
    from midair.lab.namespace import Namespace
    from midair.lab.requirements import LabUnavailable, available

__all__ = [
    "BOXES",
    "DESCRIPTIONS",
    "Box",
    "Host",
    "KernelKind",
    "Lab",
    "LabUnavailable",
    "LinkBehaviour",
    "Namespace",
    "NatBehaviour",
    "Pair",
    "Side",
    "Topology",
    "available",
    "box_of",
    "parse_box",
    "parse_topology",
]

_HOMES = {
    "BOXES": "catalogue",
    "Box": "description",
    "DESCRIPTIONS": "catalogue",
    "Host": "host",
    "KernelKind": "description",
    "Lab": "lab",
    "LabUnavailable": "requirements",
    "LinkBehaviour": "behaviour",
    "Namespace": "namespace",
    "NatBehaviour": "behaviour",
    "Pair": "lab",
    "Side": "description",
    "Topology": "description",
    "available": "requirements",
    "box_of": "catalogue",
    "parse_box": "catalogue",
    "parse_topology": "catalogue",
}


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'midair.lab' has no attribute {name!r}") from None
    return getattr(import_module(f"midair.lab.{home}"), name)
