"""What is held is seen and decided: by a person with a name and a reason, as it was seen, and by one of two."""

from __future__ import annotations

from typing import Any

import pytest

from invsync_dagster.inventory import channels
from invsync_dagster.inventory.catch_up import catch_up, hold_beyond_limits
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.deciding import Decided, decide, held_levels, holds_now
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.looks import DecisionError, Look, changed_since
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import inventory_levels, operator_actions
from invsync_dagster.settings import ChangeLimits
from tests.unit.inventory.stock import OTHER, SHOP, Stock, at, order

pytestmark = pytest.mark.usefixtures("each_database")

SKUS = [f"S{number:02}" for number in range(40)]
LIMITS = ChangeLimits(zeroed_share=0.2, raised_share=0.5, minimum=5)


@pytest.fixture
def stock() -> Stock:
    """Forty SKUs of ten units in step, and rules that would set all of the shop to 0: held."""
    made = Stock(dict.fromkeys(SKUS, 10), skus=SKUS)
    for name in (SHOP, OTHER):
        set_rules(made, name, Rules(), 0)
    made.in_step()
    set_rules(made, SHOP, Rules(buffer=10), 1)
    return made


def set_rules(stock: Stock, channel: str, rules: Rules, minute: float) -> None:
    with write_transaction(stock.engine) as connection:
        channels.register(
            connection, channel, "shopify", "sandbox", True, rules, None, at(minute), change_limits=LIMITS
        )
        hold_beyond_limits(connection, at(minute))
    catch_up(stock.engine, at(minute))


def decided(stock: Stock, what: str, decision: Any = "approve", minute: float = 3, **more: Any) -> Decided:
    by = {"actor": "ann", "reason": "it is right"} | more
    with write_transaction(stock.engine) as connection:
        return decide(connection, what, decision, now=at(minute), **by)


def look(stock: Stock) -> str:
    with stock.engine.connect() as connection:
        return str(Look.at_present(connection))


def hold_of(stock: Stock) -> str:
    with stock.engine.connect() as connection:
        (hold,) = holds_now(connection)
    return str(hold.number)


def shown(stock: Stock, channel: str = SHOP) -> list[int]:
    found = {row.central_sku: row.desired for row in stock.rows(inventory_levels) if row.channel == channel}
    return [found[sku] for sku in SKUS]


def test_a_hold_says_what_when_and_why_and_how_it_is_taken_back(stock: Stock) -> None:
    with stock.engine.connect() as connection:
        (hold,) = holds_now(connection)
        levels = held_levels(connection)
    assert (hold.channel, hold.levels, hold.dropped, hold.since) == (SHOP, 40, 0, at(1))
    change = next(row.id for row in stock.rows(operator_actions)[::-1] if row.action == "channel configured")
    assert hold.reason == f"change {change} of the channel would set to 0 40 of 40 listings on shop; 8 may pass unseen"
    assert hold.mend == f"`invsync rules undo {change}` takes a change of the rules back"
    assert [(one.sku, one.shown, one.wanted, one.since) for one in levels[:2]] == [
        (SKUS[0], 10, 0, at(1)),
        (SKUS[1], 10, 0, at(1)),
    ]


def test_a_hold_is_approved_as_a_whole_or_by_sku(stock: Stock) -> None:
    hold = hold_of(stock)
    assert decided(stock, hold, skus=SKUS[:2]).levels == 2
    assert shown(stock) == [0, 0] + [10] * 38
    assert decided(stock, hold).levels == 38
    assert shown(stock) == [0] * 40
    assert shown(stock, OTHER) == [10] * 40


def test_what_is_dropped_stays_as_it_is_shown_and_falls_by_what_is_sold(stock: Stock) -> None:
    hold = hold_of(stock)
    assert decided(stock, hold, "drop").levels == 40
    stock.apply(order(item=f"{OTHER}-{SKUS[0]}", ordered=3), channel=OTHER)
    assert shown(stock) == [7] + [10] * 39
    with stock.engine.connect() as connection:
        (one,) = holds_now(connection)
    assert (one.levels, one.dropped, one.waits) == (40, 40, 0)
    with pytest.raises(DecisionError, match="dropped already: ann decided at"):
        decided(stock, hold, "drop", actor="bob")
    set_rules(stock, SHOP, Rules(), 5)
    assert shown(stock) == [7] + [10] * 39
    with stock.engine.connect() as connection:
        assert holds_now(connection) == []


