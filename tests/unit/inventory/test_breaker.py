from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from invsync_dagster.inventory import channels, holds
from invsync_dagster.inventory.catch_up import catch_up, hold_beyond_limits
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.deciding import Hold, decide, holds_now
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.looks import DecisionError
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import inventory_levels, operator_actions
from invsync_dagster.settings import ChangeLimits
from tests.unit.inventory.stock import OTHER, SHOP, START, Stock, at, order

pytestmark = pytest.mark.usefixtures("each_database")

SKUS = [f"S{number:02}" for number in range(40)]


@pytest.fixture
def stock() -> Stock:
    """Forty SKUs of ten units, each on two shops and in the ERP, all in step; a change may zero 8 and raise 20 of a shop."""
    made = Stock(dict.fromkeys(SKUS, 10), skus=SKUS)
    for name in (SHOP, OTHER):
        set_rules(made, name, Rules())
    made.in_step()
    return made


def set_rules(stock: Stock, channel: str, rules: Rules) -> None:
    limits = ChangeLimits(zeroed_share=0.2, raised_share=0.5, minimum=5)
    with write_transaction(stock.engine) as connection:
        channels.register(connection, channel, "shopify", "sandbox", True, rules, None, START, change_limits=limits)
        hold_beyond_limits(connection, START)


def approve(stock: Stock, skus: Iterable[str], reason: str = "it is right") -> int:
    held = [stock.level(SHOP, sku).id for sku in skus]
    with write_transaction(stock.engine) as connection:
        return holds.approve(connection, held, reason=reason, actor="ann", now=at(3))


def held(stock: Stock) -> list[Hold]:
    with stock.engine.connect() as connection:
        return holds_now(connection)


def desired(stock: Stock, channel: str, skus: Iterable[str] = SKUS) -> set[int]:
    return {stock.level(channel, sku).desired for sku in skus}


def set_inactive(stock: Stock, skus: Iterable[str]) -> int:
    with write_transaction(stock.engine) as connection:
        return set_skus(
            connection, [Sku(sku, status="inactive") for sku in skus], actor="ann", reason="season", now=at(1)
        ).held


def test_skus_made_inactive_within_the_limit_go_to_zero(stock: Stock) -> None:
    assert set_inactive(stock, SKUS[:8]) == 0
    assert desired(stock, SHOP, SKUS[:8]) == {0}
    assert desired(stock, SHOP, SKUS[8:]) == {10}


def test_one_sku_more_than_the_limit_holds_all_of_the_change_with_its_reason(stock: Stock) -> None:
    assert set_inactive(stock, SKUS[:9]) == 9 * 2  # the ERP's own limit is the default: 20
    for channel in (SHOP, OTHER):
        level = stock.level(channel, SKUS[0])
        assert (level.desired, level.held_quantity, level.held_desired) == (10, 10, 0)
        assert level.held_reason.endswith(
            f"of SKUs' status would set to 0 9 of 40 listings on {channel}; 8 may pass unseen"
        )
    assert stock.level("erp", SKUS[0]).desired == 0


def test_a_held_level_goes_on_falling_by_what_is_sold_and_shows_the_rules_once_approved(stock: Stock) -> None:
    set_inactive(stock, SKUS[:9])
    stock.apply(order(item=f"{OTHER}-{SKUS[0]}", ordered=3), channel=OTHER)
    assert stock.level(SHOP, SKUS[0]).desired == 7
    assert approve(stock, SKUS[:9]) == 9
    assert desired(stock, SHOP, SKUS[:9]) == {0}
    assert desired(stock, OTHER, SKUS[1:9]) == {10}


def test_rules_that_would_zero_a_channel_are_held_there_as_a_whole_and_nowhere_else(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(buffer=10))
    catch_up(stock.engine, at(1))
    assert desired(stock, SHOP) == {10}
    reason = stock.level(SHOP, SKUS[0]).held_reason
    assert "would set to 0 40 of 40 listings on shop; 8 may pass unseen" in reason
    assert desired(stock, OTHER) == {10}
    assert all(stock.level(OTHER, sku).held_quantity is None for sku in SKUS)


