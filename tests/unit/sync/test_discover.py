"""Discovery: what a channel lists against its mapping; proposals to correct and import, and walks that can't be true."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, update

from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.discovery import Kind, unlisted_skus
from invsync_dagster.inventory.imports import importing
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.results import ImportResult
from invsync_dagster.inventory.listings import Listing, set_listings, set_status
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import inventory_levels, listing_walks, platform_mapping, walked_listings
from invsync_dagster.inventory.walks import LONGEST_LEG, LONGEST_WALK, forget_given_up
from invsync_dagster.platforms.contract import ChannelListing, LevelReference, ListingsPage
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.shopify.sandbox_views import number_of
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.faults import Fault
from invsync_dagster.sandbox.faults import Kind as FaultKind
from invsync_dagster.settings import ChangeLimits, Home, ImportLimits
from invsync_dagster.sync.discover import Discovery, discover
from invsync_dagster.sync.workspace import Workspace
from tests.simulation.stock import LOCATION
from tests.unit.sync.conftest import LittleWorld

CHANNELS = ("shop_main", "shop_eu", "woo_main", "erp_main")


@dataclass
class Desk:
    """The little world with a folder for reports, and what a person does with the mapping file."""

    world: LittleWorld
    home: Home
    runs: int = 0

    def workspace(self, **limits: Any) -> Workspace:
        ws = replace(self.world.processes[0], home=self.home)
        if limits:
            settings = ws.configuration.settings.model_copy(update={"change_limits": ChangeLimits(**limits)})
            ws = replace(ws, configuration=replace(ws.configuration, settings=settings))
        return ws

    def discover(self, channel: str, ws: Workspace | None = None) -> Discovery:
        self.runs += 1
        return discover(ws or self.workspace(), channel, run_id=f"run-{self.runs}")

    def rows(self, report: Discovery) -> list[dict[str, str]]:
        if report.mapping_file is None:
            return []
        with report.mapping_file.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))

    def import_rows(self, rows: Sequence[dict[str, str]]) -> ImportResult:
        path = self.home.data / f"corrected-{self.runs}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        basis = Basis(self.world.engine, self.home.imports, ImportLimits(), self.world.clock.now(), "ann", "import")
        return importing.import_file(basis, path)

    def article(self, sku: str, available: int, **given: Any) -> str:
        """Add an article to the main shop where its others are stocked; return the gid of its item."""
        level = self.world.shops["shop_main"].add_article(sku, available, location_id=LOCATION, **given)
        return str(level.item_id)

    def add_skus(self, *skus: str) -> None:
        with write_transaction(self.world.engine) as connection:
            set_skus(connection, [Sku(sku) for sku in skus], actor="ann", reason="new", now=self.world.clock.now())

    def map(self, channel: str, sku: str, item: str, location: str = "", platform_sku: str = "") -> None:
        with write_transaction(self.world.engine) as connection:
            listing = Listing(channel, sku, item, location, platform_sku=platform_sku)
            set_listings(connection, [listing], actor="ann", reason="new", now=self.world.clock.now())

    def statuses(self, channel: str) -> dict[str, tuple[str, str]]:
        """Status and reason of a channel's listings by their platform SKU."""
        listing = platform_mapping.c
        query = select(listing.platform_sku, listing.status, listing.status_reason).where(
            listing.platform_name == channel
        )
        with self.world.engine.connect() as connection:
            return {row.platform_sku: (row.status, row.status_reason) for row in connection.execute(query)}

    def level_of(self, channel: str, item: str) -> Any:
        level = inventory_levels
        query = select(level).where(level.c.channel == channel, level.c.item_id == item)
        with self.world.engine.connect() as connection:
            return connection.execute(query).one_or_none()

    def count(self, table: Any) -> int:
        with self.world.engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


class Told:
    """A platform that lists what it is told to, page by page, and else is the one it stands before."""

    def __init__(self, platform: Any, *pages: ListingsPage) -> None:
        self._platform, self._pages = platform, pages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)

    def listings(self, cursor: str = "") -> ListingsPage:
        return self._pages[int(cursor or "0")]


@pytest.fixture
def desk(world: LittleWorld, tmp_path: Path) -> Desk:
    home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    home.imports.mkdir(parents=True)
    return Desk(world, home)


def told(desk: Desk, channel: str, *pages: ListingsPage) -> Workspace:
    ws = desk.workspace()
    platform: Any = Told(ws.platform(ws.channel(channel)), *pages)
    return replace(ws, _platforms={channel: platform})


def kinds(report: Discovery) -> dict[str, int]:
    return {str(kind): number for kind, number in report.found.items()}


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_channel_whose_mapping_is_right_has_no_cases_and_leaves_no_file(desk: Desk, channel: str) -> None:
    report = desk.discover(channel)
    assert (report.problem, kinds(report), report.first, report.mapping_file) == ("", {}, [], None)
    mapped = len(desk.statuses(channel))
    assert report.levels == mapped
    assert report.unlisted_skus == 20 - mapped
    assert report.listings >= mapped
    assert report.api_calls >= 1
    assert set(desk.statuses(channel).values()) == {("active", "")}


