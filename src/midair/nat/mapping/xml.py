"""XML from a router, as a small tree: names without their namespaces, text, children.

A document type is refused as soon as one begins, so there are no entities to expand and nothing outside to load; depth
and number of elements are limited, and the size is limited by who reads it from the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from midair.nat.mapping.outcome import MalformedError

__all__ = ["DEPTH_MAX", "ELEMENTS_MAX", "Element", "parse"]

DEPTH_MAX = 32
ELEMENTS_MAX = 4000
_SEPARATOR = "\n"
"""Between a namespace and a name: cannot be in either."""


class Element:
    """One element."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        """Stripped; empty when there are children."""
        self.children: list[Element] = []

    def every(self, name: str) -> Iterator[Element]:
        """The elements of that name in here, at any depth, in the document's order."""
        waiting = list(reversed(self.children))
        while waiting:
            element = waiting.pop()
            if element.name == name:
                yield element
            waiting += reversed(element.children)

    def first(self, name: str) -> Element | None:
        """The first of them."""
        return next(self.every(name), None)

    def value(self, name: str) -> str:
        """The text of the first child of that name, or nothing."""
        return next((child.text for child in self.children if child.name == name), "")


def parse(data: bytes) -> Element:
    """The document's outermost element. What is not UTF-8 is an error, whatever the document says of itself.

    Raises: MalformedError, and nothing else.
    """
    parser = expat.ParserCreate("utf-8", namespace_separator=_SEPARATOR)
    builder = _Builder()
    parser.StartDoctypeDeclHandler = builder.doctype
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.buffer_text = True
    try:
        parser.Parse(data.strip(b"\0 \t\r\n"), True)
    except (expat.ExpatError, UnicodeError) as error:
        raise MalformedError("not well-formed XML") from error
    return builder.root.children[0]


class _Builder:
    def __init__(self) -> None:
        self.root = Element("")
        self._open = [self.root]
        self._texts: list[list[str]] = [[]]
        self._count = 0

    def doctype(self, *_: Any) -> None:
        raise MalformedError("XML with a document type")

    def start(self, name: str, _: Any) -> None:
        self._count += 1
        if self._count > ELEMENTS_MAX or len(self._open) > DEPTH_MAX:
            raise MalformedError("XML with too many elements")
        element = Element(name.rpartition(_SEPARATOR)[2])
        self._open[-1].children.append(element)
        self._open.append(element)
        self._texts.append([])

    def end(self, _: str) -> None:
        element, text = self._open.pop(), self._texts.pop()
        if not element.children:
            element.text = "".join(text).strip()

    def characters(self, data: str) -> None:
        self._texts[-1].append(data)
