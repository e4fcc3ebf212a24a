"""Mapping files become listings, and no level gets two SKUs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from invsync_dagster.inventory.bulk import CHUNK
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.imports import mapping_rows, mapping_spool
from invsync_dagster.inventory.imports.importing import preview
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.tables import central_inventory, inventory_levels, platform_mapping
from tests.unit.imports.stock import MAPPING_HEADER, import_file, many


def test_a_mapping_becomes_listings_with_their_rules_and_desired_quantities(stock):
    stock.load("sku,quantity\nA,10\nB,8\n")
    header = MAPPING_HEADER + ",platform_variant_id,status,buffer,percent,minimum,maximum,dead_band"
    text = f"{header}\nA,shop,a-1,i1,l1,v1,,2,,,,\nB,erp,B,B,,,paused,,50,,3,\n"
    result = import_file(stock.basis, stock.file(text, "mapping.csv"))
    assert (result.state, result.preview.kind, result.preview.added) == ("applied", "mapping", 2)
    listing = platform_mapping.c
    assert stock.rows(listing.central_sku, listing.platform_name, listing.platform_sku, listing.platform_item_id,
                      listing.platform_location_id, listing.platform_variant_id, listing.status, listing.buffer,
                      listing.percent, listing.maximum) == [
        ("A", "shop", "a-1", "i1", "l1", "v1", "active", 2, None, None),
        ("B", "erp", "B", "B", "", "", "paused", None, 50, 3),
    ]  # fmt: skip
    assert stock.desired()["A"] == 8
    again = import_file(stock.basis, stock.file(text, "mapping.csv"))
    assert (again.state, again.preview.added, again.preview.changed, again.preview.unchanged) == ("applied", 0, 0, 2)


def test_a_mapping_that_came_before_its_skus_can_be_imported_again(stock):
    path = stock.file(f"{MAPPING_HEADER}\nA,shop,A,i1,\n", "mapping.csv")
    assert import_file(stock.basis, path).state == "rejected"
    stock.load("sku,quantity\nA,10\n")
    assert import_file(stock.basis, path).state == "applied"
    assert stock.desired() == {"A": 10}


def test_a_level_of_another_listing_keeps_its_sku(stock):
    stock.load("sku,quantity\nA,10\nB,8\n")
    import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nA,shop,a,i1,l1\n", "mapping.csv"))
    result = import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nB,shop,b,i1,l1\nB,shop,b,i2,l1\n", "mapping.csv"))
    (rejection,) = result.rejections
    assert (rejection.line, rejection.column) == (2, "central_sku")
    assert "another listing maps it to 'A'" in rejection.reason
    assert stock.rows(platform_mapping.c.platform_item_id, platform_mapping.c.central_sku) == [("i1", "A"), ("i2", "B")]


def test_a_listing_can_be_mapped_to_another_sku(stock):
    stock.load("sku,quantity\nA,10\nB,8\n")
    import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nA,shop,x,i1,l1\n", "mapping.csv"))
    result = import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nB,shop,x,i1,l1\n", "mapping.csv"))
    assert (result.state, result.preview.changed) == ("applied", 1)
    assert stock.desired() == {"B": 8}


def test_a_previewed_mapping_leaves_no_listing(stock):
    stock.load("sku,quantity\nA,10\n")
    found = preview(stock.basis, stock.file(f"{MAPPING_HEADER}\nA,shop,A,i1,\n", "mapping.csv"))
    assert (found.added, stock.rows(platform_mapping.c.id), stock.rows(inventory_levels.c.id)) == (1, [], [])


def test_a_level_with_two_skus_is_mended_by_retiring_one(stock):
    stock.load("sku,quantity\nA,10\nB,8\n")
    with write_transaction(stock.basis.engine) as connection:
        listings = [Listing("shop", sku, "i1", "l1", platform_sku=sku) for sku in "AB"]
        set_listings(connection, listings, actor="test", reason="", now=stock.basis.now)
    status = platform_mapping.c.status
    assert stock.rows(status) == [("needs_review",)] * 2
    alone = import_file(stock.basis, stock.file(f"{MAPPING_HEADER},status\nA,shop,A,i1,l1,retired\n", "alone.csv"))
    assert (alone.state, alone.rejections) == ("applied", ())
    header = f"{MAPPING_HEADER},status"
    both = import_file(
        stock.basis, stock.file(f"{header}\nB,shop,B,i1,l1,active\nA,shop,A,i1,l1,retired\n", "both.csv")
    )
    assert (both.state, both.rejections) == ("applied", ())
    assert stock.rows(platform_mapping.c.central_sku, status) == [("A", "retired"), ("B", "active")]
    assert stock.desired()["B"] == 8


def test_a_level_changes_its_sku_wherever_in_the_file_the_two_rows_stand(stock):
    skus = "".join(f"S{number:04d},1\n" for number in range(1, CHUNK))
    stock.load(f"sku,quantity\nA,10\nB,8\n{skus}")
    import_file(stock.basis, stock.file(f"{MAPPING_HEADER}\nA,shop,old,i1,l1\n", "mapping.csv"))
    others = "".join(f"S{number:04d},shop,s{number},item{number},l1,\n" for number in range(1, CHUNK))
    text = f"{MAPPING_HEADER},status\n{others}B,shop,new,i1,l1,\nA,shop,old,i1,l1,retired\n"
    result = import_file(stock.basis, stock.file(text, "mapping.csv"))
    assert (result.state, result.rejections) == ("applied", ())
    listing = platform_mapping.c
    assert dict(stock.rows(listing.platform_sku, listing.status))["new"] == "active"
    assert stock.desired()["B"] == 8


PLACES = f"{MAPPING_HEADER},status,percent"


def test_an_item_at_two_locations_is_not_shown_twice(stock):
    stock.load("sku,quantity\nA,10\nB,8\n")
    text = f"{PLACES}\nA,shop,a,i1,l1,,\nA,shop,a,i1,l2,,\nB,shop,b,i2,l1,,60\nB,shop,b,i2,l2,,50\n"
    result = import_file(stock.basis, stock.file(text, "mapping.csv"))
    assert result.state == "rejected"
    assert [(one.line, one.column, one.value) for one in result.rejections] == [
        (line, "platform_location_id", place) for line, place in ((2, "l1"), (3, "l2"), (4, "l1"), (5, "l2"))
    ]
    assert "this item would show 100 % at l1 and 100 % at l2: more than there is" in result.rejections[0].reason
    assert "60 % at l1 and 50 % at l2" in result.rejections[2].reason
    assert "a percent, together at most 100, or retire all but one" in result.rejections[0].mend


def test_an_item_is_parted_among_its_locations(stock):
    stock.load("sku,quantity\nA,10\n")
    text = f"{PLACES}\nA,shop,a,i1,l1,,60\nA,shop,a,i1,l2,,40\n"
    assert import_file(stock.basis, stock.file(text, "mapping.csv")).state == "applied"
    assert stock.rows(inventory_levels.c.location_id, inventory_levels.c.desired) == [("l1", 6), ("l2", 4)]


def test_a_second_location_of_a_mapped_item_is_refused_and_the_first_goes_on(stock):
    stock.load("sku,quantity\nA,10\n")
    import_file(stock.basis, stock.file(f"{PLACES}\nA,shop,a,i1,l1,,\n", "mapping.csv"))
    second = import_file(stock.basis, stock.file(f"{PLACES}\nA,shop,a,i1,l2,,40\n", "mapping.csv"))
    assert (second.state, second.rejections[0].line) == ("rejected", 2)
    assert "100 % at l1 and 40 % at l2" in second.rejections[0].reason
    assert stock.rows(inventory_levels.c.location_id, inventory_levels.c.desired) == [("l1", 10)]
    raised = import_file(stock.basis, stock.file(f"{PLACES}\nA,shop,a,i1,l1,,60\nA,shop,a,i1,l2,,40\n", "mapping.csv"))
    assert (raised.state, raised.preview.added, raised.preview.changed) == ("applied", 1, 1)
    assert import_file(stock.basis, stock.file(f"{PLACES}\nA,shop,a,i1,l1,,61\n", "mapping.csv")).state == "rejected"


def test_an_item_moves_to_another_location_in_one_file(stock):
    stock.load("sku,quantity\nA,10\n")
    import_file(stock.basis, stock.file(f"{PLACES}\nA,shop,a,i1,l1,,\n", "mapping.csv"))
    text = f"{PLACES}\nA,shop,a,i1,l1,retired,\nA,shop,a,i1,l2,,\n"
    assert import_file(stock.basis, stock.file(text, "mapping.csv")).state == "applied"


def test_locations_that_the_platform_keeps_itself_and_other_items_of_a_sku_count_for_nothing(stock):
    stock.load("sku,quantity\nA,10\nB,4\n")
    text = (
        f"{PLACES}\nA,shop,a,i1,l1,,\nA,shop,a,i1,l2,excluded,\nA,shop,a,i2,l1,,\nB,shop,b,i3,l1,,\nB,erp,b,i3,l2,,\n"
    )
    assert import_file(stock.basis, stock.file(text, "mapping.csv")).state == "applied"
    assert import_file(stock.basis, stock.file(f"{PLACES}\nA,shop,a2,i1,l1,,\n", "mapping.csv")).state == "applied"


VARIATIONS = f"{MAPPING_HEADER},platform_variant_id"
KEPT_BY_THE_PRODUCT = ("A,shop,,300,,", "A,shop,,300,,301", "A,shop,,300,,302", "A,shop,,300,,303")


@pytest.mark.parametrize("at_once", [True, False])
def test_variations_without_sku_that_sell_their_products_number_are_a_listing_each(stock, at_once):
    stock.load("sku,quantity\nA,10\n")
    files = ["\n".join(KEPT_BY_THE_PRODUCT)] if at_once else KEPT_BY_THE_PRODUCT
    for text in files:
        result = import_file(stock.basis, stock.file(f"{VARIATIONS}\n{text}\n", "mapping.csv"))
        assert (result.state, result.rejections, result.preview.changed) == ("applied", (), 0)
        assert result.preview.added == 4 // len(files)
    listing = platform_mapping.c
    assert stock.rows(listing.platform_variant_id) == [("",), ("301",), ("302",), ("303",)]
    for hour, number in enumerate(("301", "302", "303")):
        stock.sell(number, 2, stock.at(hours=hour).now, variant_id=number)
    assert stock.rows(inventory_levels.c.item_id, inventory_levels.c.shared, inventory_levels.c.desired) == [
        ("300", True, 4)
    ]
    text = "\n".join((VARIATIONS, *KEPT_BY_THE_PRODUCT))
    assert import_file(stock.basis, stock.file(f"{text}\n\n", "again.csv")).preview.unchanged == 4


@pytest.mark.parametrize("its_own_again", [False, True])
def test_a_sale_is_of_the_number_that_a_variation_sells_now_not_of_the_one_it_sold_before(stock, its_own_again):
    stock.load("sku,quantity\nRED,10\nSHIRT,10\n")
    text = f"{VARIATIONS},status\n"
    own, shared = "RED,shop,RED,502,501,502", "SHIRT,shop,RED,501,,502"
    for row in (f"{own},", f"{own},retired\n{shared},", f"{own},\n{shared},retired")[: 3 if its_own_again else 2]:
        result = import_file(stock.basis, stock.file(f"{text}{row}\n", "mapping.csv"))
        assert (result.state, result.rejections) == ("applied", ())
    stock.sell("502", 3, stock.at(hours=1).now, variant_id="502")
    sku, reserved = central_inventory.c.sku, central_inventory.c.reserved_quantity
    assert stock.rows(sku, reserved) == [("RED", 3 * its_own_again), ("SHIRT", 3 * (not its_own_again))]


def test_a_late_sale_of_what_is_retired_altogether_is_its_skus(stock):
    stock.load("sku,quantity\nRED,10\n")
    import_file(stock.basis, stock.file(f"{VARIATIONS},status\nRED,shop,RED,502,501,502,retired\n", "mapping.csv"))
    stock.sell("502", 3, stock.at(hours=1).now, variant_id="502")
    assert stock.rows(central_inventory.c.sku, central_inventory.c.reserved_quantity) == [("RED", 3)]


def test_variations_without_sku_that_sell_one_number_are_not_two_skus(stock):
    stock.load("sku,quantity\nA,10\nB,8\n")
    both = import_file(stock.basis, stock.file(f"{VARIATIONS}\nA,shop,,300,,301\nB,shop,,300,,302\n", "both.csv"))
    assert [one.reason for one in both.rejections] == ["one level is mapped to two SKUs (lines 2, 3: none goes in)"] * 2
    import_file(stock.basis, stock.file(f"{VARIATIONS}\nA,shop,,300,,301\n", "one.csv"))
    (other,) = import_file(stock.basis, stock.file(f"{VARIATIONS}\nB,shop,,300,,302\n", "other.csv")).rejections
    assert "another listing maps it to 'A'" in other.reason
    assert stock.rows(platform_mapping.c.platform_variant_id, platform_mapping.c.central_sku) == [("301", "A")]


@pytest.mark.parametrize("named", [",i1,l1", "a,i1,", "a,i1,l1"])
def test_a_variant_id_of_what_has_a_sku_or_a_location_comes_later_and_is_corrected(stock, named):
    stock.load("sku,quantity\nA,10\n")
    found = []
    for variant in ("", "v1", "v2", ""):
        text = f"{VARIATIONS}\nA,shop,{named},{variant}\n"
        shown = preview(stock.basis, stock.file(text, "mapping.csv"))
        result = import_file(stock.basis, stock.file(text, "mapping.csv"))
        said = "1 listings lose the variant id that they had: orders that name it find them by their SKU only"
        assert (said in result.render(), said in shown.render()) == (bool(shown.renumbered),) * 2
        found.append((result.preview.added, result.preview.changed, result.preview.renumbered))
        assert stock.rows(platform_mapping.c.platform_variant_id) == [(variant,)]
    assert found == [(1, 0, 0), (0, 1, 0), (0, 1, 1), (0, 1, 1)]


def test_two_variations_of_one_sku_in_a_file_are_refused_by_their_lines(stock):
    stock.load("sku,quantity\nA,10\n")
    text = f"{VARIATIONS}\nA,shop,a,300,,301\nA,shop,a,300,,302\n"
    result = import_file(stock.basis, stock.file(text, "mapping.csv"))
    assert {one.reason for one in result.rejections} == {
        "the listing is there with different values (lines 2, 3): none goes in"
    }
    assert stock.rows(platform_mapping.c.id) == []


@pytest.fixture
def small_parts(monkeypatch):
    """Mapping files are judged and set seven rows at once."""
    monkeypatch.setattr(mapping_spool, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(mapping_rows, "ROWS_AT_ONCE", 7)


def mapping_of(numbers, more="", columns=""):
    rows = "".join(f"S{number},shop,S{number},i{number},l1{more}\n" for number in numbers)
    return f"{MAPPING_HEADER}{columns}\n{rows}"


@pytest.mark.usefixtures("small_parts", "each_database")
def test_a_file_of_many_parts_is_judged_and_set_by_its_items(stock):
    stock.load(many(10, 40))
    numbers = [number * 7 % 40 for number in range(40)]
    lines = mapping_of(numbers).splitlines()
    lines += ["S3,shop,S3,i3,l2", "S9,shop,S9,i9,l1", "S1,shop,S1,i0,l1", "S50,shop,S50,i50,l1", "S2,erp,S2,i2,"]
    told = []
    basis = replace(stock.basis, progress=lambda step, rows: told.append((step, rows)))
    result = import_file(basis, stock.file("\n".join(lines) + "\n", "mapping.csv"))
    assert [(one.line, one.column) for one in result.rejections] == [
        (2, "central_sku"),  # the level of item 0 is named for S1 too
        (numbers.index(3) + 2, "platform_location_id"),  # at two locations, with all of its stock at both
        (42, "platform_location_id"),
        (43, "platform_item_id"),  # the same as before
        (44, "central_sku"),
        (45, "central_sku"),
    ]
    assert (result.preview.rows, result.preview.added) == (39, 39)
    good = sorted(f"i{number}" for number in numbers if number not in (0, 3))
    listing = platform_mapping.c
    mapped = [
        (item, channel) for _, item, channel in stock.rows(listing.id, listing.platform_item_id, listing.platform_name)
    ]
    assert mapped == [("i2", "erp"), *((item, "shop") for item in good)]
    assert told[-1] == ("applied", 39)
    assert [step for step, _ in told] == sorted((step for step, _ in told), reverse=True)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("before", [0, 3, 6, 7])
@pytest.mark.parametrize("listings", [7, 14, 20])
def test_an_item_of_more_listings_than_a_part_is_set_as_a_whole(stock, before, listings):
    stock.load(many(10, 10))
    lines = mapping_of(range(before)) + "".join(f"S9,shop,v{number},i9,l1\n" for number in range(listings))
    result = import_file(stock.basis, stock.file(lines + "S8,shop,S8,i99,l1\n", "mapping.csv"))
    assert (result.state, result.rejections, result.preview.added) == ("applied", (), before + listings + 1)
    with stock.basis.engine.connect() as connection:
        levels = {(row.item_id, row.shared) for row in connection.execute(select(inventory_levels))}
    assert levels == {*((f"i{number}", False) for number in range(before)), ("i9", True), ("i99", False)}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("emptied", "held"), [(20, 0), (30, 30)])
def test_the_breaker_judges_a_file_of_many_parts_as_a_whole(stock, emptied, held):
    stock.load(many(10, 60))
    import_file(stock.basis, stock.file(mapping_of(range(60)), "mapping.csv"))
    level = inventory_levels.c
    shown = dict.fromkeys(("effective_quantity", "acknowledged_quantity", "expected"), level.desired)
    with write_transaction(stock.basis.engine) as connection:
        connection.execute(update(inventory_levels).values(shown | {"uncertain": None}))
    text = mapping_of(range(emptied), ",10", ",buffer")
    assert preview(stock.basis, stock.file(text, "empty.csv")).held_levels == held
    result = import_file(stock.basis, stock.file(text, "empty.csv"))
    assert (result.preview.changed, result.preview.held_levels) == (emptied, held)
    assert sorted(stock.desired().values()).count(0) == emptied - held


def test_no_transaction_is_held_while_a_file_is_read(stock):
    stock.load("sku,quantity\n" + "".join(f"S{number:04d},1\n" for number in range(30)))
    open_at = []
    basis = replace(
        stock.basis, progress=lambda step, _rows: open_at.append((step, stock.basis.engine.pool.checkedout()))
    )
    text = "".join(f"S{number:04d},shop,p{number},i{number},\n" for number in range(30))
    assert import_file(basis, stock.file(f"{MAPPING_HEADER}\n{text}", "mapping.csv")).state == "applied"
    assert open_at == [("read", 0), ("applied", 1)]