def test_a_listing_with_the_text_of_a_sku_is_imported_as_it_stands(desk: Desk) -> None:
    desk.add_skus("0071")
    item = desk.article("0071", 4)
    report = desk.discover("shop_main")
    assert (kinds(report), report.unmapped, desk.level_of("shop_main", item)) == ({"matched": 1}, 1, None)
    (row,) = desk.rows(report)
    assert (row["central_sku"], row["platform_sku"], row["platform_item_id"]) == ("0071", "0071", item)
    assert row["note"].startswith("matched: the same text (0071")
    result = desk.import_rows([row])
    assert (result.state, result.rejections) == ("applied", ())
    level = desk.level_of("shop_main", item)
    assert (level.central_sku, level.location_id, level.pushable) == ("0071", LOCATION, True)
    assert kinds(desk.discover("shop_main")) == {}


def test_a_similar_sku_is_only_proposed_until_a_person_copies_it(desk: Desk) -> None:
    desk.add_skus("0071", "Größe 42", "A-1", "a 1")
    for platform_sku in ("71", "GRÖSSE42", "A1", "nothing like it", ""):
        desk.world.erp.add(platform_sku or "-", 3)
    report = desk.discover("erp_main")
    assert kinds(report) == {"similar": 3, "unmatched": 2}
    rows = {row["platform_sku"]: row for row in desk.rows(report)}
    assert [row["central_sku"] for row in rows.values()] == [""] * 5
    assert {sku: row["proposed_sku"] for sku, row in rows.items()} == {
        "71": "0071",
        "GRÖSSE42": "Größe 42",
        "A1": "",
        "nothing like it": "",
        "-": "",
    }
    assert "like '0071' but for leading zeros" in rows["71"]["note"]
    assert "like 'Größe 42' but for case, spaces or dashes" in rows["GRÖSSE42"]["note"]
    assert "like 'A-1' but for spaces or dashes; like 'a 1' but for case, spaces or dashes" in rows["A1"]["note"]
    untouched = desk.import_rows(list(rows.values()))
    assert (untouched.state, {one.column for one in untouched.rejections}) == ("rejected", {"central_sku"})
    assert desk.level_of("erp_main", "71") is None
    corrected = desk.import_rows([{**row, "central_sku": row["proposed_sku"]} for row in rows.values()])
    assert (corrected.state, len(corrected.rejections)) == ("applied", 3)
    assert desk.level_of("erp_main", "71").central_sku == "0071"
    assert desk.level_of("erp_main", "GRÖSSE42").central_sku == "Größe 42"


def test_a_sku_that_fits_several_listings_is_mapped_to_none_of_them(desk: Desk) -> None:
    desk.add_skus("TWIN")
    items = {desk.article("TWIN", 4), desk.article("TWIN", 5)}
    desk.article("SKU-0001", 1)
    report = desk.discover("shop_main")
    assert kinds(report) == {"conflict": 3}
    rows = desk.rows(report)
    assert {row["central_sku"] for row in rows} == {""}
    assert {row["platform_item_id"]: row["proposed_sku"] for row in rows if row["proposed_sku"] == "TWIN"} == (
        dict.fromkeys(items, "TWIN")
    )
    assert [row["note"].split(" (")[0] for row in rows if row["proposed_sku"] == "SKU-0001"] == [
        "conflict: its SKU is mapped on another level of the channel already"
    ]
    assert [row["note"].split(" (")[0] for row in rows if row["proposed_sku"] == "TWIN"] == [
        "conflict: 2 levels of the channel have this SKU: choose the one that is sold from"
    ] * 2


def test_an_item_at_several_locations_is_offered_where_the_others_are_sold_from(desk: Desk) -> None:
    desk.add_skus("NEW")
    shop = desk.world.shops["shop_main"]
    elsewhere = shop.add_location()
    item = desk.article("NEW", 4)
    shop._books.articles[number_of(item, "InventoryItem")].available[number_of(elsewhere, "Location")] = 9
    (row,) = desk.rows(desk.discover("shop_main"))
    assert (row["central_sku"], row["platform_location_id"]) == ("NEW", LOCATION)


def test_variations_that_share_the_stock_of_their_product_can_not_be_two_skus(desk: Desk) -> None:
    desk.add_skus("LEFT", "RIGHT")
    level = LevelReference("501")
    page = ListingsPage(
        (
            ChannelListing(level, "501", "502", "LEFT", "Glove left", 4),
            ChannelListing(level, "501", "503", "RIGHT", "Glove right", 4),
            *_all_mapped(desk, "woo_main"),
        )
    )
    report = desk.discover("woo_main", told(desk, "woo_main", page))
    assert (report.problem, kinds(report)) == ("", {"conflict": 2})
    assert {one.note for one in report.first} == {"the listings on its level name 2 SKUs, and a level holds one number"}


