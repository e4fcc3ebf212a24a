"""What a channel showed at a past moment is told from the records, whatever was changed since."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

import pytest
from sqlalchemy import insert

from invsync_dagster.inventory import channels, listings
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explain import UnknownError
from invsync_dagster.inventory.listings import Listing
from invsync_dagster.inventory.past import PastExplanation, PastListing, explain_past
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import platform_mapping, sync_logs
from tests.unit.inventory.stock import OTHER, SHOP, Stock, at, order

pytestmark = pytest.mark.usefixtures("each_database")


class Shown(Stock):
    """A stock of 10 whose shop was pushed at minute 1, sold one at minute 5, and was pushed again at minute 9."""

    def confirm(self, minute: float, quantity: int, status: str = "acknowledged", channel: str = SHOP) -> None:
        level = self.level(channel)
        row = {"timestamp": at(minute), "platform": channel, "sku": "A", "action": "push", "status": status}
        basis = {"rules_revision": level.rules_revision, "ledger_sequence": level.desired_sequence}
        with write_transaction(self.engine) as connection:
            connection.execute(insert(sync_logs), row | basis | {"level_id": level.id, "new_quantity": quantity})

    def past(self, minute: float, channel: str | None = None, sku: str = "A") -> PastExplanation:
        with self.engine.connect() as connection:
            return explain_past(connection, sku, at(minute), channel)

    def shop(self, minute: float) -> PastListing:
        (one,) = self.past(minute, SHOP).listings
        return one

    def status(self, status: Literal["active", "paused"], minute: float) -> None:
        ids = [row.id for row in self.rows(platform_mapping) if row.platform_name == SHOP and row.central_sku == "A"]
        with write_transaction(self.engine) as connection:
            listings.set_status(connection, ids, status, actor="ann", reason="looks odd", now=at(minute))


@pytest.fixture
def stock() -> Iterator[Shown]:
    stock = Shown({"A": 10})
    with write_transaction(stock.engine) as connection:
        for name in (SHOP, OTHER):
            channels.approve_first_push(connection, name, actor="ann", reason="", now=at(0.5))
    stock.confirm(1, 10)
    stock.now = at(5)
    stock.apply(order(item="other-A"), channel=OTHER)
    stock.confirm(9, 9)
    yield stock
    stock.close()


def test_a_number_is_explained_as_it_was_before_and_after_a_sale_elsewhere(stock: Shown) -> None:
    before, between, after = stock.past(4), stock.past(6), stock.past(10)
    assert [(one.quantity, one.reserved_quantity, one.available) for one in (before, between, after)] == [
        (10, 0, 10),
        (10, 1, 9),
        (10, 1, 9),
    ]
    assert stock.shop(4).verdict == "in step: it showed 10"
    late = stock.shop(6)
    assert late.verdict == "out of step: it showed 10, by its rules 9"
    assert (late.shown, late.shown_at, late.confirmed_next, late.confirmed_next_at) == (10, at(1), 9, at(9))
    assert stock.shop(10).verdict == "in step: it showed 9"
    assert [entry.kind for entry in between.entries] == ["reserve", "import"]
    assert [entry.kind for entry in before.entries] == ["import"]
    assert [len(one.attempts) for one in (stock.shop(0.75), stock.shop(4), stock.shop(10))] == [0, 1, 2]


def test_what_a_channel_sold_itself_has_moved_its_number(stock: Shown) -> None:
    stock.confirm(1, 10, channel=OTHER)
    (other,) = stock.past(6, OTHER).listings
    assert (other.shown, other.moved_since, other.verdict) == (10, -1, "in step: it showed 9")
    stock.now = at(7)
    stock.apply(order(item="other-A", revision=2, shipped=[(1, 7)], updated=7), channel=OTHER)
    (shipped,) = stock.past(8, OTHER).listings
    assert (shipped.moved_since, shipped.verdict) == (-1, "in step: it showed 9")


def test_rules_changed_since_are_taken_back(stock: Shown) -> None:
    stock.now = at(20)
    stock.rules(SHOP, Rules(buffer=4))
    stock.now = at(30)
    stock.rules(SHOP, Rules(buffer=4, maximum=3))
    stock.now = at(40)
    stock.map(Listing(SHOP, "A", "shop-A", platform_sku="A@shop", buffer=1))
    assert stock.shop(10).rule_steps == ("available 9",)
    assert stock.shop(25).rule_steps == ("available 9", "buffer 4: 5")
    assert stock.shop(35).rule_steps == ("available 9", "buffer 4: 5", "maximum 3: 3")
    assert stock.shop(45).rule_steps == (
        "available 9",
        "buffer 1: 8",
        "maximum 3: 3",
        "buffer was the listing's own",
    )
    assert stock.shop(45).verdict == "out of step: it showed 9, by its rules 3"


def test_the_statuses_of_then_count_not_those_of_today(stock: Shown) -> None:
    stock.status("paused", 20)
    with write_transaction(stock.engine) as connection:
        set_skus(connection, [Sku("A", status="inactive")], actor="ann", reason="", now=at(30))
        channels.set_status(connection, SHOP, "paused", actor="ann", reason="", now=at(50))
    stock.status("active", 40)
    assert stock.shop(15).verdict == "in step: it showed 9"
    assert stock.shop(25).verdict == "the listing was paused: it showed 9"
    assert [stock.past(minute).status for minute in (25, 35)] == ["active", "inactive"]
    assert stock.shop(45).verdict == "out of step: it showed 9, by its rules 0"
    assert stock.shop(55).verdict == "the channel was paused: it showed 9"


def test_a_listing_belongs_to_the_sku_that_it_was_mapped_to_then(stock: Shown) -> None:
    stock.now = at(20)
    stock.map(Listing(SHOP, "B", "shop-A", platform_sku="A@shop"))
    assert [one.item_id for one in stock.past(10, SHOP).listings] == ["shop-A"]
    assert [one.item_id for one in stock.past(25, SHOP).listings] == []
    assert [one.item_id for one in stock.past(25, SHOP, "B").listings] == ["shop-A", "shop-B"]


def test_before_the_first_push_was_approved_nothing_was_written(stock: Shown) -> None:
    assert (
        stock.shop(0.25).verdict == "the channel's first push was not approved yet: nothing is known of what it showed"
    )


def test_before_a_channel_or_a_listing_was_there_nothing_was_listed(stock: Shown) -> None:
    past = stock.past(-40)
    assert (past.listings, past.entries, past.available) == ((), (), 0)
    assert "it had no listing then" in past.render()


def test_the_past_is_told_in_words_and_as_json(stock: Shown) -> None:
    words = stock.past(6, SHOP).render()
    for part in (
        "A at 2026-03-01 12:06:00 UTC",
        "10 on hand - 1 reserved = 9 available (active)",
        "shop: out of step: it showed 10, by its rules 9",
        "confirmed before: 10 at 2026-03-01 12:01:00 UTC",
        "confirmed next: 9 at 2026-03-01 12:09:00 UTC",
        "reserve other order 1",
    ):
        assert part in words
    plain = json.loads(json.dumps(stock.past(6).to_dict()))
    assert (plain["at"], plain["available"], len(plain["listings"])) == ("2026-03-01T12:06:00+00:00", 9, 3)


def test_what_is_unknown_is_refused_by_name(stock: Shown) -> None:
    with pytest.raises(UnknownError, match="no SKU 'C' in the stock"):
        stock.past(1, sku="C")
    with pytest.raises(UnknownError, match="no channel 'shopp'"):
        stock.past(1, "shopp")
