"""`invsync preview`, `approve` and `sync` where the channel is another shop, is throttled, or is paused."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.world import World
from invsync_dagster.settings import Home
from tests import databases
from tests.unit.commands import ERP_MAIN, MAPPING_HEADER, invoke, own_root, stand_ins

CHANNELS = f"settings: {{{{push_deadline_seconds: 2}}}}\nchannels:\n{ERP_MAIN}    limits: {{{{write_linger: 0}}}}\n"
SKUS = [f"S{number:02d}" for number in range(12)]
ANOTHER = "another_shop: 12 of 12 listings are unknown at erp_main: are address, credentials or mapping those of another shop?"


@pytest.fixture
def erp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each_database: str) -> Iterator[World]:
    """An installation with 10 pieces of each SKU, and the ERP's stand-in, which shows 7."""
    own_root(monkeypatch, tmp_path)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("INVSYNC_DATABASE_URL", databases.fresh_url(tmp_path / "data"))
    stock, mapping = tmp_path / "stock.csv", tmp_path / "mapping.csv"
    stock.write_text("sku,quantity\n" + "".join(f"{sku},10\n" for sku in SKUS))
    with stand_ins(Home.from_environment(), CHANNELS, {"erp_main": [Article(sku, 7) for sku in SKUS]}) as world:
        assert invoke("channels", "sync").exit_code == 0
        assert invoke("import", stock, "--basis", "on_hand", "--as-of", "2026-07-01T00:00:00Z").exit_code == 0
        map_as(mapping, {sku: sku for sku in SKUS})
        yield world


def map_as(file: Path, items: dict[str, str]) -> None:
    file.write_text(MAPPING_HEADER + "".join(f"{sku},erp_main,{item},{item},\n" for sku, item in items.items()))
    assert invoke("import", file).exit_code == 0


def shown(world: World) -> set[int]:
    return {row.quantity for row in world.books("erp_main")}


def answer_writes(world: World, monkeypatch: pytest.MonkeyPatch, response: Response) -> None:
    handle = world.handle

    def intercepted(name: str, request: Request) -> Response:
        return response if request.url.endswith("/stock") else handle(name, request)

    monkeypatch.setattr(world, "handle", intercepted)


def books(world: World) -> dict[str, Any]:
    """The stand-in's articles: without those that are mapped it is another shop."""

    def of(standin: Any) -> dict[str, Any]:
        return cast(dict[str, Any], standin._erp._articles)

    return world.within("erp_main", of)


def test_the_preview_of_another_shop_says_so_and_it_is_not_approved_until_it_is_the_right_one(erp: World) -> None:
    articles = dict(books(erp))
    books(erp).clear()
    preview = invoke("preview", "erp_main")
    assert (preview.exit_code, ANOTHER in preview.stderr, preview.stdout) == (1, True, "")
    refused = invoke("approve", "erp_main", "--reason", "looks right")
    assert (refused.exit_code, ANOTHER in refused.stderr) == (2, True)

    books(erp).update(articles)
    assert json.loads(invoke("sync", "S01", "--json").stdout)[0]["approval_missing"] is True
    preview = invoke("preview", "erp_main")
    assert (preview.exit_code, "12 listings, 0 as they should be, 12 raised" in preview.stdout) == (0, True)
    assert invoke("approve", "erp_main", "--reason", "looks right").exit_code == 0
    assert invoke("sync", *SKUS).exit_code == 0
    assert shown(erp) == {10}


def test_a_preview_says_why_a_listing_can_not_be_read(erp: World) -> None:
    del books(erp)["S03"]
    preview = invoke("preview", "erp_main")
    assert (preview.exit_code, "1 can't be read" in preview.stdout) == (0, True)
    assert "! S03: not_found: " in preview.stdout
    [unreadable] = json.loads(invoke("preview", "erp_main", "--json").stdout)["unreadable"]
    assert (unreadable["sku"], unreadable["problem"].startswith("not_found: ")) == ("S03", True)