def test_variations_that_sell_the_number_of_a_mapped_product_are_offered_for_its_sku(desk: Desk) -> None:
    desk.add_skus("MUG", "BLUE")
    desk.map("woo_main", "MUG", "501", platform_sku="MUG")
    variations = (("502", "RED"), ("503", "BLUE"), ("504", "MUG"))
    page = ListingsPage(
        (
            *_all_mapped(desk, "woo_main"),
            *(ChannelListing(LevelReference("501"), "501", number, sku, "Mug", 4) for number, sku in variations),
        )
    )
    report = desk.discover("woo_main", told(desk, "woo_main", page))
    assert (report.problem, kinds(report)) == ("", {"unmatched": 1, "conflict": 1})
    rows = desk.rows(report)
    assert [(row["central_sku"], row["proposed_sku"], row["platform_variant_id"]) for row in rows] == [
        ("", "MUG", "502"), ("", "MUG", "503"),
    ]  # fmt: skip
    assert "it sells from the number of 'MUG'" in rows[0]["note"]
    assert desk.import_rows([{**row, "central_sku": row["proposed_sku"]} for row in rows]).state == "applied"
    assert kinds(desk.discover("woo_main", told(desk, "woo_main", page))) == {}


def test_variations_of_a_product_that_nobody_mapped_yet_are_offered_for_the_one_sku_of_its_number(desk: Desk) -> None:
    desk.add_skus("MUG")
    level = LevelReference("501")
    page = ListingsPage(
        (
            ChannelListing(level, "501", "", "MUG", "Mug", 4),
            ChannelListing(level, "501", "502", "RED", "Mug red", 4),
            *_all_mapped(desk, "woo_main"),
        )
    )
    rows = desk.rows(desk.discover("woo_main", told(desk, "woo_main", page)))
    assert [(row["central_sku"], row["proposed_sku"], row["platform_sku"]) for row in rows] == [
        ("MUG", "", "MUG"), ("", "MUG", "RED"),
    ]  # fmt: skip


@pytest.mark.parametrize("mapped_first", [True, False])
def test_variations_without_sku_that_sell_their_products_number_are_offered_each(
    desk: Desk, mapped_first: bool
) -> None:
    desk.add_skus("SHIRT")
    level, variations = LevelReference("501"), ("502", "503", "504")
    if mapped_first:
        desk.map("woo_main", "SHIRT", "501")
    listed = [ChannelListing(level, "501", number, "", "Shirt", 4) for number in ("", *variations)]
    # A variation moved to a later page while the walk went on.
    pages = (ListingsPage((*_all_mapped(desk, "woo_main"), *listed), "1"), ListingsPage((listed[1],)))
    report = desk.discover("woo_main", told(desk, "woo_main", *pages))
    assert (report.problem, report.unmapped) == ("", 3 if mapped_first else 4)
    rows = desk.rows(report)
    assert [(row["platform_sku"], row["platform_variant_id"], row["proposed_sku"]) for row in rows] == [
        ("", number, "SHIRT" if mapped_first else "") for number in (variations if mapped_first else ("", *variations))
    ]
    result = desk.import_rows([{**row, "central_sku": "SHIRT"} for row in rows])
    assert (result.state, result.rejections) == ("applied", ())
    after = desk.discover("woo_main", told(desk, "woo_main", *pages))
    assert (kinds(after), after.unmapped, after.mapping_file) == ({}, 0, None)


@pytest.mark.parametrize("status", ["active", "needs_review", "paused"])
def test_a_level_that_holds_no_number_since_its_variations_do_is_not_called_renamed(desk: Desk, status: str) -> None:
    desk.add_skus("MUG")
    desk.map("woo_main", "MUG", "501", platform_sku="MUG")
    desk.map("woo_main", "MUG", "501", platform_sku="RED")
    all_mapped = tuple(one for one in _all_mapped(desk, "woo_main") if one.level.item_id != "501")
    with write_transaction(desk.world.engine) as connection:
        of_product = platform_mapping.c.platform_item_id == "501"
        connection.execute(update(platform_mapping).where(of_product).values(status=status))
    product = ChannelListing(LevelReference("501"), "501", "", "MUG", "Mug", None, "stock management is switched off")
    own = ChannelListing(LevelReference("502", "501"), "501", "502", "RED", "Mug red", 4)
    report = desk.discover("woo_main", told(desk, "woo_main", ListingsPage((*all_mapped, product, own))))
    told_of = {"undrivable": 2, "unmatched": 1} if status != "paused" else {"unmatched": 1}
    assert (report.problem, kinds(report)) == ("", told_of)
    rows = [row for row in desk.rows(report) if row["platform_item_id"] == "501"]
    assert [(row["platform_sku"], row["status"]) for row in rows] == [("MUG", ""), ("RED", "")][: len(rows)]
    assert all(row["note"].startswith("undrivable: stock management is switched off") for row in rows)


def test_variations_whose_products_row_was_retired_are_no_case(desk: Desk) -> None:
    desk.add_skus("MUG")
    desk.map("woo_main", "MUG", "501", platform_sku="MUG")
    page = ListingsPage(
        (*_all_mapped(desk, "woo_main"), ChannelListing(LevelReference("501"), "501", "502", "RED", "Mug", 4))
    )
    listing = platform_mapping.c
    with write_transaction(desk.world.engine) as connection:
        ids = connection.execute(select(listing.id).where(listing.platform_item_id == "501")).scalars().all()
        set_status(connection, ids, "retired", actor="ann", reason="not sold by us", now=desk.world.clock.now())
    assert kinds(desk.discover("woo_main", told(desk, "woo_main", page))) == {}


