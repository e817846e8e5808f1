"""A Linux network namespace that lives exactly as long as somebody holds it.

A namespace has no name in ``/run/netns``; it is held by one file descriptor and by one thread that lives inside it.
Both vanish with the process, so a crash, even SIGKILL, leaves no namespace and no interface behind.

A network namespace belongs to a thread, not to a process, and a child process inherits that of the thread which forked
it. So processes are started by the thread inside: nothing has to run between fork and exec (no ``preexec_fn``, safe
beside other threads), and the kernel's parent death signal, which fires when the *thread* that forked ends, fires
when the namespace is closed or the process dies.

Python 3.11 has neither ``os.unshare`` nor ``os.setns``, hence ctypes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["Namespace", "end_processes"]

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_NAMESPACE_OF_THIS_THREAD = "/proc/thread-self/ns/net"
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


class Namespace:
    """An own, empty network stack, in which processes and sockets can be placed. Only loopback is there at first, down.

    Raises: OSError when the kernel refuses (EPERM without CAP_SYS_ADMIN, ENOSPC above ``user.max_net_namespaces``).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        """For messages only."""
        self._processes: list[subprocess.Popen[Any]] = []
        self._closed = False
        self._inside = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"lab-{name}")
        try:
            self._fd = self._inside.submit(_unshare).result()
        except BaseException:
            self._inside.shutdown()
            raise

    def fileno(self) -> int:
        """The descriptor that holds the namespace; children that get it by ``pass_fds`` can name it to ``ip``."""
        self._check_open()
        return self._fd

    @property
    def inode(self) -> int:
        """The number by which ``/proc/PID/ns/net`` and ``lsns`` know this namespace."""
        return os.fstat(self.fileno()).st_ino

    @contextlib.contextmanager
    def entered(self) -> Iterator[Self]:
        """Puts the calling thread, and only it, inside; a socket opened meanwhile stays inside for good.

        Nests. A coroutine must not ``await`` within the block: the thread would run other tasks in here. A socket that
        is still open when the namespace is closed keeps the kernel's part of it alive until it is closed too.
        """
        self._check_open()
        home = os.open(_NAMESPACE_OF_THIS_THREAD, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self._fd)
            try:
                yield self
            finally:
                _setns(home)
        finally:
            os.close(home)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a process inside, in a session of its own; ``options`` are those of ``subprocess.Popen``.

        ``close()`` ends it, its children too unless they made another session. It is killed when this process dies.
        A command that does not exist exits with 127, as in a shell.
        """
        self._check_open()
        return self._inside.submit(self._start, [*_DIE_WITH_PARENT, *argv], options).result()

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002 - the name subprocess.run gives it
        timeout: float = 10.0,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside to its end, capturing its output as text; does not judge the exit code.

        Raises: subprocess.TimeoutExpired after ``timeout`` seconds; the command has been killed then.
        """
        process = self.popen(
            argv,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        with process:
            try:
                output, errors = process.communicate(input, timeout=timeout)
            except BaseException:
                end_processes([process], grace=0.0)
                raise
        return subprocess.CompletedProcess(list(argv), process.returncode, output, errors)

    def sysctl(self, name: str, value: int) -> None:
        """Sets a kernel parameter of this network stack, named as its path: ``net/ipv4/ip_forward``.

        Raises: OSError when the kernel has no such parameter.
        """
        self._check_open()
        # /proc/sys/net shows each thread the parameters of its own namespace.
        self._inside.submit(_write, f"/proc/sys/{name}", str(value)).result()

    @property
    def processes(self) -> list[subprocess.Popen[Any]]:
        """The processes started here that still run."""
        return [process for process in self._processes if process.poll() is None]

    def close(self) -> None:
        """Ends the processes started here (2 seconds at most) and lets go of the namespace. Idempotent."""
        if self._closed:
            return
        try:
            end_processes(self.processes)
        finally:
            self._closed = True
            self._inside.shutdown()
            os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}{' closed' if self._closed else ''}>"

    def _start(self, command: list[str], options: dict[str, Any]) -> subprocess.Popen[Any]:
        # In the thread inside, also so that a process is known to close() even if the caller is interrupted meanwhile.
        process: subprocess.Popen[Any] = subprocess.Popen(command, **{"start_new_session": True, **options})
        self._processes = [*self.processes, process]
        return process

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the namespace {self.name!r} is closed")


def end_processes(processes: Iterable[subprocess.Popen[Any]], *, grace: float = 1.0) -> None:
    """Sends SIGTERM to each process and its group, after ``grace`` seconds SIGKILL, and waits a second more at most."""
    running = [process for process in processes if process.poll() is None]
    for deadly_signal, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 1.0)):
        for process in running:
            _signal_group(process, deadly_signal)
        deadline = time.monotonic() + patience
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        running = [process for process in running if process.poll() is None]


def _signal_group(process: subprocess.Popen[Any], deadly_signal: signal.Signals) -> None:
    # Not reaped yet, so the number is still this process's, whether it runs or is a zombie.
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, deadly_signal)
        else:  # started with start_new_session=False: the group is ours, and we want to live
            process.send_signal(deadly_signal)


def _unshare() -> int:
    """Moves the calling thread to a new namespace, and returns a descriptor of that."""
    _checked(_libc().unshare(_CLONE_NEWNET), "unshare")
    return os.open(_NAMESPACE_OF_THIS_THREAD, os.O_RDONLY | os.O_CLOEXEC)


def _setns(fd: int) -> None:
    _checked(_libc().setns(fd, _CLONE_NEWNET), "setns")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
