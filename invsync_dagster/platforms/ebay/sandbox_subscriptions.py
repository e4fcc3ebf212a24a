"""The stand-in's Notification API: the application's destinations and the seller's subscriptions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.ebay.sandbox_access import answer
from invsync_dagster.platforms.ebay.sandbox_views import error
from invsync_dagster.platforms.transport import Request, Response

_DOMAIN = "API_NOTIFICATION"


class Subscriptions:
    """What is subscribed to. `by_another_way`: the notifications go out whatever is subscribed here.

    `alert_email`: that of the application's configuration, "" where it has none. `answers_challenge`: so does the endpoint.
    """

    def __init__(self) -> None:
        self.by_another_way = True
        self.alert_email = "owner@example.com"
        self.answers_challenge = True
        self._destinations: dict[str, dict[str, Any]] = {}
        self._subscriptions: dict[str, dict[str, Any]] = {}
        self._number = 0

    def sends(self, topic: str) -> bool:
        """Tell whether a notification of this topic goes out."""
        return self.by_another_way or any(
            each["topicId"] == topic
            and each["status"] == "ENABLED"
            and self._destinations.get(each["destinationId"], {}).get("status") == "ENABLED"
            for each in self._subscriptions.values()
        )

    def mark_down(self) -> None:
        """Mark every destination as down, as eBay does with one that goes on failing."""
        for each in self._destinations.values():
            each["status"] = "MARKED_DOWN"

    def remove_destinations(self) -> None:
        """Delete every destination, as the application's other tools may."""
        self._destinations.clear()

    def disable(self, topic: str) -> None:
        """Disable the subscription of a topic, as the seller's other tools may."""
        for each in self._subscriptions.values():
            if each["topicId"] == topic:
                each["status"] = "DISABLED"

    def drop(self) -> None:
        """Delete every subscription."""
        self._subscriptions.clear()

    def listed(self, query: Mapping[str, str], root: str, name: str) -> Response:
        """Answer GET /destination and GET /subscription, page by page."""
        entries = list((self._destinations if name == "destination" else self._subscriptions).values())
        limit, start = int(query.get("limit", "20")), int(query.get("continuation_token", "0"))
        here = f"{root}/commerce/notification/v1/{name}?limit={limit}"
        value = {"href": here, "limit": limit, "total": len(entries), f"{name}s": entries[start : start + limit]}
        more = start + limit < len(entries)
        return answer(200, value | ({"next": f"{here}&continuation_token={start + limit}"} if more else {}))

    def put_destination(self, request: Request, number: str = "") -> Response:
        """Answer POST /destination and PUT /destination/<id>. An endpoint is of one destination."""
        given = json.loads(request.body)
        config = given["deliveryConfig"]
        at = str(config.get("endpoint", ""))
        if number and number not in self._destinations:
            return _refused(404, 195022, "Invalid or missing destination id.")
        if not config.get("verificationToken"):
            return _refused(400, 195019, "Invalid or missing verification token for this endpoint.")
        if not self.alert_email:
            words = "Please provide configurations required for notifications. Refer to /config"
            return _refused(409, 195003, words)
        if not self.answers_challenge:
            return _refused(409, 195020, "Challenge verification failed for requested endpoint")
        if any(each["deliveryConfig"]["endpoint"] == at for key, each in self._destinations.items() if key != number):
            return _refused(409, 195021, "Destination exists for this endpoint")
        made = number or self._next()
        self._destinations[made] = {**given, "destinationId": made}
        return Response(204) if number else _made(f"/destination/{made}")

    def put_config(self, request: Request) -> Response:
        """Answer PUT /config."""
        email = str(json.loads(request.body).get("alertEmail", ""))
        if "@" not in email:
            return _refused(400, 195025, "Invalid or missing email.")
        self.alert_email = email
        return Response(204)

    def put_subscription(self, request: Request, number: str = "") -> Response:
        """Answer POST /subscription and PUT /subscription/<id>. A topic has one subscription."""
        given = json.loads(request.body)
        destination = self._destinations.get(given.get("destinationId"))
        if number and number not in self._subscriptions:
            return _refused(404, 195013, "The subscription id does not exist.")
        if destination is None:
            return _refused(400, 195007, "Invalid or missing destination id.")
        if destination["status"] != "ENABLED":
            words = "The subscription cannot be enabled since the destination is not enabled."
            return _refused(409, 195015, words)
        if not number and any(each["topicId"] == given["topicId"] for each in self._subscriptions.values()):
            return _refused(409, 195012, "Subscription already exists")
        made = number or self._next()
        self._subscriptions[made] = {**self._subscriptions.get(made, {}), **given, "subscriptionId": made}
        return Response(204) if number else _made(f"/subscription/{made}")

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {
            "by_another_way": self.by_another_way,
            "destinations": self._destinations,
            "subscriptions": self._subscriptions,
            "number": self._number,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.by_another_way, self._number = state["by_another_way"], state["number"]
        self._destinations, self._subscriptions = dict(state["destinations"]), dict(state["subscriptions"])

    def _next(self) -> str:
        self._number += 1
        return f"00000000-0000-4000-8000-{self._number:012x}"


def _made(path: str) -> Response:
    return Response(201, {"location": f"https://api.ebay.com/commerce/notification/v1{path}"})


def _refused(status: int, number: int, words: str) -> Response:
    return answer(status, {"errors": [error(number, words, domain=_DOMAIN)]})
