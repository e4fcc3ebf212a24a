"""Shopify's webhook subscriptions: those that we need, as the Admin API shows them, and what makes or mends one.

Subscriptions of an app's own configuration file aren't among them (shopify.dev, about managing webhook subscriptions): an
order is then told of twice, which is harmless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from invsync_dagster.platforms.errors import PlatformError, Recovery, told
from invsync_dagster.platforms.fields import mapping, objects, text
from invsync_dagster.platforms.subscribing import Subscription, SubscriptionState

# Each needs the scope `read_orders`, which we have; those of fulfilments need one more, and `orders/updated` tells of these
# too (Admin API schema, WebhookSubscriptionTopic).
TOPICS = {
    "ORDERS_CREATE": "orders/create",
    "ORDERS_UPDATED": "orders/updated",
    "ORDERS_CANCELLED": "orders/cancelled",
    "REFUNDS_CREATE": "refunds/create",
}
NAMES = {topic: name for name, topic in TOPICS.items()}


def subscriptions_of(data: Mapping[str, Any], address: str) -> tuple[Subscription, ...]:
    """Return how each topic stands, the best where there are several. Raises `NotUnderstoodError`."""
    nodes = objects(mapping(data, "webhookSubscriptions"), "nodes")
    found: dict[str, Subscription] = {}
    for node in nodes:
        if text(node, "uri") != address or text(node, "topic") not in TOPICS:
            continue
        one = subscription_of(node)
        if found.get(one.topic) is None or one.state is SubscriptionState.ACTIVE:
            found[one.topic] = one
    missing = SubscriptionState.MISSING
    return tuple(found.get(topic) or Subscription(topic, missing) for topic in TOPICS.values())


def subscription_of(node: Mapping[str, Any]) -> Subscription:
    """Return a subscription; one that leaves out orders or fields of them is wrong. Raises `NotUnderstoodError`."""
    format_, fields, filter_ = text(node, "format"), node.get("includeFields"), node.get("filter")
    faults = [
        f"it sends {format_} in the place of JSON" if format_ != "JSON" else "",
        "it sends a part of the fields" if fields else "",
        "a filter keeps some back" if filter_ else "",
    ]
    note = ", ".join(filter(None, faults))
    state = SubscriptionState.WRONG if note else SubscriptionState.ACTIVE
    return Subscription(TOPICS[text(node, "topic")], state, text(node, "id"), note)


def subscribed(payload: Mapping[str, Any], secrets: Sequence[str]) -> Subscription:
    """Return what was made or mended. Raises `PlatformError` in Shopify's words, `NotUnderstoodError`."""
    if errors := objects(payload, "userErrors"):
        words = "; ".join(told(str(error.get("message") or ""), secrets) for error in errors)
        raise PlatformError(Recovery.REJECT, "not_subscribed", words)
    return subscription_of(mapping(payload, "webhookSubscription"))
