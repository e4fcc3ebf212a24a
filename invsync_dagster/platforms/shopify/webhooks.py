"""Shopify's webhooks: whose they are, what they are called, and what they say."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from invsync_dagster.events import Content
from invsync_dagster.platforms import fields
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError
from invsync_dagster.platforms.fields import Tree, identity, mapping, object_in, only
from invsync_dagster.platforms.shopify.orders import document_of_webhook

_WHOLE_ORDER = frozenset(
    {
        "orders/create",
        "orders/updated",
        "orders/cancelled",
        "orders/paid",
        "orders/fulfilled",
        "orders/partially_fulfilled",
    }
)
# These name an order and state a part of it: the whole order is asked for.
_PART_OF_ORDER = frozenset({"refunds/create", "fulfillments/create", "fulfillments/update"})

_NEEDED: Tree = {
    "id": None,
    "created_at": None,
    "updated_at": None,
    "cancelled_at": None,
    "line_items": {
        "id": None,
        "variant_id": None,
        "sku": None,
        "variant_inventory_management": None,
        "quantity": None,
        "current_quantity": None,
        "fulfillable_quantity": None,
    },
    "fulfillments": {"status": None, "created_at": None, "line_items": {"id": None, "quantity": None}},
    "refunds": {
        "created_at": None,
        "refund_line_items": {"line_item_id": None, "quantity": None, "restock_type": None},
    },
    "order_id": None,
    "order_edit": {"order_id": None},
    "inventory_item_id": None,
}


def needed(payload: Any) -> Any:
    """Return what `ShopifyDoor.parse` reads of a body, without the buyer."""
    return only(payload, _NEEDED)


class ShopifyDoor:
    """The `WebhookDoor` of one shop; `secrets` are the app's client secrets that are valid now, the newest first."""

    def __init__(self, shop_url: str, secrets: Sequence[str]) -> None:
        # An HMAC with an empty key can be made by anybody.
        if not secrets or not all(secrets):
            raise ValueError("a webhook secret is empty")
        self._secrets = tuple(secret.encode() for secret in secrets)
        host = urlsplit(shop_url).hostname or ""
        self._domain = host if host.endswith(".myshopify.com") else ""

    def __repr__(self) -> str:
        return f"ShopifyDoor({self._domain or 'sandbox'})"

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Check `X-Shopify-Hmac-Sha256`, base64(HMAC-SHA256(client secret, raw body)). Raises `SignatureError`.

        Shopify signs no time, so `now` plays no part; a replayed order is an old revision and has no effect.
        """
        given = headers.get("x-shopify-hmac-sha256", "").encode()
        matches = [
            hmac.compare_digest(base64.b64encode(hmac.digest(secret, body, hashlib.sha256)), given)
            for secret in self._secrets
        ]
        if not any(matches):
            raise SignatureError("the signature X-Shopify-Hmac-Sha256 is wrong or missing")
        # One app in several shops signs with one secret: the domain tells a delivery sent to the wrong channel.
        domain = headers.get("x-shopify-shop-domain", "").lower()
        if self._domain and domain and domain != self._domain:
            raise SignatureError("the webhook is another shop's (X-Shopify-Shop-Domain)")

    def topic(self, headers: Mapping[str, str], body: bytes) -> str:
        """Return `X-Shopify-Topic`. Raises `NotUnderstoodError` if it is missing."""
        return fields.topic(headers.get("x-shopify-topic"), "the header X-Shopify-Topic")

    def parse(self, headers: Mapping[str, str], body: bytes) -> Content:
        """Return the order document, or the id of the order to ask for. Raises `NotUnderstoodError`."""
        topic = self.topic(headers, body)
        payload = object_in(body)
        if topic in _WHOLE_ORDER:
            return Content(documents=(document_of_webhook(payload),))
        if topic in _PART_OF_ORDER:
            return Content(unclear_orders=(identity(payload, "order_id"),))
        if topic == "orders/edited":
            return Content(unclear_orders=(identity(mapping(payload, "order_edit"), "order_id"),))
        if topic == "inventory_levels/update":
            # Fires for our own writes too and doesn't say whose it was: never a count, and readings are asked for.
            identity(payload, "inventory_item_id")
            return Content()
        raise NotUnderstoodError(f"the topic {topic!r:.60} is not one that we read")