def test_rules_of_several_channels_that_change_at_once_are_each_held(stock: Stock) -> None:
    limits = ChangeLimits(zeroed_share=0.2, raised_share=0.5, minimum=5)
    with write_transaction(stock.engine) as connection:
        for name in (SHOP, OTHER):
            wrong = Rules(buffer=10)
            channels.register(connection, name, "shopify", "sandbox", True, wrong, None, START, change_limits=limits)
        assert hold_beyond_limits(connection, START) == 80
    catch_up(stock.engine, at(1))
    assert desired(stock, SHOP) == desired(stock, OTHER) == {10}


def test_rules_that_only_lower_pass_and_rules_that_raise_too_many_are_held(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(buffer=4))
    catch_up(stock.engine, at(1))
    assert desired(stock, SHOP) == {6}
    stock.in_step()
    set_rules(stock, SHOP, Rules(buffer=0))
    catch_up(stock.engine, at(2))
    assert desired(stock, SHOP) == {6}
    assert "would raise 40 of 40 listings" in stock.level(SHOP, SKUS[0]).held_reason


def test_rules_that_are_taken_back_free_what_they_held(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(buffer=10))
    catch_up(stock.engine, at(1))
    set_rules(stock, SHOP, Rules())
    catch_up(stock.engine, at(2))
    assert desired(stock, SHOP) == {10}
    assert all(stock.level(SHOP, sku).held_quantity is None for sku in SKUS)
    stock.count({SKUS[0]: 12}, as_of=-1)
    assert stock.level(SHOP, SKUS[0]).desired == 12


def test_a_mapping_that_would_zero_too_many_listings_is_held(stock: Stock) -> None:
    wanted = [Listing(SHOP, sku, f"{SHOP}-{sku}", platform_sku=f"{sku}@{SHOP}", percent=0) for sku in SKUS[:9]]
    assert stock.map(*wanted, reason="import 7").held == 9
    assert desired(stock, SHOP, SKUS[:9]) == {10}
    assert stock.level(SHOP, SKUS[0]).held_reason.startswith("import 7 would set to 0 9 of 40 listings")
    assert stock.map(*wanted[:8], reason="import 8").held == 0


def test_a_job_that_dies_before_it_begins_leaves_the_change_held(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(buffer=10))  # catch_up never comes
    stock.count(dict.fromkeys(SKUS, 9), as_of=-1)
    assert desired(stock, SHOP) == {9}
    assert desired(stock, OTHER) == {9}
    catch_up(stock.engine, at(2))
    assert desired(stock, SHOP) == {9}


def test_a_second_change_of_the_rules_is_judged_too(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(buffer=1))
    set_rules(stock, SHOP, Rules(buffer=10))
    catch_up(stock.engine, at(1))
    assert desired(stock, SHOP) == {10}


def test_a_channel_paused_changed_and_resumed_is_judged_by_what_it_shows(stock: Stock) -> None:
    with write_transaction(stock.engine) as connection:
        channels.set_status(connection, SHOP, "paused", actor="ann", reason="moving", now=at(1))
        assert hold_beyond_limits(connection, at(1)) == 0
    catch_up(stock.engine, at(1))
    set_rules(stock, SHOP, Rules(buffer=10))
    catch_up(stock.engine, at(2))
    with write_transaction(stock.engine) as connection:
        channels.set_status(connection, SHOP, "active", actor="ann", reason="moved", now=at(3))
        assert hold_beyond_limits(connection, at(3)) == 40
        (hold,) = holds_now(connection)
    assert "of the channel's status would set to 0 40 of 40" in hold.reason
    assert hold.mend == "take the change back where it was made"  # which is no change of rules
    catch_up(stock.engine, at(3))
    assert desired(stock, SHOP) == {10}


def test_listings_mapped_to_empty_skus_are_stopped_for_review(stock: Stock) -> None:
    with write_transaction(stock.engine) as connection:
        set_skus(connection, [Sku(f"{sku}-empty") for sku in SKUS], actor="ann", reason="", now=at(1))
    wanted = [Listing(SHOP, f"{sku}-empty", f"{SHOP}-{sku}", platform_sku=f"{sku}@{SHOP}") for sku in SKUS[:9]]
    assert stock.map(*wanted, reason="import 7").held == 9
    level = stock.level(SHOP, SKUS[0])
    assert (level.pushable, level.stopped_reason) == (False, "needs_review")


