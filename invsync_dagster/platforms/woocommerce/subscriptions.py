"""A store's webhooks: those that we need, as its REST API lists them, and what makes one or switches it on again.

The API never tells a webhook's secret, so each mend sets it anew: one that was rotated may be why deliveries were refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.fields import identity
from invsync_dagster.platforms.subscribing import Subscription, SubscriptionState
from invsync_dagster.platforms.woocommerce.api import Api
from invsync_dagster.platforms.woocommerce.pace import Pace

TOPICS = ("order.created", "order.updated", "order.deleted", "order.restored")
_FIELDS = "id,status,topic,delivery_url"
_A_PAGE = 100
# A store with more webhooks than this has something that makes them without end.
_MOST_PAGES = 10


class Webhooks:
    """The webhooks of one store; `secret` signs those that we make."""

    def __init__(self, api: Api, secret: str, pace: Pace) -> None:
        self._api = api
        self._secret = secret
        self._pace = pace

    def found(self, address: str) -> tuple[tuple[Subscription, ...], int]:
        """Return how each topic stands at `address`, the best where there are several, and the calls that it took.

        Raises `PlatformError`, `NotUnderstoodError`.
        """
        found: dict[str, Subscription] = {}
        entries, calls = self._all()
        for entry in entries:
            topic = entry.get("topic")
            if entry.get("delivery_url") != address or topic not in TOPICS:
                continue
            one = _subscription(entry, topic)
            if topic not in found or one.state is SubscriptionState.ACTIVE:
                found[topic] = one
        return tuple(found.get(topic) or Subscription(topic, SubscriptionState.MISSING) for topic in TOPICS), calls

    def _all(self) -> tuple[list[Mapping[str, Any]], int]:
        entries: list[Mapping[str, Any]] = []
        for page in range(1, _MOST_PAGES + 1):
            query = {"per_page": str(_A_PAGE), "page": str(page), "orderby": "id", "order": "asc", "_fields": _FIELDS}
            more, total = self._api.listed("/webhooks", query, self._pace, 0)
            entries += more
            if page * _A_PAGE >= total if total is not None else len(more) < _A_PAGE:
                return entries, page
        raise PlatformError(Recovery.REJECT, "too_many_webhooks", f"the store has {len(entries)} webhooks or more")

    def put(self, subscription: Subscription, address: str) -> Subscription:
        """Make a webhook, or switch one on, and return it as the store shows it then. Raises `PlatformError`."""
        document = {"status": "active", "delivery_url": address, "secret": self._secret}
        path = f"/webhooks/{subscription.handle}"
        if not subscription.handle:
            document |= {"name": f"invsync {subscription.topic}", "topic": subscription.topic}
            path = "/webhooks"
        return _subscription(self._api.posted(path, document, _is_webhook, self._pace, 0), subscription.topic)


def _subscription(entry: Mapping[str, Any], topic: str) -> Subscription:
    status = entry.get("status")
    active = status == "active"
    state = SubscriptionState.ACTIVE if active else SubscriptionState.OFF
    return Subscription(topic, state, identity(entry, "id"), "" if active else f"the store says {status}"[:60])


def _is_webhook(value: Any) -> bool:
    return isinstance(value, Mapping) and "id" in value and "status" in value
