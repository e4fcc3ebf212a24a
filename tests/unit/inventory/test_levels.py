"""Levels: what stops them, what resumes them, when they are due, how held ones fall, and how rules spread in chunks."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text, update

from invsync_dagster.inventory import channels, holds, joining, levels, listings
from invsync_dagster.inventory.catch_up import catch_up
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import (
    channels as channel_table,
)
from invsync_dagster.inventory.tables import (
    inventory_levels,
    is_change,
    operator_actions,
    platform_mapping,
)
from tests.unit.inventory.stock import ERP, OTHER, SHOP, START, Stock, at, order

pytestmark = pytest.mark.usefixtures("each_database")


def changes(stock: Stock) -> set[tuple[str, str]]:
    with stock.engine.connect() as connection:
        level = inventory_levels.c
        return {tuple(row) for row in connection.execute(select(level.channel, level.central_sku).where(is_change()))}


def status(stock: Stock, status: listings.Status, channel: str = SHOP, sku: str = "A") -> int:
    ids = [row.id for row in stock.rows(platform_mapping) if (row.platform_name, row.central_sku) == (channel, sku)]
    with write_transaction(stock.engine) as connection:
        return listings.set_status(connection, ids, status, actor="ann", reason="because", now=stock.now)


def test_a_new_level_is_a_change_that_is_read_before_it_is_written():
    level = Stock({"A": 10}).level()
    assert (level.pushable, level.desired, level.effective_quantity, level.expected) == (True, 10, -1, None)
    assert (level.uncertain, level.uncertain_since, level.out_of_step_since) == ("never_read", START, START)


def test_a_level_in_step_is_a_change_only_once_its_desired_quantity_moves_and_no_longer_when_it_is_back():
    stock = Stock({"A": 10})
    stock.in_step()
    assert changes(stock) == set()
    stock.now = at(1)
    stock.apply(order(item="A", ordered=1), channel=ERP)
    assert changes(stock) == {(SHOP, "A"), (OTHER, "A"), (ERP, "A")}
    stock.now = at(2)
    stock.apply(order(item="A", revision=2, ordered=2), channel=ERP)
    assert stock.level().out_of_step_since == at(1)
    stock.apply(order(item="A", revision=3, ordered=2, cancelled=2), channel=ERP)
    assert changes(stock) == set()
    assert stock.level().out_of_step_since is None


@pytest.mark.parametrize("stopping", ["paused", "excluded", "retired"])
def test_a_stopped_listing_leaves_the_number_as_it_is_and_is_read_before_it_is_written_again(stopping):
    stock = Stock({"A": 10})
    stock.in_step()
    assert status(stock, stopping) == 1
    stock.apply(order(item="other-A", ordered=2), channel=OTHER)
    level = stock.level()
    assert (level.pushable, level.stopped_reason, level.desired, level.out_of_step_since) == (False, stopping, 10, None)
    stock.now = at(7)
    assert status(stock, "active") == 1
    level = stock.level()
    assert (level.pushable, level.stopped_reason, level.desired) == (True, "", 8)
    assert (level.uncertain, level.uncertain_since, level.expected) == ("resumed", at(7), None)
    assert level.out_of_step_since == at(7)
    assert status(stock, "active") == 0


def test_review_stops_a_level_with_the_reason_and_what_is_paused_stays_so():
    stock = Stock({"A": 10})
    status(stock, "paused", OTHER)
    with write_transaction(stock.engine) as connection:
        for channel in (SHOP, OTHER):
            level_id = connection.execute(
                select(inventory_levels.c.id).where(
                    inventory_levels.c.channel == channel, inventory_levels.c.central_sku == "A"
                )
            ).scalar_one()
            listings.send_to_review(connection, level_id, reason="not stocked here", actor="channel shop", now=at(1))
    rows = {row.platform_name: row for row in stock.rows(platform_mapping) if row.central_sku == "A"}
    assert (rows[SHOP].status, rows[SHOP].status_reason) == ("needs_review", "not stocked here")
    assert rows[OTHER].status == "paused"
    assert (stock.level().pushable, stock.level().stopped_reason) == (False, "needs_review")
    assert stock.rows(operator_actions)[-1].actor == "channel shop"


@pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)
def test_on_postgresql_two_channels_send_a_sku_to_review_side_by_side(each_database):
    stock = Stock({"A": 5}, skus=["A"])
    level = inventory_levels.c
    with write_transaction(stock.engine, SHOP) as one, write_transaction(stock.engine, OTHER) as other:
        both = ((one, SHOP), (other, OTHER))
        for connection, channel in both:
            connection.execute(text("SET LOCAL lock_timeout = '200ms'"))
            connection.execute(update(inventory_levels).where(level.channel == channel).values(failures=1))
        for connection, channel in both:
            level_id = stock.level(channel, "A").id
            listings.send_to_review(connection, level_id, reason="gone", actor="channel", now=START)
    stopped = {row.channel: (row.pushable, row.stopped_reason) for row in stock.rows(inventory_levels)}
    assert stopped == {SHOP: (False, "needs_review"), OTHER: (False, "needs_review"), ERP: (True, "")}


def test_an_unknown_listing_is_refused():
    stock = Stock()
    with pytest.raises(LookupError, match="999"), write_transaction(stock.engine) as connection:
        listings.set_status(connection, [999], "paused", actor="ann", reason="", now=START)


def test_an_inactive_sku_desires_nothing_everywhere_until_it_is_active_again():
    stock = Stock({"A": 10})
    for sku, quantity in ((Sku("A", status="inactive"), 0), (Sku("A", status="active"), 10)):
        with write_transaction(stock.engine) as connection:
            result = set_skus(connection, [sku], actor="ann", reason="season", now=START)
        assert (result.changed, set(stock.desired().values())) == (1, {quantity})
    assert stock.level().pushable is True
    with write_transaction(stock.engine) as connection:
        assert set_skus(connection, [Sku("A", "Name", "active")], actor="ann", reason="", now=START).changed == 1
        assert set_skus(connection, [Sku("A", "Name"), Sku("C")], actor="ann", reason="", now=START).unchanged == 1


def test_several_listings_of_one_level_show_the_least_and_one_stopped_stops_it():
    stock = Stock({"A": 10})
    stock.map(Listing(SHOP, "A", "shop-A", platform_sku="bundle", buffer=4))
    assert stock.level().desired == 6
    stock.apply(order(ordered=1))
    assert stock.level().desired == 5
    bundle = next(row.id for row in stock.rows(platform_mapping) if row.platform_sku == "bundle")
    steps: list[tuple[listings.Status, tuple[bool, str]]] = [("paused", (False, "paused")), ("retired", (True, ""))]
    for new, expected in steps:
        with write_transaction(stock.engine) as connection:
            listings.set_status(connection, [bundle], new, actor="ann", reason="", now=START)
        assert (stock.level().pushable, stock.level().stopped_reason) == expected
    assert stock.level().desired == 9


def test_two_skus_on_one_level_send_both_listings_to_review_until_one_is_retired():
    stock = Stock({"A": 10, "B": 4})
    result = stock.map(Listing(SHOP, "B", "shop-A", platform_sku="B@shop"))
    assert (result.created, result.review) == (1, 2)
    both = [row for row in stock.rows(platform_mapping) if row.platform_item_id == "shop-A"]
    assert {(row.status, row.status_reason) for row in both} == {("needs_review", joining.TWO_SKUS)}
    assert (stock.level().pushable, stock.level().central_sku) == (False, "A")
    old, new = both
    with write_transaction(stock.engine) as connection:
        listings.set_status(connection, [new.id], "active", actor="ann", reason="", now=START)
    assert stock.level().pushable is False
    with write_transaction(stock.engine) as connection:
        listings.set_status(connection, [old.id], "retired", actor="ann", reason="", now=START)
        listings.set_status(connection, [new.id], "active", actor="ann", reason="", now=START)
    level = stock.level()
    assert (level.pushable, level.central_sku, level.desired) == (True, "B", 4)
    assert level.uncertain == "never_read"


def test_a_listing_mapped_to_another_sku_takes_its_level_along():
    stock = Stock({"A": 10, "B": 4})
    stock.in_step()
    result = stock.map(Listing(SHOP, "B", "shop-A", platform_sku="A@shop"))
    assert (result.created, result.changed, result.review) == (0, 1, 0)
    level = stock.level()
    assert (level.central_sku, level.desired, level.uncertain, level.expected) == ("B", 4, "resumed", None)
    stock.apply(order(item="other-A", ordered=1), channel=OTHER)
    assert stock.level().desired == 4


def test_setting_the_same_listings_again_changes_nothing():
    stock = Stock({"A": 10})
    before = stock.rows(platform_mapping), len(stock.rows(operator_actions))
    result = stock.map(Listing(SHOP, "A", "shop-A", platform_sku="A@shop"))
    assert (result.created, result.changed, result.unchanged) == (0, 0, 1)
    assert (stock.rows(platform_mapping), len(stock.rows(operator_actions))) == before


def test_listings_of_unknown_skus_or_channels_are_refused_as_a_whole():
    stock = Stock()
    before = stock.rows(platform_mapping)
    for wrong in (Listing(SHOP, "nothing", "x"), Listing("nowhere", "A", "x")):
        with pytest.raises(LookupError, match="no"):
            stock.map(Listing(SHOP, "A", "new"), wrong)
    assert stock.rows(platform_mapping) == before


# --- when a change is due -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "linger", "expected", "units", "due"),
    [
        (0, None, 10, 1, 5),  # nothing is waited for
        (3, None, 10, 1, 5),  # a decrease goes at once
        (3, None, 9, 1, 60),  # it shows that already: the platform's wait holds
        (3, None, None, 1, 60),
        (0, 30, 9, 1, 60),  # a write may still land
        (0, 30, 10, 1, 5),
        (0, 3, 9, 1, 5),  # it can't land any more
    ],
)
def test_a_changed_quantity_is_due_at_once_unless_the_platform_makes_it_wait(failures, linger, expected, units, due):
    stock = Stock({"A": 10})
    stock.in_step(
        failures=failures, linger_until=None if linger is None else at(linger), expected=expected, due_at=at(60)
    )
    stock.now = at(5)
    stock.apply(order(item="A", ordered=units), channel=ERP)
    assert stock.level().due_at == at(due)


def test_an_own_sale_is_due_at_once_unless_the_platform_makes_it_wait():
    stock = Stock({"A": 10})
    for failures, due in ((0, 5), (2, 60)):
        stock.in_step(failures=failures, due_at=at(60))
        stock.now = at(5)
        stock.apply(order(str(failures), ordered=1))
        assert stock.level().due_at == at(due)


def test_what_was_due_stays_due():
    stock = Stock({"A": 10})
    stock.in_step(due_at=at(1))
    stock.now = at(5)
    stock.apply(order(ordered=1))
    assert stock.level().due_at == at(1)


# --- held levels --------------------------------------------------------------------------------------------------------


def hold(stock: Stock, channel: str = SHOP) -> int:
    shown = stock.level(channel).acknowledged_quantity
    with write_transaction(stock.engine) as connection:
        ids = connection.execute(
            select(inventory_levels.c.id).where(
                inventory_levels.c.channel == channel, inventory_levels.c.central_sku == "A"
            )
        ).scalars()
        return holds.hold(
            connection,
            dict.fromkeys(ids, holds.Before(shown, shown)),
            zeroes=False,
            reason="raised by too much",
            actor="breaker",
            now=stock.now,
        )


def test_a_held_level_keeps_its_number_and_falls_by_what_is_sold():
    stock = Stock({"A": 10})
    stock.in_step()
    stock.count({"A": 50}, as_of=1)
    assert hold(stock) == 1
    assert hold(stock) == 0
    assert (stock.level().desired, stock.level(OTHER).desired) == (10, 50)
    stock.apply(order("1", item="other-A", ordered=3, created=2), channel=OTHER)
    assert stock.level().desired == 7
    stock.apply(order("1", item="other-A", revision=2, ordered=3, cancelled=1, created=2), channel=OTHER)
    assert stock.level().desired == 8
    stock.apply(order("2", item="other-A", ordered=30, created=2), channel=OTHER)
    assert stock.level().desired == 0


def test_a_held_level_never_shows_more_than_it_had_and_is_free_once_its_rules_only_lower():
    stock = Stock({"A": 10})
    stock.apply(order("1", ordered=4))
    stock.in_step()
    stock.count({"A": 90}, as_of=1)
    hold(stock)
    assert stock.level().desired == 6
    stock.apply(order("1", revision=2, ordered=4, cancelled=4))
    assert stock.level().desired == 6
    stock.count({"A": 5}, as_of=2)
    assert (stock.level().desired, stock.level().held_quantity) == (5, None)


def test_a_shipment_that_a_count_contains_gives_a_held_level_nothing_back():
    stock = Stock({"A": 10})
    stock.in_step()
    stock.count({"A": 90}, as_of=-20)
    hold(stock)
    stock.apply(order("1", item="other-A", ordered=3, created=1), channel=OTHER)
    assert stock.level().desired == 7
    stock.count({"A": 87}, as_of=5)
    stock.apply(
        order("1", item="other-A", revision=2, ordered=3, shipped=[(3, 3)], created=1, updated=6), channel=OTHER
    )
    assert stock.level().desired == 7


def test_an_approval_lets_the_rules_hold_again():
    stock = Stock({"A": 10})
    stock.in_step()
    stock.count({"A": 50}, as_of=1)
    hold(stock)
    held = stock.level()
    assert (held.held_quantity, held.held_desired, held.held_reason) == (10, 50, "raised by too much")
    with write_transaction(stock.engine) as connection:
        assert holds.approve(connection, [held.id], reason="it is right", actor="ann", now=at(3)) == 1
        assert holds.approve(connection, [held.id], reason="it is right", actor="ann", now=at(3)) == 0
    level = stock.level()
    assert (level.desired, level.held_quantity, level.held_reason) == (50, None, "")
    assert [row.action for row in stock.rows(operator_actions)][-2:] == ["levels held", "levels approved"]


def test_a_level_whose_number_nobody_knows_is_not_held():
    assert hold(Stock({"A": 10})) == 0


# --- rules and channels -------------------------------------------------------------------------------------------------


def test_a_change_of_rules_spreads_in_chunks_and_can_die_in_between(monkeypatch):
    skus = [f"S{number}" for number in range(25)]
    stock = Stock(dict.fromkeys(skus, 100), skus=skus)
    stock.in_step()
    assert stock.rules(SHOP, Rules(buffer=7)) is True
    assert {stock.level(SHOP, sku).desired for sku in skus} == {100}
    monkeypatch.setattr("invsync_dagster.inventory.catch_up.LEVELS_A_CHUNK", 10)
    calls = []

    def dying(connection, part, now):
        calls.append(len(part))
        if len(calls) == 2:
            raise RuntimeError("killed")
        return recompute(connection, part, now)

    recompute = levels.recompute
    monkeypatch.setattr(levels, "recompute", dying)
    with pytest.raises(RuntimeError, match="killed"):
        catch_up(stock.engine, at(1))
    assert sorted(stock.level(SHOP, sku).desired for sku in skus) == [93] * 10 + [100] * 15
    assert catch_up(stock.engine, at(2)) == 15
    assert calls == [10, 10, 10, 5]
    assert {stock.level(SHOP, sku).desired for sku in skus} == {93}
    assert {stock.level(OTHER, sku).desired for sku in skus} == {100}
    assert catch_up(stock.engine, at(3)) == 0
    assert stock.rules(SHOP, Rules(buffer=7)) is False


def test_a_sale_meanwhile_uses_the_new_rules_at_once():
    stock = Stock({"A": 100})
    stock.rules(SHOP, Rules(percent=50))
    stock.apply(order(ordered=10))
    assert stock.desired() == {SHOP: 45, OTHER: 90, ERP: 90}
    revision = max(row.id for row in stock.rows(operator_actions))
    assert stock.level().rules_revision == revision


def test_a_paused_channel_keeps_its_numbers_and_is_read_when_it_resumes():
    stock = Stock({"A": 10})
    stock.in_step()
    with write_transaction(stock.engine) as connection:
        assert channels.set_status(connection, SHOP, "paused", actor="ann", reason="moving", now=START)
    assert catch_up(stock.engine, START) == 2
    stock.apply(order(item="other-A", ordered=1), channel=OTHER)
    assert (stock.level().pushable, stock.level().stopped_reason, stock.level().desired) == (
        False,
        "channel paused",
        10,
    )
    with write_transaction(stock.engine) as connection:
        assert channels.set_status(connection, SHOP, "active", actor="ann", reason="", now=at(1))
    catch_up(stock.engine, at(1))
    assert (stock.level().desired, stock.level().uncertain, stock.level().expected) == (9, "resumed", None)


def test_a_channel_that_the_file_lost_is_paused_and_active_again_once_it_is_back():
    stock = Stock({"A": 10})
    with write_transaction(stock.engine) as connection:
        assert channels.pause_missing(connection, [OTHER, ERP], START) == [SHOP]
        assert channels.pause_missing(connection, [OTHER, ERP], START) == []
    catch_up(stock.engine, START)
    assert stock.level().pushable is False
    assert stock.rules(SHOP, Rules()) is True
    catch_up(stock.engine, START)
    assert stock.level().pushable is True


def test_a_channel_paused_by_a_person_stays_paused_when_the_file_is_loaded():
    stock = Stock({"A": 10})
    with write_transaction(stock.engine) as connection:
        channels.set_status(connection, SHOP, "paused", actor="ann", reason="moving", now=START)
    stock.rules(SHOP, Rules())
    assert {row.name: row.status for row in stock.rows(channel_table)}[SHOP] == "paused"


def test_the_first_push_is_approved_once_and_by_name():
    stock = Stock()
    for actor, minute in (("ann", 1), ("bob", 2)):
        with write_transaction(stock.engine) as connection:
            channels.approve_first_push(connection, SHOP, actor=actor, reason="looked at it", now=at(minute))
    row = next(row for row in stock.rows(channel_table) if row.name == SHOP)
    assert (row.push_approved_at, row.push_approved_by) == (at(1), "ann")
    with pytest.raises(LookupError), write_transaction(stock.engine) as connection:
        channels.approve_first_push(connection, "nowhere", actor="ann", reason="", now=START)


def test_every_change_of_a_channel_is_recorded_with_before_and_after():
    stock = Stock()
    stock.rules(SHOP, Rules(buffer=3, maximum=9))
    action = stock.rows(operator_actions)[-1]
    assert (action.actor, action.subject) == ("channels.yaml", "channel shop")
    assert (action.before, action.after) == ({"buffer": 0, "maximum": None}, {"buffer": 3, "maximum": 9})


def test_an_unknown_status_of_a_channel_is_refused():
    stock = Stock()
    with pytest.raises(ValueError, match="asleep"), write_transaction(stock.engine) as connection:
        channels.set_status(connection, SHOP, "asleep", actor="ann", reason="", now=START)


def test_a_dead_band_keeps_the_acknowledged_number_but_never_more_than_is_available():
    stock = Stock({"A": 20})
    stock.rules(SHOP, Rules(dead_band=3))
    catch_up(stock.engine, START)
    stock.in_step()
    stock.count({"A": 22}, as_of=1)
    assert stock.desired() == {SHOP: 20, OTHER: 22, ERP: 22}
    stock.count({"A": 24}, as_of=2)
    assert stock.desired() == {SHOP: 24, OTHER: 24, ERP: 24}
    stock.in_step()
    stock.count({"A": 23}, as_of=3)
    assert stock.desired() == {SHOP: 23, OTHER: 23, ERP: 23}
