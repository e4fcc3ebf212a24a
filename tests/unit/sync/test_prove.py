"""The audit from the outside: totals are what the raw deliveries say, and whatever differs is named with its delivery."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import order_lines, polled_lines
from invsync_dagster.sync.order_count import count_orders
from invsync_dagster.sync.prove import ProofReport, prove_orders
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.kept_stage import EVER, SKU, Kept


@pytest.fixture
def kept(world: LittleWorld, tmp_path: Path) -> Kept:
    """Three sales at three shops, heard and applied."""
    kept = Kept(world, tmp_path)
    for channel in ("shop_main", "shop_eu", "woo_main"):
        world.sell(channel, SKU, 2)
        kept.receive(channel)
    kept.apply()
    world.clock.advance(60)
    return kept


def prove(kept: Kept, **options: str) -> ProofReport:
    return prove_orders(kept.ws, EVER, kept.world.clock.now() + timedelta(days=1), **options)


def change(kept: Kept, statement: object) -> None:
    with write_transaction(kept.world.engine) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def test_what_deliveries_say_proves_the_books(kept: Kept) -> None:
    proven = prove(kept).proven
    assert (proven.proven, proven.moved_on, proven.contradicted) == (3, 0, 0)
    assert proven.deliveries >= 3
    assert prove(kept, channel="woo_main").proven.proven == 1


def test_of_each_channel_it_says_how_many_lines_can_be_proven(kept: Kept) -> None:
    world = kept.world
    world.sell("shop_main", SKU)
    world.shops["shop_main"].take_outgoing()  # its webhook is lost, and a poll tells of it
    world.clock.advance(300)
    world.push("shop_main")
    proven = prove(kept).proven
    assert proven.lines == {"shop_main": 2, "shop_eu": 1, "woo_main": 1}
    assert proven.provable == {"shop_main": 2, "shop_eu": 1, "woo_main": 1}
    change(kept, delete(polled_lines))
    assert prove(kept).proven.shares == (
        "Provable lines: shop_eu 1 of 1, shop_main 1 of 2, woo_main 1 of 1; what told of the others is no longer kept."
    )
    assert prove(kept, channel="shop_main").proven.lines == {"shop_main": 2}
    change(kept, update(order_lines).where(order_lines.c.channel == "shop_eu").values(ordered=1))
    assert prove(kept).proven.provable["shop_eu"] == 1
    nothing = prove_orders(kept.ws, EVER, EVER).proven
    assert (nothing.lines, nothing.shares) == ({}, "")


def test_later_deliveries_take_the_place_of_older_ones(kept: Kept) -> None:
    shop = kept.world.shops["shop_main"]
    order = kept.world.sell("shop_main", SKU, 3)
    kept.world.clock.advance(60)
    shop.fulfil(order)
    waiting = shop.take_outgoing()
    for one in reversed(waiting):
        kept.world._deliver("shop_main", dict(one.headers), one.body)
        kept.receive("shop_main")
    kept.apply()
    proven = prove(kept).proven
    assert (proven.proven, proven.moved_on, proven.contradicted) == (4, 0, 0)


def test_a_line_that_is_not_in_the_books_is_named_with_its_delivery(kept: Kept) -> None:
    change(kept, delete(order_lines).where(order_lines.c.channel == "shop_eu"))
    proven = prove(kept).proven
    assert (proven.contradicted, proven.proven) == (1, 2)
    (found,) = proven.contradictions
    assert (found.channel, found.what, found.booked) == ("shop_eu", "the line is not in the books", "")
    assert found.told.startswith("ordered 2 at revision")
    assert found.delivery.rpartition(":")[0] in {path.stem for path in kept.folder.rglob("*.segment")}


def test_totals_that_are_less_or_older_than_a_delivery_says_are_named(kept: Kept) -> None:
    change(kept, update(order_lines).where(order_lines.c.channel == "shop_eu").values(ordered=1))
    change(kept, update(order_lines).where(order_lines.c.channel == "shop_main").values(revision=1))
    proven = prove(kept).proven
    assert proven.contradicted == 2
    assert {(found.channel, found.what) for found in proven.contradictions} == {
        ("shop_eu", "what the delivery says is not booked"),
        ("shop_main", "what the delivery says is not booked"),
    }
    assert {found.booked.partition(" at ")[0] for found in proven.contradictions} == {"ordered 1", "ordered 2"}


def test_totals_that_a_delivery_has_booked_and_does_not_say_are_named(kept: Kept) -> None:
    change(kept, update(order_lines).where(order_lines.c.channel == "shop_eu").values(ordered=9))
    (found,) = prove(kept).proven.contradictions
    assert (found.channel, found.what) == ("shop_eu", "what this delivery has booked no delivery says")


def poll_tells_of_parcel(kept: Kept) -> None:
    """Ship the order of shop_main, whose webhook is lost."""
    shop = kept.world.shops["shop_main"]
    (row,) = [row for row in kept.rows(order_lines) if row.channel == "shop_main"]
    kept.world.clock.advance(600)
    shop.fulfil(row.order_id)
    shop.take_outgoing()
    assert kept.world.push("shop_main").orders == 1


def test_what_a_poll_brought_since_is_proven_by_what_it_told(kept: Kept) -> None:
    poll_tells_of_parcel(kept)
    proven = prove(kept).proven
    assert (proven.proven, proven.moved_on, proven.contradicted, proven.polled) == (3, 0, 0, 1)
    change(kept, delete(polled_lines))
    proven = prove(kept).proven
    assert (proven.proven, proven.moved_on, proven.contradicted, proven.polled) == (2, 1, 0, 0)


@pytest.mark.parametrize("wrong", [{"ordered": 9}, {"shipped": 1}, {"shipped": 0}], ids=str)
def test_totals_that_a_poll_did_not_tell_are_named_with_the_poll(kept: Kept, wrong: dict[str, int]) -> None:
    poll_tells_of_parcel(kept)
    (row,) = kept.rows(polled_lines)
    change(kept, update(order_lines).where(order_lines.c.channel == "shop_main").values(**wrong))
    proven = prove(kept).proven
    (found,) = proven.contradictions
    assert (found.channel, found.order_id, found.delivery) == (
        "shop_main",
        row.order_id,
        f"poll of {row.told_at.isoformat()}",
    )
    assert (found.told.partition(" at ")[0], proven.contradicted) == ("ordered 2, shipped 2", 1)


def test_what_a_poll_told_and_the_books_have_lost_is_booked_by_the_count_of_its_day(kept: Kept) -> None:
    poll_tells_of_parcel(kept)
    change(kept, update(order_lines).where(order_lines.c.channel == "shop_main").values(shipped=0, shipments=[]))
    kept.replay()
    (found,) = prove(kept).proven.contradictions
    assert found.delivery.startswith("poll of ")
    kept.world.clock.advance(86_400)
    count_orders(kept.ws, "shop_main", days=1, run_id="count")
    assert prove(kept).proven.contradicted == 0


def test_a_poll_that_tells_nothing_new_leaves_nothing(kept: Kept) -> None:
    poll_tells_of_parcel(kept)
    kept.world.clock.advance(5)
    assert kept.world.push("shop_main").orders == 1
    assert len(kept.rows(polled_lines)) == 1


def test_a_line_that_was_taken_out_of_its_order_is_proven_by_the_delivery_that_leaves_it_out(kept: Kept) -> None:
    store = kept.world.shops["woo_main"]
    order = store.sell({SKU: 1, "SKU-0002": 2})
    store.set_status(order, "on-hold")
    kept.receive("woo_main")
    kept.apply()
    kept.world.clock.advance(60)
    lines = [row for row in kept.rows(order_lines) if row.order_id == order and row.sku == "SKU-0002"]
    store.edit_line(order, lines[0].line_id, 0)
    kept.receive("woo_main")
    kept.apply()
    proven = prove(kept).proven
    assert (proven.contradicted, proven.moved_on, proven.proven) == (0, 0, 5)


def test_the_entries_of_a_line_are_what_is_booked_of_it(kept: Kept) -> None:
    with kept.world.engine.connect() as connection:
        assert audit(connection) == []
    one = order_lines.c.channel == "shop_eu"
    change(kept, update(order_lines).where(one).values(shipped=1, booked_shipped=1, booked_reserved=1))
    with kept.world.engine.connect() as connection:
        found = {(each.what, each.stored, each.proven) for each in audit(connection) if each.subject}
    assert found == {
        ("booked as reserved, by its entries", 1, 2),
        ("booked on the shelf, by its entries", -1, 0),
    }
