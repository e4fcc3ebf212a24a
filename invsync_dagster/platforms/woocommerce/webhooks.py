"""WooCommerce's webhooks: whose they are, what they are called, and what they say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from invsync_dagster.events import Content
from invsync_dagster.platforms import fields
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError
from invsync_dagster.platforms.fields import Tree, identity, object_in, only
from invsync_dagster.platforms.woocommerce.orders import TAKEN, document_of, has_refunds

_ORDER = frozenset({"order.created", "order.updated", "order.restored"})
_PRODUCT = frozenset({"product.created", "product.updated", "product.deleted", "product.restored"})
_PING = re.compile(rb"webhook_id=[0-9]{1,20}")
# What WordPress decodes of a secret before it signs with it (wp_specialchars_decode with ENT_QUOTES).
_ENTITIES = {
    "&lt;": "<",
    "&#060;": "<",
    "&gt;": ">",
    "&#062;": ">",
    "&amp;": "&",
    "&#038;": "&",
    "&#x26;": "&",
    "&quot;": '"',
    "&#034;": '"',
    "&#x22;": '"',
    "&#039;": "'",
    "&#x27;": "'",
}
_ENTITY = re.compile("|".join(map(re.escape, _ENTITIES)))

_NEEDED: Tree = {
    "id": None,
    "status": None,
    "date_created_gmt": None,
    "date_modified_gmt": None,
    "date_completed_gmt": None,
    "date_paid_gmt": None,
    "line_items": {
        "id": None,
        "quantity": None,
        "product_id": None,
        "variation_id": None,
        "sku": None,
        "meta_data": {"key": None, "value": None},
    },
    "refunds": {"id": None},
    "code": None,
    "message": None,
}


def needed(payload: Any) -> Any:
    """Return what `WooCommerceDoor.parse` reads of a body, without the buyer; the meta of a line holds what the buyer had
    engraved, too, so that of it only the store's own count stays."""
    kept = only(payload, _NEEDED)
    lines = kept.get("line_items") if isinstance(kept, dict) else None
    for line in lines if isinstance(lines, list) else ():
        if isinstance(line, dict) and isinstance(line.get("meta_data"), list):
            line["meta_data"] = [entry for entry in line["meta_data"] if entry and entry.get("key") == TAKEN]
    return kept


class WooCommerceDoor:
    """The `WebhookDoor` of one store; `secrets` are those of its webhooks that are valid now, the newest first."""

    def __init__(self, store_url: str, secrets: Sequence[str]) -> None:
        # An HMAC with an empty key can be made by anybody.
        if not secrets or not all(secrets):
            raise ValueError("a webhook secret is empty")
        self._secrets = tuple(_ENTITY.sub(lambda found: _ENTITIES[found[0]], secret).encode() for secret in secrets)
        self._store = store_url

    def __repr__(self) -> str:
        return f"WooCommerceDoor({self._store})"

    def is_greeting(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Tell whether this is the ping of a webhook that was just made: a form, unsigned, that says only its id.

        The store counts a webhook as reachable only if it is answered 200 exactly; it has no effect here.
        """
        return "x-wc-webhook-signature" not in headers and _PING.fullmatch(body.strip()) is not None

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Check `X-WC-Webhook-Signature`, base64(HMAC-SHA256(secret, raw body)). Raises `SignatureError`.

        WooCommerce signs no time, so `now` plays no part; a replayed order is an old revision and has no effect.
        """
        given = headers.get("x-wc-webhook-signature", "").encode()
        matches = [
            hmac.compare_digest(base64.b64encode(hmac.digest(secret, body, hashlib.sha256)), given)
            for secret in self._secrets
        ]
        if not any(matches):
            raise SignatureError("the signature X-WC-Webhook-Signature is wrong or missing")

    def topic(self, headers: Mapping[str, str], body: bytes) -> str:
        """Return `X-WC-Webhook-Topic`. Raises `NotUnderstoodError` if it is missing."""
        return fields.topic(headers.get("x-wc-webhook-topic"), "the header X-WC-Webhook-Topic")

    def parse(self, headers: Mapping[str, str], body: bytes) -> Content:
        """Return the order document, or the id of the order to ask for. Raises `NotUnderstoodError`.

        An order with refunds names them without their lines, and a deleted one says its id alone. What is delivered is what
        the REST API says when the webhook leaves, so it may be an error.
        """
        topic = self.topic(headers, body)
        payload = object_in(body)
        if topic in _ORDER and "code" in payload and "id" not in payload:
            return _instead_of_an_order(payload)
        if topic in _ORDER:
            if has_refunds(payload):
                return Content(unclear_orders=(identity(payload, "id"),))
            return Content(documents=(document_of(payload),))
        if topic == "order.deleted":
            return Content(unclear_orders=(identity(payload, "id"),))
        if topic in _PRODUCT:
            # Fires for our own writes too and doesn't say whose it was: never a count, and readings are asked for.
            identity(payload, "id")
            return Content()
        raise NotUnderstoodError(f"the topic {topic!r:.60} is not one that we read")


def _instead_of_an_order(error: Mapping[str, Any]) -> Content:
    """Return nothing for an order that was deleted for good before its webhook left: what is told of it names no order.

    Raises `NotUnderstoodError` for other errors: the store asks its API as the user who made the webhook.
    """
    if error["code"] == "woocommerce_rest_shop_order_invalid_id":
        return Content()
    words = f"{error.get('message')} ({error['code']})"
    raise NotUnderstoodError(
        f"the store sent an error instead of the order: {words:.200}; may the user who made the webhook still manage the shop?"
    )
