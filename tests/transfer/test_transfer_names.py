"""Which names are taken, and what a terminal gets to see."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfer_support import unhurried

from midair.transfer.layout import check_layout, journal_name, part_name
from midair.transfer.names import (
    NameRules,
    UnacceptableName,
    check,
    escape,
    escape_lines,
    fold,
    link_fault,
    numbered,
)

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


# -- links --


def resolve(path: list[str], links: dict[str, str], steps: int = 0) -> list[str] | None:
    """Where ``path`` leads as the kernel walks it, from a folder above the receiver's; None for a circle."""
    walked: list[str] = []
    for place, component in enumerate(path):
        if component == "..":
            walked = walked[:-1]
        elif component not in ("", "."):
            walked.append(component)
            target = links.get("/".join(walked))
            if target is not None:
                if steps > 40:
                    return None
                return resolve([*walked[:-1], *target.split("/"), *path[place + 1 :]], links, steps + 1)
    return walked


@unhurried
@given(
    st.dictionaries(
        st.sampled_from(["t/a", "t/b", "t/d/a", "t/d/b", "t/d/e/a", "t/d/e/b"]),
        st.lists(st.sampled_from(["..", ".", "", "a", "b", "d", "e", "x"]), min_size=1, max_size=6).map("/".join),
        max_size=6,
    )
)
def test_whatever_links_there_are_none_leads_out_of_the_folder_that_holds_them(links: dict[str, str]) -> None:
    """Also through each other, where ``..`` after a link would lead somewhere else than the path says."""
    taken = {f"there/{path}": target for path, target in links.items() if link_fault(path, target) is None}
    for path in taken:
        end = resolve(path.split("/"), taken)
        assert end is None or end[:2] == ["there", "t"], (path, taken)


@pytest.mark.parametrize(
    ("path", "target"),
    [("t/l", "x"), ("t/d/l", ".."), ("t/d/l", "../x/y"), ("t/l", "./x/"), ("t/d/e/l", "../../x"), ("t/l", "日本")],
)
def test_a_link_within_its_folder_is_taken(path: str, target: str) -> None:
    assert link_fault(path, target) is None


@pytest.mark.parametrize(
    ("path", "target", "words"),
    [
        ("t/l", "/x", "absolute"),
        ("t/l", "..", "out of the folder"),
        ("t/l", "../t/x", "out of the folder"),
        ("t/d/l", "../../x", "out of the folder"),
        ("t/d/l", "x/../y", "out of the folder"),
        ("l", "x", "out of the folder"),
        ("t/l", "", "nowhere"),
        ("t/l", "x" * 4097, "longer"),
        ("t/l", "a\x00b", "not safe"),
        ("t/l", "a\\b", "not safe"),
        ("t/l", "\u202e", "not safe"),
        ("t/l", "\udcff", "Unicode"),
    ],
)
def test_a_link_that_leads_elsewhere_or_looks_like_something_else_is_not(path: str, target: str, words: str) -> None:
    assert words in (link_fault(path, target) or "")


# -- numbers --


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "a-1.txt"),
        ("a", "a-1"),
        ("a.tar.gz", "a-1.tar.gz"),
        (".tar.gz", ".tar-1.gz"),
        (".bashrc", ".bashrc-1"),
        ("..x", "..x-1"),
        ("v1.2 notes", "v1.2 notes-1"),
        ("a.", "a.-1"),
        ("x" * 253, "x" * 253 + "-1"),
        ("x" * 254, None),
        ("ü" * 127, None),
    ],
)
def test_a_number_comes_before_the_ending_where_there_is_room_for_it(name: str, expected: str | None) -> None:
    assert numbered(name, 1) == expected


@unhurried
@given(st.text(min_size=1, max_size=60), st.integers(1, 9999))
def test_a_numbered_name_is_good_where_the_name_was(name: str, number: int) -> None:
    try:
        if check(name, windows=False) != (name,):
            return
    except UnacceptableName:
        return
    result = numbered(name, number)
    assert result is not None
    assert check(result, windows=False) == (result,)
    assert result != name


# -- text --


@unhurried
@given(st.text(st.characters(codec=None), max_size=300))
def test_several_lines_keep_their_line_ends_and_nothing_else_that_a_terminal_obeys(text: str) -> None:
    shown = escape_lines(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown if c not in "\n\t")
    assert shown.count("\n") == text.count("\n")
    shown.encode()


def test_ordinary_lines_are_shown_as_they_are() -> None:
    assert escape_lines("Grüße\n\tan 日本\r\n") == "Grüße\n\tan 日本\n"
    assert escape_lines("over\rwritten \x1b[2J") == "over\\x0dwritten \\x1b[2J"


def test_names_that_windows_cannot_bear_are_noted() -> None:
    for paths, fine in ((["a", "a/b"], True), (["a", "a/b:c"], False), (["con"], False)):
        rules = NameRules(windows=False)
        for path in paths:
            rules.add(path, directory=True)
        assert rules.for_windows is fine