@pytest.mark.parametrize("as_json", [False, True])
def test_skus_that_are_throttled_are_named_and_the_command_says_that_they_are_left(
    erp: World, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    assert invoke("approve", "erp_main", "--reason", "looked").exit_code == 0
    with monkeypatch.context() as throttled:
        answer_writes(erp, throttled, Response(429, {}, b""))
        told = invoke("sync", "S01", *(["--json"] if as_json else []))
    assert (told.exit_code, shown(erp)) == (1, {7})
    if as_json:
        [report] = json.loads(told.stdout)
        assert (report["failures"], report["problem"], len(report["left_of"])) == ([], "", 1)
        assert report["left_of"][0].startswith("S01: throttled: ")
    else:
        assert "! erp_main S01: throttled: " in told.stdout


def test_skus_that_are_pushed_leave_nothing(erp: World) -> None:
    assert invoke("approve", "erp_main", "--reason", "looked").exit_code == 0
    done = invoke("sync", "S01", "--json")
    [report] = json.loads(done.stdout)
    assert (done.exit_code, report["acknowledged"], report["left_of"], shown(erp)) == (0, 1, [], {7, 10})


def test_a_paused_channel_is_named_and_written_nothing(erp: World) -> None:
    assert invoke("approve", "erp_main", "--reason", "looked").exit_code == 0
    assert invoke("channels", "pause", "erp_main", "--reason", "moving").exit_code == 0
    told = invoke("sync", "S01")
    words = (
        "! erp_main is paused (moving), and nothing is written there: `invsync channels resume erp_main --reason …`\n"
    )
    assert (told.exit_code, words in told.stdout) == (1, True)
    assert shown(erp) == {7}
    assert invoke("channels", "resume", "erp_main", "--reason", "moved").exit_code == 0
    assert invoke("sync", "S01").exit_code == 0


def test_a_paused_listing_and_one_that_is_not_there_are_named_with_the_mend(erp: World) -> None:
    assert invoke("approve", "erp_main", "--reason", "looked").exit_code == 0
    assert invoke("listings", "pause", "S01", "--reason", "holiday").exit_code == 0
    told = invoke("sync", "S01")
    resume = "`invsync listings resume --channel erp_main --reason … S01`"
    assert (told.exit_code, f"! erp_main S01 is paused (holiday): {resume}\n" in told.stdout) == (1, True)
    assert invoke("listings", "resume", "S01", "--reason", "back").exit_code == 0
    assert invoke("sync", "S01").exit_code == 0
    assert shown(erp) == {7, 10}


@pytest.mark.parametrize("sku", ["A B/c+d&e", "-5", "it's"])
def test_the_mend_of_a_paused_listing_can_be_typed_as_it_is_told_whatever_its_sku_is(
    erp: World, tmp_path: Path, sku: str
) -> None:
    stock, mapping = tmp_path / "odd.csv", tmp_path / "odd-mapping.csv"
    stock.write_text(f'sku,quantity\n"{sku}",10\n')
    assert invoke("import", stock, "--basis", "on_hand", "--as-of", "2026-07-01T01:00:00Z").exit_code == 0
    map_as(mapping, {sku: "X1"})
    assert invoke("listings", "pause", "--reason", "holiday", "--", sku).exit_code == 0
    told = invoke("sync", "--", sku)
    assert told.exit_code == 1
    [mend] = re.findall(r"is paused \(holiday\): `invsync (.*)`", told.stdout)
    assert invoke(*shlex.split(mend)).stdout == "1 listings: active\n"


def test_a_channel_that_is_not_registered_has_no_preview(erp: World) -> None:
    file = Home.from_environment().channels_file
    file.write_text(file.read_text().replace("name: erp_main", "name: erp_new"))
    told = invoke("preview", "erp_new")
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr == "invsync: channel 'erp_new' is not registered yet; run `invsync channels sync`\n"


def test_a_listing_in_review_is_named_with_its_reason(erp: World) -> None:
    assert invoke("approve", "erp_main", "--reason", "looked").exit_code == 0
    del books(erp)["S03"]
    assert invoke("sync", "S03").exit_code == 1
    told = invoke("sync", "S03")
    assert told.exit_code == 1
    assert "! erp_main S03 is in review (not_found: " in told.stdout
    assert "as `invsync discover erp_main` proposes" in told.stdout


def test_a_held_listing_is_named_until_somebody_decides(erp: World) -> None:
    assert invoke("approve", "erp_main", "--reason", "looked").exit_code == 0
    assert invoke("sync", *SKUS).exit_code == 0
    file = Home.from_environment().channels_file
    limits = "settings: {change_limits: {minimum: 1}, "
    file.write_text(file.read_text().replace("settings: {", limits, 1) + "    rules: {buffer: 10}\n")
    assert invoke("channels", "sync").stderr == ""
    told = invoke("sync", "S01")
    assert (told.exit_code, "! erp_main S01 is held at 10 (" in told.stdout) == (1, True)
    assert invoke("held", "approve", "erp_main", "--reason", "meant").exit_code == 0
    assert invoke("sync", "S01").exit_code == 0
    assert shown(erp) == {0, 10}


@pytest.mark.parametrize("options", [[], ["--channel", "erp_main"]])
def test_a_sku_that_is_listed_nowhere_is_named_beside_those_that_are_pushed(erp: World, options: list[str]) -> None:
    assert invoke("approve", "erp_main", "--reason", "looked").exit_code == 0
    other = Home.from_environment().root / "other.csv"
    other.write_text("sku,quantity\nNEW,3\n")
    assert invoke("import", other).exit_code == 0
    told = invoke("sync", "NEW", "S01", "--json", *options)
    [report] = json.loads(told.stdout)
    discover = "`invsync discover erp_main`"
    assert report["left_of"] == [f"NEW is not listed on erp_main: import its mapping, as {discover} proposes"]
    assert (told.exit_code, report["acknowledged"], shown(erp)) == (1, 1, {7, 10})


def test_a_retired_channel_is_named_where_it_was_asked_for(erp: World) -> None:
    assert invoke("approve", "erp_main", "--reason", "looked").exit_code == 0
    assert invoke("channels", "retire", "erp_main", "--reason", "closed").exit_code == 0
    told = invoke("sync", "S01", "--channel", "erp_main")
    assert (told.exit_code, "! erp_main is retired: nothing is written there\n" in told.stdout) == (1, True)
    assert invoke("sync", "S01").exit_code == 0
    assert shown(erp) == {7}


def test_what_is_left_is_counted_of_the_skus_that_were_asked_for(erp: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke("approve", "erp_main", "--reason", "looked").exit_code == 0
    [done] = json.loads(invoke("sync", "S01", "--json").stdout)
    assert (done["left"], done["waiting"]) == (0, 0)
    with monkeypatch.context() as throttled:
        answer_writes(erp, throttled, Response(429, {}, b""))
        [told] = json.loads(invoke("sync", "S02", "S03", "--json").stdout)
    assert told["left"] + told["waiting"] == 2
