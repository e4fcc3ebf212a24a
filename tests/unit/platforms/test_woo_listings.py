"""A walk through all that a WooCommerce store lists: pages of any size, hosts that count otherwise, what can't be driven."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.platforms.transport import Request, Response
from tests.unit.platforms.woo_stage import WooStage, body


def test_everything_is_listed_in_pages_with_awkward_skus_as_they_are() -> None:
    stage = WooStage()
    skus = ["007", "A B/c+d&e", "Größe-Ä–日本", "", *(f"P{number}" for number in range(100))]
    for sku in skus:
        stage.store.add_product(sku, 1)
    shirt = stage.store.add_product("SHIRT", 9, kind="variable", status="draft")
    small = stage.store.add_variation(shirt, "S", None, managed=False)
    large = stage.store.add_variation(shirt, "L", 3)
    pages = [stage.platform.listings()]
    while pages[-1].cursor:
        pages.append(stage.platform.listings(pages[-1].cursor))
    listed = [listing for page in pages for listing in page.listings]
    assert [len(page.listings) for page in pages] == [100, 5, 2]
    assert [listing.platform_sku for listing in listed] == [*skus, "SHIRT", "S", "L"]
    product, on_product, own = listed[-3:]
    assert (product.level, product.quantity, product.problem) == (shirt, 9, "")
    assert (on_product.level, on_product.listing_id, on_product.variant_id) == (shirt, shirt.item_id, small.item_id)
    assert (on_product.quantity, on_product.problem) == (9, "")
    assert (own.level, own.listing_id, own.variant_id, own.quantity) == (large, shirt.item_id, large.item_id, 3)


def test_names_are_shown_as_they_were_typed_and_a_variation_without_sku_bears_its_products() -> None:
    stage = WooStage()
    product = stage.store.add_product("SHIRT", None, kind="variable", managed=False)
    variation = stage.store.add_variation(product, "", 4)
    listed = {"id": int(product.item_id), "type": "variable", "name": "B&amp;W &#8211; 5&quot;", "manage_stock": False}
    stage.wire.answer_next(body([listed]))
    (listing,) = stage.platform.listings().listings
    assert listing.title == 'B&W \u2013 5"'
    (listing,) = stage.platform.listings("variations:0").listings
    assert (listing.level, listing.platform_sku) == (variation, "SHIRT")


def test_a_full_page_without_the_headers_that_count_is_not_taken_for_the_last() -> None:
    stage = WooStage()
    for number in range(101):
        stage.store.add_product(f"P{number}", 1)

    def stripped(request: Request) -> Response:
        answer = stage.store.handle(request)
        return Response(answer.status, {}, answer.body)

    cursors, found = [""], 0
    for _ in range(3):
        stage.wire._script.append(stripped)
        page = stage.platform.listings(cursors[-1])
        found += len(page.listings)
        cursors.append(page.cursor)
    assert (cursors, found) == (["", "products:100", "variations:0", ""], 101)


@pytest.mark.parametrize("counted", [True, False])
def test_a_slow_host_is_asked_for_smaller_pages_of_listings_and_none_is_left_out_or_told_twice(counted: bool) -> None:
    stage = WooStage()
    made = [stage.store.add_product(f"P{number}", 1).item_id for number in range(330)]

    def answered(request: Request) -> Response:
        # Each row takes this host a fifth of a second.
        answer = stage.store.handle(request)
        stage.clock.advance(len(json.loads(answer.body)) * 0.2)
        return answer if counted else Response(answer.status, {}, answer.body)

    listed, sizes, cursor, turn = [], [], "", 0
    while cursor or not turn:
        turn += 1
        if turn in (2, 3):
            stage.wire.lose_answer_next()
            with pytest.raises(PlatformError):
                stage.platform.listings(cursor)
        stage.wire._script.append(answered)
        page = stage.platform.listings(cursor)
        listed += [listing.listing_id for listing in page.listings]
        sizes.append(len(page.listings))
        cursor = page.cursor
    assert listed == made
    assert sizes[:3] == [100, 20, 10]
    assert max(sizes[1:]) <= 40
    assert stage.platform.limits.read_batch < 100


def test_a_host_that_gives_smaller_pages_of_listings_than_asked_for_has_none_left_out() -> None:
    stage = WooStage()
    made = [stage.store.add_product(f"P{number}", 1).item_id for number in range(230)]

    def capped(request: Request) -> Response:
        return stage.store.handle(replace(request, url=request.url.replace("per_page=100", "per_page=40")))

    listed, cursor = [], "products:0"
    while cursor.startswith("products"):
        stage.wire._script.append(capped)
        page = stage.platform.listings(cursor)
        listed += [listing.listing_id for listing in page.listings]
        cursor = page.cursor
    assert listed == made


def test_products_that_the_store_cannot_show_end_no_walk() -> None:
    stage = WooStage()
    made = [stage.store.add_product(f"P{number}", 1).item_id for number in range(230)]
    broken = {*made[:100], made[150]}

    def without(request: Request) -> Response:
        answer = stage.store.handle(request)
        rows = [row for row in json.loads(answer.body) if str(row["id"]) not in broken]
        return Response(answer.status, answer.headers, json.dumps(rows).encode())

    listed: set[str] = set()
    cursor = "products:0"
    while cursor.startswith("products"):
        stage.wire._script.append(without)
        page = stage.platform.listings(cursor)
        listed |= {listing.listing_id for listing in page.listings}
        cursor = page.cursor
    assert listed == {*made} - broken


def test_a_listing_whose_stock_cannot_be_driven_says_why() -> None:
    stage = WooStage()
    for kind in ("simple", "variable", "grouped", "external"):
        stage.store.add_product(kind, None, kind=kind, managed=False)
    listings = stage.platform.listings().listings
    assert [listing.quantity for listing in listings] == [None] * 4
    assert len({listing.problem for listing in listings}) == 4
    assert all(listing.problem for listing in listings)


@pytest.mark.parametrize("cursor", ["orders:1", "products:x", "products:", "2"])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        WooStage().platform.listings(cursor)
