"""The WooCommerce stand-in over real loopback sockets: OAuth, the client's calls, what people do there, its webhooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from invsync_dagster.platforms.contract import LevelReference, Result, WriteRow
from invsync_dagster.sandbox.server import SandboxServer
from tests.unit.sandbox.stage import Receiver, Stage, a_world, in_the_shop, until

HAT, SMALL, LARGE, MUG = (
    LevelReference("101"),
    LevelReference("301", "201"),
    LevelReference("302", "201"),
    LevelReference("401"),
)


def test_the_real_client_writes_and_reads_products_and_variations(stage: Stage) -> None:
    stage.woo.check_credentials()
    for rows in ([WriteRow(HAT, 7), WriteRow(MUG, 2)], [WriteRow(SMALL, 0), WriteRow(LARGE, 3)]):
        answer = stage.woo.write(rows, key="key")
        assert [outcome.result for outcome in answer.outcomes] == [Result.ACKNOWLEDGED] * 2
    assert [reading.quantity for reading in stage.woo.read([LARGE, MUG, SMALL, HAT]).readings] == [3, 2, 0, 7]
    assert in_the_shop(stage, "woo") == {"HAT": 7, "SHIRT-S": 0, "SHIRT-L": 3, "MUG-BLUE": 2}


def test_the_store_sells_cancels_ships_and_takes_back_and_tells_of_each(stage: Stage, receiver: Receiver) -> None:
    begin = datetime.now(UTC)
    basket = [{"sku": "SHIRT-L", "quantity": 2}, {"sku": "MUG-BLUE", "quantity": 1}]
    first = stage.post("woo/buy", {"lines": basket})["order"]
    second = stage.post("woo/buy", {"lines": [{"sku": "HAT", "quantity": 3}]})["order"]
    assert stage.post("woo/open_orders") == [first, second]
    assert stage.post("woo/unshipped", {"order": first}) == basket
    assert stage.post("woo/buy")["lines"]
    assert stage.post("woo/promised")
    stage.post("woo/cancel", {"order": first})
    stage.post("woo/fulfil", {"order": second})
    stage.post("woo/refund", {"order": second, "restock_type": "return"})
    stage.post("woo/edit", {"sku": "SHIRT-S", "quantity": 8})
    assert in_the_shop(stage, "woo")["SHIRT-S"] == 8
    page = stage.woo.orders_changed(begin, datetime.now(UTC) + timedelta(seconds=5))
    cancelled = next(document for document in page.content.documents if document.order_id == first)
    assert [line.ordered - line.cancelled for line in cancelled.lines] == [0, 0]
    assert page.content.unclear_orders == (second,)
    (asked,) = stage.woo.orders([second]).content.documents
    assert [(line.shipped, line.cancelled + line.restocked) for line in asked.lines] in ([(3, 3)], [(0, 3)])
    until(lambda: stage.get("health")["webhooks"]["pending"] == 0)
    told = set()
    for path, headers, body in receiver.got:
        assert path == "/webhooks/woo"
        stage.woo_door.verify(headers, body, datetime.now(UTC))
        told.add(stage.woo_door.topic(headers, body))
    assert told == {"order.created", "order.updated"}


def test_a_webhook_that_fails_is_never_sent_again(stage: Stage, receiver: Receiver) -> None:
    receiver.refusals = 1
    stage.post("woo/buy", {"lines": [{"sku": "HAT", "quantity": 1}]})
    until(lambda: stage.get("health")["webhooks"].get("given_up") == 1)
    # Of the pair that one checkout sends, the other half.
    ((_, headers, _),) = receiver.wait_for(1)
    assert headers["x-wc-webhook-topic"] in ("order.created", "order.updated")
    until(lambda: stage.get("health")["webhooks"]["attempts"] == 2)


def test_the_books_outlive_the_server(tmp_path: Path, receiver: Receiver) -> None:
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        order = Stage(server).post("woo/buy", {"lines": [{"sku": "HAT", "quantity": 3}]})["order"]
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        stage = Stage(server)
        assert in_the_shop(stage, "woo")["HAT"] == 6
        stage.post("woo/cancel", {"order": order})
        assert in_the_shop(stage, "woo")["HAT"] == 9
