"""Items that a location doesn't stock: to be reviewed, or stocked there by the write itself."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Literal

import pytest

from invsync_dagster.platforms.contract import LevelReference, Outcome, Reading, Result, WriteRow
from invsync_dagster.platforms.errors import Recovery
from invsync_dagster.platforms.oauth import StaticToken
from invsync_dagster.platforms.shopify import ShopifyPlatform, ShopifySettings
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.platforms.shopify.settings import LIMITS
from invsync_dagster.platforms.shopify.writes import ACTIVATIONS_A_CALL
from invsync_dagster.platforms.transport import Response
from tests.contract.wire import ManualClock, Wire


class Shop:
    """A stand-in with a second location that stocks nothing yet, and its client."""

    def __init__(self, unstocked: Literal["review", "activate"] = "activate") -> None:
        self.clock = ManualClock()
        self.sandbox = ShopifySandbox(access_token="shpat_x", webhook_secret="s", clock=self.clock, random=Random(3))
        self.wire = Wire(self.sandbox.handle)
        config = ShopifySettings(
            shop_url="https://x.myshopify.com", access_token_env="T", webhook_secret_env="S", unstocked=unstocked
        )
        self.client = ShopifyPlatform(config, StaticToken("shpat_x"), LIMITS, self.wire)
        self.here = self.sandbox.add_article("A", 5)
        self.there = LevelReference(self.here.item_id, self.sandbox.add_location())

    def write(self, *rows: WriteRow, key: str = "k") -> list[Outcome]:
        return list(self.client.write(rows, key=key).outcomes)

    def read(self, level: LevelReference) -> Reading:
        (reading,) = self.client.read([level]).readings
        return reading

    def variables(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.wire.requests[-1].body)["variables"]
        return found

    def answers(self, **fields: Any) -> None:
        self.wire.answer_next(Response(200, {}, json.dumps({"data": fields}).encode()))


def test_by_default_an_item_that_is_not_stocked_there_is_for_review() -> None:
    shop = Shop("review")
    reading = shop.read(shop.there)
    assert reading.absent is False
    assert reading.problem is not None
    assert (reading.problem.recovery, reading.problem.code) == (Recovery.REVIEW, "not_stocked")
    (outcome,) = shop.write(WriteRow(shop.there, 3, absent=True))
    assert (outcome.result, outcome.recovery) == (Result.REJECTED, Recovery.SETTLE)
    assert shop.there not in shop.sandbox.books()


def test_a_write_of_an_absent_row_stocks_the_item_there_beside_the_others() -> None:
    shop = Shop()
    assert shop.read(shop.there).absent
    assert [one.result for one in shop.write(WriteRow(shop.there, 3, absent=True), WriteRow(shop.here, 4))] == [
        Result.ACKNOWLEDGED
    ] * 2
    assert (shop.sandbox.available(shop.there), shop.sandbox.available(shop.here)) == (3, 4)
    assert len(shop.wire.requests) == 2
    assert shop.read(shop.there).quantity == 3


def test_a_call_costs_ten_points_a_mutation_and_says_so() -> None:
    shop = Shop()
    answer = shop.client.write([WriteRow(shop.there, 3, absent=True), WriteRow(shop.here, 4)], key="k")
    assert answer.budget is not None
    assert answer.budget.spent == 20
    assert answer.budget.available == 1980


def test_a_refusal_of_a_row_that_was_thought_stocked_is_to_be_read_again() -> None:
    shop = Shop()
    refused, other = shop.write(WriteRow(shop.there, 3), WriteRow(shop.here, 4))
    assert (refused.result, refused.recovery) == (Result.REJECTED, Recovery.SETTLE)
    assert (other.result, other.recovery) == (Result.NOT_SENT, Recovery.RETRY)


def test_each_activation_has_a_key_of_its_own_that_a_repeated_write_has_again() -> None:
    shop = Shop()
    other = LevelReference(shop.sandbox.add_article("B", 2).item_id, shop.there.location_id)
    rows = [WriteRow(shop.there, 3, absent=True), WriteRow(other, 4, absent=True)]
    assert [one.result for one in shop.write(*rows, key="one")] == [Result.ACKNOWLEDGED] * 2
    keys = {name: value for name, value in shop.variables().items() if name.startswith("key")}
    assert len(set(keys.values())) == 2
    shop.sandbox.edit_stock(shop.there, 1)
    assert [one.result for one in shop.write(*rows, key="one")] == [Result.ACKNOWLEDGED] * 2
    assert {name: value for name, value in shop.variables().items() if name.startswith("key")} == keys
    assert shop.sandbox.available(shop.there) == 1  # the key's first answer, and nothing was done
    assert {one.recovery for one in shop.write(*rows, key="two")} == {Recovery.SETTLE}


def test_an_item_that_is_stocked_there_by_now_is_read_again_and_not_written_over() -> None:
    shop = Shop()
    shop.sandbox.stock(shop.there, 9)
    (outcome,) = shop.write(WriteRow(shop.there, 3, absent=True))
    assert (outcome.result, outcome.recovery, outcome.code) == (Result.REJECTED, Recovery.SETTLE, "not_activated")
    assert shop.sandbox.available(shop.there) == 9


def test_an_item_or_location_that_is_gone_is_for_review_in_the_platforms_words() -> None:
    shop = Shop()
    gone = LevelReference("gid://shopify/InventoryItem/7", shop.here.location_id)
    closed = LevelReference(shop.here.item_id, "gid://shopify/Location/7")
    first, second = shop.write(WriteRow(gone, 3, absent=True), WriteRow(closed, 3, absent=True))
    assert (first.recovery, first.message) == (Recovery.REVIEW, "The inventory item couldn't be found.")
    assert (second.recovery, second.message) == (Recovery.REVIEW, "The location couldn't be found.")


def test_more_than_one_call_takes_are_left_for_the_next() -> None:
    shop = Shop()
    items = [shop.sandbox.add_article(f"M{number}", 1).item_id for number in range(ACTIVATIONS_A_CALL + 2)]
    rows = [WriteRow(LevelReference(item, shop.there.location_id), 1, absent=True) for item in items]
    outcomes = shop.write(*rows)
    assert [one.result for one in outcomes[:-2]] == [Result.ACKNOWLEDGED] * ACTIVATIONS_A_CALL
    assert {(one.result, one.recovery) for one in outcomes[-2:]} == {(Result.NOT_SENT, Recovery.RETRY)}


def test_a_lost_answer_leaves_every_sent_row_unknown() -> None:
    shop = Shop()
    shop.wire.lose_answer_next()
    malformed = LevelReference("7", "8")
    outcomes = shop.write(WriteRow(shop.there, 3, absent=True), WriteRow(malformed, 1), WriteRow(shop.here, 4))
    assert [one.result for one in outcomes] == [Result.UNKNOWN, Result.REJECTED, Result.UNKNOWN]


@pytest.mark.parametrize(
    "activated",
    [
        None,
        {"inventoryLevel": None},
        {"inventoryLevel": None, "userErrors": []},
        {"inventoryLevel": {"quantities": [{"name": "available", "quantity": 2}]}, "userErrors": []},
        {"inventoryLevel": {"quantities": "none"}, "userErrors": []},
    ],
)
def test_only_the_level_with_the_number_that_was_sent_confirms(activated: Any) -> None:
    shop = Shop()
    shop.answers(activate0=activated)
    (outcome,) = shop.write(WriteRow(shop.there, 3, absent=True))
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)


@pytest.mark.parametrize("errors", [["odd"], [{}], [{"field": None, "message": None}]])
def test_an_activation_refused_in_a_way_we_do_not_know_is_for_review(errors: Any) -> None:
    shop = Shop()
    shop.answers(activate0={"inventoryLevel": None, "userErrors": errors})
    (outcome,) = shop.write(WriteRow(shop.there, 3, absent=True))
    assert (outcome.result, outcome.recovery) == (Result.REJECTED, Recovery.REVIEW)


def test_without_the_idempotency_directive_the_stand_in_refuses() -> None:
    shop = Shop()
    shop.write(WriteRow(shop.there, 3, absent=True), key="one")
    asked = shop.wire.requests[-1]
    body = json.loads(asked.body)
    body["query"] = body["query"].replace("@idempotent(key: $key0)", "")
    refused = shop.sandbox.handle(type(asked)(asked.method, asked.url, asked.headers, json.dumps(body).encode()))
    assert "idempotent" in json.loads(refused.body)["errors"][0]["message"]
