"""A Linux network namespace that lives exactly as long as somebody holds it.

A namespace has no name in ``/run/netns`` and needs no process: a file descriptor holds it, which vanishes with the
process. So a crash, even SIGKILL, leaves no namespace and no interface behind. Processes started in a namespace would
outlive that; the sweeper (:mod:`midair.lab.sweeper`), which is started with the first of them, sees to it.

A network namespace belongs to a thread, not to a process, and a child process inherits that of the thread which forked
it. So a namespace is made, and a process started, by a short-lived thread that goes inside and never comes back:
nothing has to run between fork and exec (no ``preexec_fn``, safe beside other threads), and a signal, which only the
main thread sees, cannot strand anybody.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from midair.lab import sweeper
from midair.lab.linux import CLONE_NEWNET, in_a_thread, setns, unshare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["Namespace", "end_processes", "new_networks"]

_NAMESPACE_OF_THIS_THREAD = "/proc/thread-self/ns/net"


class Namespace:
    """An own, empty network stack, in which processes and sockets can be placed. Only loopback is there at first, down.

    ``descriptor`` is one of those that :func:`new_networks` made, and the namespace's from then on.

    Raises: OSError when the kernel refuses (EPERM without CAP_SYS_ADMIN, ENOSPC above ``user.max_net_namespaces``).
    """

    def __init__(self, name: str, *, descriptor: int | None = None) -> None:
        self.name = name
        """For messages only."""
        self._processes: list[subprocess.Popen[Any]] = []
        self._watched = False
        self._closed = False
        self._fd = new_networks(1)[0] if descriptor is None else descriptor

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
            setns(self._fd, CLONE_NEWNET)
            try:
                yield self
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a process inside, in a session of its own; ``options`` are those of ``subprocess.Popen``.

        ``close()`` ends it and all it has started. They are killed when this process dies.

        Raises: OSError when there is no such command.
        """
        self._check_open()
        if not self._watched:
            _sweeper().watch(self.inode)
            self._watched = True
        return in_a_thread(lambda: self._start(argv, options))

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002 - the name subprocess.run gives it
        timeout: float = 10.0,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside to its end, capturing its output as text; does not judge the exit code.

        Raises: subprocess.TimeoutExpired after ``timeout`` seconds; the command has been killed then. OSError when
        there is no such command.
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
        # /proc/sys/net shows each thread the parameters of its own namespace.
        with self.entered(), open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(str(value))

    @property
    def processes(self) -> list[subprocess.Popen[Any]]:
        """The processes started here that still run."""
        return [process for process in self._processes if process.poll() is None]

    def close(self) -> None:
        """Ends what runs here (2 seconds at most) and lets go of the namespace. Idempotent."""
        if self._closed:
            return
        try:
            end_processes(self.processes)
            if self._watched:
                sweeper.sweep({self.inode}, seconds=1.0)
                _sweeper().forget(self.inode)
        finally:
            self._closed = True
            os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}{' closed' if self._closed else ''}>"

    def _settle(self) -> None:
        """Puts the thread that will start a process where the process belongs; it does not come back."""
        setns(self._fd, CLONE_NEWNET)

    def _start(self, argv: Sequence[str], options: dict[str, Any]) -> subprocess.Popen[Any]:
        # In that thread, also so that a process is known to close() even if the caller is interrupted meanwhile.
        self._settle()
        process: subprocess.Popen[Any] = subprocess.Popen(argv, **{"start_new_session": True, **options})
        self._processes = [*self.processes, process]
        return process

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the namespace {self.name!r} is closed")


def new_networks(count: int) -> list[int]:
    """Makes so many network namespaces at once, which takes less than half of the time; returns their descriptors.

    Raises: OSError when the kernel refuses; none is left then.
    """
    descriptors: list[int] = []

    def make() -> None:
        for _ in range(count):
            unshare(CLONE_NEWNET)
            descriptors.append(os.open(_NAMESPACE_OF_THIS_THREAD, os.O_RDONLY | os.O_CLOEXEC))

    try:
        in_a_thread(make)
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return descriptors


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


class _Sweeper:
    """The running sweeper. It ends when its input does: at the latest when this process ends, however that happens."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", sweeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # so that Ctrl-C is not for it
        )
        self._lock = threading.Lock()
        atexit.register(self._end)

    def watch(self, inode: int) -> None:
        self._order(f"+ {inode}\n")

    def forget(self, inode: int) -> None:
        self._order(f"- {inode}\n")

    def _order(self, text: str) -> None:
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(BrokenPipeError):  # somebody has killed it
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _end(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


@cache
def _sweeper() -> _Sweeper:
    return _Sweeper()


def _signal_group(process: subprocess.Popen[Any], deadly_signal: signal.Signals) -> None:
    # Not reaped yet, so the number is still this process's, whether it runs or is a zombie.
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, deadly_signal)
        else:  # started with start_new_session=False: the group is ours, and we want to live
            process.send_signal(deadly_signal)
