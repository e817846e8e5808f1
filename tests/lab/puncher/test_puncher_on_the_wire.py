"""The plain puncher with real sockets, real kernels and real time gets what it gets in the simulated net."""

from __future__ import annotations

import pytest

from midair.lab.catalogue import parse_topology
from midair.lab.lab import Lab
from midair.lab.plan import draw
from midair.lab.puncher import Punch, play, punch_all, punch_lab, reason
from midair.lab.requirements import available

pytestmark = pytest.mark.lab

BY_CONNECTION = "filtering=connection-dependent"
DROP, RST, ICMP = (f"{name},{BY_CONNECTION}" for name in ("drop", "rst", "icmp"))
LINUX = f"strict,{BY_CONNECTION}"
"""What a Linux router does, in our own NAT."""

OWN = (
    "none x none",
    "none x symmetric",
    f"{DROP} x {DROP}",
    f"{DROP} x {RST}",
    f"{RST} x {RST}",
    f"{DROP} x {ICMP}",
    f"{LINUX} x {ICMP}",
    f"{LINUX} x silent-dmz",
    "strict-drop x icmp-host",
    "rst x rst",
    "icmp-admin x icmp-late",
    "restricted x rfc5382",
    "exposed x symmetric",
    f"symmetric x {DROP}",
    "symmetric x full-cone",
    "symmetric-address x restricted",
    "connection-dependent x carrier",
    f"no-simopen x {DROP}",
    "no-simopen x no-simopen",
    "no-simopen-rst x drop",
    "mistranslates x drop",
    "firewall x firewall-rst",
    "firewall-icmp x firewall-icmp",
    "drop>carrier x drop",
    "https-only x none",
    "(drop + drop) > hairpin",
)
LINUX_KINDS = {
    "kernel:masquerade-drop": LINUX,
    "kernel:masquerade-reject-rst": f"{LINUX},unsolicited=rst",
    "kernel:masquerade-reject-icmp": f"{LINUX},unsolicited=icmp-port",
    "kernel:masquerade-fully-random": "connection-dependent,sequence-check=leak",
}
KERNEL = (
    ("kernel:masquerade-drop", "kernel:masquerade-reject-rst"),
    ("kernel:masquerade-reject-rst", "kernel:masquerade-reject-rst"),
    ("kernel:masquerade-drop", "kernel:masquerade-reject-icmp"),
    ("kernel:masquerade-drop", "kernel:masquerade-fully-random"),
)
SKEWS = (0.01, 0.1)
"""Of 1 s, the phase in which an end repeats its dials decides, and that drifts with the computer's load."""
SLACK_SECONDS = 0.1
CELLS = [
    (real, simulated, skew)
    for real, simulated in (
        *((text, text) for text in OWN),
        *((f"{a} x {b}", f"{LINUX_KINDS[a]} x {LINUX_KINDS[b]}") for a, b in KERNEL),
    )
    for skew in SKEWS
]


@pytest.fixture(scope="module")
def punches() -> list[Punch]:
    """Of every cell, all at once."""
    if lack := available(kernel=True):
        pytest.skip(lack)
    with Lab([real for real, _, _ in CELLS]) as lab:
        skews = [skew for _, _, skew in CELLS]
        return punch_all([(pair.a, pair.b) for pair in lab.pairs], lab.server, skew=skews)


@pytest.mark.parametrize("number", range(len(CELLS)), ids=[f"{real} at {skew}" for real, _, skew in CELLS])
def test_the_wire_and_the_simulated_net_agree(number: int, punches: list[Punch]) -> None:
    topology, simulated, skew = CELLS[number]
    expected = play(draw([parse_topology(simulated)]), skew=skew)
    real = punches[number]
    if differences(real, expected):
        # Where two ends never meet because they keep their phase, a busy computer may help them. Not twice.
        with Lab(topology) as lab:
            (real,) = punch_lab(lab, skew=skew)
    assert differences(real, expected) == []


def differences(real: Punch, expected: Punch) -> list[str]:
    """What one did and the other did not."""
    found = [f"{real.how} instead of {expected.how}"] if real.how != expected.how else []
    if real.syns != expected.syns:
        found.append(f"{real.syns} SYNs instead of {expected.syns}")
    # A kernel under load is late to repeat a SYN, and then later still, since that was a phase.
    slack = SLACK_SECONDS if (expected.seconds or 0.0) < 1.0 else 4 * SLACK_SECONDS
    if abs((real.seconds or 0.0) - (expected.seconds or 0.0)) > slack:
        found.append(f"{real.seconds} s instead of {expected.seconds} s")
    for ours, theirs in ((real.a, expected.a), (real.b, expected.b)):
        if {*ours.errors} != {*theirs.errors}:
            found.append(f"{ours.name} met {ours.errors} instead of {theirs.errors}")
    return found


def test_a_hundred_pairs_punch_at_the_same_instant() -> None:
    if lack := available():
        pytest.skip(lack)
    with Lab([f"{DROP} x {DROP}"] * 100) as lab:
        punches = punch_all([(pair.a, pair.b) for pair in lab.pairs], lab.server)
    assert {punch.how for punch in punches} == {("connect", "connect")}
    assert {punch.syns for punch in punches} == {2}
    seconds = sorted(punch.seconds or 9.0 for punch in punches)
    assert 0.15 <= seconds[0] <= seconds[-1] < 0.5


def test_it_punches_over_ipv6() -> None:
    if lack := available():
        pytest.skip(lack)
    with Lab(f"firewall,{BY_CONNECTION} x firewall-icmp,{BY_CONNECTION} with ipv6") as lab:
        (punch,) = punch_all([(lab.a, lab.b)], lab.server, version=6)
    assert punch.through
    assert punch.a.seen.startswith("[2001:db8:a")


def test_in_a_lab_a_failure_is_explained_by_the_nats_tables() -> None:
    if lack := available():
        pytest.skip(lack)
    with Lab(["symmetric x drop", f"{LINUX} x silent-dmz", f"{DROP} x {DROP}"]) as lab:
        symmetric, taken, fine = punch_lab(lab, skew=0.1)
    assert reason(symmetric).startswith("port changed at a0")
    assert reason(taken).startswith("port changed at b1")
    assert "this one was taken" in reason(taken)
    assert reason(fine) == ""
