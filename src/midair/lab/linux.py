"""System calls of Linux that Python 3.11 does not have, and threads in which it does no harm to use them."""

from __future__ import annotations

import ctypes
import os
import threading
from concurrent.futures import Future
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CLONE_FS",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "MNT_DETACH",
    "MS_BIND",
    "MS_REC",
    "MS_SLAVE",
    "in_a_thread",
    "mount",
    "setns",
    "unmount",
    "unshare",
]

# linux/sched.h
CLONE_FS: Final = 0x00000200
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWNET: Final = 0x40000000
# linux/mount.h, sys/mount.h
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SLAVE: Final = 0x80000
MNT_DETACH: Final = 2

_Result = TypeVar("_Result")


def unshare(flags: int) -> None:
    """unshare(2): new namespaces for the calling thread. Raises: OSError."""
    _checked(_libc().unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2): takes the calling thread into a namespace. Raises: OSError."""
    _checked(_libc().setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    """mount(2), in the mount namespace of the calling thread. Raises: OSError."""
    _checked(_libc().mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None), "mount")


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2). Raises: OSError."""
    _checked(_libc().umount2(target.encode(), flags), "umount")


def in_a_thread(work: Callable[[], _Result]) -> _Result:
    """Does ``work`` in a thread that ends with it, so that it may go to whatever namespace, and returns its result."""
    future: Future[_Result] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=do, name="lab")
    thread.start()
    thread.join()
    return future.result()


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
