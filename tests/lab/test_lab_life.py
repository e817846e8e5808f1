"""A lab comes up fast or says why not, and leaves nothing behind, whatever ends it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

import pytest
from lab_sockets import eventually, fate_of_a_syn, listening, tcp_socket
from lab_users import NOBODY, run_as_nobody

from midair.lab import BOXES, KernelKind, Lab, LabUnavailable, Namespace, available
from midair.lab import namespace as namespace_module
from midair.lab.requirements import _try

pytestmark = pytest.mark.lab

IGNORES_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
)

RUNAWAY = (
    "import os; os.fork() and os._exit(0); os.setsid()\n"
    "print(os.getpid(), flush=True); os.execlp('sleep', 'sleep', '60')"
)

CRASHING = f"""
import sys
from midair.lab import Lab
with Lab("drop x kernel:masquerade-drop") as lab:
    places = (*lab.hosts, lab.router("b.1"))
    lab.a.popen(["sh", "-c", "sleep 60 & echo $!; wait"])
    lab.b.popen([sys.executable, "-c", {RUNAWAY!r}])
    print(*(place.inode for place in places), flush=True)
    sys.stdin.read()
"""


def places_of(lab: Lab) -> list[Namespace]:
    return [*lab.hosts, *(lab.router(kernel.name) for kernel in lab.blueprint.kernels)]


def held_namespaces(processes: str = "[0-9]*") -> set[int]:
    """The inode of every network namespace that a thread is in or a descriptor holds; anywhere, or in one process."""
    found = set()
    for pattern in (f"{processes}/task/[0-9]*/ns/net", f"{processes}/fd/[0-9]*"):
        for link in Path("/proc").glob(pattern):
            with contextlib.suppress(OSError):
                target = str(link.readlink())
                if target.startswith("net:["):
                    found.add(int(target[5:-1]))
    return found


def interfaces_here() -> set[str]:
    listing = subprocess.run(["ip", "-oneline", "link"], capture_output=True, text=True, check=True).stdout
    return {line.split(":")[1].strip() for line in listing.splitlines()}


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children_of(pid: int) -> list[int]:
    """Of all its threads."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def test_it_is_available_here() -> None:
    assert available() is None


def test_every_box_comes_up_and_lets_its_host_out_to_the_proxy() -> None:
    topologies = [f"{box} x kernel:{kind} with ipv6" for box, kind in zip(BOXES, cycle(KernelKind))]
    assert len(topologies) > len(KernelKind)
    with Lab(topologies, delay=0) as lab, listening(lab.proxy, lab.proxy.address, 443):
        for pair in lab.pairs:
            for host in (pair.a, pair.b):
                assert fate_of_a_syn(host, lab.proxy.address, 443) == "connected", host


def test_the_first_syn_on_every_cable_arrives() -> None:
    for _ in range(5):
        with Lab("none x none", delay=0) as lab:
            for host in (lab.b, lab.a):  # the one that was made last first
                assert fate_of_a_syn(lab.server, host.address, 40001) == "ECONNREFUSED"


def test_a_hundred_pairs_come_up_together() -> None:
    """How fast is for ``benchmarks/lab_setup.py`` to say; here only that it is not one after the other."""
    started = time.monotonic()
    with Lab(["drop x rst"] * 100) as lab:
        assert time.monotonic() - started < 5.0
        assert len(lab.pairs) == 100
        assert len({host.inode for host in lab.hosts}) == 202
        last = lab.pairs[99]
        with listening(lab.server, lab.server.address, 7001) as listener, tcp_socket(last.b, port=40001) as dialler:
            dialler.connect((lab.server.address, 7001))
            accepted, peer = listener.accept()
            with accepted:
                assert peer == (last.b.outside, 40001)


