"""What a process in a host finds besides the network: a host name, and the names of the other hosts.

``/etc/hosts`` and ``/etc/resolv.conf`` are this computer's for everybody else. Processes in a host are therefore
started in a mount namespace in which other files lie over these two: in memory, seen by nobody else, gone with the last
of them. The rest of the file system is the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from midair.lab.linux import (
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    MNT_DETACH,
    MS_BIND,
    MS_REC,
    MS_SLAVE,
    in_a_thread,
    mount,
    setns,
    unmount,
    unshare,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Surroundings", "settle_in"]

_SCRATCH = "/tmp"
"""Some folder that is always there; for a moment, and only here, there is another one in its place."""


class Surroundings:
    """A mount namespace and a name.

    Raises: OSError when the kernel refuses, as in a container that may not mount.
    """

    def __init__(self, name: str, files: Mapping[str, str]) -> None:
        self.descriptors: tuple[int, int] = in_a_thread(lambda: _make(name, files))
        """Of the mount namespace and the UTS namespace, which :func:`settle_in` takes."""

    def close(self) -> None:
        """Lets go; what runs inside keeps it. Not to be called twice."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def settle_in(mounts: int, names: int) -> None:
    """Takes the calling thread there, for good; it stays in the folder it is in.

    Raises: OSError when the kernel refuses.
    """
    folder = Path.cwd()
    unshare(CLONE_FS)  # threads share their folder, and those that do cannot go
    setns(mounts, CLONE_NEWNS)
    setns(names, CLONE_NEWUTS)
    with contextlib.suppress(OSError):
        os.chdir(folder)


def _make(name: str, files: Mapping[str, str]) -> tuple[int, int]:
    unshare(CLONE_NEWNS | CLONE_NEWUTS)
    socket.sethostname(name)
    mount("none", "/", "none", MS_REC | MS_SLAVE)  # nothing of what follows is seen outside
    mount("midair", _SCRATCH, "tmpfs")
    for number, (path, text) in enumerate(files.items()):
        file = Path(_SCRATCH, str(number))
        file.write_text(text)
        file.chmod(0o644)
        with contextlib.suppress(FileNotFoundError):  # who has no such file reads none
            mount(str(file), path, "none", MS_BIND)
    unmount(_SCRATCH, MNT_DETACH)
    flags = os.O_RDONLY | os.O_CLOEXEC
    return os.open("/proc/thread-self/ns/mnt", flags), os.open("/proc/thread-self/ns/uts", flags)
