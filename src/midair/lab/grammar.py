"""The text form of a topology: :mod:`midair.lab.description` shows it, here it is read. Pure.

topology = ( way "x" way | "(" way "+" way ")" ">" chain ) [ "with" option ... ]
way      = chain | "(" chain "&" chain ")"
chain    = "none" | box { ">" box }
box      = name { "," knob "=" value }
option   = "ipv6" | ( "a" | "b" | "server" ) "." knob "=" value
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from midair.lab.description import ACCESS_LINK, SERVER_LINK, Side, Topology
from midair.lab.knobs import link_with

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from midair.lab.description import Box

__all__ = ["NO_BOX", "read_topology"]

NO_BOX = "none"
"""Stands for a public address with nothing before it."""

_TOKEN = re.compile(r"[()&+>]|[^\s()&+>]+")
_MARKS = frozenset("()&+>")
_EXAMPLE = "for example: drop x rst, drop>carrier x symmetric, (drop + rst) > carrier"


def read_topology(text: str, read_box: Callable[[str], Box]) -> Topology:
    """Reads what ``str(topology)`` writes; ``read_box`` reads what ``str(box)`` does.

    Raises: ValueError, which says what is wrong and what there is.
    """
    try:
        return _Reader(_TOKEN.findall(text), read_box).topology()
    except ValueError as error:
        raise ValueError(f"the topology {text!r} cannot be understood: {error}") from None


class _Reader:
    """Tokens, read from left to right."""

    def __init__(self, tokens: Sequence[str], read_box: Callable[[str], Box]) -> None:
        self._tokens = tokens
        self._read_box = read_box
        self._next = 0

    def topology(self) -> Topology:
        # "(" begins a side with two ways as well as two sides behind shared boxes; what follows the first chain tells.
        start = self._next
        try:
            first = self._side()
        except _NotASide:
            self._next = start
            self._expect("(")
            a = self._side()
            self._expect("+")
            b = self._side()
            self._expect(")")
            self._expect(">")
            shared = self._boxes()
        else:
            self._expect("x")
            a, b, shared = first, self._side(), ()
        ipv6, links = self._options()
        return Topology(
            a=a,
            b=b,
            shared=shared,
            ipv6=ipv6,
            a_link=link_with(ACCESS_LINK, links["a"]),
            b_link=link_with(ACCESS_LINK, links["b"]),
            server_link=link_with(SERVER_LINK, links["server"]),
        )

    def _side(self) -> Side:
        if not self._taken("("):
            return Side(boxes=self._chain())
        if self._peek() == "(":
            raise _NotASide
        first = self._chain()
        if self._peek() == "+":
            raise _NotASide
        self._expect("&")
        second = self._chain()
        self._expect(")")
        return Side(boxes=first, second=second)

    def _chain(self) -> tuple[Box, ...]:
        if self._taken(NO_BOX):
            if self._peek() == ">":
                raise ValueError(f"{NO_BOX} stands alone, since it stands for nothing")
            return ()
        return self._boxes()

    def _boxes(self) -> tuple[Box, ...]:
        boxes = [self._read_box(self._word())]
        while self._taken(">"):
            boxes.append(self._read_box(self._word()))
        return tuple(boxes)

    def _options(self) -> tuple[bool, dict[str, dict[str, str]]]:
        ipv6 = False
        links: dict[str, dict[str, str]] = {"a": {}, "b": {}, "server": {}}
        if self._next == len(self._tokens):
            return ipv6, links
        self._expect("with")
        while self._next < len(self._tokens):
            option = self._word()
            place, _, knob = option.partition(".")
            name, equals, value = knob.partition("=")
            if option == "ipv6":
                ipv6 = True
            elif place in links and equals and name not in links[place]:
                links[place][name] = value
            else:
                raise ValueError(f"{option!r}: an option is ipv6, or a link's, such as a.delay=0.1 or server.loss=0.01")
        return ipv6, links

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _taken(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self._next += 1
        return True

    def _word(self) -> str:
        token = self._peek()
        if not token or token in _MARKS:
            raise ValueError(f"here a box has to stand: {self._so_far()} ... ({_EXAMPLE})")
        self._next += 1
        return token

    def _expect(self, token: str) -> None:
        if not self._taken(token):
            raise ValueError(f"here {token!r} has to stand: {self._so_far()} ... ({_EXAMPLE})")

    def _so_far(self) -> str:
        return " ".join(self._tokens[: self._next])


class _NotASide(ValueError):
    """What was begun as one side with two ways are two sides."""

    def __init__(self) -> None:
        super().__init__("brackets are for (drop & none), two ways of one side, and for (drop + rst) > carrier")
