"""Going into a host of a lab that another process holds.

The holder's descriptors can be opened through ``/proc`` by whoever may look into that process: the same user, on the
same computer. What they are is told by a text, the invitation, which the holder gives to the processes it starts.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from midair.lab.linux import CLONE_NEWNET, CLONE_NEWUSER, setns
from midair.lab.surroundings import settle_in

if TYPE_CHECKING:
    from midair.lab.lab import Lab

__all__ = ["INVITATION", "invitation", "visit"]

INVITATION: Final = "MIDAIR_LAB"
"""The environment variable that has the invitation."""
_HOST = re.compile(r"(\w+)=(\d+(?:,\d+)*)")


def invitation(lab: Lab) -> str:
    """``4711 a=5,6,7 b=8,9,10``: the process, and each host's network and surroundings."""
    hosts = (f"{host.name}={','.join(map(str, (host.fileno(), *host.prepare())))}" for host in lab.hosts)
    return " ".join((str(os.getpid()), *hosts))


def visit(text: str, host: str) -> None:
    """Takes the calling process, which has a single thread, into a host, for good.

    Raises: ValueError for a host that is not there, and when this is no invitation, or one to a lab that is gone.
    OSError when the kernel refuses.
    """
    process, *places = text.split()
    found = {match[1]: match[2] for place in places if (match := _HOST.fullmatch(place))}
    if not process.isdigit() or not found:
        raise ValueError(f"{INVITATION} is {text!r}, which nobody has written who holds a lab")
    if host not in found:
        raise ValueError(f"there is no host {host!r} in this lab; there are {', '.join(found)}")
    descriptors = []
    try:
        for number in found[host].split(","):
            descriptors.append(os.open(f"/proc/{process}/fd/{number}", os.O_RDONLY | os.O_CLOEXEC))
        _become_the_same_user(process)
    except FileNotFoundError:
        raise ValueError("the lab is gone") from None
    network, *surroundings = descriptors
    setns(network, CLONE_NEWNET)
    if surroundings:
        mounts, names = surroundings
        settle_in(mounts, names)


def _become_the_same_user(process: str) -> None:
    """Into the user namespace of the holder, if it is another one."""
    descriptor = os.open(f"/proc/{process}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    if os.fstat(descriptor).st_ino != os.stat("/proc/self/ns/user").st_ino:  # noqa: PTH116
        setns(descriptor, CLONE_NEWUSER)
    os.close(descriptor)