def _all_mapped(desk: Desk, channel: str) -> tuple[ChannelListing, ...]:
    listing = platform_mapping.c
    query = select(listing.platform_item_id, listing.platform_location_id, listing.platform_sku).where(
        listing.platform_name == channel
    )
    with desk.world.engine.connect() as connection:
        return tuple(
            ChannelListing(LevelReference(item, location), item, "", sku, "", 1)
            for item, location, sku in connection.execute(query)
        )


def test_what_the_channel_does_not_track_or_somebody_retired_is_no_case(desk: Desk) -> None:
    desk.article("GIFT-CARD", 0, tracked=False)
    item = desk.article("SKU-0002", 3)
    desk.add_skus("OLD")
    desk.map("shop_main", "OLD", item, LOCATION)
    listing = platform_mapping.c
    with write_transaction(desk.world.engine) as connection:
        ids = connection.execute(select(listing.id).where(listing.platform_item_id == item)).scalars().all()
        set_status(connection, ids, "retired", actor="ann", reason="not sold by us", now=desk.world.clock.now())
    assert kinds(desk.discover("shop_main")) == {}


def test_a_renamed_listing_is_imported_under_its_new_name_with_its_rules(desk: Desk) -> None:
    desk.add_skus("NEW-NAME")
    item = desk.article("NEW-NAME", 4)
    header = {"central_sku": "NEW-NAME", "channel": "shop_main", "platform_sku": "OLD-NAME", "platform_item_id": item,
              "platform_location_id": LOCATION, "buffer": "2"}  # fmt: skip
    desk.import_rows([header])
    report = desk.discover("shop_main")
    assert kinds(report) == {"renamed": 2}
    rows = desk.rows(report)
    assert [(row["central_sku"], row["platform_sku"], row["status"], row["buffer"]) for row in rows] == [
        ("NEW-NAME", "NEW-NAME", "active", "2"),
        ("NEW-NAME", "OLD-NAME", "retired", "2"),
    ]
    assert desk.import_rows(rows).state == "applied"
    statuses = desk.statuses("shop_main")
    assert (statuses["NEW-NAME"][0], statuses["OLD-NAME"][0]) == ("active", "retired")
    assert kinds(desk.discover("shop_main")) == {}


def test_a_listing_that_may_have_become_other_goods_is_not_imported_without_a_person(desk: Desk) -> None:
    desk.add_skus("MUG")
    item = desk.article("TEAPOT", 4)
    desk.map("shop_main", "MUG", item, LOCATION, "MUG")
    rows = desk.rows(desk.discover("shop_main"))
    assert [(row["central_sku"], row["proposed_sku"], row["platform_sku"]) for row in rows] == [
        ("", "MUG", "TEAPOT"),
        ("", "MUG", "MUG"),
    ]
    assert "was 'MUG' and is 'TEAPOT' now: is it still the same goods?" in rows[0]["note"]
    assert desk.import_rows(rows).state == "rejected"
    assert desk.statuses("shop_main")["MUG"] == ("active", "")


def test_a_listing_that_became_other_goods_is_mapped_to_them_in_one_file(desk: Desk) -> None:
    desk.add_skus("MUG", "POT")
    item = desk.article("TEAPOT", 4)
    desk.map("shop_main", "MUG", item, LOCATION, "MUG")
    now, before = desk.rows(desk.discover("shop_main"))
    done = desk.import_rows([{**now, "central_sku": "POT"}, {**before, "central_sku": "MUG"}])
    assert (done.state, done.rejections) == ("applied", ())
    statuses = desk.statuses("shop_main")
    assert (statuses["TEAPOT"], statuses["MUG"][0]) == (("active", ""), "retired")
    assert desk.level_of("shop_main", item).central_sku == "POT"
    assert kinds(desk.discover("shop_main")) == {}


def test_a_variation_that_is_gone_does_not_touch_the_others_of_its_product(desk: Desk) -> None:
    desk.add_skus("GLOVE")
    desk.map("woo_main", "GLOVE", "501", platform_sku="GLOVE-S")
    desk.map("woo_main", "GLOVE", "501", platform_sku="GLOVE")
    pages = tuple(one for one in _all_mapped(desk, "woo_main") if one.platform_sku != "GLOVE-S")
    report = desk.discover("woo_main", told(desk, "woo_main", ListingsPage(pages)))
    (row,) = desk.rows(report)
    assert (row["central_sku"], row["proposed_sku"], row["platform_sku"], row["status"]) == (
        "", "GLOVE", "GLOVE-S", "retired",
    )  # fmt: skip
    assert row["note"] == "renamed: its SKU 'GLOVE-S' is gone from its level, which goes on with 'GLOVE'"


def test_a_vanished_listing_is_stopped_with_the_reason_and_can_be_retired(desk: Desk) -> None:
    del desk.world.erp._articles["SKU-0003"]
    report = desk.discover("erp_main")
    assert (report.problem, kinds(report), report.reviewed) == ("", {"vanished": 1}, 1)
    status, reason = desk.statuses("erp_main")["SKU-0003"]
    assert status == "needs_review"
    assert reason.startswith(f"no longer listed on {desk.world.clock.now():%Y-%m-%d}: ")
    assert desk.level_of("erp_main", "SKU-0003").pushable is False
    assert desk.level_of("erp_main", "SKU-0004").pushable is True
    (row,) = desk.rows(report)
    assert (row["central_sku"], row["proposed_sku"], row["status"]) == ("", "SKU-0003", "retired")
    assert kinds(desk.discover("erp_main")) == {"vanished": 1}
    assert desk.import_rows([{**row, "central_sku": "SKU-0003"}]).state == "applied"
    assert kinds(desk.discover("erp_main")) == {}


