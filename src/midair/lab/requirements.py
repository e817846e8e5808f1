"""Whether this computer can have a lab, and if not, what it lacks."""

from __future__ import annotations

import functools
import sys

from midair.lab.blueprint import Interface
from midair.lab.namespace import Namespace
from midair.lab.programs import find_program
from midair.lab.wire import Interfaces

__all__ = ["LabUnavailable", "available"]


class LabUnavailable(Exception):
    """This computer cannot have the lab; the text says what is missing."""


def available(*, kernel: bool = False) -> str | None:
    """Why there can be no lab here, in a sentence; None when there can be. ``kernel``: one with Linux routers in it.

    It is tried out in a namespace of its own, which is gone afterwards; success is remembered.
    """
    if sys.platform != "linux":
        return f"the lab needs Linux, this is {sys.platform}"
    if kernel and find_program("nft") is None:
        return "the lab's Linux routers need nft (on Debian: apt-get install nftables)"
    try:
        _try()
    except LabUnavailable as lack:
        return str(lack)
    return None


@functools.cache  # which does not remember exceptions
def _try() -> None:
    try:
        with Namespace("probe") as namespace, Interfaces() as interfaces:
            interfaces.make(namespace, Interface(name="eth0", addresses=("192.0.2.1/24",)))
    except PermissionError as error:
        raise LabUnavailable(
            "the lab needs root, or a user namespace such as `unshare --map-root-user --net COMMAND` makes"
            f" (the kernel says: {error})"
        ) from error
    except OSError as error:
        raise LabUnavailable(f"the lab cannot make network interfaces in a namespace: {error}") from error