def test_what_was_dropped_waits_for_a_person_again_once_other_rules_move_it(stock: Stock) -> None:
    decided(stock, SHOP, "drop")
    set_rules(stock, SHOP, Rules(minimum=50), 5)
    with stock.engine.connect() as connection:
        (one,) = holds_now(connection)
    assert (one.levels, one.waits) == (40, 40)
    assert shown(stock) == [10] * 40
    assert decided(stock, SHOP, "drop", minute=6).levels == 40


def test_what_was_dropped_can_still_be_approved(stock: Stock) -> None:
    decided(stock, SHOP, "drop")
    assert decided(stock, SHOP, minute=4).levels == 40
    assert shown(stock) == [0] * 40


def test_an_approval_covers_the_sales_and_cancels_since(stock: Stock) -> None:
    stock.apply(order("1", item=f"{OTHER}-{SKUS[0]}", ordered=3), channel=OTHER)
    stock.apply(order("2", item=f"{OTHER}-{SKUS[1]}", ordered=3), channel=OTHER)
    stock.apply(order("2", revision=2, item=f"{OTHER}-{SKUS[1]}", ordered=3, cancelled=3, updated=2), channel=OTHER)
    assert decided(stock, hold_of(stock)).changed == ()
    assert shown(stock) == [0] * 40


def test_rules_that_changed_since_the_look_are_not_approved(stock: Stock) -> None:
    hold, seen = hold_of(stock), look(stock)
    set_rules(stock, SHOP, Rules(buffer=20), 2)
    for given in ("", seen):
        with pytest.raises(DecisionError, match=r"channel configured \(channel shop, change \d+\) by channels.yaml"):
            decided(stock, hold, seen=given)
    assert shown(stock) == [10] * 40
    assert decided(stock, hold, seen=look(stock)).levels == 40


def test_levels_that_were_counted_since_stay_held_and_the_others_are_approved(stock: Stock) -> None:
    seen = look(stock)
    stock.count({SKUS[0]: 8}, as_of=-1, reference="import-1")
    done = decided(stock, SHOP, seen=seen)
    assert done.levels == 39
    ((why, levels),) = done.changed
    assert (why.startswith("import "), levels) == (True, 1)
    assert stock.level(SHOP, SKUS[0]).desired == 8
    assert "1 stay held" in done.render()
    assert decided(stock, SHOP, seen=look(stock)).levels == 1
    assert stock.level(SHOP, SKUS[0]).desired == 0


def test_a_status_or_a_mapping_that_changed_since_is_not_approved(stock: Stock) -> None:
    with write_transaction(stock.engine) as connection:
        set_skus(connection, [Sku(SKUS[0], status="inactive")], actor="bob", reason="season", now=at(2))
    stock.map(Listing(SHOP, SKUS[1], f"{SHOP}-{SKUS[1]}", platform_sku=f"{SKUS[1]}@{SHOP}", buffer=50))
    done = decided(stock, SHOP)
    assert done.levels == 38
    assert {why.split(" (")[0] for why, _ in done.changed} == {"SKU status set", "listings set"}


def test_what_was_held_after_the_look_is_not_approved(stock: Stock) -> None:
    seen = look(stock)
    set_rules(stock, OTHER, Rules(buffer=10), 2)
    with pytest.raises(DecisionError, match="nothing was approved"):
        decided(stock, OTHER, seen=seen)


@pytest.mark.parametrize("seen", ["7", "x-1", "99999-1", "1-99999", "-1--1"])
def test_a_look_that_nobody_took_is_refused(stock: Stock, seen: str) -> None:
    with pytest.raises(DecisionError, match="names no look"):
        decided(stock, SHOP, seen=seen)


def test_of_two_operators_the_second_is_told_who_decided_what_and_when(stock: Stock) -> None:
    hold = hold_of(stock)
    decided(stock, hold, actor="ann", reason="clearance")
    before = len(stock.rows(operator_actions))
    for what in (hold, SHOP):
        with pytest.raises(
            DecisionError,
            match=rf"nothing is held .*: ann decided at 2026-03-01 12:03:00 UTC \(hold {hold} of channel shop, levels "
            r"approved: clearance\)",
        ):
            decided(stock, what, actor="bob", minute=4)
    assert len(stock.rows(operator_actions)) == before