def test_a_listing_that_came_back_is_proposed_as_active(desk: Desk) -> None:
    article = desk.world.erp._articles.pop("SKU-0003")
    desk.discover("erp_main")
    desk.world.erp._articles["SKU-0003"] = article
    report = desk.discover("erp_main")
    assert kinds(report) == {"returned": 1}
    (row,) = desk.rows(report)
    assert desk.import_rows([{**row, "central_sku": row["proposed_sku"]}]).state == "applied"
    assert desk.statuses("erp_main")["SKU-0003"] == ("active", "")


def test_what_a_walk_missed_is_asked_for_before_it_counts_as_gone(desk: Desk) -> None:
    page = ListingsPage(tuple(one for one in _all_mapped(desk, "erp_main") if one.platform_sku != "SKU-0003"))
    report = desk.discover("erp_main", told(desk, "erp_main", page))
    assert (report.problem, report.listings, kinds(report)) == ("", 19, {})
    assert desk.statuses("erp_main")["SKU-0003"] == ("active", "")


def test_a_mapped_listing_that_is_no_longer_tracked_is_named(desk: Desk) -> None:
    desk.add_skus("LAMP")
    item = desk.article("LAMP", 4, tracked=False)
    desk.map("shop_main", "LAMP", item, LOCATION, "LAMP")
    report = desk.discover("shop_main")
    assert kinds(report) == {"undrivable": 1}
    assert (report.first[0].note, report.first[0].proposed_sku) == (
        "its quantity is not tracked (Track quantity)",
        "LAMP",
    )


def test_doubly_mapped_levels_and_skus_are_named(desk: Desk) -> None:
    for sku in ("TWO-A", "TWO-B", "ONE"):
        desk.add_skus(sku)
    for item in ("i1", "i2", "i3"):
        desk.world.erp.add(item, 3)
    desk.map("erp_main", "TWO-A", "i1", platform_sku="i1")
    desk.map("erp_main", "TWO-B", "i1")
    desk.map("erp_main", "ONE", "i2")
    desk.map("erp_main", "ONE", "i3")
    report = desk.discover("erp_main")
    assert kinds(report) == {"doubly_mapped": 4}
    assert [(one.item_id, one.proposed_sku, one.note.split(":")[0]) for one in report.first] == [
        ("i1", "TWO-A", "one level is mapped to several SKUs"),
        ("i1", "TWO-B", "one level is mapped to several SKUs"),
        ("i2", "ONE", "the channel shows the stock of 'ONE' on several levels"),
        ("i3", "ONE", "the channel shows the stock of 'ONE' on several levels"),
    ]


def test_a_sku_that_is_parted_among_levels_by_rules_is_no_case(desk: Desk) -> None:
    desk.add_skus("PAIR")
    header = {"central_sku": "PAIR", "channel": "erp_main", "platform_sku": "", "platform_location_id": ""}
    rows = [{**header, "platform_item_id": item, "percent": "", "maximum": ""} for item in ("i1", "i2")]
    for row in rows:
        desk.world.erp.add(row["platform_item_id"], 3)
    desk.import_rows([{**rows[0], "percent": "60"}, rows[1]])
    assert kinds(desk.discover("erp_main")) == {"doubly_mapped": 2}
    desk.import_rows([{**rows[0], "percent": "60"}, {**rows[1], "maximum": "4"}])
    assert kinds(desk.discover("erp_main")) == {}


def test_a_channel_that_lists_nothing_changes_nothing(desk: Desk) -> None:
    before = desk.statuses("erp_main")
    desk.world.erp._articles.clear()
    report = desk.discover("erp_main")
    assert report.problem.startswith("nothing_listed: erp_main lists nothing at all, and 20 levels are mapped")
    assert (report.mapping_file, report.reviewed, desk.statuses("erp_main")) == (None, 0, before)


def test_another_shops_listings_change_nothing(desk: Desk) -> None:
    before = desk.statuses("erp_main")
    desk.world.erp._articles.clear()
    for number in range(30):
        desk.world.erp.add(f"OTHER-{number}", 3)
    report = desk.discover("erp_main")
    assert "another_shop: this looks like the wrong shop: of 20 mapped levels it has 0" in report.problem
    assert (report.mapping_file, desk.statuses("erp_main")) == (None, before)
    assert (desk.count(listing_walks), desk.count(walked_listings)) == (0, 0)


def test_another_shop_whose_ids_happen_to_be_there_is_known_by_its_skus(desk: Desk) -> None:
    page = ListingsPage(
        tuple(replace(one, platform_sku=f"X-{one.platform_sku}") for one in _all_mapped(desk, "woo_main"))
    )
    report = desk.discover("woo_main", told(desk, "woo_main", page))
    assert "mapped listings have another SKU there" in report.problem
    assert set(desk.statuses("woo_main").values()) == {("active", "")}


