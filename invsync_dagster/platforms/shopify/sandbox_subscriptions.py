"""The stand-in shop's webhook subscriptions: those that an app makes by the API, and drops of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.shopify.sandbox_views import gid


class Subscriptions:
    """The subscriptions of one app in one shop.

    `by_configuration`: the app's own configuration file subscribes to everything, which the API doesn't show.
    """

    def __init__(self) -> None:
        self.by_configuration = True
        self._made: dict[str, dict[str, Any]] = {}
        self._number = 0

    def sends(self, topic: str) -> bool:
        """Tell whether a webhook of this topic (`orders/create`) goes out."""
        return self.by_configuration or any(each["topic"] == _name(topic) for each in self._made.values())

    def drop(self, topic: str) -> None:
        """Delete those of a topic, as Shopify does when eight deliveries in a row have failed."""
        self._made = {number: each for number, each in self._made.items() if each["topic"] != _name(topic)}

    def change(self, topic: str, **changed: Any) -> None:
        """Change those of a topic, as somebody does by the API."""
        for each in self._made.values():
            if each["topic"] == _name(topic):
                each |= changed

    def listed(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Answer `webhookSubscriptions`."""
        topics, address = variables["topics"], variables["address"]
        found = [each for each in self._made.values() if each["topic"] in topics and each["uri"] == address]
        return {"nodes": found[: variables["count"]]}

    def create(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Answer `webhookSubscriptionCreate`; an address has one of a topic."""
        topic, address = variables["topic"], variables["address"]
        if any((each["topic"], each["uri"]) == (topic, address) for each in self._made.values()):
            return _refused("Address for this topic has already been taken")
        self._number += 1
        made = {"id": gid("WebhookSubscription", self._number), "topic": topic, "uri": address}
        self._made[made["id"]] = {**made, **_WHOLE}
        return {"webhookSubscription": self._made[made["id"]], "userErrors": []}

    def update(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Answer `webhookSubscriptionUpdate`."""
        found = self._made.get(variables["id"])
        if found is None:
            return _refused("Webhook subscription does not exist")
        found |= {"uri": variables["address"], **_WHOLE}
        return {"webhookSubscription": found, "userErrors": []}

    def dump(self) -> dict[str, Any]:
        """Return the subscriptions as JSON values."""
        return {"by_configuration": self.by_configuration, "made": self._made, "number": self._number}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.by_configuration, self._made = state["by_configuration"], dict(state["made"])
        self._number = state["number"]


_WHOLE: Mapping[str, Any] = {"format": "JSON", "filter": None, "includeFields": []}


def _name(topic: str) -> str:
    return topic.replace("/", "_").upper()


def _refused(words: str) -> dict[str, Any]:
    return {
        "webhookSubscription": None,
        "userErrors": [{"field": ["webhookSubscription", "address"], "message": words}],
    }
