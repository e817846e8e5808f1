"""What is known of the plain puncher, from real NATs, real kernels and papers, comes out in the simulated net."""

from __future__ import annotations

import pytest

from midair.lab.catalogue import parse_topology
from midair.lab.plan import draw
from midair.lab.puncher import Punch, play, reason

BY_CONNECTION = "filtering=connection-dependent"
"""As in Linux, where what lets packets in is the connection's entry, and goes with it."""
DROP, RST, ICMP = (f"{name},{BY_CONNECTION}" for name in ("drop", "rst", "icmp"))
LINUX = f"strict,{BY_CONNECTION}"
CC, AC, CA = ("connect", "connect"), ("accept", "connect"), ("connect", "accept")


def played(topology: str, skew: float, seed: int = 1) -> Punch:
    return play(draw([parse_topology(topology)]), skew=skew, seed=seed)


@pytest.mark.parametrize(
    ("topology", "skew", "seconds", "how", "syns"),
    [
        # Both SYNs cross: 2 one-way delays until both connect() return, one more until the first byte is there.
        (f"{DROP} x {DROP}", 0.0, 0.15, CC, 2),
        (f"{DROP} x {DROP}", 0.01, 0.16, CC, 2),
        # The second one's SYN meets the first's socket in SYN_SENT, through its hole.
        (f"{DROP} x {DROP}", 0.1, 0.3, CC, 2),
        # ... or the first one's SYN, repeated after 1 s, meets the second's.
        (f"{DROP} x {DROP}", 1.0, 1.15, CC, 3),
        (f"{LINUX} x {LINUX}", 0.1, 0.3, CC, 2),
        # The first SYN is refused; the second finds b's.
        (f"{DROP} x {RST}", 0.01, 0.16, CC, 2),
        (f"{DROP} x {RST}", 0.1, 0.5, CC, 3),
        (f"{DROP} x {RST}", 1.0, 1.4, CC, 6),
        (f"{RST} x {RST}", 0.0, 0.15, CC, 2),
        (f"{RST} x {RST}", 0.01, 0.16, CC, 2),
        # An ICMP error leaves the hole open, and a NAT that looks at no sequence numbers lets the listener answer.
        (f"{DROP} x {ICMP}", 0.1, 0.3, AC, 2),
        (f"{LINUX} x {ICMP}", 0.01, 0.16, CC, 2),
        ("symmetric x full-cone", 0.0, 0.2, CA, 2),
        ("full-cone x symmetric", 0.0, 0.2, AC, 2),
        # The other side's SYN-ACK is a normal one.
        (f"no-simopen x {DROP}", 0.0, 0.2, CC, 2),
        ("none x none", 0.0, 0.15, CC, 2),
        ("none x symmetric", 0.0, 0.2, AC, 2),
        ("firewall x firewall", 0.1, 0.3, CC, 2),
        (f"{DROP}>{DROP} x {DROP}", 0.1, 0.3, CC, 2),
    ],
)
def test_it_gets_through(topology: str, skew: float, seconds: float, how: tuple[str, str], syns: int) -> None:
    punch = played(topology, skew)
    assert punch.through
    assert punch.seconds == pytest.approx(seconds, abs=0.002)
    assert (punch.how, punch.syns) == (how, syns)
    assert reason(punch) == ""


@pytest.mark.parametrize(
    ("topology", "skew", "cause", "syns"),
    [
        (f"{RST} x {RST}", 0.1, "lockstep", 24),
        (f"{RST} x {RST}", 1.0, "lockstep", 24),
        (f"{LINUX} x {ICMP}", 0.1, "half-open at a", 5),
        (f"{LINUX} x {ICMP}", 1.0, "half-open at a", 9),
        ("strict-drop x icmp", 0.1, "half-open at a", 5),
        (f"symmetric x {DROP}", 0.0, "port changed at a", 8),
        (f"{DROP} x symmetric", 0.1, "port changed at b", 8),
        ("symmetric x symmetric", 0.0, "port changed at b", 8),
        (f"{LINUX} x silent-dmz", 0.1, "this one was taken", 8),
        ("no-simopen x no-simopen", 0.0, "no answer", 8),
        ("no-simopen-rst x no-simopen-rst", 0.0, "crossing refused", 24),
        (f"{DROP} x no-simopen-rst", 0.0, "one-sided: b", 4),
        ("none x https-only", 0.0, "held back at b", 8),
        ("drop x proxy-only", 0.0, "b did not reach the server", 0),
        ("(none + none) > drop", 0.0, "no hairpin", 8),
    ],
)
def test_it_fails_for_the_known_reason(topology: str, skew: float, cause: str, syns: int) -> None:
    punch = played(topology, skew)
    assert not punch.through
    assert cause in reason(punch)
    assert punch.syns == syns


def test_a_refusing_nat_on_each_side_keeps_both_ends_in_the_same_phase() -> None:
    punch = played(f"{RST} x {RST}", 0.1)
    assert set(punch.a.errors) == set(punch.b.errors) == {"ECONNREFUSED"}
    dials = [[note.at for note in end.notes if note.what == "dialled"] for end in (punch.a, punch.b)]
    assert dials[0] == pytest.approx(dials[1])


def test_the_half_open_connection_holds_the_4_tuple_as_long_as_it_is_tried() -> None:
    punch = played(f"{LINUX} x {ICMP}", 0.1)
    assert punch.a.errors == ("ECONNREFUSED", *["EADDRNOTAVAIL"] * 16)
    assert punch.b.errors == ()
    assert not punch.a.opened


def test_who_starts_late_is_named_by_the_sign_of_the_skew() -> None:
    late_b, late_a = played(f"{DROP} x {RST}", 0.1), played(f"{RST} x {DROP}", -0.1)
    for first, second in ((late_b.a, late_b.b), (late_a.b, late_a.a)):
        assert first.started == 0.0
        assert second.started == pytest.approx(0.1)
        assert (first.errors, second.errors) == (("ECONNREFUSED",), ())
    assert late_b.seconds == pytest.approx(late_a.seconds)


def test_it_works_over_ipv6_where_nothing_is_translated() -> None:
    blueprint = draw([parse_topology("symmetric x symmetric with ipv6")])
    assert not play(blueprint).through
    punch = play(blueprint, version=6)
    assert punch.through
    assert punch.a.seen == punch.a.local
    assert punch.a.seen.startswith("[2001:db8:a")


def test_a_lost_syn_costs_a_second_and_the_result_is_the_seeds() -> None:
    lossy = f"{DROP} x {DROP} with a.loss=0.1 b.loss=0.1"
    punches = [played(lossy, 0.0, seed) for seed in range(20)]
    assert punches == [played(lossy, 0.0, seed) for seed in range(20)]
    seconds = [punch.seconds for punch in punches if punch.seconds is not None]
    assert len(seconds) >= 18
    assert min(seconds) == pytest.approx(0.15)
    assert any(each > 1.1 for each in seconds)


def test_several_pairs_in_one_blueprint_are_played_by_their_names() -> None:
    blueprint = draw([parse_topology(f"{DROP} x {DROP}"), parse_topology("symmetric x symmetric")])
    assert play(blueprint, hosts=("a0", "b0")).through
    assert not play(blueprint, hosts=("a1", "b1")).through
