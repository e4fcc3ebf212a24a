"""Amazon's orders and notifications as documents: what is promised, shipped and given up, whoever tells it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invsync_dagster.events import Content, Movement, OrderDocument
from invsync_dagster.platforms.amazon.orders import FULFILLED_BY_AMAZON, document_of, document_of_change
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError
from invsync_dagster.platforms.transport import Response
from tests.contract.amazon_harness import SECOND, SELLER, AmazonHarness


def an_order(status: str, *items: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "orderId": "902-1",
        "createdTime": "2026-01-01T00:00:00Z",
        "lastUpdatedTime": "2026-01-02T00:00:00Z",
        "salesChannel": {"channelName": "AMAZON"},
        "fulfillment": {"fulfillmentStatus": status, "fulfilledBy": "MERCHANT"},
        "orderItems": list(items),
        **changed,
    }


def an_item(ordered: int, done: int | None = None, left: int | None = None, **changed: Any) -> dict[str, Any]:
    item: dict[str, Any] = {"orderItemId": "1", "quantityOrdered": ordered, "product": {"sellerSku": "A"}}
    told = {"quantityFulfilled": done, "quantityUnfulfilled": left}
    item["fulfillment"] = {name: units for name, units in told.items() if units is not None}
    return {**item, **changed}


CANCELLED = {"cancellation": {"cancellationExecution": {"cancelledBy": "BUYER"}}}


@pytest.mark.parametrize(
    ("status", "item", "totals"),
    [
        ("PENDING_AVAILABILITY", an_item(3, 0, 3), (3, 0, 0)),
        ("PENDING", an_item(3), (3, 0, 0)),
        ("UNSHIPPED", an_item(3, 0, 3), (3, 0, 0)),
        ("PARTIALLY_SHIPPED", an_item(3, 1, 2), (3, 0, 1)),
        ("SHIPPED", an_item(3, 3, 0), (3, 0, 3)),
        ("SHIPPED", an_item(3), (3, 0, 3)),
        ("CANCELLED", an_item(3, 0, 0), (3, 3, 0)),
        ("CANCELLED", an_item(3, 0, 3), (3, 3, 0)),
        ("CANCELLED", an_item(3, 1, 0), (3, 2, 1)),
        ("CANCELLED", an_item(0, 0, 0), (0, 0, 0)),
        ("UNFULFILLABLE", an_item(3, 0, 3), (3, 3, 0)),
        # A line that was cancelled, alone or in part, in an order that goes on.
        ("UNSHIPPED", an_item(3, 0, 0, **CANCELLED), (3, 3, 0)),
        ("PARTIALLY_SHIPPED", an_item(3, 1, 1, **CANCELLED), (3, 1, 1)),
        # A buyer who asks for it hasn't been granted it.
        ("UNSHIPPED", an_item(3, 0, 3, cancellation={"cancellationRequest": {"requester": "BUYER"}}), (3, 0, 0)),
    ],
)
def test_the_totals_of_a_line(status: str, item: dict[str, Any], totals: tuple[int, int, int]) -> None:
    (line,) = document_of(an_order(status, item)).lines
    assert (line.ordered, line.cancelled, line.shipped) == totals
    assert (line.reference.item_id, line.reference.platform_sku) == ("A", "A")


def test_of_an_order_that_amazon_fulfils_nothing_is_ordered_from_our_stock() -> None:
    order = an_order("SHIPPED", an_item(1), fulfillment={"fulfillmentStatus": "SHIPPED", "fulfilledBy": "AMAZON"})
    (line,) = document_of(order).lines
    assert (line.ordered, line.shipments, line.ignored) == (0, (), FULFILLED_BY_AMAZON)


def a_package(status: str, at: str | None, units: int) -> dict[str, Any]:
    items = [{"orderItemId": "1", "quantity": units}]
    return {"packageReferenceId": "1", "packageStatus": {"status": status}, "shipTime": at, "packageItems": items}


def test_units_left_when_their_package_did_and_the_rest_when_the_order_changed() -> None:
    packages = [
        a_package("SHIPPED", "2026-01-01T09:00:00Z", 1),
        a_package("DELIVERED", "2026-01-01T08:00:00Z", 1),
        a_package("PENDING", "2026-01-01T07:00:00Z", 1),
        a_package("CANCELLED", "2026-01-01T07:00:00Z", 1),
        a_package("IN_TRANSIT", None, 1),
    ]
    (line,) = document_of(an_order("PARTIALLY_SHIPPED", an_item(5, 3, 2), packages=packages)).lines
    day = datetime(2026, 1, 1, tzinfo=UTC)
    assert line.shipments == (
        Movement(1, day.replace(hour=8)),
        Movement(1, day.replace(hour=9)),
        Movement(1, day + timedelta(days=1)),
    )
    (fewer,) = document_of(an_order("PARTIALLY_SHIPPED", an_item(5, 1, 4), packages=packages)).lines
    assert fewer.shipments == (Movement(1, day.replace(hour=8)),)


@pytest.mark.parametrize(
    "changed",
    [
        {"orderId": None},
        {"orderId": "x" * 101},
        {"lastUpdatedTime": "yesterday"},
        {"createdTime": 7},
        {"fulfillment": None},
        {"fulfillment": {"fulfillmentStatus": "LOST"}},
        {"orderItems": None},
        {"orderItems": ["x"]},
        {"orderItems": [an_item(-1)]},
        {"orderItems": [an_item(1, product={})]},
        {"orderItems": [an_item(1, fulfillment={"quantityFulfilled": "1"})]},
        {"orderItems": [an_item(10**10)]},
    ],
)
def test_what_is_no_order_is_not_understood(changed: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstoodError):
        document_of(an_order("UNSHIPPED", an_item(1), **changed))


def test_of_two_documents_of_one_moment_the_one_further_on_is_newer() -> None:
    life = ("PENDING", "UNSHIPPED", "SHIPPED", "CANCELLED")
    revisions = [document_of(an_order(status, an_item(1))).revision for status in life]
    assert revisions == sorted(set(revisions))
    later = document_of(an_order("PENDING", an_item(1), lastUpdatedTime="2026-01-02T00:00:01Z"))
    assert later.revision > revisions[-1]


# --- through the client ---------------------------------------------------------------------------------------------


def the_document(content: Content) -> OrderDocument:
    (document,) = content.documents
    return document


def told_by_notification(harness: AmazonHarness) -> OrderDocument:
    *_, (headers, body) = harness.deliveries()
    return the_document(harness.door.parse(headers, body))


def notified(harness: AmazonHarness) -> Content:
    *_, (headers, body) = harness.deliveries()
    return harness.door.parse(headers, body)


def test_a_notification_and_the_api_tell_the_same_document_until_units_have_left_or_are_cancelled() -> None:
    harness = AmazonHarness()
    harness.account.add_item("A", 9)
    order, other = harness.account.buy({"A": 3}, status="PENDING"), harness.account.buy({"A": 2})
    (line_id,), (other_line,) = harness.account.order(order).lines, harness.account.order(other).lines
    assert told_by_notification(harness) == the_document(harness.platform.orders([other]).content)
    harness.clock.advance(60)
    harness.account.confirm(order)
    assert told_by_notification(harness) == the_document(harness.platform.orders([order]).content)
    harness.account.cancel_units(other, {other_line: 1})
    assert notified(harness) == Content(unclear_orders=(other,))
    for step in (lambda: harness.account.ship(order, {line_id: 1}), lambda: harness.account.cancel(order)):
        harness.clock.advance(60)
        step()
        assert notified(harness) == Content()  # the list of orders tells when they left
    documents = harness.platform.orders([order, other]).content.documents
    assert [(line.ordered, line.cancelled, line.shipped) for one in documents for line in one.lines] == [
        (3, 2, 1),
        (2, 1, 0),
    ]
    assert documents[0].lines[0].shipments[0].at == harness.clock.now() - timedelta(seconds=60)
    assert harness.account.item("A").quantity == 7
    harness.clock.advance(60)
    harness.account.cancel(other)
    assert told_by_notification(harness) == the_document(harness.platform.orders([other]).content)


def test_orders_of_all_marketplaces_are_listed_and_amazons_own_are_not() -> None:
    harness = AmazonHarness()
    harness.account.add_item("A", 9)
    harness.account.add_item("F", None, fulfilled_by_amazon=True)
    begin = harness.clock.now()
    ours = [harness.account.buy({"A": 1}), harness.account.buy({"A": 1}, marketplace=SECOND)]
    amazons = harness.account.buy({"F": 1}, fulfilled_by="AMAZON")
    harness.clock.advance(600)
    page = harness.platform.orders_changed(begin, harness.clock.now())
    assert [document.order_id for document in page.content.documents] == ours
    content = harness.platform.orders([amazons, "902-none", ""]).content
    assert [line.ignored for line in the_document(content).lines] == [FULFILLED_BY_AMAZON]


def test_the_list_reaches_to_two_minutes_ago_and_says_so() -> None:
    harness = AmazonHarness()
    harness.account.add_item("A", 9)
    begin = harness.clock.now()
    harness.clock.advance(600)
    harness.account.buy({"A": 1})
    harness.clock.advance(60)
    page = harness.platform.orders_changed(begin, harness.clock.now() + timedelta(minutes=2))
    assert page.content == Content()
    assert page.known_until == harness.clock.now() - timedelta(minutes=2)
    harness.clock.advance(61)
    assert len(harness.platform.orders_changed(begin, harness.clock.now()).content.documents) == 1


def test_open_orders_are_those_with_units_left() -> None:
    harness = AmazonHarness()
    harness.account.add_item("A", 9)
    orders = [harness.account.buy({"A": 1}) for _ in range(4)]
    harness.account.ship(orders[0])
    harness.account.cancel(orders[1])
    harness.clock.advance(600)
    page = harness.platform.open_orders()
    assert [document.order_id for document in page.content.documents] == orders[2:]


def test_an_order_that_is_not_understood_is_asked_for_and_hides_no_other() -> None:
    harness = AmazonHarness()
    orders = [an_order("LOST", an_item(1), orderId="902-2"), an_order("UNSHIPPED", an_item(1))]
    harness.wire.answer_next(Response(200, {}, json.dumps({"orders": orders}).encode()))
    content = harness.platform.open_orders().content
    assert [document.order_id for document in content.documents] == ["902-1"]
    assert content.unclear_orders == ("902-2",)


def test_a_list_with_an_order_without_an_id_is_no_list() -> None:
    harness = AmazonHarness()
    orders = [an_order("LOST", an_item(1), orderId=None)]
    harness.wire.answer_next(Response(200, {}, json.dumps({"orders": orders}).encode()))
    with pytest.raises(PlatformError, match="malformed_answer"):
        harness.platform.open_orders()


# --- notifications --------------------------------------------------------------------------------------------------


def a_change(**changed: Any) -> dict[str, Any]:
    change = {
        "NotificationLevel": "OrderLevel",
        "SellerId": SELLER,
        "AmazonOrderId": "902-1",
        "OrderChangeType": "OrderStatusChange",
        "OrderChangeTrigger": {"TimeOfOrderChange": "2026-01-02T00:00:00Z", "ChangeReason": "x"},
        "Summary": {
            "OrderStatus": "Unshipped",
            "PurchaseDate": "2026-01-01T00:00:00Z",
            "FulfillmentType": "MFN",
            "OrderItems": [{"OrderItemId": "1", "SellerSKU": "A", "Quantity": 2, "QuantityShipped": 0}],
        },
    }
    return {name: value for name, value in (change | changed).items() if value is not ...}


def parsed(
    harness: AmazonHarness, change: dict[str, Any], kind: str = "ORDER_CHANGE", *, event: bool = True
) -> Content:
    message = {"NotificationType": kind, "Payload": {"OrderChangeNotification": change}}
    body = json.dumps({"detail": message} if event else message).encode()
    assert harness.door.topic({}, body) == kind
    return harness.door.parse({}, body)


@pytest.mark.parametrize("event", [True, False])
def test_a_notification_is_read_as_it_is_or_as_eventbridge_wraps_it(event: bool) -> None:
    document = the_document(parsed(AmazonHarness(), a_change(), event=event))
    assert (document.order_id, document.lines[0].ordered) == ("902-1", 2)
    assert document.created_at == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "changed",
    [
        {"OrderChangeTrigger": {"TimeOfOrderChange": None, "ChangeReason": "x"}},
        {"OrderChangeTrigger": ...},
        {"Summary": a_change()["Summary"] | {"PurchaseDate": None}},
        {"Summary": a_change()["Summary"] | {"OrderItems": []}},
        # Some are cancelled, and of which line isn't told.
        {"Summary": a_change()["Summary"] | {"NumberOfItemsUnshipped": 1}},
    ],
)
def test_a_change_without_its_time_or_lines_makes_the_order_unclear(changed: dict[str, Any]) -> None:
    assert document_of_change(a_change(**changed)) is None
    assert parsed(AmazonHarness(), a_change(**changed)) == Content(unclear_orders=("902-1",))


def test_what_amazon_fulfils_and_what_tells_of_no_order_has_no_effect() -> None:
    harness = AmazonHarness()
    summary = a_change()["Summary"] | {"FulfillmentType": "AFN", "OrderStatus": "Shipped"}
    (line,) = the_document(parsed(harness, a_change(Summary=summary))).lines
    assert (line.ordered, line.ignored) == (0, FULFILLED_BY_AMAZON)
    # Amazon's schema and its example spell the fourth differently.
    for kind in (
        "LISTINGS_ITEM_MFN_QUANTITY_CHANGE",
        "LISTINGS_ITEM_ISSUES_CHANGE",
        "LISTINGS_ITEM_STATUS_CHANGE",
        "LISTINGS_ITEM_STATUS_CHANGED",
    ):
        assert parsed(harness, {}, kind) == Content()
    assert harness.door.parse({}, b'{"notificationType":"LISTINGS_ITEM_ISSUES_CHANGE"}') == Content()


def test_a_finished_feed_is_named_and_its_result_left_to_be_asked_for() -> None:
    def read(**changed: Any) -> Content:
        told = {"sellerId": SELLER, "feedId": "50001", "processingStatus": "FATAL"} | changed
        payload = {"feedProcessingFinishedNotification": told}
        body = json.dumps({"notificationType": "FEED_PROCESSING_FINISHED", "payload": payload}).encode()
        return AmazonHarness().door.parse({}, body)

    assert read() == Content(finished=("50001",))
    with pytest.raises(NotUnderstoodError, match="another seller"):
        read(sellerId="A2ANOTHER0001")
    with pytest.raises(NotUnderstoodError, match="feedId"):
        read(feedId=None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (a_change(SellerId="A2ANOTHER0001"), "another seller"),
        (a_change(AmazonOrderId=None), "AmazonOrderId"),
        (a_change(Summary=a_change()["Summary"] | {"OrderStatus": "Lost"}), "Lost"),
    ],
)
def test_a_change_that_can_not_be_used_is_not_understood(change: dict[str, Any], words: str) -> None:
    with pytest.raises(NotUnderstoodError, match=words):
        parsed(AmazonHarness(), change)


def test_the_old_key_is_good_beside_the_new_one() -> None:
    harness = AmazonHarness()
    harness.door.verify({"x-invsync-key": "eventbridge-old-93ab11"}, b"", harness.clock.now())
