"""The stand-in's Notifications API: the app's destinations and the seller's subscriptions, one a type and version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.amazon.sandbox_gate import RefusedError
from invsync_dagster.platforms.transport import Request


class SubscriptionDesk:
    """What is subscribed to. `by_another_way`: the notifications go out whatever is subscribed here."""

    def __init__(self) -> None:
        self.by_another_way = True
        self._destinations: list[dict[str, Any]] = []
        self._subscriptions: dict[str, dict[str, Any]] = {}

    def sends(self, kind: str) -> bool:
        """Tell whether a notification of this type goes out."""
        return self.by_another_way or kind in self._subscriptions

    def drop(self, kind: str) -> None:
        """Delete the subscription of a type. Raises `KeyError`."""
        del self._subscriptions[kind]

    def send_elsewhere(self, kind: str) -> None:
        """Let another installation's destination have the notifications of a type."""
        self._subscriptions[kind] = {
            "subscriptionId": "sub-other",
            "payloadVersion": "1.0",
            "destinationId": "dest-other",
        }

    def destinations(self, request: Request, query: Mapping[str, str]) -> tuple[int, Any]:
        """Answer getDestinations."""
        return 200, {"payload": self._destinations}

    def make_destination(self, request: Request, query: Mapping[str, str]) -> tuple[int, Any]:
        """Answer createDestination; a resource is of one destination."""
        given = json.loads(request.body)
        resource = dict(given["resourceSpecification"])
        if "eventBridge" in resource:
            source = "aws.partner/sellingpartnerapi.amazon.com/stand-in"
            resource["eventBridge"] = {**resource["eventBridge"], "name": source}
        if any(each["resource"] == resource for each in self._destinations):
            raise RefusedError(409, "Conflict", "A destination for this resource exists.")
        number = f"dest-{len(self._destinations) + 1:04d}"
        made = {"destinationId": number, "name": given["name"], "resource": resource}
        self._destinations.append(made)
        return 200, {"payload": made}

    def subscription(self, request: Request, query: Mapping[str, str], kind: str) -> tuple[int, Any]:
        """Answer getSubscription."""
        found = self._subscriptions.get(kind)
        if found is None or query.get("payloadVersion", found["payloadVersion"]) != found["payloadVersion"]:
            raise RefusedError(404, "NotFound", "The subscription was not found.")
        return 200, {"payload": found}

    def subscribe(self, request: Request, query: Mapping[str, str], kind: str) -> tuple[int, Any]:
        """Answer createSubscription."""
        given = json.loads(request.body)
        if kind in self._subscriptions:
            raise RefusedError(409, "Conflict", "Subscription already exists.")
        if given["destinationId"] not in {each["destinationId"] for each in self._destinations}:
            raise RefusedError(400, "InvalidInput", "The destination is invalid.")
        number = f"sub-{len(self._subscriptions) + 1:04d}"
        self._subscriptions[kind] = {**given, "subscriptionId": number}
        return 200, {"payload": self._subscriptions[kind]}

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {
            "by_another_way": self.by_another_way,
            "destinations": self._destinations,
            "subscriptions": self._subscriptions,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self.by_another_way = state["by_another_way"]
        self._destinations, self._subscriptions = list(state["destinations"]), dict(state["subscriptions"])
