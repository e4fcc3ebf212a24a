"""From what a channel shows one can walk back to what came in, and the status says how all channels stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, update

from invsync_dagster.clock import age_in_words
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.explain import UnknownError, explain
from invsync_dagster.inventory.explanation import Explanation, ListingExplanation
from invsync_dagster.inventory.past import explain_past
from invsync_dagster.inventory.status import COLUMNS, ChannelStatus, Status, status
from invsync_dagster.inventory.tables import (
    central_inventory,
    channels,
    deliveries,
    imports,
    inventory_levels,
    operator_actions,
    order_lines,
    platform_mapping,
    stock_counts,
    stock_ledger,
    sync_logs,
    unclear_orders,
)
from tests import databases

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


@pytest.fixture
def engine(tmp_path: Path, each_database: str) -> Iterator[Engine]:
    engine = open_database(databases.fresh_url(tmp_path))
    yield engine
    engine.dispose()


class World:
    """Writes the rows that the ledger and the push would have left."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.levels = 0

    def put(self, table: Any, **values: Any) -> None:
        with write_transaction(self.engine) as connection:
            connection.execute(insert(table), values)

    def channel(self, name: str, **values: Any) -> None:
        approved = {"push_approved_at": ago(days=1), "push_approved_by": "ann"}
        base = {"name": name, "platform": "shopify", "environment": "sandbox"}
        self.put(channels, **base | approved | values)

    def sku(self, sku: str, **values: Any) -> None:
        base = {"sku": sku, "product_name": "Mug", "quantity": 10, "reserved_quantity": 0, "last_updated": NOW}
        self.put(central_inventory, **base | values)

    def listing(self, sku: str, channel: str, *, level: dict[str, Any] | None = None, **values: Any) -> int:
        self.levels += 1
        in_step = {
            "desired": 10,
            "effective_quantity": 10,
            "acknowledged_quantity": 10,
            "acknowledged_at": ago(hours=1),
        }
        base = {"id": self.levels, "channel": channel, "item_id": f"i{self.levels}", "central_sku": sku, "due_at": NOW}
        self.put(inventory_levels, **base | in_step | (level or {}))
        row = {"central_sku": sku, "platform_name": channel, "platform_item_id": f"i{self.levels}"}
        times = {"created_at": NOW, "updated_at": NOW, "level_id": self.levels}
        self.put(platform_mapping, **row | times | values)
        return self.levels

    def attempt(self, channel: str, state: str, at: datetime, **values: Any) -> None:
        base = {"timestamp": at, "platform": channel, "sku": "A", "action": "push", "status": state, "level_id": 1}
        self.put(sync_logs, **base | values)

    def explain(self, sku: str, channel: str | None = None) -> Explanation:
        with self.engine.connect() as connection:
            return explain(connection, sku, channel)

    def listing_of(self, sku: str, channel: str) -> ListingExplanation:
        (one,) = self.explain(sku, channel).listings
        return one

    def status(self, quarantined: int = 0) -> Status:
        with self.engine.connect() as connection:
            return status(connection, NOW, quarantined)

    def status_of(self, channel: str) -> ChannelStatus:
        return next(one for one in self.status().channels if one.channel == channel)


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


def sold_one(world: World) -> None:
    """One SKU counted at 10, one sold by webhook, seven pushed after a buffer of 2."""
    world.channel("shop", buffer=2)
    entry = {"sku": "A", "occurred_at": ago(minutes=9), "received_at": ago(minutes=8), "applied_at": ago(minutes=7)}
    first = {"sequence": 41, "event_id": "e1", "kind": "import", "reference": "imp-1", "quantity_delta": 10}
    world.put(stock_ledger, **entry | first | {"reserved_delta": 0, "quantity_after": 10, "reserved_after": 0})
    second = {"sequence": 57, "event_id": "e2", "kind": "reserve", "reference": "seg-9:3", "quantity_delta": 0}
    order = {"reserved_delta": 1, "quantity_after": 10, "reserved_after": 1, "channel": "shop", "order_id": "1001"}
    world.put(stock_ledger, **entry | second | order | {"line_id": "1", "run_id": "run-7"})
    world.put(
        imports, id="imp-1", kind="inventory", file_name="stock.csv", sha256="0" * 64, path="done/imp-1",
        state="applied", summary={}, created_at=ago(hours=2), decided_by="ann",
    )  # fmt: skip
    world.put(
        deliveries, receipt_id="seg-9:3", channel="shop", topic="orders/create", received_at=ago(minutes=8),
        applied_at=ago(minutes=7), state="applied",
    )  # fmt: skip
    world.put(
        stock_counts, id=1, sku="A", source="imp-1", basis="on_hand", quantity=10, as_of=ago(hours=2), contains=[],
        sequence=41,
    )  # fmt: skip
    world.put(
        operator_actions, id=5, at=ago(days=1), actor="ann", action="set_rules", subject="shop", reason="keep two"
    )
    world.sku("A", reserved_quantity=1, version=57, count_id=1)
    shown = {"acknowledged_at": ago(minutes=6), "observed_quantity": 8, "observed_at": ago(minutes=30)}
    numbers = {"desired": 7, "effective_quantity": 7, "acknowledged_quantity": 7, "expected": 7, "sent_quantity": 7}
    basis = {"attempt": 4, "sent_sequence": 57, "sent_at": ago(minutes=6), "desired_sequence": 57, "rules_revision": 5}
    world.listing("A", "shop", level=numbers | shown | basis, platform_sku="MUG-A")
    log = {
        "old_quantity": 8,
        "new_quantity": 7,
        "attempt": 4,
        "ledger_sequence": 60,
        "rules_revision": 5,
        "run_id": "run-8",
    }
    world.attempt("shop", "acknowledged", ago(minutes=6), **log)
    line = {"channel": "shop", "order_id": "1001", "line_id": "1", "sku": "A", "revision": 1, "shipments": []}
    totals = {"ordered": 1, "cancelled": 0, "shipped": 0, "restocked": 0, "booked_reserved": 1, "restocks": []}
    world.put(order_lines, **line | totals | {"created_at": ago(minutes=9), "updated_at": ago(minutes=9)})


