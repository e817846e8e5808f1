"""Which names are taken, and what a terminal gets to see."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfer_support import unhurried

from midair.transfer.layout import check_layout, journal_name, part_name
from midair.transfer.names import NameRules, UnacceptableName, check, escape, fold

GOOD = [
    "a",
    "a/b/c",
    "…",
    "ünïcode",
    "日本語.txt",
    ".hidden",
    "a b",
    " a",
    "x" * 255,
    "a.part",
    "conx",
    "console",
    "auxiliary",
]
GOOD += ["com", "com10", "lpt", "nul_", "-rf", "~", "$HOME", "a;b", "*", "ß", "/".join("a" * 128)]

BAD = [
    "",
    "/",
    "/etc/passwd",
    "a//b",
    "a/",
    "/a",
    ".",
    "..",
    "a/..",
    "../a",
    "a/../b",
    "a/./b",
    "a\x00b",
    "a\nb",
    "\x1b[2J",
]
BAD += [
    "\x7f",
    "\x85",
    "a\\b",
    "..\\a",
    "\u202etxt.exe",
    "a\u200bb",
    "\ufeff",
    "a\u2028b",
    "a\u2029b",
    "\udc80",
    "a\ud800",
]
BAD += ["x" * 256, "ü" * 128, "/".join("a" * 129), "/".join(["x" * 100] * 41)]

BAD_ON_WINDOWS = ["C:", "c:a", "a:b", "a.", "a ", "a./b", "a /b", "con", "CON", "Nul.txt", "aux.c", "com1", "LPT9.x"]
BAD_ON_WINDOWS += ["com¹", "conin$", "a/prn/b", "nul .txt"]


@pytest.mark.parametrize(
    "name", [*GOOD, "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f4bb.png"]
)
def test_an_ordinary_name_is_taken_as_it_stands(name: str) -> None:
    assert "/".join(check(name, windows=True)) == name


@pytest.mark.parametrize("name", BAD_ON_WINDOWS)
def test_what_means_something_else_on_windows_only_is_refused_there_only(name: str) -> None:
    assert "/".join(check(name, windows=False)) == name
    with pytest.raises(UnacceptableName):
        check(name, windows=True)
    with pytest.raises(UnacceptableName):
        NameRules(windows=True).add(name, directory=False)


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_means_something_else_somewhere_is_refused(name: str) -> None:
    with pytest.raises(UnacceptableName) as refused:
        check(name)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


@unhurried
@given(st.text(st.characters(codec=None)))
def test_whatever_is_taken_stays_below_the_folder_and_can_be_shown(name: str) -> None:
    try:
        components = check(name)
    except UnacceptableName:
        return
    joined = os.path.normpath(os.path.join("/base", name))
    assert joined == "/base/" + name
    assert "\\" not in name
    assert all(c not in ("", ".", "..") and len(os.fsencode(c)) <= 255 for c in components)
    hidden = {c for c in name if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert hidden <= {"\u200c", "\u200d"}


@pytest.mark.parametrize(
    ("first", "second"), [("a", "A"), ("é", "e\u0301"), ("É", "e\u0301"), ("straße", "STRASSE"), ("ﬁ", "FI")]
)
def test_two_names_that_a_file_system_may_take_for_one_are_noted(first: str, second: str) -> None:
    rules = NameRules()
    rules.add(first, directory=False)
    rules.add("another", directory=False)
    noted = [rules.twins]
    rules.add(second, directory=False)
    noted.append(rules.twins)
    assert noted == [None, (first, second)]
    for again in (first, second):
        with pytest.raises(UnacceptableName):
            rules.add(again, directory=False)


def test_a_path_needs_its_folder_first_and_a_file_is_none() -> None:
    rules = NameRules()
    rules.add("file", directory=False)
    rules.add("folder", directory=True)
    rules.add("folder/x", directory=False)
    for path in ("file/x", "nowhere/x", "FOLDER/y"):
        with pytest.raises(UnacceptableName):
            rules.add(path, directory=False)


@unhurried
@given(st.text(min_size=1))
def test_folding_is_stable(name: str) -> None:
    assert fold(fold(name)) == fold(name)


@unhurried
@given(st.text(st.characters(codec=None), max_size=1000), st.integers(8, 300))
def test_escaped_text_is_one_bounded_line_without_anything_a_terminal_obeys(text: str, limit: int) -> None:
    shown = escape(text, limit)
    assert len(shown) <= limit
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)
    shown.encode()


def test_ordinary_text_is_shown_as_it_is_and_the_rest_visibly() -> None:
    assert escape("Grüße, 日本.txt") == "Grüße, 日本.txt"
    assert escape("a\x1b[31m\nb\u202ec") == "a\\x1b[31m\\x0ab\\u202ec"
    assert escape("x" * 1000, 21) == "x" * 10 + "…" + "x" * 10


def test_parts_stand_beside_their_names() -> None:
    assert part_name("a.iso") == "a.iso.part"
    assert journal_name("a.iso") == "a.iso.part.journal"


@unhurried
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255))
def test_parts_fit_into_a_file_system_even_for_the_longest_name(name: str) -> None:
    if len(name.encode()) <= 255:
        assert len(part_name(name).encode()) <= 255
        assert len(journal_name(name).encode()) <= 255
        check_layout([name])


@pytest.mark.parametrize("names", [["a", "a.part"], ["a", "a.part.journal"], ["A", "b", "B.PART"], ["a.part", "a"]])
def test_a_name_that_is_the_part_of_another_is_refused(names: list[str]) -> None:
    with pytest.raises(UnacceptableName):
        check_layout(names)


def test_our_own_suffixes_are_ordinary_names_otherwise() -> None:
    check_layout(["x.part", "y.part.journal"])
