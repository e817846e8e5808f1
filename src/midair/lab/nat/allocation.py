"""Where a new binding gets its outside address and port from (RFC 4787 4.1, 4.2). Pure.

With :attr:`Pooling.BY_DESTINATION` the outside addresses are lines to different providers: the destination decides the
line, and each line has bindings of its own. With the others, an address is chosen when a binding is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from midair.lab.behaviour import Pooling, PortRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from midair.lab.behaviour import Allocation
    from midair.lab.nat.binding import Endpoint

__all__ = ["Allocator"]

_GUESSES: Final = 16
"""Random ports tried before all are gone through."""


class Allocator:
    """Outside endpoints, by the rule."""

    __slots__ = ("_addresses", "_allocation", "_blocks", "_hosts", "_last", "_lines", "_random")

    def __init__(self, allocation: Allocation, addresses: Sequence[bytes], random: Random) -> None:
        self._allocation = allocation
        self._addresses = addresses
        self._random = random
        self._last = random.randint(allocation.low, allocation.high)
        """SEQUENTIAL: the port given last."""
        self._hosts: dict[bytes, bytes] = {}
        """PAIRED: the outside address of an inside one."""
        self._lines: dict[bytes, bytes] = {}
        """BY_DESTINATION: the outside address towards a remote one."""
        self._blocks: dict[bytes, dict[bytes, int]] = {}
        """BLOCKS: by outside address, the number of an inside address's block."""

    @property
    def overloads(self) -> bool:
        """Whether an outside port is given whoever has it."""
        return self._allocation.rule is PortRule.PRESERVING

    def line(self, remote: bytes) -> bytes:
        """The outside address the destination decides; empty when it decides nothing."""
        if self._allocation.pooling is not Pooling.BY_DESTINATION:
            return b""
        return self._in_turn(self._lines, remote)

    def endpoint(self, inside: Endpoint, remote: bytes, taken: Callable[[Endpoint], bool]) -> Endpoint | None:
        """For a new binding; None when all ports are taken."""
        address = self._address(inside[0], remote)
        for port in self._ports(inside, address):
            if not taken((address, port)):
                self._last = port
                return address, port
        return None

    def _address(self, inside: bytes, remote: bytes) -> bytes:
        match self._allocation.pooling:
            case Pooling.PAIRED:
                return self._in_turn(self._hosts, inside)
            case Pooling.ARBITRARY:
                return self._random.choice(self._addresses)
            case Pooling.BY_DESTINATION:
                return self._in_turn(self._lines, remote)

    def _in_turn(self, chosen: dict[bytes, bytes], who: bytes) -> bytes:
        if who not in chosen:
            chosen[who] = self._addresses[len(chosen) % len(self._addresses)]
        return chosen[who]

    def _ports(self, inside: Endpoint, address: bytes) -> Iterator[int]:
        """Candidates, best first."""
        allocation, wanted = self._allocation, inside[1]
        low, high = allocation.low, allocation.high
        match allocation.rule:
            case PortRule.PRESERVING:
                yield wanted
            case PortRule.PRESERVING_UNTIL_CLASH:
                yield wanted
                start = wanted + 1 if low <= wanted < high else low
                yield from range(start, high + 1)
                yield from range(low, start)
            case PortRule.SEQUENTIAL:
                span, offset = high - low + 1, self._last - low
                yield from (low + (offset + turn * allocation.step) % span for turn in range(1, span + 1))
            case PortRule.PARITY:
                yield from self._shuffled(range(low + (low + wanted) % 2, high + 1, 2))
            case PortRule.BLOCKS:
                yield from self._shuffled(self._block(inside[0], address))
            case PortRule.RANDOM:
                yield from self._shuffled(range(low, high + 1))

    def _block(self, host: bytes, address: bytes) -> range:
        """The ports of an inside host; none when all blocks are given away."""
        low, high = self._allocation.low, self._allocation.high
        size = min(self._allocation.block, high - low + 1)
        blocks = self._blocks.setdefault(address, {})
        if host not in blocks:
            if len(blocks) >= (high - low + 1) // size:
                return range(0)
            blocks[host] = len(blocks)
        first = low + blocks[host] * size
        return range(first, first + size)

    def _shuffled(self, ports: range) -> Iterator[int]:
        """In random order at first; then, since most are taken, all of them from a random one on."""
        if not ports:
            return
        for _ in range(_GUESSES):
            yield self._random.choice(ports)
        start = self._random.randrange(len(ports))
        yield from ports[start:]
        yield from ports[:start]
