"""The pages of docs/errors say of every code of the sources what it means; the tables of the vendors too."""

from __future__ import annotations

import re

import pytest

from invsync_dagster.platforms.alibaba import errors as alibaba
from invsync_dagster.platforms.amazon import listings as amazon
from invsync_dagster.platforms.ebay import errors as ebay
from invsync_dagster.platforms.errors import PlatformError, Recovery, class_in, in_words, with_class
from invsync_dagster.platforms.registry import VENDORS
from tests.unit.platforms.codes import ROOT, codes

PAGES = ROOT / "docs" / "errors"


def table(recovery: Recovery) -> dict[str, set[str]]:
    """Return the codes of a page's table by platform."""
    rows = re.findall(r"^\| ([a-z ]+) \| (.*)$", (PAGES / f"{recovery}.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {platform: set(re.findall(r"`([^`]+)`", cells)) for platform, cells in rows if platform != "platform"}


@pytest.mark.parametrize("recovery", Recovery)
def test_the_page_of_a_class_names_every_code_of_the_sources(recovery: Recovery) -> None:
    told = table(recovery)
    found = {(platform, code) for platform, of_class, code in codes() if of_class is recovery}
    assert len(found) > 5
    missing = sorted((platform, code) for platform, code in found if code not in told.get(platform, set()))
    assert missing == [], f"add them to the table of docs/errors/{recovery}.md"


def test_every_class_has_its_page_with_every_platform_and_the_index_names_it() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    for recovery in Recovery:
        assert f"[{recovery}]({recovery}.md)" in index
        assert table(recovery).keys() - {"every channel"} == VENDORS.keys()
    assert {path.stem for path in PAGES.glob("*.md")} == {"README", *map(str, Recovery)}


def test_the_codes_of_the_vendors_own_tables_are_on_the_pages() -> None:
    again = {
        code
        for code in (*alibaba.TOKEN_CODES, *alibaba._MENDS)
        if code not in table(Recovery.REAUTHENTICATE)["alibaba"]
    }
    waits = {*alibaba._CALL_LIMIT, alibaba._DAY_LIMIT} - table(Recovery.WAIT)["alibaba"]
    gone = {f"ebay_{number}" for number in ebay._GONE} - table(Recovery.REVIEW)["ebay"]
    assert (again, waits, gone) == (set(), set(), set())
    assert f"ebay_{ebay._CONCURRENT}" in table(Recovery.RETRY)["ebay"]
    assert amazon._WORDS.keys() <= table(Recovery.REVIEW)["amazon"]


def test_a_failure_reads_as_its_code_its_words_and_its_class() -> None:
    error = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the token is not valid")
    assert str(error) == "unauthorized: the token is not valid [re-authenticate]"
    assert in_words("a", "b", None) == "a: b"
    assert with_class("", Recovery.WAIT) == "[wait]"


@pytest.mark.parametrize(
    ("text", "recovery"),
    [
        ("a: b [review]", Recovery.REVIEW),
        ("a: b [settle].", Recovery.SETTLE),
        ("[wait] is not at the end", None),
        ("a: b [later]", None),
        ("", None),
    ],
)
def test_the_class_is_found_at_the_end_of_a_message(text: str, recovery: Recovery | None) -> None:
    assert class_in(text) is recovery