def test_a_hold_that_ended_by_itself_says_so(stock: Stock) -> None:
    hold = hold_of(stock)
    set_rules(stock, SHOP, Rules(), 2)
    with pytest.raises(DecisionError, match="what held it was taken back"):
        decided(stock, hold)


@pytest.mark.parametrize(("given", "words"), [({"actor": " "}, "say who"), ({"reason": ""}, "say why")])
def test_nobody_decides_and_nothing_is_decided_without_a_reason(
    stock: Stock, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(DecisionError, match=words):
        decided(stock, SHOP, **given)


def test_decisions_are_recorded_with_who_and_why(stock: Stock) -> None:
    hold = hold_of(stock)
    decided(stock, hold, "drop", skus=SKUS[:1])
    decided(stock, hold)
    last = [(row.action, row.actor, row.subject, row.reason) for row in stock.rows(operator_actions)[-2:]]
    assert last == [
        ("levels dropped", "ann", f"hold {hold} of channel shop", "it is right"),
        ("levels approved", "ann", f"hold {hold} of channel shop", "it is right"),
    ]


def test_a_sku_that_becomes_inactive_waits_for_a_person_though_its_hold_was_dropped(stock: Stock) -> None:
    decided(stock, SHOP, "drop")
    with write_transaction(stock.engine) as connection:
        set_skus(connection, [Sku(SKUS[0], status="inactive")], actor="ann", reason="season", now=at(5))
    with stock.engine.connect() as connection:
        (one,) = holds_now(connection)
        first = held_levels(connection, limit=1)[0]
    assert (one.levels, one.waits) == (40, 1)
    assert (first.sku, first.shown, first.wanted, first.dropped) == (SKUS[0], 10, 0, False)


def test_what_new_rules_want_is_not_approved_before_a_look_can_show_it(stock: Stock) -> None:
    with write_transaction(stock.engine) as connection:
        fewer = Rules(buffer=5)
        channels.register(connection, SHOP, "shopify", "sandbox", True, fewer, None, at(2), change_limits=LIMITS)
        hold_beyond_limits(connection, at(2))
    seen = look(stock)
    with stock.engine.connect() as connection:
        assert {one.wanted for one in held_levels(connection, SHOP)} == {0}
    with pytest.raises(DecisionError, match="channel configured"):
        decided(stock, SHOP, seen=seen)
    assert shown(stock, SHOP) == [10] * 40
    catch_up(stock.engine, at(3))
    assert shown(stock, SHOP) == [5] * 40
    with pytest.raises(DecisionError, match="nothing is held"):
        decided(stock, SHOP, seen=look(stock), minute=4)


def test_a_change_that_would_move_what_is_held_is_shown_at_once_and_covered_by_the_next_look_alone(
    stock: Stock,
) -> None:
    set_rules(stock, OTHER, Rules(percent=10), 100)
    stock.in_step()
    set_rules(stock, OTHER, Rules(percent=50), 200)
    assert shown(stock, OTHER) == [1] * 40
    before = look(stock)
    with write_transaction(stock.engine) as connection:
        channels.register(connection, OTHER, "shopify", "sandbox", True, Rules(), None, at(201), change_limits=LIMITS)
        hold_beyond_limits(connection, at(201))
    with stock.engine.connect() as connection:
        assert {one.wanted for one in held_levels(connection, OTHER)} == {10}
    with pytest.raises(DecisionError, match="levels held"):
        decided(stock, OTHER, seen=before, minute=202)
    assert decided(stock, OTHER, seen=look(stock), minute=202).levels == 40
    assert shown(stock, OTHER) == [10] * 40


def test_a_number_that_no_database_takes_is_no_hold(stock: Stock) -> None:
    with pytest.raises(DecisionError, match="no hold has a number like 99999"):
        decided(stock, "9" * 30)


def test_a_shipment_that_is_taken_back_is_no_change_of_a_source(stock: Stock) -> None:
    sold: dict[str, Any] = {"item": f"{OTHER}-{SKUS[0]}", "ordered": 2}
    stock.apply(order(shipped=[(2, 1)], **sold), channel=OTHER)
    with stock.engine.connect() as connection:
        seen = Look.at_present(connection)
    stock.apply(order(revision=2, **sold), channel=OTHER)
    assert "undo" in {entry.kind for entry in stock.entries(SKUS[0]) if entry.sequence > seen.sequence}
    with stock.engine.connect() as connection:
        assert changed_since(connection, seen) == ""
    stock.prove()