def test_more_gone_than_the_limits_let_pass_stops_nothing_but_is_written_down(desk: Desk) -> None:
    for number in range(5):
        del desk.world.erp._articles[f"SKU-{number:04d}"]
    report = desk.discover("erp_main", desk.workspace(zeroed_share=0.2, minimum=2))
    assert report.problem.startswith("too_many_gone: 5 of 20 mapped levels are gone from erp_main")
    assert (report.reviewed, set(desk.statuses("erp_main").values())) == (0, {("active", "")})
    assert [row["status"] for row in desk.rows(report)] == ["retired"] * 5
    within = desk.discover("erp_main", desk.workspace(zeroed_share=0.25, minimum=2))
    assert (within.problem, within.reviewed) == ("", 5)


def test_what_vanished_earlier_and_waits_for_a_person_is_not_gone_at_once(desk: Desk) -> None:
    limits = {"zeroed_share": 0.0, "minimum": 2}
    for number in range(12):
        del desk.world.erp._articles[f"SKU-{number:04d}"]
        report = desk.discover("erp_main", desk.workspace(**limits))
        assert (report.problem, report.reviewed, kinds(report)) == ("", 1, {"vanished": number + 1})
    nothing_new = desk.discover("erp_main", desk.workspace(**limits))
    assert (nothing_new.problem, nothing_new.reviewed, kinds(nothing_new)) == ("", 0, {"vanished": 12})