def test_a_large_lab_has_room_under_a_small_limit_of_open_files_or_says_what_it_needs() -> None:
    script = (
        "import resource\n"
        "from midair.lab import Lab, LabUnavailable\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 1024))\n"
        "with Lab(['none x none'] * 50):\n"
        "    pass\n"
        "try:\n"
        "    Lab(['none x none'] * 100).__enter__()\n"
        "except LabUnavailable as lack:\n"
        "    print(lack)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=15)
    assert re.fullmatch(r"a lab of this size needs 16\d\d open files, and 1024 are allowed .*\n", done.stdout), (
        done.stderr
    )


def test_nothing_of_it_can_be_seen_from_outside() -> None:
    before = interfaces_here()
    with Lab("drop x kernel:cone"):
        assert interfaces_here() == before


def test_nothing_is_left_after_the_block() -> None:
    with Lab("drop x kernel:cone") as lab:
        inodes = {place.inode for place in places_of(lab)}
        assert len(inodes) == 5
        assert inodes <= held_namespaces()
        sleeper = lab.a.popen(["sleep", "60"])
    assert sleeper.returncode == -signal.SIGTERM
    assert eventually(lambda: not inodes & held_namespaces())


def test_nothing_is_left_after_an_exception() -> None:
    lab = Lab("drop x rst")
    inodes: set[int] = set()
    sleepers: list[subprocess.Popen[str]] = []

    def fail_inside() -> None:
        with lab:
            inodes.update(place.inode for place in places_of(lab))
            sleepers.append(lab.b.popen(["sleep", "60"]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    (sleeper,) = sleepers
    assert sleeper.returncode == -signal.SIGTERM
    assert eventually(lambda: not inodes & held_namespaces())


def test_nothing_is_left_after_a_crash(tmp_path: Path) -> None:
    """No namespace, and so no interface; no process, however it hides; no file."""
    with subprocess.Popen(
        [sys.executable, "-c", CRASHING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
    ) as crashing:
        assert crashing.stdout
        (child,), (runaway,), places = sorted((crashing.stdout.readline().split() for _ in range(3)), key=len)
        inodes = set(map(int, places))
        processes = {int(child), int(runaway), *filter(running, children_of(crashing.pid))}
        assert len(inodes) == 5
        assert inodes <= held_namespaces()
        assert len(processes) >= 5  # a shell, the wire and the sweeper too
        assert all(map(running, processes))
        crashing.kill()
        crashing.wait(5)
    assert eventually(lambda: not any(map(running, processes)))
    assert eventually(lambda: not inodes & held_namespaces())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_it_fails_halfway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert available(kernel=True) is None
    before = held_namespaces("self")
    broken = tmp_path / "nft"
    broken.write_text("#!/bin/sh\necho the rules are wrong >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(LabUnavailable, match=r"nft refuses the rules of b.1 .*: the rules are wrong"):
        Lab("drop x kernel:cone").__enter__()
    assert eventually(lambda: held_namespaces("self") == before)


def test_without_nft_it_says_so_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr("midair.lab.lab.new_networks", made.append)
    monkeypatch.setattr("midair.lab.requirements.find_program", lambda name: None)
    with pytest.raises(LabUnavailable, match=r"routers need nft .*apt-get install nftables"):
        Lab("drop x kernel:cone").__enter__()
    assert made == []


def test_without_nft_there_are_still_the_lab_s_own_nats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("midair.lab.requirements.find_program", lambda name: None)
    with Lab("drop x rst", delay=0) as lab:
        assert fate_of_a_syn(lab.a, lab.server.address, 40001) == "ECONNREFUSED"


def test_where_namespaces_are_forbidden_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(count: int) -> list[int]:
        raise PermissionError(1, "unshare: Operation not permitted")

    monkeypatch.setattr(namespace_module, "new_networks", refuse)
    _try.cache_clear()
    try:
        assert "needs root, or a user namespace such as `unshare" in (available() or "")
    finally:
        _try.cache_clear()


def test_an_ordinary_user_has_the_lab_too_in_a_user_namespace() -> None:
    """The same, without /dev/net/tun where that is closed to others than root."""
    script = (
        f"import os; assert os.getuid() == {NOBODY}\n"
        "from midair.lab.unprivileged import available_somehow\n"
        "from midair.lab import Lab\n"
        "lack = available_somehow(kernel=True)\n"
        "assert lack is None, lack\n"
        "with Lab('drop x kernel:masquerade-drop') as lab:\n"
        "    print(lab.a.run(['getent', 'hosts', 'b']).stdout.split()[0])\n"
    )
    done = run_as_nobody("-c", script)
    assert (done.stdout, done.stderr) == ("203.0.113.2\n", "")


def test_a_process_that_ignores_sigterm_is_killed_in_bounded_time() -> None:
    with Lab("none x none") as lab:
        stubborn = lab.a.popen([sys.executable, "-c", IGNORES_SIGTERM], stdout=subprocess.PIPE)
        with stubborn:
            assert stubborn.stdout
            assert stubborn.stdout.readline() == b"\n"
            started = time.monotonic()
            lab.close()
            assert stubborn.returncode == -signal.SIGKILL
            assert time.monotonic() - started < 2.5


def test_the_children_of_a_process_end_with_it() -> None:
    with Lab("none x none") as lab:
        parent = lab.a.popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        with parent:
            assert parent.stdout
            child = int(parent.stdout.readline())
            assert running(child)
            lab.close()
            assert eventually(lambda: not running(child))


def test_a_process_that_has_left_its_parent_and_its_session_ends_too() -> None:
    with Lab("none x none") as lab:
        with lab.a.popen([sys.executable, "-c", RUNAWAY], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout
            runaway = int(parent.stdout.readline())
            assert parent.wait(5) == 0
        assert running(runaway)
        lab.close()
        assert eventually(lambda: not running(runaway))


def test_a_process_has_its_own_session_so_ctrl_c_is_not_for_it() -> None:
    with Namespace("test") as namespace:
        process = namespace.popen(["sleep", "60"])
        assert os.getsid(process.pid) == process.pid
        assert os.getsid(0) != process.pid


def test_a_process_runs_inside_and_the_caller_stays_outside() -> None:
    with Lab("none x none") as lab:
        home = Path("/proc/thread-self/ns/net").readlink()
        shown = lab.a.run(["readlink", "/proc/self/ns/net"]).stdout.strip()
        assert shown == f"net:[{lab.a.inode}]"
        assert Path("/proc/thread-self/ns/net").readlink() == home


def test_entering_nests_and_leads_back_home_even_after_an_exception() -> None:
    def here() -> int:
        return Path("/proc/thread-self/ns/net").stat().st_ino

    def fail_inside(place: Namespace) -> None:
        with place.entered():
            raise ZeroDivisionError

    home = here()
    with Lab("none x none") as lab:
        with lab.a.entered():
            assert here() == lab.a.inode
            with pytest.raises(ZeroDivisionError):
                fail_inside(lab.b)
            with lab.b.entered():
                assert here() == lab.b.inode
            assert here() == lab.a.inode
        assert here() == home


def test_a_command_tells_its_exit_code_output_and_errors() -> None:
    with Namespace("test") as namespace:
        done = namespace.run(["sh", "-c", "cat; echo no >&2; exit 3"], input="yes")
        assert (done.returncode, done.stdout, done.stderr) == (3, "yes", "no\n")
        with pytest.raises(FileNotFoundError, match="there-is-no-such-command"):
            namespace.run(["there-is-no-such-command"])


def test_a_command_that_takes_too_long_is_killed() -> None:
    with Namespace("test") as namespace:
        with pytest.raises(subprocess.TimeoutExpired):
            namespace.run(["sleep", "60"], timeout=0.1)
        assert namespace.processes == []


def test_a_closed_namespace_refuses_and_closes_again_quietly() -> None:
    namespace = Namespace("test")
    namespace.close()
    namespace.close()
    with pytest.raises(ValueError, match="closed"):
        namespace.run(["true"])
    with pytest.raises(ValueError, match="closed"), namespace.entered():
        pass


def test_several_labs_are_up_at_once_with_the_same_addresses() -> None:
    with Lab("drop x drop") as one, Lab("drop x drop") as other:
        assert one.server.address == other.server.address
        assert {place.inode for place in places_of(one)}.isdisjoint(place.inode for place in places_of(other))
