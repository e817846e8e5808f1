"""One TCP connection of a simulated host (RFC 9293), as Linux 6.18 has it where the RFC leaves a choice. Pure.

What matters to a punch, and where Linux's source says so:

* A RST that acknowledges our SYN, and every ICMP error about it, end connect() at once (``tcp_reset``, ``tcp_v4_err``).
  Later an ICMP error changes nothing.
* A SYN that meets a SYN is a simultaneous open (RFC 9293 figure 8): both ends answer it with a SYN-ACK that repeats
  their own sequence number, and both connect() return.
* SYNs are repeated after 1, 2, 3, 4, 5, 7, 11... s (``tcp_syn_linear_timeouts``), the SYN-ACK of a simultaneous open
  by the same timer.
* What acknowledges something never sent is answered by a RST, and the SYN is repeated at once.
* Segments, and ICMP errors that quote ours, with a lower TTL than ``minimum_ttl`` do not exist (``IP_MINTTL``).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from midair.lab.node import NEVER
from midair.lab.packet import ACK, FIN, PSH, RST, SYN, IcmpReason, tcp_packet
from midair.lab.simulation.errors import CONNECT_ERRORS
from midair.lab.simulation.happenings import Ended, Failed, Opened, Received
from midair.lab.simulation.reassembly import MASK, Reassembly, distance
from midair.lab.simulation.sender import Sender
from midair.lab.simulation.state import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ENDED_BY_RST,
    ESTABLISHED,
    FIN_RECEIVED,
    FIN_SENT,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    State,
)

if TYPE_CHECKING:
    from midair.lab.packet import Packet
    from midair.lab.simulation.happenings import Handler, Happening
    from midair.lab.simulation.host import Ends, SimulatedHost

__all__ = ["ACK_PAUSE", "RECEIVE_WINDOW", "Connection"]


MOST_SYNS: Final = 11
"""``tcp_syn_retries`` and ``tcp_syn_linear_timeouts`` more than one."""
LINEAR_SYNS: Final = 4
"""``tcp_syn_linear_timeouts``: repetitions before the pause begins to double."""
MOST_SYN_ACKS: Final = 7
MOST_REPETITIONS: Final = 15
"""``tcp_retries2``."""
TWO_TICKS: Final = 0.008
"""``TCP_TIMEOUT_MIN``, at 250 Hz."""
LINGER_SECONDS: Final = 60.0
"""``TCP_TIMEWAIT_LEN``, and ``tcp_fin_timeout``."""
ACK_PAUSE: Final = 0.5
"""``tcp_invalid_ratelimit``: seconds between two answers to what is out of place."""
RECEIVE_WINDOW: Final = 65535

_OPENED = Opened()
_ENDED = Ended()


class Connection:
    """Made by :meth:`SimulatedHost.dial` or by a listener. ``now`` is the time of the call, in seconds."""

    __slots__ = (
        "_ack_due",
        "_closed",
        "_host",
        "_incoming",
        "_out_of_place_at",
        "_repetitions",
        "_sender",
        "_sent_at",
        "_start",
        "due_at",
        "ends",
        "handler",
        "minimum_ttl",
        "port",
        "queued_at",
        "state",
        "syns",
        "ttl",
    )

    def __init__(
        self, host: SimulatedHost, ends: Ends, port: int, handler: Handler, ttl: int, minimum_ttl: int
    ) -> None:
        self.ends = ends
        """Local address and port, remote address and port."""
        self.port = port
        """The interface it sends by."""
        self.handler = handler
        """May be replaced at any time."""
        self.ttl = ttl
        self.minimum_ttl = minimum_ttl
        self.state: State = CLOSED
        self.syns = 0
        """SYNs sent; where SYNs have crossed, repetitions of the SYN-ACK too, as ``tcpi_total_retrans`` has it."""
        self.due_at = NEVER
        self.queued_at = NEVER
        """When its timer is due, and when the host will look at it, which may be earlier."""
        self._host = host
        self._start = 0
        """Our initial sequence number."""
        self._sender: Sender
        self._incoming: Reassembly
        self._repetitions = 0
        self._sent_at = 0.0
        self._ack_due = False
        self._closed = False
        self._out_of_place_at = -ACK_PAUSE

    @property
    def local(self) -> tuple[bytes, int]:
        return self.ends[:2]

    @property
    def remote(self) -> tuple[bytes, int]:
        return self.ends[2:]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._host.name}:{self.ends[1]} to port {self.ends[3]} {self.state.name}>"

    @property
    def following_start(self) -> int:
        """The initial sequence number of a connection that takes over the 4-tuple from TIME_WAIT."""
        return (self._sender.next + 65535 + 2) & MASK

    # -- what an application does --

    def send(self, data: bytes, now: float) -> None:
        """Sends bytes; takes as many as there are.

        Raises: OSError, EAGAIN before it is open, EPIPE after it is over.
        """
        if self.state not in (ESTABLISHED, CLOSE_WAIT):
            number = errno.EAGAIN if self.state in (SYN_SENT, SYN_RECEIVED) else errno.EPIPE
            raise OSError(number, os.strerror(number))
        self._sender.write(data)
        self._send_due(now)

    def shutdown(self, now: float) -> None:
        """Nothing more will be sent; what comes is still received."""
        following = FIN_SENT.get(self.state)
        if following is not None:
            self.state = following
            self._sender.finish()
            self._send_due(now)

    def close(self, now: float) -> None:
        """Calls off a connect(); ends a connection after what was sent has arrived. The handler hears nothing more, and
        data that still comes is answered by a RST. Idempotent."""
        self.handler = _ignore
        self._closed = True
        if self.state is SYN_SENT:
            self._vanish()
        else:
            self.shutdown(now)
            if self.state is FIN_WAIT_2:
                self._host.arm(self, now + LINGER_SECONDS)

    def abort(self, now: float) -> None:
        """Closes by a RST, if there is anybody to hear it. Idempotent."""
        self.handler = _ignore
        if self.state in ENDED_BY_RST:
            self._emit(RST | ACK, self._sender.next, now)
        self._vanish()

    # -- what the host does --

    def dial(self, start: int, now: float) -> None:
        """Sends the SYN."""
        self.state = SYN_SENT
        self._start = start
        self._sent_at = now
        self.syns = 1
        self._send_syn(now)
        self._host.arm(self, now + 1.0)

    def take_over(self, start: int, packet: Packet, round_trip: float | None) -> None:
        """Becomes the connection of a listener's half-open one: ``packet`` completes the handshake, and is yet to be
        received."""
        self.state = ESTABLISHED
        self._sender = Sender((start + 1) & MASK, mss_of(packet))
        self._incoming = Reassembly(packet.sequence)
        if round_trip is not None:
            self._sender.measured(round_trip)

    def receive(self, packet: Packet, now: float) -> None:
        """A segment of this connection has come."""
        if packet.ttl < self.minimum_ttl:
            return
        state = self.state
        if state is SYN_SENT:
            self._receive_in_syn_sent(packet, now)
        elif state is TIME_WAIT:
            self._receive_in_time_wait(packet, now)
        else:
            data = packet.payload
            if self._is_in_place(packet, len(data), now):
                self._take(packet, data, now)
        if self._ack_due:
            self._acknowledge(now)

    def receive_error(self, packet: Packet, now: float) -> None:
        """An ICMP error about a segment of this connection has come."""
        quoted, reason = packet.quoted, packet.reason
        assert quoted is not None
        assert reason is not None
        if quoted.ttl < self.minimum_ttl:
            return
        connecting = self.state is SYN_SENT or self.state is SYN_RECEIVED
        first, last = (self._start, self._start + 1) if connecting else self._outstanding()
        if distance(quoted.sequence, first) < 0 or distance(quoted.sequence, last) > 0:
            return
        if reason is IcmpReason.TOO_BIG:
            if not connecting:
                self._shrink(packet.mtu, now)
        elif connecting:
            self._fail(CONNECT_ERRORS[packet.version][reason], now)

    def expire(self, now: float) -> None:
        """The timer has run out."""
        state = self.state
        if state is SYN_SENT or state is SYN_RECEIVED:
            self._repeat_syn(now)
        elif state is TIME_WAIT or (state is FIN_WAIT_2 and self._closed):
            self._vanish()
        elif self._sender.under_way:
            self._repetitions += 1
            if self._repetitions > MOST_REPETITIONS:
                self._fail(errno.ETIMEDOUT, now)
                return
            self._sender.late()
            self._repeat(now)

    # -- the handshake --

    def _receive_in_syn_sent(self, packet: Packet, now: float) -> None:
        flags = packet.flags
        if flags & ACK:
            if packet.acknowledgement != (self._start + 1) & MASK:
                if self.syns == 1:
                    self._host.arm(self, now + TWO_TICKS)
                self._host.refuse(packet, now)
            elif flags & RST:
                self._fail(errno.ECONNREFUSED, now)
            elif flags & SYN:
                self._synchronise(packet)
                self._open(now)
                self._acknowledge(now)
                self.handler(self, _OPENED, now)
        elif flags & SYN and not flags & RST:
            self.state = SYN_RECEIVED
            self._sent_at = now
            self._synchronise(packet)
            self._send_syn(now)

    def _synchronise(self, packet: Packet) -> None:
        self._incoming = Reassembly((packet.sequence + 1) & MASK)
        self._sender = Sender((self._start + 1) & MASK, mss_of(packet))

    def _open(self, now: float) -> None:
        self.state = ESTABLISHED
        if self._repetitions == 0:
            self._sender.measured(now - self._sent_at)
        self._repetitions = 0
        self.due_at = NEVER

    def _send_syn(self, now: float) -> None:
        if self.state is SYN_SENT:
            local, local_port, remote, remote_port = self.ends
            packet = tcp_packet(local, local_port, remote, remote_port, SYN, sequence=self._start, ttl=self.ttl)
            self._host.transmit(self.port, packet, now)
        else:
            self._emit(SYN | ACK, self._start, now)

    def _repeat_syn(self, now: float) -> None:
        limit = MOST_SYNS if self.state is SYN_SENT else MOST_SYN_ACKS
        if self._repetitions + 1 >= limit:
            self._fail(errno.ETIMEDOUT, now)
            return
        self._repetitions += 1
        self.syns += 1
        self._send_syn(now)
        linear = LINEAR_SYNS if self.state is SYN_SENT else 0
        self._host.arm(self, now + 2.0 ** max(0, self._repetitions - linear))

    # -- segments --

    def _is_in_place(self, packet: Packet, length: int, now: float) -> bool:
        """RFC 9293 3.10.7.4, first to fourth, with the answers of RFC 5961. ``length`` is that of the data."""
        flags, sequence, expected = packet.flags, packet.sequence, self._incoming.next
        if sequence == expected and not flags & (SYN | RST):
            return flags & ACK != 0
        length += (flags & SYN != 0) + (flags & FIN)
        if distance(sequence + length, expected) < 0 or distance(sequence, expected) > RECEIVE_WINDOW:
            if not flags & RST:
                if length and not flags & SYN:
                    self._ack_due = True
                else:
                    self._challenge(now)
            return False
        if flags & RST:
            if sequence == expected:
                self._fail(errno.EPIPE if self.state is CLOSE_WAIT else errno.ECONNRESET, now)
            else:
                self._challenge(now)
            return False
        if flags & SYN:
            crossing = (
                self.state is SYN_RECEIVED
                and flags & ACK
                and (sequence + 1) & MASK == expected
                and length == 1
                and packet.acknowledgement == (self._start + 1) & MASK
            )
            if not crossing:
                self._challenge(now)
            return bool(crossing)
        return bool(flags & ACK)

    def _take(self, packet: Packet, data: bytes, now: float) -> None:
        number = packet.acknowledgement
        opened = False
        if self.state is SYN_RECEIVED:
            if number != (self._start + 1) & MASK:
                self._host.refuse(packet, now)
                return
            self._open(now)
            opened = True
        elif number != self._sender.next and distance(number, self._sender.next) > 0:
            self._challenge(now)
            return
        if self._sender.under_way:
            self._take_acknowledgement(number, now, duplicate=not data and not packet.flags & FIN)
        if opened:
            if packet.flags & SYN:
                self._acknowledge(now)
            self.handler(self, _OPENED, now)
        if data or packet.flags & FIN:
            self._take_text(packet, data, now)

    def _take_acknowledgement(self, number: int, now: float, *, duplicate: bool) -> None:
        sender = self._sender
        before = sender.unacknowledged
        lost = sender.acknowledged(number, now, duplicate=duplicate)
        if sender.unacknowledged != before:
            self._repetitions = 0
            self._host.arm(self, now + sender.timeout if sender.under_way else NEVER)
            if sender.finished:
                self._fin_acknowledged(now)
        if lost:
            self._repeat(now)
        elif self.state is not CLOSED:
            self._send_due(now)

    def _take_text(self, packet: Packet, data: bytes, now: float) -> None:
        state = self.state
        if state not in FIN_RECEIVED:
            if state is not CLOSED:
                self._ack_due = True
            return
        incoming = self._incoming
        if data and self._closed and distance(packet.sequence + len(data), incoming.next) > 0:
            self._host.refuse(packet, now)
            self._vanish()
            return
        ready = incoming.add(packet.sequence, data, fin=bool(packet.flags & FIN))
        self._ack_due = True
        ended = incoming.ended
        if ended:
            incoming.next = (incoming.next + 1) & MASK
            self.state = FIN_RECEIVED[state]
            if self.state is TIME_WAIT:
                self._host.arm(self, now + LINGER_SECONDS)
        if ready:
            self.handler(self, Received(ready), now)
        if ended and self.state is not CLOSED:
            self.handler(self, _ENDED, now)

    def _fin_acknowledged(self, now: float) -> None:
        if self.state is FIN_WAIT_1:
            self.state = FIN_WAIT_2
            if self._closed:
                self._host.arm(self, now + LINGER_SECONDS)
        elif self.state is CLOSING:
            self.state = TIME_WAIT
            self._host.arm(self, now + LINGER_SECONDS)
        elif self.state is LAST_ACK:
            self._vanish()

    def _receive_in_time_wait(self, packet: Packet, now: float) -> None:
        flags = packet.flags
        if flags & RST:
            self._vanish()
        elif flags & (SYN | ACK) == SYN and self._begins_anew(packet):
            self._vanish()
            self._host.receive_unknown(packet, self.ends, now)
        elif flags & (SYN | FIN) or packet.payload:
            self._ack_due = True
            self._host.arm(self, now + LINGER_SECONDS)

    def _begins_anew(self, packet: Packet) -> bool:
        later = distance(packet.sequence, self._incoming.next) > 0
        return later and self._host.listener_for(packet) is not None

    # -- sending --

    def _send_due(self, now: float) -> None:
        sender = self._sender
        pieces = sender.due(now)
        if not pieces:
            return
        for sequence, data, fin in pieces:
            self._emit(ACK | (FIN if fin else 0) | (PSH if data else 0), sequence, now, data)
        if self.due_at == NEVER:
            self._host.arm(self, now + sender.timeout)

    def _repeat(self, now: float) -> None:
        sequence, data, fin = self._sender.first()
        self._emit(ACK | (FIN if fin else 0) | (PSH if data else 0), sequence, now, data)
        self._host.arm(self, now + self._sender.timeout)

    def _shrink(self, mtu: int, now: float) -> None:
        mss = mtu - (40 if len(self.ends[0]) == 4 else 60)
        if 0 < mss < self._sender.mss:
            was_too_big = len(self._sender.first()[1]) > mss
            self._sender.shrink(mss)
            if was_too_big:
                self._repeat(now)

    def _challenge(self, now: float) -> None:
        """An acknowledgement for what is out of place (RFC 5961), not too often."""
        if now - self._out_of_place_at >= ACK_PAUSE:
            self._out_of_place_at = now
            self._ack_due = True

    def _acknowledge(self, now: float) -> None:
        if self.state is CLOSED:
            self._ack_due = False
        else:
            self._emit(ACK, self._sender.next, now)

    def _emit(self, flags: int, sequence: int, now: float, data: bytes = b"") -> None:
        self._ack_due = False
        local, local_port, remote, remote_port = self.ends
        packet = tcp_packet(
            local,
            local_port,
            remote,
            remote_port,
            flags,
            sequence=sequence,
            acknowledgement=self._incoming.next,
            ttl=self.ttl,
            data=data,
        )
        self._host.transmit(self.port, packet, now)

    # -- the end --

    def _outstanding(self) -> tuple[int, int]:
        return self._sender.unacknowledged, self._sender.next

    def _fail(self, error: int, now: float) -> None:
        handler = self.handler
        self._vanish()
        handler(self, Failed(error), now)

    def _vanish(self) -> None:
        self.state = CLOSED
        self.due_at = NEVER
        self._ack_due = False
        self._host.forget(self)


def mss_of(packet: Packet) -> int:
    """Of the connection that it belongs to, at the usual MTU: 1500 less the headers."""
    return 1460 if packet.version == 4 else 1440


def _ignore(connection: Connection, happening: Happening, now: float) -> None:
    """The application has closed it."""
