"""The wire: one process that is the internet between network namespaces.

    with Interfaces() as interfaces, Namespace("a") as a, ...:
        plugs = {("a", 0): interfaces.make(a, part.interfaces[0]), ...}
        with Wire() as wire:
            wire.start(blueprint, plugs, seed=1)
            ...

Names are imported when they are first used: the process itself needs few of them, and is to start fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midair.lab.wire.client import Statistics, Wire, WireError
    from midair.lab.wire.interfaces import Interfaces, readdress
    from midair.lab.wire.plug import Plug

__all__ = ["Interfaces", "Plug", "Statistics", "Wire", "WireError", "readdress"]

_HOMES = {
    "Interfaces": "interfaces",
    "Plug": "plug",
    "Statistics": "client",
    "Wire": "client",
    "WireError": "client",
    "readdress": "interfaces",
}


def __getattr__(name: str) -> object:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'midair.lab.wire' has no attribute {name!r}") from None
    return getattr(import_module(f"midair.lab.wire.{home}"), name)
