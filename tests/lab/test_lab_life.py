"""A lab comes up fast or says why not, and leaves nothing behind, whatever ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab_sockets import eventually, fate_of_a_syn

from midair.lab import Host, Lab, LabUnavailable, Namespace, NatKind, available

pytestmark = pytest.mark.lab

IGNORES_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
)

CRASHING = """
import sys
from midair.lab import Lab, NatKind
with Lab(NatKind.DROP, NatKind.SYMMETRIC) as lab:
    places = (lab.a, lab.b, lab.server, lab.core, lab.nat_a, lab.nat_b)
    sleeper = lab.a.popen(["sleep", "60"])
    print(sleeper.pid, *(place.inode for place in places), flush=True)
    sys.stdin.read()
"""


def places_of(lab: Lab) -> list[Namespace]:
    places = [lab.a, lab.b, lab.server, lab.core, lab.nat_a, lab.nat_b]
    return [place for place in places if place is not None]


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


def test_it_is_available_here() -> None:
    assert available() is None


@pytest.mark.parametrize("kind", NatKind)
def test_it_is_up_in_well_under_a_second(kind: NatKind) -> None:
    assert available() is None  # tries the kernel once; not part of any lab's own time
    started = time.monotonic()
    with Lab(kind, kind, ipv6=True):
        assert time.monotonic() - started < 1.0


def test_the_first_syn_on_every_cable_arrives() -> None:
    """The kernel drops what is sent before it has noticed that the other end is up; the lab waits for that."""
    for _ in range(10):
        with Lab(NatKind.NONE, NatKind.NONE) as lab:
            for host in (lab.b, lab.a):  # the one that was made last first
                assert fate_of_a_syn(lab.server, host.address, 40001) == "ECONNREFUSED"


def test_nothing_of_it_can_be_seen_from_outside() -> None:
    before = interfaces_here()
    with Lab(NatKind.DROP, NatKind.DROP):
        assert interfaces_here() == before


def test_nothing_is_left_after_the_block() -> None:
    with Lab(NatKind.DROP, NatKind.RST) as lab:
        inodes = {place.inode for place in places_of(lab)}
        assert len(inodes) == 6
        assert inodes <= held_namespaces()
        sleeper = lab.a.popen(["sleep", "60"])
    assert sleeper.returncode == -signal.SIGTERM
    assert eventually(lambda: not inodes & held_namespaces())


def test_nothing_is_left_after_an_exception() -> None:
    lab = Lab(NatKind.DROP, NatKind.RST)
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


def test_nothing_is_left_after_a_crash() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CRASHING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as crashing:
        assert crashing.stdout
        sleeper, *inodes = map(int, crashing.stdout.readline().split())
        assert len(inodes) == 6
        assert set(inodes) <= held_namespaces()
        assert running(sleeper)
        crashing.kill()
        crashing.wait(5)
    assert eventually(lambda: not running(sleeper))
    assert eventually(lambda: not set(inodes) & held_namespaces())


def test_nothing_is_left_when_it_fails_halfway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert available() is None
    before = held_namespaces("self")
    broken = tmp_path / "nft"
    broken.write_text("#!/bin/sh\necho the rules are wrong >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(LabUnavailable, match=r"nft failed in nat_a: the rules are wrong"):
        Lab(NatKind.DROP, NatKind.DROP).__enter__()
    assert eventually(lambda: held_namespaces("self") == before)


def test_without_nft_it_says_so_before_anything_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[str] = []
    monkeypatch.setattr("midair.lab.topology.Namespace.__init__", lambda self, name: made.append(name))
    for tool in ("ip", "setpriv"):
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabUnavailable, match=r"needs nft on PATH .*apt-get install nftables"):
        Lab(NatKind.DROP, NatKind.DROP).__enter__()
    assert made == []


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert "root" in (available() or "")


def test_a_process_that_ignores_sigterm_is_killed_in_bounded_time() -> None:
    with Lab(NatKind.NONE, NatKind.NONE) as lab:
        stubborn = lab.a.popen([sys.executable, "-c", IGNORES_SIGTERM], stdout=subprocess.PIPE)
        with stubborn:
            assert stubborn.stdout
            assert stubborn.stdout.readline() == b"\n"
            started = time.monotonic()
            lab.close()
            assert stubborn.returncode == -signal.SIGKILL
            assert time.monotonic() - started < 2.5


def test_the_children_of_a_process_end_with_it() -> None:
    with Lab(NatKind.NONE, NatKind.NONE) as lab:
        parent = lab.a.popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        with parent:
            assert parent.stdout
            child = int(parent.stdout.readline())
            assert running(child)
            lab.close()
            assert eventually(lambda: not running(child))


def test_a_process_runs_inside_and_the_caller_stays_outside() -> None:
    with Lab(NatKind.NONE, NatKind.NONE) as lab:
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
    with Lab(NatKind.NONE, NatKind.NONE) as lab:
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
        assert namespace.run(["there-is-no-such-command"]).returncode == 127


def test_a_command_that_takes_too_long_is_killed() -> None:
    with Namespace("test") as namespace:
        with pytest.raises(subprocess.TimeoutExpired):
            namespace.run(["sleep", "60"], timeout=0.1)
        assert namespace.processes == []


def test_a_closed_namespace_refuses_and_closes_again_quietly() -> None:
    namespace = Host("test", addresses=["192.0.2.1"], outside="192.0.2.1")
    namespace.close()
    namespace.close()
    with pytest.raises(ValueError, match="closed"):
        namespace.run(["true"])
    with pytest.raises(ValueError, match="closed"), namespace.entered():
        pass


def test_several_labs_are_up_at_once_with_the_same_addresses() -> None:
    with Lab(NatKind.DROP, NatKind.DROP) as one, Lab(NatKind.DROP, NatKind.DROP) as other:
        assert one.server.address == other.server.address
        assert {place.inode for place in places_of(one)}.isdisjoint(place.inode for place in places_of(other))