def test_the_list_of_what_is_held_shows_what_is_wanted_now(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(buffer=5))
    catch_up(stock.engine, at(1))
    stock.in_step()
    set_rules(stock, SHOP, Rules())
    catch_up(stock.engine, at(2))
    stock.count({SKUS[0]: 30}, as_of=-1)
    assert [stock.level(SHOP, sku).held_desired for sku in SKUS[:2]] == [30, 10]
    assert desired(stock, SHOP) == {5}


def test_what_would_be_zeroed_is_free_once_the_rules_are_back_also_where_goods_came_in_or_a_push_was_due(
    stock: Stock,
) -> None:
    stock.change_levels(stock.level(SHOP, SKUS[1]).id == inventory_levels.c.id, acknowledged_quantity=3, expected=3)
    set_rules(stock, SHOP, Rules(buffer=10))
    catch_up(stock.engine, at(1))
    assert [stock.level(SHOP, sku).desired for sku in SKUS[:3]] == [10, 3, 10]
    set_rules(stock, SHOP, Rules())
    stock.count({SKUS[0]: 30}, as_of=-1)
    catch_up(stock.engine, at(2))
    assert [stock.level(SHOP, sku).desired for sku in SKUS[:3]] == [30, 10, 10]
    assert held(stock) == []


def test_what_would_be_raised_is_free_once_the_rules_are_back_also_where_a_push_was_due(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(buffer=4))
    catch_up(stock.engine, at(1))
    stock.in_step()
    stock.change_levels(stock.level(SHOP, SKUS[0]).id == inventory_levels.c.id, acknowledged_quantity=1, expected=1)
    set_rules(stock, SHOP, Rules())
    catch_up(stock.engine, at(2))
    assert [stock.level(SHOP, sku).desired for sku in SKUS[:2]] == [1, 6]
    set_rules(stock, SHOP, Rules(buffer=4))
    catch_up(stock.engine, at(3))
    assert desired(stock, SHOP) == {6}
    assert held(stock) == []


def test_what_held_is_named_by_the_latest_change_that_would_move_it(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(buffer=5))
    catch_up(stock.engine, at(1))
    stock.in_step()
    set_rules(stock, SHOP, Rules())
    catch_up(stock.engine, at(2))
    (first,) = held(stock)
    set_rules(stock, SHOP, Rules(buffer=1))
    catch_up(stock.engine, at(3))
    (second,) = held(stock)
    assert (first.levels, second.levels, second.number > first.number) == (40, 40, True)
    assert second.mend != first.mend
    assert "would raise 40 of 40 listings on shop; 20 may pass unseen" in second.reason
    # From a raise to zeros: other levels are held for it, at the number that they had.
    set_rules(stock, SHOP, Rules(buffer=99))
    catch_up(stock.engine, at(4))
    (third,) = held(stock)
    assert "would set to 0 40 of 40" in third.reason
    assert desired(stock, SHOP) == {5}
    # One of them alone is within the limit, and is still held.
    stock.map(
        Listing(SHOP, SKUS[0], f"{SHOP}-{SKUS[0]}", platform_sku=f"{SKUS[0]}@{SHOP}", buffer=0), reason="import 9"
    )
    assert stock.level(SHOP, SKUS[0]).desired == 10
    set_rules(stock, SHOP, Rules(buffer=5))
    catch_up(stock.engine, at(5))
    assert held(stock) == []


def test_a_change_that_passes_for_what_is_not_held_names_what_is(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(buffer=5))
    catch_up(stock.engine, at(1))
    stock.in_step()
    set_rules(stock, SHOP, Rules())
    catch_up(stock.engine, at(2))
    one = Listing(SHOP, SKUS[0], f"{SHOP}-{SKUS[0]}", platform_sku=f"{SKUS[0]}@{SHOP}", buffer=2)
    assert stock.map(one, reason="import 9").held == 1
    level = stock.level(SHOP, SKUS[0])
    assert (level.desired, level.held_desired) == (5, 8)
    assert level.held_reason == "import 9 would raise 1 of 40 listings on shop, which were held already"
    assert sorted(hold.levels for hold in held(stock)) == [1, 39]


