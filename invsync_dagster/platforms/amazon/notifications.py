"""Amazon's notifications, brought by EventBridge or by an SQS queue: whose they are, what they are called, and what they say."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from invsync_dagster.events import Content
from invsync_dagster.platforms.amazon.orders import document_of_change, identity, tells_of_shipments
from invsync_dagster.platforms.doors import Queue
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError
from invsync_dagster.platforms.fields import Tree, mapping, object_in, only, topic

_KEY = "x-invsync-key"
# They tell of our own writes too, or that a job is done: nothing of them is a number to book. Amazon's own schema and
# example spell the status change differently.
_ANOTHER_SELLER = "the notification is about another seller: is EventBridge's rule, or the queue, another account's?"
_WITHOUT_CONTENT = frozenset(
    {
        "LISTINGS_ITEM_MFN_QUANTITY_CHANGE",
        "LISTINGS_ITEM_ISSUES_CHANGE",
        "LISTINGS_ITEM_STATUS_CHANGE",
        "LISTINGS_ITEM_STATUS_CHANGED",
        "REPORT_PROCESSING_FINISHED",
    }
)

_NOTIFICATION: Tree = {
    "NotificationType": None,
    "notificationType": None,
    "Payload": {
        "OrderChangeNotification": {
            "SellerId": None,
            "AmazonOrderId": None,
            "OrderChangeTrigger": {"TimeOfOrderChange": None},
            "Summary": {
                "FulfillmentType": None,
                "OrderStatus": None,
                "PurchaseDate": None,
                "NumberOfItemsUnshipped": None,
                "OrderItems": {"OrderItemId": None, "SellerSKU": None, "Quantity": None, "QuantityShipped": None},
            },
        }
    },
    "payload": {"feedProcessingFinishedNotification": {"sellerId": None, "feedId": None}},
}


def needed(payload: Any) -> Any:
    """Return what `AmazonDoor.parse` reads of a body, without the buyer."""
    return only(payload, {**_NOTIFICATION, "detail": _NOTIFICATION})


class AmazonDoor:
    """The `WebhookDoor` of one account; `keys` are those of the EventBridge connection that are valid now: without any,
    nothing is taken over HTTP."""

    def __init__(self, seller_id: str, keys: Sequence[str], queue: Queue | None = None) -> None:
        # An empty key is known to everybody.
        if not all(keys):
            raise ValueError("a key of the notifications is empty")
        self._keys = tuple(key.encode() for key in keys)
        self._seller = seller_id
        self._queue = queue

    def __repr__(self) -> str:
        return f"AmazonDoor({self._seller})"

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Check the key in `X-Invsync-Key`. Raises `SignatureError`.

        EventBridge signs no body: what proves the sender is the key of its connection, which only TLS keeps secret.
        """
        given = headers.get(_KEY, "").encode()
        matches = [hmac.compare_digest(key, given) for key in self._keys]
        if not any(matches):
            raise SignatureError("the key X-Invsync-Key is wrong or missing")

    def queue(self) -> Queue | None:
        """Return the queue that notifications come by, None if the channel has none."""
        return self._queue

    def topic(self, headers: Mapping[str, str], body: bytes) -> str:
        """Return the notification's type (`ORDER_CHANGE`). Raises `NotUnderstoodError`."""
        return _type_of(notification_in(body))

    def parse(self, headers: Mapping[str, str], body: bytes) -> Content:
        """Return the order document, or the id of the order to ask for. Raises `NotUnderstoodError`."""
        return content_of(notification_in(body), self._seller)


def notification_in(body: bytes) -> Mapping[str, Any]:
    """Return the notification in a body: itself, or under EventBridge's `detail`. Raises `NotUnderstoodError`."""
    payload = object_in(body)
    return mapping(payload, "detail") if isinstance(payload.get("detail"), Mapping) else payload


def content_of(notification: Mapping[str, Any], seller_id: str) -> Content:
    """Return what a notification says. Raises `NotUnderstoodError`, also if it is about another seller."""
    kind = _type_of(notification)
    if kind in _WITHOUT_CONTENT:
        return Content()
    if kind == "FEED_PROCESSING_FINISHED":
        return _finished_feed(notification, seller_id)
    if kind != "ORDER_CHANGE":
        raise NotUnderstoodError(f"the notification {kind!r:.60} is not one that we read")
    change = mapping(mapping(notification, "Payload"), "OrderChangeNotification")
    if change.get("SellerId") != seller_id:
        raise NotUnderstoodError(_ANOTHER_SELLER)
    order_id = identity(change, "AmazonOrderId")
    if tells_of_shipments(change):
        return Content()
    document = document_of_change(change)
    return Content(unclear_orders=(order_id,)) if document is None else Content(documents=(document,))


def _finished_feed(notification: Mapping[str, Any], seller_id: str) -> Content:
    """Return the feed that Amazon is through with; what became of it is asked of Amazon, never taken from here."""
    told = mapping(mapping(notification, "payload"), "feedProcessingFinishedNotification")
    # A vendor's account has no seller id.
    if told.get("sellerId", seller_id) != seller_id:
        raise NotUnderstoodError(_ANOTHER_SELLER)
    return Content(finished=(identity(told, "feedId"),))


def _type_of(notification: Mapping[str, Any]) -> str:
    # Some notifications are written in camel case.
    return topic(notification.get("NotificationType", notification.get("notificationType")), "NotificationType")