def test_a_listing_without_sku_is_called_by_its_variant_id(world: World) -> None:
    world.channel("store")
    world.sku("A")
    world.listing("A", "store", platform_sku="a", platform_variant_id="300")
    world.listing("A", "store", platform_variant_id="301")
    world.listing("A", "store")
    with world.engine.connect() as connection:
        past = explain_past(connection, "A", NOW)
    for found in (world.explain("A").listings, past.listings):
        assert [one.lines()[1] for one in found] == [
            "  listing a, level i1", "  listing 301, level i2", "  listing -, level i3",
        ]  # fmt: skip


def test_a_number_is_walked_back_to_the_raw_delivery(world):
    sold_one(world)
    found = world.explain("A")
    (listing,) = found.listings
    assert listing.verdict == "in step: shows 7, as it should"
    assert (listing.observed, listing.observed_at) == (8, ago(minutes=30))
    assert (listing.acknowledged, listing.acknowledged_at) == (7, ago(minutes=6))
    assert (listing.attempt, listing.sent, listing.sent_sequence) == (4, 7, 57)
    assert listing.rule_steps == ("available 9", "buffer 2: 7")
    assert listing.rules_set == "set_rules by ann at 2026-06-30 12:00:00 UTC: keep two"
    (attempt,) = listing.attempts
    assert (attempt.status, attempt.old_quantity, attempt.new_quantity, attempt.run_id) == (
        "acknowledged",
        8,
        7,
        "run-8",
    )
    # The attempt was computed at sequence 60; the SKU's last entry by then is 57.
    assert (attempt.ledger_sequence, attempt.quantity_then, attempt.reserved_then) == (60, 10, 1)
    assert [entry.sequence for entry in found.entries] == [57, 41]
    assert found.entries[0].origin == "delivery orders/create, record 3 of inbox segment seg-9"
    assert found.entries[1].origin == "import imp-1 of stock.csv, approved by ann"
    assert found.open_orders == ("shop order 1001: 1 reserved since 2026-07-01 11:51:00 UTC",)
    assert found.count == "10 on hand as of 2026-07-01 10:00:00 UTC from imp-1"
    assert (found.quantity, found.reserved_quantity, found.available) == (10, 1, 9)


def test_the_walk_is_told_in_words_and_as_json(world):
    sold_one(world)
    found = world.explain("A")
    words = found.render()
    for part in (
        "10 on hand - 1 reserved = 9 available",
        "shop (sandbox): in step: shows 7, as it should",
        "reading: 8 at 2026-07-01 11:30:00 UTC",
        "answer: 7 acknowledged at 2026-07-01 11:54:00 UTC",
        "attempt 4: 7 sent at 2026-07-01 11:54:00 UTC, from ledger entry 57",
        "rules: available 9, buffer 2: 7; desired 7 by ledger entry 57",
        "push 4: 8 -> 7 acknowledged, from ledger entry 60 (10 on hand, 1 reserved), rules 5; run run-8",
        "#57 reserve shop order 1001: on hand +0 -> 10, reserved +1 -> 1",
        "from delivery orders/create, record 3 of inbox segment seg-9",
    ):
        assert part in words
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["available"] == 9
    assert plain["listings"][0]["acknowledged_at"] == "2026-07-01T11:54:00+00:00"
    assert plain["entries"][0]["origin"].startswith("delivery orders/create")


