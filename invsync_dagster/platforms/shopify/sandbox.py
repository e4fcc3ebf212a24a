"""The stand-in shop: Shopify's Admin API over its own books, with its limits and refusals, and its signed webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from random import Random
from typing import Any
from urllib.parse import urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.outgoing import Delivery, dump_deliveries, load_deliveries
from invsync_dagster.platforms.shopify import sandbox_views as views
from invsync_dagster.platforms.shopify.sandbox_books import Books, Order, ShopError
from invsync_dagster.platforms.shopify.sandbox_bulk import BulkOperations
from invsync_dagster.platforms.shopify.sandbox_grants import Grants
from invsync_dagster.platforms.shopify.sandbox_operations import MUTATIONS, Operations, Refusal, cost_of, objects_in
from invsync_dagster.platforms.shopify.sandbox_subscriptions import Subscriptions
from invsync_dagster.platforms.shopify.sandbox_writes import Writes
from invsync_dagster.platforms.transport import Request, Response

__all__ = ["ShopError", "ShopifySandbox"]

_OPERATION = re.compile(r"\s*(?:query|mutation)\s+(\w+)")
_MAX_QUERY_COST = 1000


class ShopifySandbox:
    """One shop, behind `handle`. What its buyers and its staff do moves its own numbers and fills `outgoing`.

    `restore_rate` and `burst` are points as in Shopify's cost limit (Standard plan: 100 a second into 2,000).
    """

    def __init__(
        self,
        *,
        access_token: str,
        webhook_secret: str,
        clock: Clock,
        random: Random,
        api_version: str = "2026-07",
        domain: str = "sandbox.myshopify.com",
        restore_rate: float = 100.0,
        burst: float = 2000.0,
        client_id: str = "",
    ) -> None:
        self.access_token = access_token
        self.grants = Grants(client_id, webhook_secret, clock)
        self.outgoing: list[Delivery] = []
        self._secret = webhook_secret.encode()
        self._clock = clock
        self._random = random
        self._path = f"/admin/api/{api_version}/graphql.json"
        self._version = api_version
        self._domain = domain
        self._rate = restore_rate
        self._burst = burst
        self._points = burst
        self._points_at = clock.now()
        self._books = Books()
        self._writes = Writes(self._books)
        self.bulk = BulkOperations(self._books)
        self.subscriptions = Subscriptions()
        self._operations = Operations(self._books, self._writes, self.bulk, self.subscriptions)

    # --- the shop's people -----------------------------------------------------------------------------------------

    def add_location(self) -> str:
        """Open another location and return its gid."""
        return views.gid("Location", self._books.add_location())

    def add_article(
        self,
        sku: str,
        available: int,
        *,
        item_id: str = "",
        variant_id: str = "",
        location_id: str = "",
        tracked: bool = True,
        continue_selling: bool = False,
    ) -> LevelReference:
        """Add an article and return its level; gids are given out unless named. Raises `ShopError`."""
        article = self._books.add_article(
            sku,
            available,
            item=views.number_of(item_id, "InventoryItem"),
            variant=views.number_of(variant_id, "ProductVariant"),
            location=views.number_of(location_id, "Location"),
            tracked=tracked,
            continue_selling=continue_selling,
        )
        (location,) = article.available
        return _level(article.item, location)

    def buy(self, lines: Mapping[LevelReference, int]) -> str:
        """Sell units per level in one order and return its id. Raises `ShopError` if a level doesn't show enough."""
        order = self._books.take_order({_item(level): units for level, units in lines.items()}, self._clock.now())
        # Shopify sends a pair for one action; its order on arrival is not promised.
        self._announce(order, "orders/create", "orders/updated")
        return str(order.number)

    def cancel(self, order_id: str, *, restock: bool = True) -> None:
        """Cancel an order's unshipped units. Raises `ShopError`."""
        refunds = len(self._books.order(int(order_id)).refunds)
        order = self._books.cancel_order(int(order_id), self._clock.now(), restock=restock)
        self._announce(order, "orders/cancelled", "orders/updated", refund=len(order.refunds) > refunds)

    def fulfil(self, order_id: str, units: Mapping[str, int] | None = None) -> None:
        """Ship units per line id, all that is left unless named. Raises `ShopError`."""
        order = self._books.fulfil_order(int(order_id), self._clock.now(), _by_line(units or {}))
        self._announce(order, "orders/updated")

    def move(self, order_id: str, location_id: str) -> None:
        """Have what is left of an order shipped from another location. Raises `ShopError`."""
        number = views.number_of(location_id, "Location") or 0
        self._announce(self._books.move_order(int(order_id), number, self._clock.now()), "orders/updated")

    def cancel_fulfilment(self, order_id: str) -> None:
        """Take an order's latest shipment back. Raises `ShopError`."""
        parts = [part.number for part in self._books.order(int(order_id)).fulfilments if part.status == "success"]
        order = self._books.cancel_fulfilment(int(order_id), parts[-1] if parts else 0, self._clock.now())
        self._announce(order, "orders/updated")

    def refund(self, order_id: str, units: Mapping[str, int], restock_type: str) -> None:
        """Refund units per line id as `cancel`, `return` or `no_restock`. Raises `ShopError`."""
        order = self._books.refund_order(int(order_id), _by_line(units), restock_type, self._clock.now())
        self._announce(order, "orders/updated", refund=True)

    def remove_units(self, order_id: str, line_id: str, quantity: int) -> None:
        """Edit an order: take unshipped units off a line. Raises `ShopError`."""
        order = self._books.remove_units(int(order_id), int(line_id), quantity, self._clock.now())
        self._announce(order, "orders/updated")

    def add_units(self, order_id: str, level: LevelReference, quantity: int) -> None:
        """Edit an order: add units of an article. Raises `ShopError`."""
        order = self._books.add_units(int(order_id), _item(level), quantity, self._clock.now())
        self._announce(order, "orders/updated")

    def edit_stock(self, level: LevelReference, quantity: int) -> None:
        """Change a level's number by hand, as staff or another app does. Raises `ShopError`."""
        self._books.set_available(_item(level), _location(level), quantity)

    def stock(self, level: LevelReference, quantity: int) -> None:
        """Stock an item at a location, as staff does. Raises `ShopError`."""
        self._books.article(_item(level)).available[_location(level)] = quantity

    def unstock(self, level: LevelReference) -> None:
        """Take an item off a location, as staff does. Raises `ShopError`, `KeyError` if it isn't stocked there."""
        del self._books.article(_item(level)).available[_location(level)]

    def lines(self, order_id: str) -> dict[str, int]:
        """Return the units ordered per line id. Raises `ShopError`."""
        return {str(line.line): line.quantity for line in self._books.order(int(order_id)).lines.values()}

    def open_orders(self) -> list[str]:
        """Return the ids of orders with units left to ship, oldest first."""
        orders = self._books.orders.values()
        return [str(order.number) for order in orders if any(line.unfulfilled for line in order.lines.values())]

    def promised(self, order_id: str = "") -> dict[LevelReference, int]:
        """Return the units sold and not shipped yet per level, of all orders or one. Raises `ShopError`."""
        units: dict[LevelReference, int] = {}
        orders = [self._books.order(int(order_id))] if order_id else self._books.orders.values()
        for line in (line for order in orders for line in order.lines.values()):
            if line.unfulfilled:
                level = _level(line.item, line.location)
                units[level] = units.get(level, 0) + line.unfulfilled
        return units

    def available(self, level: LevelReference) -> int:
        """Return what the level shows. Raises `ShopError`, `KeyError` if it isn't stocked there."""
        return self._books.article(_item(level)).available[_location(level)]

    def books(self) -> dict[LevelReference, int]:
        """Return what every level shows."""
        return {
            _level(article.item, location): quantity
            for article in self._books.articles.values()
            for location, quantity in article.available.items()
        }

    def send_webhook(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Put a webhook of any topic and content into `outgoing`, signed, if the app has subscribed to it."""
        self._send(topic, payload, self._uuid())

    def take_outgoing(self) -> list[Delivery]:
        """Return the webhooks not yet taken, in the order they happened, and forget them."""
        taken, self.outgoing = self.outgoing, []
        return taken

    def dump(self) -> dict[str, Any]:
        """Return the shop's state as JSON values, undelivered webhooks included."""
        return {
            "books": self._books.dump(),
            "writes": self._writes.dump(),
            "bulk": self.bulk.dump(),
            "subscriptions": self.subscriptions.dump(),
            "outgoing": dump_deliveries(self.outgoing),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self._books.load(state["books"])
        self._writes.load(state["writes"])
        self.bulk.load(state["bulk"])
        self.subscriptions.load(state["subscriptions"])
        self.outgoing = load_deliveries(state["outgoing"])

    # --- the API ---------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answer one request to the Admin API."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        if urlsplit(request.url).path.endswith("/admin/oauth/access_token"):
            return self.grants.give(request.body)
        if (file := self.bulk.file(request, self._clock.now())) is not None:
            return file
        if request.method != "POST" or not urlsplit(request.url).path.endswith(self._path):
            return _json(404, {"errors": "Not Found"})
        if not self.grants.takes(headers.get("x-shopify-access-token", ""), self.access_token):
            words = "[API] Invalid API key or access token (unrecognized login or wrong password)"
            return _json(401, {"errors": words})
        try:
            asked = json.loads(request.body)
            document, variables = asked["query"], asked.get("variables") or {}
            operation = _OPERATION.match(document)
        except (ValueError, KeyError, TypeError):
            return _json(400, {"errors": {"query": "Required parameter missing or invalid"}})
        if operation is None:
            return _json(200, {"errors": [{"message": "No operation was found"}]})
        self.bulk.reached_at = request.url.partition("/admin/api/")[0]
        return self._execute(operation.group(1), document, variables)

    def _execute(self, operation: str, document: str, variables: Mapping[str, Any]) -> Response:
        now = self._clock.now()
        cost = cost_of(operation, variables)
        self._points = min(self._burst, self._points + self._rate * (now - self._points_at).total_seconds())
        self._points_at = now
        errors: list[dict[str, Any]]
        try:
            if cost > _MAX_QUERY_COST:
                raise Refusal(
                    f"Query cost is {cost}, which exceeds the single query max cost limit", "MAX_COST_EXCEEDED"
                )
            if cost > self._points:
                raise Refusal("Throttled", "THROTTLED")
            data = self._operations.run(operation, document, variables, now)
        except Refusal as refusal:
            extensions = {"extensions": {"code": refusal.code}} if refusal.code else {}
            errors = [{"message": str(refusal), **extensions}]
            return _json(200, {"errors": errors, "extensions": self._told_cost(cost, None)})
        # Shopify checks what a query may cost at most, and takes what it did cost.
        actual = cost if operation in MUTATIONS else min(cost, objects_in(data))
        self._points -= actual
        return _json(200, {"data": data, "extensions": self._told_cost(cost, actual)})

    def _told_cost(self, requested: int, actual: int | None) -> dict[str, Any]:
        return {
            "cost": {
                "requestedQueryCost": requested,
                "actualQueryCost": actual,
                "throttleStatus": {
                    "maximumAvailable": self._burst,
                    "currentlyAvailable": int(self._points),
                    "restoreRate": self._rate,
                },
            }
        }

    # --- webhooks --------------------------------------------------------------------------------------------------

    def _announce(self, order: Order, *topics: str, refund: bool = False) -> None:
        event = self._uuid()
        for topic in topics:
            self._send(topic, views.order_body(self._books, order), event)
        if refund:
            self._send("refunds/create", views.refund_body(order, order.refunds[-1]), event)

    def _send(self, topic: str, payload: Mapping[str, Any], event: str) -> None:
        if not self.subscriptions.sends(topic):
            return
        body = json.dumps(payload, separators=(",", ":")).encode()
        signature = base64.b64encode(hmac.digest(self._secret, body, hashlib.sha256)).decode()
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": topic,
            "X-Shopify-Hmac-Sha256": signature,
            "X-Shopify-Shop-Domain": self._domain,
            "X-Shopify-API-Version": self._version,
            "X-Shopify-Webhook-Id": self._uuid(),
            "X-Shopify-Event-Id": event,
            "X-Shopify-Triggered-At": self._clock.now().isoformat().replace("+00:00", "Z"),
        }
        self.outgoing.append(Delivery(headers, body))

    def _uuid(self) -> str:
        digits = f"{self._random.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _json(status: int, answer: Mapping[str, Any]) -> Response:
    return Response(status, {"content-type": "application/json; charset=utf-8"}, json.dumps(answer).encode())


def _level(item: int, location: int) -> LevelReference:
    return LevelReference(views.gid("InventoryItem", item), views.gid("Location", location))


def _item(level: LevelReference) -> int:
    return views.number_of(level.item_id, "InventoryItem") or 0


def _location(level: LevelReference) -> int:
    return views.number_of(level.location_id, "Location") or 0


def _by_line(units: Mapping[str, int]) -> dict[int, int]:
    return {int(line): quantity for line, quantity in units.items()}
