"""Run as a script, without threads of its own, so that it may fork: receivers that die at a chosen moment.

kill HERE THERE     one receiver of HERE/x, killed by SIGKILL once something of it is durable
steps HERE THERE    receivers that die before their 1st, 2nd, ... change to the disk, each repaired by another
merge HERE THERE    the same into a folder that is there already, where something is replaced and something renamed
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transfer_support import Log, channels, send_and_receive, start_receiving, start_sending, tree

from midair import events
from midair.transfer import Resolution, disk, intake


def in_child(work: Callable[[], None]) -> int:
    """What became of it: an exit code, or a negative signal number."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            work()
            code = 0
        except BaseException as error:
            sys.stderr.write(f"child: {error!r}\n")
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def die_when_durable(here: Path, there: Path) -> None:
    intake.SYNC_BYTES = 1 << 20
    log = Log()

    def die(event: events.Event) -> None:
        log(event)
        if isinstance(event, events.Progress) and event.bytes > 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with channels() as (a, b):
        start_sending(a, [here / "x"])
        start_receiving(b, there, log=die).outcome()  # type: ignore[arg-type]


def die_before(step: int) -> None:
    """The ``step``-th change to the disk does not happen, nor does anything after it."""
    lock = threading.Lock()
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            with lock:
                count += 1
                if count == step:
                    os._exit(9)
            return real(*arguments, **options)

        return wrapper

    for module, name in (
        (os, "fsync"),
        (os, "fdatasync"),
        (os, "fchmod"),
        (os, "utime"),
        (os, "mkdir"),
        (os, "pwrite"),
        (os, "ftruncate"),
        (os, "unlink"),
        (os, "rmdir"),
        (os, "symlink"),
        (os, "replace"),
        (disk, "rename_new"),
        (disk, "open_own_file"),
    ):
        setattr(module, name, counted(getattr(module, name)))


def steps(here: Path, there: Path, first: int, stride: int) -> int:
    (here / "tree").mkdir()
    (here / "tree/a").write_bytes(os.urandom(50_000))
    (here / "tree/hollow").mkdir()
    (here / "single").write_bytes(os.urandom(1000))
    (here / "tree/a").chmod(0o444)
    paths = [here / "tree", here / "single"]
    wanted = tree(here)
    for step in range(first, 200, stride):
        shutil.rmtree(there)
        there.mkdir()

        def attempt(step: int = step) -> None:
            die_before(step)
            send_and_receive(paths, there)

        code = in_child(attempt)
        found = tree(there)
        for top in ("tree", "single"):
            if top in found:
                complete = {name: what for name, what in found.items() if name.split("/")[0] == top}
                assert complete == {n: w for n, w in wanted.items() if n.split("/")[0] == top}, (step, complete)
        if code == 0:
            assert found == wanted
            return step
        assert code == 9, (step, code)
        assert in_child(lambda: void(send_and_receive(paths, there))) == 0, (step, found.keys())
        assert tree(there) == wanted, step
    raise AssertionError("there is no end to it")


def merge(here: Path, there: Path, first: int, stride: int) -> int:
    """Old or new, and nothing else, has a name after every kill."""
    (here / "tree/deep").mkdir(parents=True)
    (here / "tree/deep/new").write_bytes(os.urandom(20_000))
    (here / "tree/replaced").write_bytes(b"new" * 5000)
    (here / "tree/link").symlink_to("deep/new")
    (here / "single").write_bytes(b"new" * 100)
    paths = [here / "tree", here / "single"]
    answers = {"tree/replaced": Resolution.OVERWRITE, "single": Resolution.RENAME}

    def receive() -> None:
        void(send_and_receive(paths, there, resolve=lambda clash: answers[clash.name]))

    for step in range(first, 200, stride):
        shutil.rmtree(there)
        (there / "tree").mkdir(parents=True)
        for name in ("tree/replaced", "tree/mine", "single"):
            (there / name).write_bytes(b"old")

        def attempt(step: int = step) -> None:
            die_before(step)
            receive()

        code = in_child(attempt)
        assert (there / "tree/mine").read_bytes() == (there / "single").read_bytes() == b"old", step
        assert (there / "tree/replaced").read_bytes() in (b"old", b"new" * 5000), step
        for name, source in (("tree/deep/new", "tree/deep/new"), ("single-1", "single")):
            if (there / name).exists():
                assert (there / name).read_bytes() == (here / source).read_bytes(), (step, name)
        if code:
            assert code == 9, (step, code)
            assert in_child(receive) == 0, (step, tree(there).keys())
        names = {"tree", "tree/deep", "tree/deep/new", "tree/link", "tree/mine", "tree/replaced", "single", "single-1"}
        assert tree(there).keys() == names, (step, tree(there).keys())
        assert (there / "tree/replaced").read_bytes() == b"new" * 5000, step
        assert (there / "single-1").read_bytes() == b"new" * 100, step
        if code == 0:
            return step
    raise AssertionError("there is no end to it")


def void(value: object) -> None:
    del value


def main() -> None:
    what, here, there = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if what == "kill":
        assert in_child(lambda: die_when_durable(here, there)) == -signal.SIGKILL
    else:
        work = merge if what == "merge" else steps
        sys.stdout.write(f"{work(here, there, int(sys.argv[4]), int(sys.argv[5]))}\n")


if __name__ == "__main__":
    main()