def test_a_mapping_that_changes_what_a_held_level_wants_does_not_send_it_to_review_for_what_it_sold(
    stock: Stock,
) -> None:
    set_rules(stock, SHOP, Rules(buffer=5))
    catch_up(stock.engine, at(1))
    stock.in_step()
    set_rules(stock, SHOP, Rules())
    catch_up(stock.engine, at(2))
    stock.apply(order(item=f"{OTHER}-{SKUS[0]}", ordered=1), channel=OTHER)
    one = Listing(SHOP, SKUS[0], f"{SHOP}-{SKUS[0]}", platform_sku=f"{SKUS[0]}@{SHOP}", buffer=2)
    assert stock.map(one, reason="import 9").held == 1
    level = stock.level(SHOP, SKUS[0])
    assert (level.pushable, level.desired, level.held_desired) == (True, 4, 7)


def test_a_listing_that_shows_nothing_yet_is_not_sent_to_review_by_a_mapping_that_wants_nothing(stock: Stock) -> None:
    stock.change_levels(stock.level(SHOP, SKUS[0]).id == inventory_levels.c.id, acknowledged_quantity=0, expected=0)
    wanted = [Listing(SHOP, sku, f"{SHOP}-{sku}", platform_sku=f"{sku}@{SHOP}", percent=0) for sku in SKUS[:9]]
    stock.map(*wanted, reason="import 7")
    assert [(level.pushable, level.desired) for level in (stock.level(SHOP, sku) for sku in SKUS[:2])] == [
        (True, 0),
        (True, 10),
    ]


# --- an item at several locations ---------------------------------------------------------------------------------------


def at_two_locations(stock: Stock, percents: tuple[int, int], skus: Iterable[str] = SKUS) -> int:
    return stock.map(
        *(
            Listing(SHOP, sku, f"{SHOP}-{sku}", platform_sku=f"{sku}@{SHOP}", location_id=place, percent=percent)
            for sku in skus
            for place, percent in zip(("", "second"), percents, strict=True)
        ),
        reason="import 9",
    ).held


def parted(stock: Stock, sku: str) -> list[int]:
    rows = [row for row in stock.rows(inventory_levels) if (row.channel, row.central_sku) == (SHOP, sku)]
    return [row.desired for row in sorted(rows, key=lambda row: str(row.location_id))]


@pytest.fixture
def shelves(stock: Stock) -> Stock:
    at_two_locations(stock, (50, 50))
    stock.in_step()
    assert parted(stock, SKUS[0]) == [5, 5]
    return stock


def test_what_is_held_at_one_location_is_not_shown_at_the_other_as_well(shelves: Stock) -> None:
    shelves.now = at(90)  # the parting itself is out of the window
    assert at_two_locations(shelves, (0, 100), SKUS[:20]) == 40  # 20 of 80 zeroed is too much, and 20 raised is not
    assert parted(shelves, SKUS[0]) == [5, 5]
    reasons = {row.held_reason for row in shelves.rows(inventory_levels) if row.held_quantity is not None}
    assert reasons == {
        "import 9 would set to 0 20 of 80 listings on shop; 16 may pass unseen",
        "import 9 would raise 20 of 80 listings on shop, which were held already or share an item's stock with what is held",
    }
    assert at_two_locations(shelves, (50, 50), SKUS[:20]) == 0
    assert held(shelves) == []


