"""XML from a router: a small tree, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.nat.mapping import xml
from midair.nat.mapping.outcome import MalformedError


def test_xml_becomes_a_tree_without_namespaces() -> None:
    root = xml.parse(
        b'<?xml version="1.0"?><a:x xmlns:a="urn:a"><a:y> one </a:y><y z="1">two &lt;&#65;</y></a:x>\r\n\0'
    )
    assert root.name == "x"
    assert [element.text for element in root.every("y")] == ["one", "two <A"]
    assert root.value("y") == "one"
    assert root.value("nothing") == ""
    assert root.first("nothing") is None


def test_elements_are_found_in_the_order_of_the_document() -> None:
    root = xml.parse(b"<r><a><s>1</s><b><s>2</s></b></a><s>3</s></r>")
    assert [element.text for element in root.every("s")] == ["1", "2", "3"]


LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY a%d "&a;&a;">' % n for n in range(9))
    + b"]><x>&a;</x>"
)


@pytest.mark.parametrize(
    "document",
    [
        LAUGHS,
        b'<!DOCTYPE x SYSTEM "http://192.0.2.1/x.dtd"><x/>',
        b"<!DOCTYPE x><x/>",
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x><x/>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE x+AD4-<x/>',
        b"<x>&undefined;</x>",
        b"<x>",
        b"<x/><y/>",
        b"",
        b"text",
        b"<x>\xff\xfe</x>",
        b"<a>" * 40 + b"</a>" * 40,
        b"<a>" + b"<b/>" * 5000 + b"</a>",
    ],
    ids=range(14),
)
def test_hostile_or_broken_xml_is_refused(document: bytes) -> None:
    with pytest.raises(MalformedError):
        xml.parse(document)


@given(
    st.one_of(
        st.binary(max_size=300), st.text(max_size=300).map(lambda text: f"<a>{text}</a>".encode("utf-8", "replace"))
    )
)
def test_no_bytes_make_the_xml_parser_do_anything_but_parse_or_refuse(document: bytes) -> None:
    try:
        root = xml.parse(document)
    except MalformedError:
        return
    assert isinstance(root.text, str)
