"""The stand-ins over real loopback sockets: calls, faults, control endpoints, webhooks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from invsync_dagster.platforms.contract import LevelReference, Result, WriteRow
from invsync_dagster.platforms.errors import PlatformError, Recovery
from tests.unit.sandbox.stage import ENVIRON, HATS, SOCKS, Receiver, Stage, in_the_shop, until


def test_the_real_client_writes_and_reads_over_a_socket(stage: Stage) -> None:
    stage.platform.check_credentials()
    assert stage.write("A-1", 7, "key-1").result is Result.ACKNOWLEDGED
    assert stage.shown("A-1") == 7
    shown = {row["sku"]: (row["quantity"], row["on_hand"]) for row in stage.get("erp_main/books")}
    assert shown == {"A-1": (7, 10), "B-2": (4, 4), "C-3": (0, 0)}


def test_a_signed_query_of_a_get_survives_the_socket(stage: Stage) -> None:
    begin = datetime.now(UTC)
    stage.post("erp_main/buy", {"lines": [{"sku": "A-1", "quantity": 2}]})
    page = stage.platform.orders_changed(begin, datetime.now(UTC))
    assert [(count.platform_sku, count.quantity, count.change_type) for count in page.content.counts] == [
        ("A-1", 8, "sale")
    ]


@pytest.mark.parametrize(
    ("kind", "result", "recovery", "booked"),
    [
        ("refuse", Result.UNKNOWN, Recovery.SETTLE, 10),
        ("cut_before", Result.UNKNOWN, Recovery.SETTLE, 10),
        ("cut_after", Result.UNKNOWN, Recovery.SETTLE, 7),
        ("throttle", Result.NOT_SENT, Recovery.WAIT, 10),
        ("throttle_silent", Result.NOT_SENT, Recovery.WAIT, 10),
        ("error_500", Result.UNKNOWN, Recovery.SETTLE, 7),
        ("error_502", Result.UNKNOWN, Recovery.SETTLE, 7),
        ("error_503", Result.UNKNOWN, Recovery.SETTLE, 10),
        ("error_504", Result.UNKNOWN, Recovery.SETTLE, 7),
        ("malformed", Result.UNKNOWN, Recovery.SETTLE, 7),
        ("slow", Result.ACKNOWLEDGED, None, 7),
    ],
)
def test_each_fault_shows_on_the_socket_as_it_should(
    standing: Stage, kind: str, result: Result, recovery: Recovery | None, booked: int
) -> None:
    standing.post("erp_main/edit", {"sku": "A-1", "quantity": 10})
    standing.fail_next(kind)
    outcome = standing.write("A-1", 7, f"key-{kind}")
    assert (outcome.result, outcome.recovery) == (result, recovery)
    assert standing.shown("A-1") == booked


@pytest.mark.parametrize(("kind", "booked"), [("timeout_before", 10), ("timeout_after", 7)])
def test_a_caller_that_gives_up_waiting_leaves_the_write_undone_or_done(
    standing: Stage, kind: str, booked: int
) -> None:
    standing.post("erp_main/edit", {"sku": "A-1", "quantity": 10})
    standing.fail_next(kind)
    (outcome,) = standing.hasty.write([WriteRow(LevelReference("A-1"), 7)], key=f"key-{kind}").outcomes
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)
    assert standing.shown("A-1") == booked


def test_a_late_write_lands_after_its_answer_was_lost(stage: Stage) -> None:
    stage.fail_next("late", 0.3)
    assert stage.write("A-1", 7, "key-1").result is Result.UNKNOWN
    assert stage.get("health")["late_writes"] == 1
    until(lambda: stage.get("health")["late_writes"] == 0)
    assert stage.shown("A-1") == 7


def test_the_real_client_writes_to_a_shop_and_its_books_name_the_level(stage: Stage) -> None:
    rows = [WriteRow(SOCKS, 6, expected=9), WriteRow(HATS, 2)]
    answer = stage.shop.write(rows, key="key-1")
    assert [outcome.result for outcome in answer.outcomes] == [Result.ACKNOWLEDGED] * 2
    assert [reading.quantity for reading in stage.shop.read([SOCKS, HATS]).readings] == [6, 2]
    assert stage.get("shop/books")[0] == {
        "item_id": SOCKS.item_id,
        "location_id": SOCKS.location_id,
        "sku": "SOCKS",
        "quantity": 6,
        "on_hand": None,
    }


def test_a_shop_sells_cancels_ships_and_takes_back_and_tells_of_each(stage: Stage, receiver: Receiver) -> None:
    first = stage.post("shop/buy", {"lines": [{"sku": "SOCKS", "quantity": 2}]})["order"]
    second = stage.post("shop/buy")["order"]
    sold = 9 - in_the_shop(stage)["SOCKS"]
    assert sold >= 3
    assert stage.post("shop/open_orders") == [first, second]
    stage.post("shop/cancel", {"order": first})
    stage.post("shop/fulfil", {"order": second})
    stage.post("shop/refund", {"order": second, "restock_type": "return"})
    assert in_the_shop(stage) == {"SOCKS": 9, "HATS": 0}
    stage.post("shop/edit", {"sku": "HATS", "quantity": 3})
    assert in_the_shop(stage) == {"SOCKS": 9, "HATS": 3}
    until(lambda: stage.get("health")["webhooks"]["pending"] == 0)
    told = set()
    for path, headers, body in receiver.got:
        assert path == "/webhooks/shop"
        stage.shop_door.verify(headers, body, datetime.now(UTC))
        told.add(stage.shop_door.topic(headers, body))
    assert told == {"orders/create", "orders/updated", "orders/cancelled", "refunds/create"}


def test_rates_hold_until_they_are_cleared(stage: Stage) -> None:
    assert stage.post("erp_main/faults", {"rates": {"throttle": 1.0}}) == {"rates": {"throttle": 1.0}}
    for _ in range(2):
        with pytest.raises(PlatformError) as raised:
            stage.platform.check_credentials()
        assert raised.value.recovery is Recovery.WAIT
    stage.post("erp_main/faults", {"rates": {}})
    stage.platform.check_credentials()
    assert stage.get("health")["channels"]["erp_main"] == {"calls": 3, "failed": 2}


def test_revoked_credentials_are_refused_until_they_are_given_back(stage: Stage) -> None:
    stage.post("erp_main/credentials", {"key": "another"})
    with pytest.raises(PlatformError) as raised:
        stage.platform.check_credentials()
    assert raised.value.recovery is Recovery.REAUTHENTICATE
    stage.post("erp_main/credentials", {"key": ENVIRON["KEY"]})
    stage.platform.check_credentials()


def test_a_sale_sends_a_webhook_that_the_real_door_takes(stage: Stage, receiver: Receiver) -> None:
    sold = stage.post("erp_main/buy", {"lines": [{"sku": "B-2", "quantity": 3}, {"sku": "C-3", "quantity": 1}]})
    assert sold["lines"] == [{"sku": "B-2", "quantity": 3}]
    ((path, headers, body),) = receiver.wait_for(1)
    assert path == "/webhooks/erp_main"
    stage.door.verify(headers, body, datetime.now(UTC))
    (count,) = stage.door.parse(headers, body).counts
    assert (count.platform_sku, count.quantity, count.change_type) == ("B-2", 1, "sale")


def test_buyers_choose_for_themselves_what_is_there(stage: Stage) -> None:
    lines = stage.post("erp_main/buy")["lines"]
    assert {line["sku"] for line in lines} <= {"A-1", "B-2"}
    assert sum(line["quantity"] for line in lines) >= 1
    on_hand = {row["sku"]: row["on_hand"] for row in stage.get("erp_main/books")}
    assert 14 - sum(on_hand.values()) == sum(line["quantity"] for line in lines)


def test_goods_come_break_leave_and_are_edited(stage: Stage, receiver: Receiver) -> None:
    stage.post("erp_main/restock", {"sku": "C-3", "quantity": 5})
    stage.post("erp_main/adjust", {"sku": "C-3", "quantity": -1})
    stage.post("erp_main/ship", {"sku": "C-3", "quantity": 2})
    stage.post("erp_main/edit", {"sku": "C-3", "quantity": 9})
    (row,) = [row for row in stage.get("erp_main/books") if row["sku"] == "C-3"]
    assert (row["quantity"], row["on_hand"]) == (9, 2)
    assert len(receiver.wait_for(3)) == 3


def test_a_refused_webhook_comes_again_signed_anew(stage: Stage, receiver: Receiver) -> None:
    receiver.refusals = 1
    stage.post("erp_main/restock", {"sku": "A-1", "quantity": 1})
    ((_, headers, body),) = receiver.wait_for(1)
    stage.door.verify(headers, body, datetime.now(UTC))
    until(lambda: stage.get("health")["webhooks"]["pending"] == 0)
    webhooks = stage.get("health")["webhooks"]
    assert (webhooks["attempts"], webhooks["delivered"]) == (2, 1)


def test_webhooks_are_doubled_or_lost_when_told_so(stage: Stage, receiver: Receiver) -> None:
    stage.post("webhooks", {"duplicate": 1.0})
    stage.post("erp_main/restock", {"sku": "A-1", "quantity": 1})
    first, second = receiver.wait_for(2)
    assert first[2] == second[2]
    stage.post("webhooks", {"duplicate": 0.0, "drop": 1.0})
    stage.post("erp_main/restock", {"sku": "A-1", "quantity": 1})
    webhooks = stage.get("health")["webhooks"]
    assert (webhooks["dropped"], webhooks["doubled"], webhooks["pending"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("path", "document", "status"),
    [
        ("erp_main/dance", {}, 404),
        ("nowhere/buy", {}, 404),
        ("erp_main/restock", {"sku": "no-such", "quantity": 1}, 404),
        ("erp_main/restock", {"sku": "A-1", "quantity": "1"}, 400),
        ("erp_main/ship", {"sku": "A-1", "quantity": 99}, 400),
        ("shop/buy", {"lines": [{"sku": "SOCKS", "quantity": 99}]}, 400),
        ("shop/buy", {"lines": [{"sku": "no-such", "quantity": 1}]}, 404),
        ("shop/buy", {"lines": "all"}, 400),
        ("shop/cancel", {"order": "12"}, 400),
        ("shop/refund", {"order": 12, "restock_type": "return"}, 400),
        ("erp_main/faults", {"rates": {"boredom": 0.5}}, 400),
        ("erp_main/faults", {"rates": {"refuse": 1.5}}, 400),
        ("webhooks", {"drop": 2}, 400),
        ("webhooks", {"boredom": 1}, 400),
        ("webhooks", [], 400),
    ],
)
def test_what_cannot_be_done_is_answered_with_its_reason(
    standing: Stage, path: str, document: Any, status: int
) -> None:
    answer = requests.post(f"{standing.url}/{path}", json=document, timeout=10)
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


def test_a_path_of_no_channel_is_404(standing: Stage) -> None:
    assert requests.get(standing.url.replace("_sandbox", "elsewhere"), timeout=10).status_code == 404


def test_many_callers_at_once_lose_no_unit(stage: Stage) -> None:
    def buy(_: int) -> int:
        sold = stage.post("erp_main/buy", {"lines": [{"sku": "A-1", "quantity": 1}]})
        return len(sold["lines"])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(buy, range(24))) == 10
    assert stage.shown("A-1") == 10
    (row,) = [row for row in stage.get("erp_main/books") if row["sku"] == "A-1"]
    assert row["on_hand"] == 0