def test_a_walk_that_ends_beside_another_one_tells_all_that_it_saw(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.add_skus("NEW")
    new = ChannelListing(LevelReference("9001"), "9001", "", "NEW", "", 1)
    page = ListingsPage((new, *_all_mapped(desk, "woo_main")))
    ws = told(desk, "woo_main", page)
    counted = unlisted_skus
    others: list[Discovery] = []

    def meanwhile(connection: Connection, channel: str) -> int:
        monkeypatch.setattr("invsync_dagster.sync.discover.unlisted_skus", counted)
        others.append(desk.discover("woo_main", ws))
        return counted(connection, channel)

    monkeypatch.setattr("invsync_dagster.sync.discover.unlisted_skus", meanwhile)
    report = desk.discover("woo_main", ws)
    assert [kinds(each) for each in (report, *others)] == [{"matched": 1}] * 2


def test_a_cached_page_is_not_walked_for_ever(desk: Desk) -> None:
    page = ListingsPage(_all_mapped(desk, "woo_main"), "1")
    report = desk.discover("woo_main", told(desk, "woo_main", page, page))
    assert report.problem.startswith("same_page: ")
    assert report.api_calls == 2


def test_a_listing_seen_on_two_pages_is_one_case(desk: Desk) -> None:
    desk.add_skus("NEW")
    new = ChannelListing(LevelReference("9001"), "9001", "", "NEW", "", 1)
    pages = (ListingsPage((new, *_all_mapped(desk, "woo_main")), "1"), ListingsPage((new,)))
    report = desk.discover("woo_main", told(desk, "woo_main", *pages))
    assert (report.problem, kinds(report)) == ("", {"matched": 1})


def test_a_walk_that_breaks_off_concludes_nothing_and_leaves_nothing(desk: Desk) -> None:
    del desk.world.erp._articles["SKU-0003"]
    ws = desk.workspace()
    platform: Any = ws.platform(ws.channel("erp_main"))

    def broken(cursor: str = "") -> ListingsPage:
        raise PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is not right")

    stub: Any = Told(platform)
    stub.listings = broken
    report = desk.discover("erp_main", replace(ws, _platforms={"erp_main": stub}))
    assert report.problem == "unauthorized: the key is not right [re-authenticate]"
    assert desk.statuses("erp_main")["SKU-0003"] == ("active", "")
    assert (desk.count(listing_walks), desk.count(walked_listings)) == (0, 0)


class Slow(Told):
    """A channel that takes an hour for each page."""

    def __init__(self, platform: Any, clock: VirtualClock, *pages: ListingsPage) -> None:
        super().__init__(platform, *pages)
        self.clock = clock
        self.asked: list[str] = []

    def listings(self, cursor: str = "") -> ListingsPage:
        self.asked.append(cursor)
        self.clock.advance(3601)
        return super().listings(cursor)


def slow(desk: Desk, channel: str, pages: int) -> tuple[Workspace, Slow, tuple[ChannelListing, ...]]:
    """A workspace whose channel tells what it lists on so many pages."""
    everything = _all_mapped(desk, channel)
    cursors = [*map(str, range(1, pages)), ""]
    told_pages = [ListingsPage(everything[at::pages], cursor) for at, cursor in enumerate(cursors)]
    ws = desk.workspace()
    platform = Slow(ws.platform(ws.channel(channel)), desk.world.clock, *told_pages)
    return replace(ws, _platforms={channel: platform}), platform, everything


def test_a_walk_that_runs_out_of_time_goes_on_from_there_in_the_next_run(desk: Desk) -> None:
    ws, platform, everything = slow(desk, "shop_main", 5)
    first = desk.discover("shop_main", ws)
    assert platform.asked == ["", "1", "2"]
    assert first.problem.startswith(
        f"the walk did not finish within 3:00:00: {first.listings} listings so far; the next"
    )
    assert 0 < first.listings < len(everything)
    assert first.mapping_file is None
    assert desk.count(walked_listings) == first.listings
    second = desk.discover("shop_main", ws)
    assert platform.asked == ["", "1", "2", "3", "4"]
    assert (second.problem, second.listings, second.found.total()) == ("", len(everything), 0)
    assert (desk.count(listing_walks), desk.count(walked_listings)) == (1, len(everything))
    third = desk.discover("shop_main", ws)
    assert (platform.asked[5:], third.listings) == (["", "1", "2"], first.listings)


def test_a_walk_that_does_not_end_for_days_begins_anew(desk: Desk) -> None:
    ws, platform, everything = slow(desk, "shop_main", 4)
    desk.discover("shop_main", ws)
    desk.world.clock.advance(LONGEST_WALK.total_seconds() - 3 * 3600)
    assert desk.discover("shop_main", ws).problem != ""
    assert platform.asked == ["", "1", "2", "", "1", "2"]
    done = desk.discover("shop_main", ws)
    assert (done.problem, done.listings, desk.count(listing_walks)) == ("", len(everything), 1)


def test_a_listing_that_is_renamed_and_mapped_anew_while_a_walk_is_paused_is_no_case(desk: Desk) -> None:
    ws, _, everything = slow(desk, "shop_main", 5)
    first = desk.discover("shop_main", ws)
    seen = {one.level.item_id for at in range(3) for one in everything[at::5]}
    assert len(seen) == first.listings
    for row in mapped_rows(desk, "shop_main"):
        if row.platform_item_id in seen:
            desk.map(
                "shop_main", row.central_sku, row.platform_item_id, row.platform_location_id, f"new-{row.platform_sku}"
            )
            retire(desk, row.id)
    second = desk.discover("shop_main", ws)
    assert (second.problem, kinds(second), second.listings) == ("", {}, len(everything))
    third = desk.discover("shop_main", told(desk, "shop_main", ListingsPage(everything)))
    assert third.problem.startswith("another_shop: ")


def test_another_shop_is_known_though_rules_are_changed_while_a_walk_is_paused(desk: Desk) -> None:
    ws, platform, _ = slow(desk, "shop_main", 5)
    platform._pages = tuple(
        replace(page, listings=tuple(replace(one, platform_sku=f"other-{one.platform_sku}") for one in page.listings))
        for page in platform._pages
    )
    desk.discover("shop_main", ws)
    rows = mapped_rows(desk, "shop_main")
    listings = [
        Listing(
            "shop_main",
            row.central_sku,
            row.platform_item_id,
            row.platform_location_id,
            platform_sku=row.platform_sku,
            buffer=3,
        )
        for row in rows
    ]
    with write_transaction(desk.world.engine) as connection:
        set_listings(connection, listings, actor="ann", reason="new rules", now=desk.world.clock.now())
    assert {row.updated_at for row in mapped_rows(desk, "shop_main")} == {desk.world.clock.now()}
    assert desk.discover("shop_main", ws).problem.startswith("another_shop: ")


def mapped_rows(desk: Desk, channel: str) -> Sequence[Any]:
    with desk.world.engine.connect() as connection:
        query = select(platform_mapping).where(platform_mapping.c.platform_name == channel)
        return connection.execute(query).all()


def retire(desk: Desk, listing_id: int) -> None:
    with write_transaction(desk.world.engine) as connection:
        set_status(connection, [listing_id], "retired", actor="ann", reason="renamed", now=desk.world.clock.now())


def test_a_walk_does_not_go_on_at_another_address(desk: Desk) -> None:
    ws, platform, everything = slow(desk, "shop_main", 5)
    desk.discover("shop_main", ws)
    moved = tuple(replace(channel, environment="production") for channel in ws.configuration.channels)
    there = replace(ws, configuration=replace(ws.configuration, channels=moved))
    there = replace(there, _platforms={"shop_main": platform})
    assert desk.discover("shop_main", there).listings < len(everything)
    assert platform.asked == ["", "1", "2", "", "1", "2"]
    assert desk.count(listing_walks) == 2
    assert desk.discover("shop_main", ws).problem == ""
    assert desk.count(listing_walks) == 1


class Failing(Slow):
    """A channel that is out of order, for each of its cursors in `failures` so many calls."""

    failures: dict[str, list[PlatformError]]

    def listings(self, cursor: str = "") -> ListingsPage:
        if self.failures.get(cursor):
            self.asked.append(cursor)
            raise self.failures[cursor].pop()
        return super().listings(cursor)


def failing(desk: Desk, pages: int, cursor: str, times: int, recovery: Recovery) -> tuple[Workspace, Failing]:
    ws, slowly, _ = slow(desk, "shop_main", pages)
    platform = Failing(slowly._platform, desk.world.clock, *slowly._pages)
    platform.failures = {cursor: [PlatformError(recovery, "out_of_order", "no answer") for _ in range(times)]}
    return replace(ws, _platforms={"shop_main": platform}), platform


def test_a_walk_that_a_passing_failure_cuts_short_goes_on_until_it_comes_no_further(desk: Desk) -> None:
    ws, platform = failing(desk, 3, "1", 100, Recovery.RETRY)
    first = desk.discover("shop_main", ws)
    assert first.problem == (
        f"out_of_order: no answer; {first.listings} listings so far; the next run goes on from there. Nothing is concluded "
        "from a part of it [retry]"
    )
    asked = len(platform.asked)
    assert (platform.asked[:2], desk.count(walked_listings)) == (["", "1"], first.listings)
    assert "goes on" not in desk.discover("shop_main", ws).problem
    assert set(platform.asked[asked:]) == {"1"}
    assert (desk.count(listing_walks), desk.count(walked_listings)) == (0, 0)
    platform.failures.clear()
    assert desk.discover("shop_main", ws).problem == ""


def test_a_walk_that_is_refused_does_not_go_on(desk: Desk) -> None:
    ws, _ = failing(desk, 3, "1", 1, Recovery.REAUTHENTICATE)
    assert desk.discover("shop_main", ws).problem == "out_of_order: no answer [re-authenticate]"
    assert (desk.count(listing_walks), desk.count(walked_listings)) == (0, 0)


def test_a_failed_page_is_asked_for_again(desk: Desk) -> None:
    desk.world.faults["erp_main"].script([Fault(FaultKind.ERROR_503)])
    report = desk.discover("erp_main")
    assert (report.problem, report.listings, report.api_calls) == ("", 20, 2)


def test_a_value_that_can_not_be_stored_is_said_without_repeating_it(desk: Desk) -> None:
    bad = ChannelListing(LevelReference("9001"), "9001", "", "half a character \ud800", "", 1)
    report = desk.discover("woo_main", told(desk, "woo_main", ListingsPage((bad, *_all_mapped(desk, "woo_main")))))
    assert report.problem.startswith("a listing holds a value that can't be stored")
    assert "half" not in report.problem


def test_only_the_latest_walk_of_a_channel_is_kept_and_dead_ones_go(desk: Desk) -> None:
    now = desk.world.clock.now()
    dead = walk_row("dead", now - LONGEST_LEG - timedelta(hours=2))
    with write_transaction(desk.world.engine) as connection:
        connection.execute(insert(listing_walks), [dead, walk_row("alive", now)])
    for _ in range(2):
        desk.discover("erp_main")
    assert walks_kept(desk) == ["alive", "run-2"]
    assert desk.count(walked_listings) == 20


def walk_row(run_id: str, began: datetime, **given: Any) -> dict[str, Any]:
    row = {"channel": "erp_main", "began_at": began, "went_on_at": began, "ended_at": None, "cursor": None}
    return {**row, "run_id": run_id, **given}


def walks_kept(desk: Desk) -> list[str]:
    with desk.world.engine.connect() as connection:
        return list(connection.execute(select(listing_walks.c.run_id).order_by(listing_walks.c.id)).scalars())


def test_walks_that_nobody_will_end_are_forgotten_whatever_became_of_their_channel(desk: Desk) -> None:
    now = desk.world.clock.now()
    ago = timedelta(seconds=1) + LONGEST_WALK
    rows = [
        walk_row("dead", now - ago, channel="removed"),
        walk_row("paused too long", now - ago, cursor="7", channel="removed"),
        walk_row("paused", now - LONGEST_WALK, cursor="7"),
        walk_row("goes on since yesterday", now - ago, went_on_at=now - LONGEST_LEG),
        walk_row("believed", now - ago, ended_at=now - ago),
    ]
    with write_transaction(desk.world.engine) as connection:
        connection.execute(insert(listing_walks), rows)
    forget_given_up(desk.world.engine, now)
    assert walks_kept(desk) == ["paused", "goes on since yesterday", "believed"]


def test_a_sku_with_spaces_around_it_is_mapped_by_its_id_alone(desk: Desk) -> None:
    desk.add_skus("VASE")
    item = desk.article("VASE ", 4)
    (row,) = desk.rows(desk.discover("shop_main"))
    assert (row["platform_sku"], row["proposed_sku"]) == ("", "VASE")
    assert "mend it at the channel" in row["note"]
    assert desk.import_rows([{**row, "central_sku": "VASE"}]).state == "applied"
    assert desk.level_of("shop_main", item).central_sku == "VASE"
    assert kinds(desk.discover("shop_main")) == {}


def test_a_sku_with_a_character_that_nobody_sees_is_mapped_by_its_id_alone(desk: Desk) -> None:
    desk.add_skus("VASE")
    item = desk.article("VASE\u200b", 4)
    (row,) = desk.rows(desk.discover("shop_main"))
    assert (row["platform_sku"], row["proposed_sku"]) == ("", "VASE")
    assert desk.import_rows([{**row, "central_sku": "VASE"}]).state == "applied"
    assert desk.level_of("shop_main", item).central_sku == "VASE"


def test_the_kinds_are_told_by_stable_names(desk: Desk) -> None:
    assert set(desk.discover("erp_main").totals()) == {
        "listings",
        "mapped_levels",
        "unmapped",
        *(str(kind) for kind in Kind),
        "sent_to_review",
        "excluded",
        "unlisted_skus",
    }
