"""Whatever Shopify answers or posts, every row has an outcome and only the promised errors are raised."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from invsync_dagster.platforms.contract import Result, WriteRow
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError
from invsync_dagster.platforms.transport import Response
from tests.unit.platforms.test_shopify_orders import Shop

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just([7]),
    st.just({}),
    st.just([{}]),
    st.just([None]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every part of a JSON value."""
    found = [path]
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for key, part in entries:
        found += places(part, (*path, key))
    return found


def spoil(data: st.DataObject, value: Any) -> bytes:
    """Replace one to three parts of a JSON value by junk, or take them out."""
    value = {"root": copy.deepcopy(value)}
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from([path for path in places(value) if path]))
        holder: Any = value
        for step in way:
            holder = holder[step]
        if data.draw(st.booleans()) and isinstance(holder, dict) and last != "root":
            del holder[last]
        else:
            holder[last] = copy.deepcopy(data.draw(JUNK))
    return json.dumps(value["root"]).encode()


def busy_shop() -> tuple[Shop, str]:
    shop = Shop()
    order = shop.sandbox.buy(dict.fromkeys(shop.levels, 4))
    line = next(iter(shop.sandbox.lines(order)))
    shop.sandbox.fulfil(order, {line: 2})
    shop.sandbox.refund(order, {line: 1}, "return")
    return shop, order


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_write_never_raises_and_each_row_has_its_outcome(data: st.DataObject) -> None:
    shop, _ = busy_shop()
    rows = [WriteRow(level, 1) for level in shop.levels]
    truth = {
        "data": {
            "inventorySetQuantities": {
                "inventoryAdjustmentGroup": {"id": "gid://shopify/InventoryAdjustmentGroup/1"},
                "userErrors": [{"code": "INVALID_LOCATION", "field": ["input", "quantities", "1"], "message": "no"}],
            }
        },
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
        "extensions": {
            "cost": {"requestedQueryCost": 10, "throttleStatus": {"currentlyAvailable": 1, "restoreRate": 100}}
        },
    }
    shop.wire.answer_next(Response(200, {}, spoil(data, truth)))
    outcomes = shop.client.write(rows, key="k").outcomes
    assert len(outcomes) == len(rows)
    for outcome in outcomes:
        assert outcome.result is Result.ACKNOWLEDGED or (outcome.recovery and outcome.code)


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(["read", "changed", "orders", "check"]))
def test_a_read_gives_an_answer_or_a_platform_error(data: st.DataObject, what: str) -> None:
    shop, order = busy_shop()
    begin = shop.clock.now()
    shop.clock.advance(60)
    calls = {
        "read": lambda: shop.client.read(shop.levels),
        "changed": lambda: shop.client.orders_changed(begin, shop.clock.now()),
        "orders": lambda: shop.client.orders([order]),
        "check": lambda: shop.client.check_credentials(),
    }
    calls[what]()
    truth = json.loads(shop.sandbox.handle(shop.wire.requests[-1]).body)
    shop.wire.answer_next(Response(200, {}, spoil(data, truth)))
    try:
        calls[what]()
    except PlatformError as error:
        assert error.code
        assert error.message


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_webhook_gives_content_or_is_not_understood(data: st.DataObject) -> None:
    shop, _ = busy_shop()
    delivery = data.draw(st.sampled_from(shop.sandbox.take_outgoing()))
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    try:
        shop.door.parse(headers, spoil(data, json.loads(delivery.body)))
    except NotUnderstoodError as error:
        assert str(error)
