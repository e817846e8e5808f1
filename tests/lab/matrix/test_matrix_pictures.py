"""The HTML page and the SVG."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from matrix_samples import SAMPLES

from midair.lab.matrix import summarise
from midair.lab.matrix.layout import Look
from midair.lab.matrix.page import page
from midair.lab.matrix.svg import svg

SUMMARY = summarise(SAMPLES, seconds=1.26)
PAGE = page(SAMPLES, SUMMARY)
SVG = svg(SAMPLES, SUMMARY)
VOID = {"meta", "link", "br", "input"}


class Reader(HTMLParser):
    """Fails when elements are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.elements:
            self.texts.setdefault(self.elements[-1][1].get("id") or self.elements[-1][0], data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_is_well_formed_and_has_a_button_for_each_cell() -> None:
    buttons = [attributes for tag, attributes in read(PAGE).elements if tag == "button" and "data-n" in attributes]
    assert {int(each["data-n"] or "") for each in buttons} == set(range(len(SAMPLES)))
    assert all(each["aria-label"] and each["type"] == "button" for each in buttons)
    assert "<b>symmetric x symmetric</b>" in PAGE
    assert "<b>drop x rst @ 0 ms</b>" in PAGE


def test_the_page_asks_for_nothing_outside_itself() -> None:
    assert re.findall(r"""(?:src|href|url|@import|fetch)\s*[=(:]\s*["']?([^"'\s>)]*)""", PAGE) == ["data:,"]
    assert "http" not in PAGE


def test_the_page_says_everything_about_a_cell() -> None:
    cells = json.loads(read(PAGE).texts["data"])
    assert [each["name"] for each in cells] == [each.topology for each in SAMPLES]
    rows = dict(cells[0]["rows"])
    assert rows["result"] == "2 of 2 direct"
    assert rows["ceiling"] == "100 % by simultaneous open"
    assert rows["time (median / p95)"] == "300 ms / 300 ms"
    assert rows["opened by"] == "connect/accept (2)"
    assert (cells[0]["why"], cells[-1]["failures"]) == ("It can.", ["lockstep (1)"])
    assert {each["look"] for each in cells} == set(Look)


def test_nothing_of_a_result_becomes_markup() -> None:
    assert "<evidence>" not in PAGE
    assert "<hope>" not in PAGE
    cells = json.loads(read(PAGE).texts["data"])
    assert dict(cells[-1]["rows"])["evidence"] == "/tmp/<evidence> & more"
    hostile = page([SAMPLES[0]], summarise([SAMPLES[0]], seconds=1)).replace("sample", "x")
    assert read(hostile).elements


def test_page_and_picture_have_colours_for_light_and_for_dark() -> None:
    for text in (PAGE, SVG):
        assert "color-scheme:light dark" in text
        assert "@media(prefers-color-scheme:dark)" in text
        for look in Look:
            assert text.count(f"--{look}:#") == text.count(f"--on-{look}:#") == 2


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_signs_and_texts_can_be_read_in_both() -> None:
    """WCAG 2.2: 4.5 to 1."""
    for variables in re.findall(r"\{((?:color-scheme:light dark;)?--paper[^}]*)\}", PAGE):
        colours = dict(re.findall(r"--([\w-]+):(#\w{6})", variables))
        for paper in ("paper", "card"):
            assert _contrast(colours["ink"], colours[paper]) >= 4.5
            assert _contrast(colours["soft"], colours[paper]) >= 4.5
        for look in Look:
            assert _contrast(colours[look], colours[f"on-{look}"]) >= 4.5, look


def test_the_picture_is_well_formed_and_each_cell_says_more() -> None:
    root = ElementTree.fromstring(SVG)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    titles = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    for each in SAMPLES:
        assert any(title.startswith(f"{each.topology}: {each.successes} of {each.tries}") for title in titles)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(box.attrib["x"]) <= width - 18
        assert 0 <= float(box.attrib["y"]) <= height - 18