def test_one_channel_alone_can_be_explained(world):
    world.channel("shop")
    world.channel("erp")
    world.sku("A")
    world.listing("A", "shop")
    world.listing("A", "erp")
    assert [one.channel for one in world.explain("A").listings] == ["erp", "shop"]
    assert [one.channel for one in world.explain("A", "shop").listings] == ["shop"]


def test_an_unknown_sku_is_answered_with_those_that_differ_only_in_case_or_spaces(world):
    world.sku("ABC-1")
    with pytest.raises(UnknownError, match=r"no SKU 'abc-1 ' in the stock; did you mean 'ABC-1'\?"):
        world.explain("abc-1 ")


def test_an_unknown_sku_is_answered_with_near_ones(world):
    world.sku("ABC-1234")
    with pytest.raises(UnknownError, match="did you mean 'ABC-1234'"):
        world.explain("ABC-1243")
    with pytest.raises(UnknownError, match=r"no SKU 'nothing like it' in the stock$"):
        world.explain("nothing like it")


def test_an_unknown_channel_is_answered_with_the_known_ones(world):
    world.channel("shop")
    world.sku("A")
    with pytest.raises(UnknownError, match="no channel 'shopp'; known: shop"):
        world.explain("A", "shopp")


@pytest.mark.parametrize(
    ("channel", "listing", "level", "verdict"),
    [
        ({}, {"status": "paused"}, {}, "the listing is paused: the channel's number is left as it is"),
        ({}, {"status": "needs_review"}, {}, "the listing is needs review: the channel's number is left as it is"),
        ({}, {}, {"pushable": False, "stopped_reason": "channel paused"}, "nothing is pushed: channel paused"),
        ({"stopped_reason": "token expired"}, {}, {}, "the channel is stopped: token expired"),
        (
            {"unreachable_since": NOW, "last_problem": "no answer since noon"},
            {},
            {},
            "the channel does not answer, and is asked again every few minutes: no answer since noon",
        ),
        ({"push_approved_at": None}, {}, {}, "the channel's first push is not approved yet: nothing is written there"),
        ({}, {}, {"desired": 4}, "out of step: last shown 10, should show 4"),
        ({}, {}, {"uncertain": "own_sale"}, "uncertain (own_sale): should show 10, will be read or written when due"),
        (
            {},
            {},
            {"held_quantity": 10, "held_reason": "rules"},
            "held by the breaker (rules); in step: shows 10, as it should",
        ),
    ],
)
def test_the_verdict_says_what_stands_in_the_way(world, channel, listing, level, verdict):
    world.channel("shop", **channel)
    world.sku("A")
    world.listing("A", "shop", level=level, **listing)
    assert world.listing_of("A", "shop").verdict == verdict


def test_the_trace_names_the_listings_own_rules_and_the_dead_band(world):
    world.channel("shop", buffer=2, low_stock=0)
    world.sku("A", quantity=20)
    world.listing("A", "shop", buffer=5, dead_band=5, level={"desired": 10})
    steps = world.listing_of("A", "shop").rule_steps
    assert steps == (
        "available 20",
        "buffer 5: 15",
        "dead band 5: 10",
        "buffer is the listing's own",
        "dead_band is the listing's own",
    )


def test_the_trace_says_when_a_level_shows_less_than_its_rules_give(world):
    world.channel("shop")
    world.sku("A", quantity=50)
    world.listing("A", "shop", level={"desired": 9, "held_quantity": 10})
    world.listing("A", "shop", level={"desired": 30})
    world.listing("A", "shop", level={"desired": 3, "pushable": False})
    last = [one.rule_steps[-1] for one in world.explain("A").listings]
    assert last == [
        "held at 10 less what was sold since: 9",
        "least of the level's listings: 30",
        "stopped, left at 3",
    ]


def test_every_active_listing_is_in_step_or_out_or_held_or_stopped(world):
    world.channel("shop")
    world.sku("A")
    world.listing("A", "shop")
    world.listing("A", "shop", level={"desired": 4, "out_of_step_since": ago(seconds=90)})
    world.listing("A", "shop", level={"uncertain": "own_sale", "out_of_step_since": ago(seconds=30)})
    world.listing("A", "shop", level={"desired": 4, "held_quantity": 9, "out_of_step_since": ago(days=3)})
    world.listing("A", "shop", level={"pushable": False})
    for state in ("paused", "needs_review", "excluded", "retired"):
        world.listing("A", "shop", status=state, level={"pushable": False})
    one = world.status_of("shop")
    assert (one.active, one.in_step, one.out_of_step, one.held, one.stopped) == (5, 1, 2, 1, 1)
    assert (one.review, one.paused, one.excluded, one.uncertain) == (1, 1, 1, 1)
    assert one.oldest_change_seconds == 90
    assert world.status().out_of_step == 2