def test_a_rise_at_one_location_is_not_approved_while_the_other_stays_held(shelves: Stock) -> None:
    shelves.now = at(90)
    at_two_locations(shelves, (0, 100), SKUS[:20])
    raised, zeroed = sorted(held(shelves), key=lambda hold: hold.reason)
    assert "would raise" in raised.reason
    by: dict[str, Any] = {"actor": "ann", "reason": "it is right", "now": at(91)}
    with write_transaction(shelves.engine) as connection:
        with pytest.raises(DecisionError, match="another location of the item stays held"):
            decide(connection, str(raised.number), "approve", **by)
        assert decide(connection, str(zeroed.number), "approve", skus=SKUS[:1], **by).levels == 1
        some = decide(connection, str(raised.number), "approve", **by)
    assert (some.levels, some.beside) == (1, 19)
    assert "19 stay held: another location of the item stays held" in some.render()
    assert [parted(shelves, sku) for sku in SKUS[:2]] == [[0, 10], [5, 5]]


def test_what_is_put_back_at_one_location_within_the_window_is_not_shown_where_the_other_is_held(
    shelves: Stock,
) -> None:
    shelves.now = at(90)
    moved = [SKUS[:8], SKUS[8:16]]
    assert [at_two_locations(shelves, (100, 0), part) for part in moved] == [0, 0]  # 16 zeroed and 16 raised may pass
    assert parted(shelves, SKUS[0]) == [10, 0]
    shelves.in_step()
    assert at_two_locations(shelves, (0, 100), SKUS[:20]) == 40
    assert [parted(shelves, SKUS[number]) for number in (0, 19)] == [[10, 0], [5, 5]]


def test_what_rises_beside_what_is_held_stays_at_what_it_shows_though_its_rules_wanted_as_much_before(
    shelves: Stock,
) -> None:
    shelves.now = at(90)
    first = (inventory_levels.c.item_id == f"{SHOP}-{SKUS[0]}") & (inventory_levels.c.location_id == "")
    shelves.change_levels(first, acknowledged_quantity=3, expected=3)
    assert at_two_locations(shelves, (100, 0), SKUS[:20]) == 40
    assert parted(shelves, SKUS[0]) == [3, 5]
    at_two_locations(shelves, (50, 0), SKUS[:1])
    assert parted(shelves, SKUS[0]) == [3, 5]
    assert {row.stopped_reason for row in shelves.rows(inventory_levels)} == {""}


def test_at_two_locations_a_count_that_finds_less_lowers_both_by_it(shelves: Stock) -> None:
    shelves.now = at(90)
    set_rules(shelves, SHOP, Rules(buffer=10))
    catch_up(shelves.engine, at(90))
    shelves.count({SKUS[0]: 7, SKUS[1]: 0, SKUS[2]: 30}, as_of=91)
    assert [parted(shelves, sku) for sku in SKUS[:3]] == [[2, 2], [0, 0], [10, 10]]
    shelves.apply(order(item=f"{OTHER}-{SKUS[3]}", ordered=2), channel=OTHER)
    assert parted(shelves, SKUS[3]) == [3, 3]


def test_a_level_with_a_sale_that_is_not_pushed_yet_is_held_below_it(stock: Stock) -> None:
    set_rules(stock, SHOP, Rules(buffer=2))
    catch_up(stock.engine, at(1))
    stock.in_step()
    stock.apply(order(item=f"{OTHER}-{SKUS[0]}", ordered=5), channel=OTHER)
    assert stock.level(SHOP, SKUS[0]).desired == 3
    set_rules(stock, SHOP, Rules())  # would raise all
    assert (stock.level(SHOP, SKUS[0]).held_quantity, stock.level(SHOP, SKUS[0]).desired) == (3, 3)
    assert stock.level(SHOP, SKUS[1]).desired == 8


def test_a_level_that_shows_no_number_yet_is_not_held(stock: Stock) -> None:
    stock.change_levels(acknowledged_quantity=None, expected=None, observed_quantity=None)
    assert set_inactive(stock, SKUS) == 0
    assert desired(stock, SHOP) == {0}


def test_holding_and_approving_are_recorded_with_who_and_why(stock: Stock) -> None:
    set_inactive(stock, SKUS[:9])
    approve(stock, SKUS[:1])
    done = [(row.action, row.actor, row.reason) for row in stock.rows(operator_actions)[-3:]]
    assert [(action, actor) for action, actor, _ in done] == [
        ("levels held", "breaker"),
        ("levels held", "breaker"),
        ("levels approved", "ann"),
    ]
    assert done[-1][2] == "it is right"
