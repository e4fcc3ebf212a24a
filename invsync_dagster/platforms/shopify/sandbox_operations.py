"""The stand-in's GraphQL operations: what each answers from the books, and the points that it costs."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from invsync_dagster.platforms.shopify import sandbox_views as views
from invsync_dagster.platforms.shopify.orders import OPEN
from invsync_dagster.platforms.shopify.sandbox_books import Books, Order
from invsync_dagster.platforms.shopify.sandbox_bulk import BulkOperations
from invsync_dagster.platforms.shopify.sandbox_subscriptions import Subscriptions
from invsync_dagster.platforms.shopify.sandbox_writes import Writes

_MOMENT = r"'(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)'"
_WINDOW = re.compile(f"updated_at:>={_MOMENT} updated_at:<{_MOMENT}")
_NO_KEY = "The @idempotent directive is required for this mutation but was not provided"
MUTATIONS = frozenset({"SetQuantities", "ActivateLevels", "RunInBulk", "Subscribe", "MendSubscription"})
_SCOPES = (
    "read_products",
    "write_inventory",
    "read_locations",
    "read_orders",
    "read_merchant_managed_fulfillment_orders",
    "read_third_party_fulfillment_orders",
)


class Refusal(Exception):
    """A top-level GraphQL error; `code` goes into its extensions."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Operations:
    """Runs the operations on the books; `run` raises `Refusal`."""

    def __init__(self, books: Books, writes: Writes, bulk: BulkOperations, subscriptions: Subscriptions) -> None:
        self._books = books
        self._writes = writes
        self._bulk = bulk
        self._subscriptions = subscriptions

    def run(self, operation: str, document: str, variables: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """Return the `data` of one operation's answer."""
        match operation:
            case "SetQuantities":
                return self._set_quantities(document, variables, now)
            case "ActivateLevels":
                data = self._set_quantities(document, variables, now) if "input" in variables else {}
                return data | self._activate(document, variables, now)
            case "RunInBulk":
                return {"bulkOperationRunQuery": self._bulk.run(variables["query"], now)}
            case "BulkOperationState":
                return {"bulkOperation": self._bulk.state(variables["id"], now)}
            case "ReadLevels":
                return self._levels(variables)
            case "Listings":
                return {"productVariants": views.variants_page(self._books, variables)}
            case "OrdersChanged":
                return {"orders": self._changed(variables)}
            case "OrdersById":
                return {"nodes": [self._order(gid, variables) for gid in variables["ids"]]}
            case "OrderParts":
                order = self._books.orders.get(views.number_of(variables["id"], "Order") or 0)
                return {"node": views.order_head(order, variables["parts"]) if order else None}
            case "OrderLines" | "FulfillmentLines" | "RefundLines" | "Assignments" | "AssignedLines":
                return {"node": self._page(operation, variables)}
            case "Subscriptions":
                return {"webhookSubscriptions": self._subscriptions.listed(variables)}
            case "Subscribe":
                return {"webhookSubscriptionCreate": self._subscriptions.create(variables)}
            case "MendSubscription":
                return {"webhookSubscriptionUpdate": self._subscriptions.update(variables)}
            case "CheckAccess":
                return {"currentAppInstallation": {"accessScopes": [{"handle": scope} for scope in _SCOPES]}}
        raise Refusal(f"The operation {operation} is not one that this stand-in knows")

    def _set_quantities(self, document: str, variables: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        if "@idempotent(key: $key)" not in document or not variables.get("key"):
            raise Refusal(_NO_KEY)
        payload = self._writes.set_quantities(variables["input"], variables["key"], now)
        if isinstance(payload, str):
            raise Refusal(payload)
        return {"inventorySetQuantities": payload}

    def _activate(self, document: str, variables: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        data = {}
        for number in range(document.count("inventoryActivate(")):
            if f"@idempotent(key: $key{number})" not in document or not variables.get(f"key{number}"):
                raise Refusal(_NO_KEY)
            item, location = variables[f"item{number}"], variables[f"at{number}"]
            available, key = variables[f"available{number}"], variables[f"key{number}"]
            data[f"activate{number}"] = self._writes.activate(item, location, available, key, now)
        return data

    def _levels(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for group in range(len(variables) // 2):
            ids, location = variables[f"ids{group}"], views.number_of(variables[f"at{group}"], "Location")
            if len(ids) > 250:
                raise Refusal(f"The input array size of {len(ids)} is greater than the maximum allowed of 250.")
            articles = [self._books.articles.get(views.number_of(gid, "InventoryItem") or 0) for gid in ids]
            data[f"at{group}"] = [views.item_node(each, location or 0) if each else None for each in articles]
        return data

    def _changed(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        found = sorted((order.updated_at, order.number) for order in self._found(variables["query"]))
        if after := variables["after"]:
            at, number = base64.b64decode(after).decode().split(",")
            found = [entry for entry in found if entry > (at, int(number))]
        page = found[: variables["orders"]]
        cursor = base64.b64encode(f"{page[-1][0]},{page[-1][1]}".encode()).decode() if page else None
        orders = [self._books.orders[number] for _, number in page]
        return {
            "nodes": [views.order_node(self._books, each, variables["lines"], variables["parts"]) for each in orders],
            "pageInfo": {"hasNextPage": len(found) > len(page), "endCursor": cursor},
        }

    def _found(self, query: str) -> list[Order]:
        orders = self._books.orders.values()
        if query == OPEN:
            return [order for order in orders if order.is_open]
        window = _WINDOW.fullmatch(query)
        if window is None:
            raise Refusal("The search query is not one that this stand-in knows")
        # All times are written alike, in UTC and whole seconds, so they compare as texts.
        since, until = window.groups()
        return [order for order in orders if since <= order.updated_at < until]

    def _order(self, gid: str, variables: Mapping[str, Any]) -> dict[str, Any] | None:
        order = self._books.orders.get(views.number_of(gid, "Order") or 0)
        return views.order_node(self._books, order, variables["lines"], variables["parts"]) if order else None

    def _page(self, operation: str, variables: Mapping[str, Any]) -> dict[str, Any] | None:
        gid, size, after = variables["id"], variables["lines"], variables["after"]
        nodes: Sequence[dict[str, Any]]
        for order in self._books.orders.values():
            if operation == "OrderLines" and gid == views.gid("Order", order.number):
                nodes = [views.line_node(self._books, line) for line in order.lines.values()]
                return {"lineItems": views.connection(nodes, size, after, cursor=True)}
            if operation == "Assignments" and gid == views.gid("Order", order.number):
                nodes = list(views.assignments(order).values())
                return {"fulfillmentOrders": views.connection(nodes, size, after, cursor=True)}
            for place, head in views.assignments(order).items() if operation == "AssignedLines" else []:
                if gid == head["id"]:
                    nodes = views.assigned_lines(order, place)
                    return {"lineItems": views.connection(nodes, size, after, cursor=True)}
            for part in order.fulfilments if operation == "FulfillmentLines" else []:
                if gid == views.gid("Fulfillment", part.number):
                    nodes = views.fulfilment_lines(part)
                    return {"fulfillmentLineItems": views.connection(nodes, size, after, cursor=True)}
            for refund in order.refunds if operation == "RefundLines" else []:
                if gid == views.gid("Refund", refund.number):
                    nodes = views.refund_lines(refund)
                    return {"refundLineItems": views.connection(nodes, size, after, cursor=True)}
        return None


def cost_of(operation: str, variables: Mapping[str, Any]) -> int:
    """Return the points of a query: one an object, ten a mutation (rate limits page; a list counts its full size)."""
    lines, parts = int(variables.get("lines", 0)), int(variables.get("parts", 0))
    order = 1 + 3 * lines + 2 * parts * (1 + 2 * lines) + parts * (3 + 2 * lines)
    match operation:
        case "SetQuantities" | "RunInBulk" | "Subscribe" | "MendSubscription":
            return 10
        case "Subscriptions":
            return int(variables["count"])
        case "ActivateLevels":
            return 10 * (("input" in variables) + sum(name.startswith("item") for name in variables))
        case "ReadLevels":
            return 4 * sum(len(value) for name, value in variables.items() if name.startswith("ids"))
        case "Listings":
            return int(variables["variants"]) * (3 + 3 * int(variables["locations"]))
        case "OrdersChanged":
            return int(variables["orders"]) * order
        case "OrdersById":
            return len(variables["ids"]) * order
        case "OrderParts":
            return 1 + 2 * parts
    return 1 + 3 * lines


def objects_in(value: Any) -> int:
    """Return how many objects an answer holds; connections and their page information cost nothing."""
    if isinstance(value, dict):
        own = 0 if "nodes" in value or "hasNextPage" in value else 1
        return own + sum(objects_in(part) for part in value.values())
    return sum(objects_in(part) for part in value) if isinstance(value, list) else 0
