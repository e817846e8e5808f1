"""Starting the wire process, and telling it what to do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midair.lab.wire.control import receive_message, send_descriptors, send_message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from midair.lab.behaviour import LinkBehaviour
    from midair.lab.blueprint import Blueprint
    from midair.lab.nat import NatEntry
    from midair.lab.network import Part
    from midair.lab.wire.plug import Plug

__all__ = ["Statistics", "Wire", "WireError"]

_ANSWER_SECONDS = 10.0
_COMPLAINT_BYTES = 4096


class WireError(Exception):
    """The wire refused a request, or it is dead; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """How many packets the wire has had to do with so far."""

    received: int
    """Read from interfaces."""
    delivered: int
    """Written to interfaces."""
    malformed: int
    """Not IP, and dropped."""
    refused: int
    """Not taken by an interface, because it was down or full."""


class Wire:
    """The wire process. It runs from here on, but carries nothing before ``start``; so it can be made first, and come
    up while the namespaces are made.

    It ends with ``close``, and never outlives this process, even if that is killed. May be used from any thread.

    Every method raises WireError when the process is dead, does not answer within 10 seconds, or refuses. A context
    manager. Raises: OSError when the process cannot be started.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._complaints = os.memfd_create("wire")
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_ANSWER_SECONDS)
        self._started = self._closed = False
        # The kernel kills the process when the thread that started it ends, so it gets one of its own.
        started: Future[subprocess.Popen[bytes]] = Future()
        self._keeper = threading.Thread(target=_keep, args=(started, theirs, self._complaints), daemon=True)
        self._keeper.start()
        try:
            self._process = started.result()
        except OSError:
            self._release()
            raise
        finally:
            theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def start(self, blueprint: Blueprint, plugs: Mapping[tuple[str, int], Plug], *, seed: int = 0) -> None:
        """Joins the interfaces, given by node and port, into the network. It is running when this returns, and the
        descriptors of the plugs may be closed. What happens by chance in NATs and links depends on ``seed``."""
        places = tuple((node, port, plug.framing) for (node, port), plug in plugs.items())
        descriptors = [plug.descriptor for plug in plugs.values()]
        if self._started:
            raise WireError("the wire has been started before")
        self._request("start", {"blueprint": blueprint, "places": places, "seed": seed}, descriptors)
        self._started = True

    def set_link(
        self, where: int | tuple[str, int], *, there: LinkBehaviour | None = None, back: LinkBehaviour | None = None
    ) -> None:
        """Changes or cuts a link, as :meth:`midair.lab.network.Network.set_link`."""
        self._request("set_link", {"where": where, "there": there, "back": back})

    def replace(self, part: Part) -> None:
        """Gives a router or a NAT other addresses and routes; a NAT's table is empty then. With
        :func:`midair.lab.wire.readdress` for the host behind it, this is roaming."""
        self._request("replace", {"part": part})

    def start_capture(self, path: Path | str, *, nodes: Iterable[str] | None = None) -> None:
        """Records what passes the ports of these nodes, or of all, to a pcapng file; ends the capture before, if one
        runs. See :mod:`midair.lab.capture`."""
        names = None if nodes is None else tuple(nodes)
        self._request("start_capture", {"path": str(Path(path).absolute()), "nodes": names})

    def stop_capture(self) -> None:
        """The file is complete when this returns."""
        self._request("stop_capture", {})

    def nat_entries(self, node: str) -> list[NatEntry]:
        """The table of one of the lab's own NATs."""
        entries: list[NatEntry] = self._request("nat_entries", {"node": node})
        return entries

    def statistics(self) -> Statistics:
        """What it has done so far."""
        return Statistics(**self._request("statistics", {}))

    def close(self) -> None:
        """Ends the process. Idempotent. Raises: WireError when it had ended by itself."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            died, complaint = self._has_died(), self._complaint()
            self._control.close()
            self._keeper.join(timeout=2.0)
            if self._keeper.is_alive():
                self._process.kill()
                self._keeper.join()
            self._release()
        if died:
            raise WireError(complaint)

    # -- inside --

    def _request(self, name: str, arguments: dict[str, object], descriptors: Sequence[int] = ()) -> Any:
        with self._lock:
            if self._closed:
                raise WireError("the wire is closed")
            if not self._started and name != "start":
                raise WireError("the wire has not been started")
            try:
                send_message(self._control, (name, arguments))
                send_descriptors(self._control, descriptors)
                done, value = receive_message(self._control)
            except TimeoutError:
                raise WireError(f"the wire does not answer within {_ANSWER_SECONDS:.0f} s") from None
            except (EOFError, OSError) as error:
                raise WireError(self._complaint()) from error
        if not done:
            raise WireError(value)
        return value

    def _has_died(self) -> bool:
        """Nobody but the process has the other end of the control socket, and it says nothing unasked."""
        self._control.setblocking(False)
        try:
            return not self._control.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _complaint(self) -> str:
        """Why it is dead: what it said last."""
        size = os.fstat(self._complaints).st_size
        text = os.pread(self._complaints, _COMPLAINT_BYTES, max(0, size - _COMPLAINT_BYTES)).decode(errors="replace")
        return f"the wire process has ended by itself: {text.strip() or 'it said nothing'}"

    def _release(self) -> None:
        self._control.close()
        os.close(self._complaints)


def _keep(started: Future[subprocess.Popen[bytes]], control: socket.socket, complaints: int) -> None:
    """Starts the process, and stays as long as it runs."""
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "midair.lab.wire"],
            stdin=control.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,
        )
    except OSError as error:
        started.set_exception(error)
        return
    started.set_result(process)
    process.wait()