def test_the_success_rate_counts_attempts_of_the_last_hour_that_reached_the_wire(world):
    world.channel("shop", last_push_at=ago(minutes=3))
    for state in ("acknowledged", "acknowledged", "acknowledged", "unknown", "accepted", "not_sent"):
        world.attempt("shop", state, ago(minutes=5))
    world.attempt("shop", "rejected", ago(minutes=61))
    world.attempt("shop", "observed", ago(minutes=1), action="read")
    one = world.status_of("shop")
    assert (one.syncs_last_hour, one.failed_last_hour, one.success_rate_last_hour) == (5, 1, 0.75)
    row = dict(zip(COLUMNS, world.status().rows()[0], strict=True))
    assert (row["success, last hour"], row["syncs, last hour"], row["last push"]) == ("75.0%", "5", "3 min ago")


def test_a_channel_without_attempts_has_no_rate(world):
    world.channel("shop")
    one = world.status_of("shop")
    assert (one.syncs_last_hour, one.success_rate_last_hour, one.oldest_change_seconds) == (0, None, None)
    row = dict(zip(COLUMNS, world.status().rows()[0], strict=True))
    assert (row["success, last hour"], row["last push"], row["oldest change"]) == ("-", "never", "-")


def test_what_waits_for_a_person_is_counted_and_said(world):
    world.channel("shop")
    world.channel("new", push_approved_at=None)
    world.channel("gone", status="paused", status_reason="it is missing in channels.yaml")
    world.channel("old", status="retired")
    world.sku("A", quantity=1, reserved_quantity=2)
    world.sku("B", status="inactive")
    line = {"revision": 1, "ordered": 1, "cancelled": 0, "shipped": 0, "restocked": 0, "shipments": [], "restocks": []}
    times = {"created_at": NOW, "updated_at": NOW}
    world.put(order_lines, channel="shop", order_id="1", line_id="1", **line, **times)
    world.put(order_lines, channel="shop", order_id="2", line_id="1", ignored_reason="cut-over", **line, **times)
    world.put(unclear_orders, channel="shop", order_id="3", since=NOW)
    held = {
        "kind": "inventory",
        "file_name": "s.csv",
        "sha256": "",
        "path": "",
        "summary": {},
        "created_at": ago(hours=5),
    }
    world.put(imports, id="i1", state="held", reason="30 of 40 SKUs would go to 0", rows=40, **held)
    world.put(imports, id="i2", state="dropped", **held)
    now = world.status()
    assert [(one.channel, one.state) for one in now.channels] == [
        ("gone", "paused"),
        ("new", "not approved"),
        ("shop", "active"),
    ]
    assert (now.skus, now.inactive, now.units, now.reserved, now.negative) == (2, 1, 11, 2, 1)
    assert [(one.import_id, one.held_seconds) for one in now.held_imports] == [("i1", 18000)]
    assert now.open_cases == 3
    notes = "\n".join(now.notes())
    assert "gone: paused, it is missing in channels.yaml" in notes
    assert "new: not approved" in notes
    assert "shop: 1 order lines belong to no listing" in notes
    assert "inventory s.csv is held since 5 h: 30 of 40 SKUs would go to 0 (import id i1)" in notes
    assert "1 SKUs have more reserved than on hand" in notes
    assert json.loads(json.dumps(now.to_dict()))["open_cases"] == 3


def test_what_is_in_quarantine_waits_for_a_person(world):
    now = world.status(quarantined=2)
    assert (now.open_cases, now.to_dict()["quarantined"]) == (2, 2)
    (note,) = now.notes()
    assert note.startswith(
        "2 deliveries are in quarantine: `invsync inbox list` says why; `invsync inbox replay FILE…`"
    )
    assert world.status().notes() == []


def test_an_empty_stock_has_a_status(world):
    now = world.status()
    assert (now.skus, now.units, now.ledger_sequence, now.channels, now.open_cases) == (0, 0, 0, (), 0)
    assert now.rows() == []


def test_a_level_that_comes_in_step_leaves_the_count(world):
    world.channel("shop")
    world.sku("A")
    world.listing("A", "shop", level={"desired": 4, "out_of_step_since": ago(seconds=5)})
    assert world.status_of("shop").out_of_step == 1
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).values(effective_quantity=4, out_of_step_since=None))
    assert (world.status_of("shop").out_of_step, world.status_of("shop").in_step) == (0, 1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200000, "2 d"), (-3, "0 s")],
)
def test_ages_are_told_in_the_largest_fitting_unit(seconds, words):
    assert age_in_words(seconds) == words
