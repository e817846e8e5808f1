"""Codes and the words they are made of."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midair.errors import UsageError
from midair.rendezvous.codes import MAX_CODE_LENGTH, generate_code, parse_code
from midair.rendezvous.words import EVEN, ODD, word_list


def one_edit_apart(one: str, other: str) -> bool:
    """Whether the Levenshtein distance is at most 1."""
    if len(one) > len(other):
        one, other = other, one
    if len(other) - len(one) > 1:
        return False
    start = 0
    while start < len(one) and one[start] == other[start]:
        start += 1
    skip = 1 if len(one) == len(other) else 0
    return one[start + skip :] == other[start + 1 :]


@pytest.mark.parametrize("name", [EVEN, ODD])
def test_a_list_has_256_words_that_cannot_be_taken_for_one_another(name: str) -> None:
    words = word_list(name)
    assert len(words) == len(set(words)) == 256
    assert list(words) == sorted(words)
    for word in words:
        assert re.fullmatch("[a-z]{4,9}", word)
    for one in words:
        for other in words:
            if one != other:
                assert not one.startswith(other)
                assert not one_edit_apart(one, other), (one, other)


def test_no_word_is_in_both_lists() -> None:
    assert not set(word_list(EVEN)) & set(word_list(ODD))


def test_each_byte_is_a_word_and_the_lists_take_turns() -> None:
    even, odd = word_list(EVEN), word_list(ODD)
    assert generate_code("7", b"\x00\xff") == f"7-{even[0]}-{odd[255]}"
    assert generate_code("12", b"\x01\x02\x03") == f"12-{even[1]}-{odd[2]}-{even[3]}"


@settings(deadline=None)
@given(st.integers(0, 10**9 - 1), st.binary(min_size=2, max_size=5))
def test_a_generated_code_is_already_in_its_one_form(number: int, randbytes: bytes) -> None:
    code = generate_code(str(number), randbytes)
    assert parse_code(code) == (str(number), code)


@pytest.mark.parametrize(
    "typed",
    [
        "7-acorn-volcano",
        "  7-acorn-volcano\n",
        "7 acorn volcano",
        "7-Acorn-VOLCANO",
        "7 - acorn -  volcano",
        "7–acorn—volcano",
        "07-acorn-volcano-",
        "7\u00a0acorn\u2011volcano",
    ],
)
def test_what_a_person_types_comes_to_one_form(typed: str) -> None:
    assert parse_code(typed) == ("7", "7-acorn-volcano")


def test_a_code_may_have_words_of_its_own() -> None:
    assert parse_code("42-my-own-Secret-2") == ("42", "42-my-own-secret-2")
    assert parse_code("3-größe") == ("3", "3-größe")
    assert parse_code("3-gro\u0308ße") == ("3", "3-größe")


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "  ",
        "-",
        "acorn-volcano",
        "7",
        "7-",
        "7-abc",
        "7-acorn_volcano",
        "7-acorn/volcano",
        "7-acorn\x00volcano",
        "7a-acorn-volcano",
        "٣-acorn-volcano",
        "1234567890-acorn-volcano",
        "7-" + "a" * MAX_CODE_LENGTH,
        "7-" + " " * 100_000 + "acorn",
    ],
)
def test_what_is_no_code_is_refused_with_a_hint_and_not_repeated(typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_code(typed)
    assert "7-acorn-volcano" in caught.value.hint
    assert "acorn" not in caught.value.message


@settings(deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"[0-9]{1,3}[- ]\w{1,10}[- ]\w{1,10}", fullmatch=True))
def test_the_one_form_stays_as_it_is(typed: str) -> None:
    try:
        nameplate, code = parse_code(typed)
    except UsageError:
        return
    assert parse_code(code) == (nameplate, code)
