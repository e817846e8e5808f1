"""The scripts by which a simulated host is compared with the kernel: every way a punch meets a TCP stack."""

from __future__ import annotations

from stack_script import Call, Error, Script, Segment, Step

from midair.lab.packet import IcmpReason

__all__ = ["SCRIPTS"]

DIAL, LISTEN, STOP = Call("dial"), Call("listen"), Call("stop listening")
CLOSE, SHUTDOWN, ABORT = Call("close"), Call("shutdown"), Call("abort")
HI = Call("send", b"hi")
SYN, SYN_ACK, ACK = Segment("S"), Segment("SA", 0, 1), Segment("A", 1, 1)
YO = Segment("A", 1, 1, b"yo")
NAT_RST = Segment("RA", 0, 1, bare=True)
"""What a NAT, or a host where nobody listens, answers to a SYN."""
PORT = IcmpReason.PORT_UNREACHABLE
OPENED: list[Step] = [(0.0, DIAL), (0.1, SYN_ACK)]

SCRIPTS: dict[str, Script] = {
    # SYN_SENT
    "an unanswered SYN is repeated": Script([(0, DIAL)], 4.6),
    "a dial opens, and bytes go both ways": Script([*OPENED, (0.2, HI), (0.3, Segment("A", 1, 3, b"yo"))], 0.45),
    "a RST refuses a dial": Script([(0, DIAL), (0.1, NAT_RST), (0.2, DIAL), (0.3, Segment("R", 0, 1))], 0.5),
    "a RST for another SYN, and the SYN again": Script([(0, DIAL), (0.1, Segment("RA", 0, 77, bare=True))], 0.6),
    "a SYN-ACK for another SYN": Script([(0, DIAL), (0.1, Segment("SA", 0, 77)), (0.3, Segment("SA", 0, 77))], 0.8),
    "an ACK without SYN": Script([(0, DIAL), (0.1, Segment("A", 5, 1))], 0.6),
    "a RST without ACK": Script([(0, DIAL), (0.1, Segment("R", 1))], 0.6),
    "a 4-tuple is dialled once": Script([(0, DIAL), (0.1, DIAL)], 0.3),
    "nothing can be sent before it is open": Script([(0, DIAL), (0.1, HI)], 0.3),
    "a dial called off": Script(
        [(0, DIAL), (0.1, CLOSE), (0.2, SYN_ACK), (0.3, DIAL), (0.4, ABORT), (0.5, SYN_ACK)], 0.6
    ),
    # simultaneous open
    "SYNs cross": Script([(0, DIAL), (0.1, SYN), (0.2, SYN_ACK), (0.3, YO), (0.4, HI)], 0.55),
    "SYNs cross beside a listener": Script([(0, LISTEN), (0, DIAL), (0.1, SYN), (0.2, SYN_ACK), (0.3, YO)], 0.5),
    "SYNs cross, and an ACK": Script([(0, DIAL), (0.1, SYN), (0.2, ACK), (0.3, HI)], 0.45),
    "SYNs cross, then a NAT's RST": Script([(0, DIAL), (0.1, SYN), (0.2, NAT_RST), (0.3, Segment("R", 1))], 0.5),
    "SYNs cross twice, and silence": Script([(0, DIAL), (0.1, SYN), (0.2, SYN), (0.3, SYN)], 3.6),
    "SYNs cross, and what comes is for others": Script(
        [(0, DIAL), (0.1, SYN), (0.2, Segment("A", 1, 77)), (0.3, Segment("SA", 0, 77))], 0.6
    ),
    "closed when SYNs have crossed": Script([(0, DIAL), (0.1, SYN), (0.2, CLOSE), (0.3, SYN_ACK)], 0.4),
    "aborted when SYNs have crossed": Script([(0, DIAL), (0.1, SYN), (0.2, ABORT), (0.3, SYN_ACK)], 0.5),
    # a listener and its half-open connections
    "an accepted connection": Script([(0, LISTEN), (0.1, SYN), (0.2, ACK), (0.3, YO), (0.4, HI)], 0.5),
    "accepted with data in the last ACK": Script([(0, LISTEN), (0.1, SYN), (0.2, YO)], 0.4),
    "an unanswered SYN-ACK is repeated": Script([(0, LISTEN), (0.1, SYN)], 4.5),
    "a half-open connection holds the 4-tuple until a RST": Script(
        [(0, LISTEN), (0.1, SYN), (0.2, DIAL), (0.3, Segment("R", 1)), (0.4, DIAL)], 0.5
    ),
    "a dial fails, and the SYN comes to the listener": Script(
        [(0, LISTEN), (0.1, DIAL), (0.2, NAT_RST), (0.3, SYN), (0.4, DIAL), (0.5, ACK), (0.6, DIAL)], 0.7
    ),
    "the SYN again": Script([(0, LISTEN), (0.1, SYN), (0.2, SYN), (0.3, SYN), (0.9, SYN)], 3.5),
    "another SYN, far ahead": Script(
        [(0, LISTEN), (0.1, SYN), (0.2, Segment("S", 3_000_000)), (0.3, Segment("R", 1)), (0.4, SYN)], 0.5
    ),
    "another SYN, little ahead": Script([(0, LISTEN), (0.1, SYN), (0.2, Segment("S", 30_000)), (0.3, SYN)], 0.5),
    "a SYN-ACK for a half-open connection": Script(
        [(0, LISTEN), (0.1, SYN), (0.2, Segment("SA", 0, 77)), (0.3, SYN_ACK), (0.4, DIAL)], 0.6
    ),
    "an ACK for another SYN-ACK": Script([(0, LISTEN), (0.1, SYN), (0.2, Segment("A", 1, 77)), (0.3, YO)], 0.5),
    "the listener is closed, then an ACK": Script(
        [(0, LISTEN), (0.1, SYN), (0.2, STOP), (0.3, DIAL), (0.4, ACK), (0.5, DIAL)], 0.7
    ),
    "the listener is closed, then silence": Script([(0, LISTEN), (0.1, SYN), (0.2, STOP), (1.4, DIAL)], 1.6),
    "what a listener does not take": Script(
        [(0, LISTEN), (0.1, ACK), (0.2, Segment("R", 1)), (0.3, SYN_ACK), (0.4, Segment("SF"))], 0.6
    ),
    "nobody listens": Script(
        [(0.1, SYN), (0.2, ACK), (0.3, Segment("FA", 7, 3, b"abc")), (0.4, Segment("F", 7)), (0.5, NAT_RST)], 0.6
    ),
    # established
    "a SYN-ACK again": Script([*OPENED, (0.2, SYN_ACK)], 0.4),
    "a SYN on a connection": Script([*OPENED, (0.2, SYN), (0.3, Segment("S", 500_000))], 0.5),
    "an ACK of what was not sent": Script([*OPENED, (0.2, Segment("A", 1, 500)), (0.3, HI)], 0.4),
    "what is out of the window": Script([*OPENED, (0.2, Segment("A", 200_000, 1)), (0.3, Segment("R", 200_000))], 0.5),
    "a RST that is not the next segment": Script(
        [*OPENED, (0.2, Segment("R", 5)), (0.3, Segment("R", 6)), (0.8, Segment("R", 7))], 1.0
    ),
    "a RST ends a connection": Script([*OPENED, (0.2, Segment("R", 1)), (0.3, HI)], 0.5),
    "data twice": Script([*OPENED, (0.2, YO), (0.3, YO), (0.4, Segment("A", 2, 1, b"ou"))], 0.5),
    "data out of order": Script(
        [
            *OPENED,
            (0.2, Segment("A", 4, 1, b"def")),
            (0.3, Segment("A", 1, 1, b"abc")),
            (0.4, Segment("FA", 10, 1)),
            (0.5, Segment("A", 7, 1, b"ghi")),
        ],
        0.7,
    ),
    "data is repeated": Script([*OPENED, (0.2, HI)], 2.2),
    # closing
    "the peer closes first": Script(
        [
            *OPENED,
            (0.2, Segment("FA", 1, 1)),
            (0.3, HI),
            (0.4, Segment("A", 2, 3)),
            (0.5, CLOSE),
            (0.6, Segment("A", 2, 4)),
            (0.7, DIAL),
        ],
        0.8,
    ),
    "the peer resets after its FIN": Script([*OPENED, (0.2, Segment("FA", 1, 1)), (0.3, Segment("R", 2))], 0.5),
    "we close first": Script(
        [*OPENED, (0.2, CLOSE), (0.3, Segment("A", 1, 2)), (0.4, Segment("FA", 1, 2)), (0.5, Segment("FA", 1, 2))], 0.7
    ),
    "we close, and data comes": Script([*OPENED, (0.2, CLOSE), (0.3, Segment("A", 1, 2, b"yo"))], 0.5),
    "we shut down, and data comes": Script(
        [
            *OPENED,
            (0.2, SHUTDOWN),
            (0.3, Segment("A", 1, 2, b"yo")),
            (0.4, Segment("FA", 3, 2)),
            (0.5, CLOSE),
            (0.6, Segment("S", 9_999_999)),
        ],
        0.8,
    ),
    "a SYN takes over from TIME_WAIT": Script(
        [
            (0, LISTEN),
            *OPENED,
            (0.2, SHUTDOWN),
            (0.3, Segment("FA", 1, 2)),
            (0.4, CLOSE),
            (0.5, Segment("S", 9_999_999)),
            (0.6, Segment("A", 10_000_000, 1)),
        ],
        0.8,
    ),
    "both close at once": Script(
        [*OPENED, (0.2, SHUTDOWN), (0.3, Segment("FA", 1, 1)), (0.4, Segment("A", 2, 2))], 0.6
    ),
    "abort": Script([*OPENED, (0.2, ABORT), (0.3, YO)], 0.5),
    # minimum TTL
    "a minimum TTL hides ICMP errors about what went out below it": Script(
        [(0, Call("dial", minimum_ttl=65)), (0.1, Error(PORT)), (0.2, SYN_ACK), (0.3, Segment("SA", 0, 1, ttl=70))], 0.5
    ),
    "an IPv6 minimum hides the same": Script(
        [(0, Call("dial", minimum_ttl=65)), (0.1, Error(PORT)), (0.2, SYN_ACK), (0.3, Segment("SA", 0, 1, ttl=70))],
        0.5,
        version=6,
    ),
    "a minimum TTL hides RSTs, not ICMP errors about what went out above it": Script(
        [(0, Call("dial", ttl=255, minimum_ttl=128)), (0.1, NAT_RST), (0.2, Error(PORT, quoted_ttl=253))], 0.4
    ),
    "a listener's TTL and minimum": Script(
        [
            (0, Call("listen", ttl=33, minimum_ttl=65)),
            (0.1, SYN),
            (0.2, Segment("S", ttl=70)),
            (0.3, Segment("A", 1, 1, ttl=70)),
        ],
        0.5,
    ),
    "an ICMP error about another SYN": Script([(0, DIAL), (0.1, Error(PORT, shift=9))], 0.4),
}

for reason in IcmpReason:
    for version in (4, 6):
        what = f"ICMP {reason.name}, IPv{version},"
        SCRIPTS |= {
            f"{what} and a dial": Script([(0, DIAL), (0.1, Error(reason)), (0.2, DIAL)], 0.4, version),
            f"{what} when SYNs have crossed": Script(
                [(0, DIAL), (0.1, SYN), (0.2, Error(reason)), (0.3, DIAL)], 0.4, version
            ),
            f"{what} and a half-open connection": Script(
                [(0, LISTEN), (0.1, SYN), (0.2, Error(reason)), (0.3, DIAL)], 0.4, version
            ),
            f"{what} and a connection": Script(
                [*OPENED, (0.2, HI), (0.25, Error(reason)), (0.3, Segment("A", 1, 3, b"yo"))], 0.45, version
            ),
        }
