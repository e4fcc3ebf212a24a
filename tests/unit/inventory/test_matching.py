"""SKUs that mean the same to a person."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.inventory.matching import difference, normalised


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ("0071", "71", "leading zeros"),
        ("A-1", "A1", "spaces or dashes"),
        ("A\u20131", "A-1", "spaces or dashes"),
        (" A_1 ", "A1", "spaces or dashes"),
        ("towel", "TOWEL", "case"),
        ("STRASSE", "straße", "case"),
        ("00-a 7", "A7", "case, spaces or dashes, leading zeros"),
        ("\uff21\uff11", "A1", "the form of its characters"),
        ("000", "0", "leading zeros"),
    ],
)
def test_skus_that_differ_only_so_are_alike(left: str, right: str, words: str) -> None:
    assert normalised(left) == normalised(right) != ""
    assert difference(left, right) == words == difference(right, left)


@pytest.mark.parametrize(
    ("left", "right"), [("A1", "A10"), ("710", "71"), ("A.1", "A1"), ("A/1", "A-1"), ("A-01", "A-1"), ("", "0")]
)
def test_other_skus_are_not(left: str, right: str) -> None:
    assert normalised(left) != normalised(right)


@pytest.mark.parametrize("nothing", ["", " ", "-", "\u2014 _"])
def test_a_sku_of_nothing_else_is_like_no_other(nothing: str) -> None:
    assert normalised(nothing) == ""


@given(st.text(alphabet="aB0-_ 7\u00e9\u00df\u2013\uff10", max_size=12))
def test_what_is_left_stays_what_it_is(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


@given(st.text(alphabet="aB0-_ 7", max_size=8), st.text(alphabet="aB0-_ 7", max_size=8))
def test_a_difference_is_said_for_all_that_are_alike_and_not_the_same(left: str, right: str) -> None:
    if left != right and normalised(left) == normalised(right):
        assert difference(left, right) != "the form of its characters" or not normalised(left)
