"""The connected Shopify channel: each method makes one call, never waits and never repeats it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from invsync_dagster.events import Content, OrderDocument
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.contract import (
    Budget,
    BulkNumbers,
    BulkReading,
    BulkReadLimits,
    LevelReference,
    Limits,
    ListingsPage,
    OrdersPage,
    Outcome,
    ReadAnswer,
    Reading,
    WriteAnswer,
    WriteRow,
    outcomes_of_failure,
)
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery
from invsync_dagster.platforms.fields import mapping, objects, text, understanding
from invsync_dagster.platforms.oauth import Tokens
from invsync_dagster.platforms.rows import review
from invsync_dagster.platforms.shopify import bulk_reading, documents, errors, subscriptions, writes
from invsync_dagster.platforms.shopify.listings import listings_of
from invsync_dagster.platforms.shopify.orders import OPEN, document_of_node, nodes, numeric_id
from invsync_dagster.platforms.shopify.settings import ShopifySettings
from invsync_dagster.platforms.shopify.writes import ill_formed, well_formed
from invsync_dagster.platforms.subscribing import Subscription, SubscriptionsAnswer
from invsync_dagster.platforms.transport import Request, Transport

_SCOPES = frozenset(
    {
        "read_products",
        "read_inventory",
        "write_inventory",
        "read_locations",
        "read_orders",
        # Where an order is shipped from: the shop's own locations, and those of fulfilment services.
        "read_merchant_managed_fulfillment_orders",
        "read_third_party_fulfillment_orders",
    }
)


_log = logging.getLogger(__name__)


class ShopifyPlatform:
    """The `Platform` of one shop. Its representation and its messages never hold the access token."""

    def __init__(self, settings: ShopifySettings, tokens: Tokens, limits: Limits, transport: Transport) -> None:
        self._url = f"{settings.shop_url}/admin/api/{settings.api_version}/graphql.json"
        self._shop = settings.shop_url
        self._bulk_read_from = settings.bulk_read_from
        self._activates = settings.unstocked == "activate"
        self._tokens = tokens
        self._limits = limits
        self._transport = transport

    def __repr__(self) -> str:
        return f"ShopifyPlatform({self._shop})"

    @property
    def limits(self) -> Limits:
        return self._limits

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        """Set `available` of up to `limits.write_batch` levels in one adjustment group. Raises `ValueError` above it.

        Rows that would make Shopify refuse the whole call whatever the others are (two for one level, a malformed id,
        a quantity that is none) are answered without being sent. Where the channel's setting says so, an absent row's
        item is stocked at its location in the same call, so many at once as one call takes.
        """
        if len(rows) > self._limits.write_batch:
            raise ValueError(f"at most {self._limits.write_batch} rows a call, not {len(rows)}")
        writing = writes.writing(rows, key, activates=self._activates)
        if len(writing.decided) == len(rows):
            return WriteAnswer(tuple(writing.decided.values()))
        try:
            data, budget = self._call(writing.document(), writing.variables(), writing=True)
        except PlatformError as error:
            return WriteAnswer(writing.failed(error))
        outcomes = writing.outcomes(data, activates=self._activates, secrets=self._tokens.secrets)
        return WriteAnswer(outcomes, budget)

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        """Read `available` of up to `limits.read_batch` levels. Raises `ValueError` above it, `PlatformError`."""
        if len(levels) > self._limits.read_batch:
            raise ValueError(f"at most {self._limits.read_batch} levels a call, not {len(levels)}")
        wanted = dict.fromkeys(level for level in levels if well_formed(level))
        groups: dict[str, list[str]] = {}
        for level in wanted:
            groups.setdefault(level.location_id, []).append(level.item_id)
        found: dict[LevelReference, Reading] = {}
        budget = None
        if groups:
            variables: dict[str, Any] = {}
            for number, (location, items) in enumerate(groups.items()):
                variables |= {f"ids{number}": items, f"at{number}": location}
            data, budget = self._call(documents.read_levels(len(groups)), variables, writing=False)
            with understanding():
                for number, location in enumerate(groups):
                    for node in _found_nodes(data, f"at{number}"):
                        reading = self._reading(node, location)
                        found[reading.level] = reading
        return ReadAnswer(tuple(found.get(level) or _not_found(level) for level in levels), budget)

    def _reading(self, node: Mapping[str, Any], location: str) -> Reading:
        level = LevelReference(text(node, "id"), location)
        variant, sku = node.get("variant"), node.get("sku")
        variant_id = text(variant, "id") if isinstance(variant, Mapping) else ""
        platform_sku = sku if isinstance(sku, str) else ""
        quantity, problem, absent = None, None, False
        if node.get("tracked") is False:
            problem = review("untracked", "Shopify doesn't track this item's stock")
        elif node.get("inventoryLevel") is None:
            problem = review("not_stocked", "the item is not stocked at this location")
            absent = self._activates
        else:
            quantity = _available(mapping(node, "inventoryLevel"))
        return Reading(level, quantity, problem, variant_id, platform_sku, absent)

    @property
    def bulk_read(self) -> BulkReadLimits:
        return bulk_reading.limits_from(self._bulk_read_from)

    def read_all(self) -> Outcome:
        """Start the bulk operation that reads all levels; a shop runs few at a time, and refuses more."""
        try:
            data, _ = self._call(documents.RUN_IN_BULK, {"query": documents.READ_ALL}, writing=True)
        except PlatformError as error:
            return outcomes_of_failure(error, 1)[0]
        return bulk_reading.outcome_of_start(data)

    def reading_of_all(self, handle: str) -> BulkReading:
        """Tell where a bulk operation stands. Raises `PlatformError`."""
        data, _ = self._call(documents.BULK_OPERATION, {"id": handle}, writing=False)
        with understanding():
            return bulk_reading.reading_of(data)

    def numbers_read(self, address: str, cursor: str = "") -> BulkNumbers:
        """Fetch a piece of a bulk operation's file. Raises `PlatformError`."""
        return bulk_reading.fetch_piece(self._transport, address, cursor, self._limits.request_deadline)

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        """List orders updated in [since, until), oldest change first; those with many parts as unclear orders.

        Shopify tells `updated_at` in whole seconds, so both ends are rounded down to one: windows that follow each
        other neither overlap nor leave a gap, and a second that is not over yet belongs to the next window.
        """
        return self._orders(f"updated_at:>='{_seconds(since)}' updated_at:<'{_seconds(until)}'", cursor)

    def open_orders(self, cursor: str = "") -> OrdersPage:
        """List the open orders that aren't shipped in whole; those with many parts as unclear orders.

        Shopify lists orders of the last 60 days, older ones only to apps with the scope `read_all_orders`.
        """
        return self._orders(OPEN, cursor)

    def _orders(self, query: str, cursor: str) -> OrdersPage:
        variables = {
            "query": query,
            "after": cursor or None,
            "orders": documents.ORDERS_A_PAGE,
            "lines": documents.LINES_AN_ORDER,
            "parts": documents.PARTS_AN_ORDER,
        }
        data, budget = self._call(documents.ORDERS_CHANGED, variables, writing=False)
        with understanding():
            page = mapping(mapping(data, "orders"), "pageInfo")
            whole, large = _split_whole(nodes(data, "orders"))
            more = text(page, "endCursor") if page.get("hasNextPage") else ""
        return OrdersPage(Content(documents=tuple(whole), unclear_orders=tuple(large)), more, budget)

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        """Fetch whole orders by id (numbers as text), unknown ones left out; the large ones part by part.

        Raises `PlatformError`; with code `order_changed` where a large order changed while its parts were fetched.
        """
        ids = [f"gid://shopify/Order/{order_id}" for order_id in dict.fromkeys(order_ids) if order_id.isdecimal()]
        found: list[OrderDocument] = []
        budget = None
        for start in range(0, len(ids), documents.ORDERS_A_PAGE):
            variables = {
                "ids": ids[start : start + documents.ORDERS_A_PAGE],
                "lines": documents.LINES_AN_ORDER,
                "parts": documents.PARTS_AN_ORDER,
            }
            data, budget = self._call(documents.ORDERS_BY_ID, variables, writing=False)
            with understanding():
                whole, large = _split_whole(_found_nodes(data, "nodes"))
                found += whole
                found += [document_of_node(self._assembled(f"gid://shopify/Order/{order_id}")) for order_id in large]
        return OrdersPage(Content(documents=tuple(found)), "", budget)

    def listings(self, cursor: str = "") -> ListingsPage:
        """Return a page of all variants, one listing for each of the first ten locations that stock one.

        Raises `PlatformError`.
        """
        variables = {
            "after": cursor or None,
            "variants": documents.LISTINGS_A_PAGE,
            "locations": documents.LOCATIONS_A_LISTING,
        }
        data, budget = self._call(documents.LISTINGS, variables, writing=False)
        with understanding():
            page = mapping(mapping(data, "productVariants"), "pageInfo")
            found = [listing for node in nodes(data, "productVariants") for listing in listings_of(node)]
            more = text(page, "endCursor") if page.get("hasNextPage") else ""
        return ListingsPage(tuple(found), more, budget)

    def subscriptions(self, address: str) -> SubscriptionsAnswer:
        """Tell how the webhooks to `address` stand that this app subscribed to. Raises `PlatformError`."""
        if not address:
            return SubscriptionsAnswer(())
        variables = {"topics": list(subscriptions.TOPICS), "address": address, "count": documents.SUBSCRIPTIONS_A_PAGE}
        data, budget = self._call(documents.SUBSCRIPTIONS, variables, writing=False)
        with understanding():
            return SubscriptionsAnswer(subscriptions.subscriptions_of(data, address), budget)

    def subscribe(self, subscription: Subscription, address: str) -> SubscriptionsAnswer:
        """Subscribe to a topic, or bring what is there into the form that we read. Raises `PlatformError`."""
        document, field = documents.SUBSCRIBE, "webhookSubscriptionCreate"
        variables = {"topic": subscriptions.NAMES[subscription.topic], "address": address}
        if subscription.handle:
            document, field = documents.MEND_SUBSCRIPTION, "webhookSubscriptionUpdate"
            variables = {"id": subscription.handle, "address": address}
        data, budget = self._call(document, variables, writing=True)
        with understanding():
            made = subscriptions.subscribed(mapping(data, field), self._tokens.secrets)
        return SubscriptionsAnswer((made,), budget)

    def make_ready(self) -> None:
        """Renew the access token where that is due. Raises `PlatformError`."""
        self._tokens.token()

    def check_credentials(self) -> None:
        """Return if the token has the scopes that we need. Raises `PlatformError`."""
        data, _ = self._call(documents.CHECK_ACCESS, {}, writing=False)
        with understanding():
            scopes = objects(mapping(data, "currentAppInstallation"), "accessScopes")
            granted = {text(scope, "handle") for scope in scopes}
        # A write scope holds the read scope of the same objects.
        granted |= {f"read_{scope.removeprefix('write_')}" for scope in granted if scope.startswith("write_")}
        if missing := sorted(_SCOPES - granted):
            raise PlatformError(
                Recovery.REAUTHENTICATE, "missing_scope", f"the access token lacks the scopes {', '.join(missing)}"
            )

    def _assembled(self, gid: str) -> Mapping[str, Any]:
        """Fetch an order larger than one query may hold: its heads, each list page by page, its time again."""
        order = dict(self._node(documents.ORDER_PARTS, {"id": gid, "parts": documents.PARTS_A_CALL}))
        order["lineItems"] = {"nodes": self._pages(documents.ORDER_LINES, gid, "lineItems")}
        for name, connection, document in (
            ("fulfillments", "fulfillmentLineItems", documents.FULFILLMENT_LINES),
            ("refunds", "refundLineItems", documents.REFUND_LINES),
        ):
            parts = objects(order, name)
            if len(parts) >= documents.PARTS_A_CALL:
                raise PlatformError(Recovery.REJECT, "order_too_large", f"an order has {len(parts)} or more {name}")
            order[name] = [
                {**part, connection: {"nodes": self._pages(document, text(part, "id"), connection)}} for part in parts
            ]
        assigned = self._pages(documents.ASSIGNMENTS, gid, "fulfillmentOrders")
        order["fulfillmentOrders"] = {
            "nodes": [
                {**part, "lineItems": {"nodes": self._pages(documents.ASSIGNED_LINES, text(part, "id"), "lineItems")}}
                for part in assigned
            ]
        }
        again = self._node(documents.ORDER_PARTS, {"id": gid, "parts": 1})
        if text(again, "updatedAt") != text(order, "updatedAt"):
            raise PlatformError(Recovery.RETRY, "order_changed", "an order changed while its parts were fetched")
        return order

    def _pages(self, document: str, gid: str, connection: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        after: str | None = None
        while True:
            node = self._node(document, {"id": gid, "lines": documents.LINES_A_CALL, "after": after})
            found += nodes(node, connection)
            page = mapping(mapping(node, connection), "pageInfo")
            if not page.get("hasNextPage"):
                return found
            cursor = text(page, "endCursor")
            if cursor == after:
                raise NotUnderstoodError("a page follows itself")
            after = cursor

    def _node(self, document: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        data, _ = self._call(document, variables, writing=False)
        return mapping(data, "node")

    def _call(
        self, document: str, variables: Mapping[str, Any], *, writing: bool
    ) -> tuple[dict[str, Any], Budget | None]:
        token = self._tokens.token()
        request = Request(
            "POST",
            self._url,
            {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "X-Shopify-Access-Token": token,
            },
            json.dumps({"query": document, "variables": variables}).encode(),
        )
        response = answer_to(request, self._transport, deadline=self._limits.request_deadline, writing=writing)
        try:
            return errors.data_of(response, writing=writing, secrets=self._tokens.secrets)
        except PlatformError as error:
            if response.status == 401 and self._tokens.refused(token):
                words = "the token was refused before its time; the next call takes a new one"
                raise PlatformError(Recovery.RETRY, error.code, words) from error
            raise


def _available(level: Mapping[str, Any]) -> int:
    for entry in objects(level, "quantities"):
        quantity = entry.get("quantity")
        # Shopify's own number may be negative: a shop that goes on selling when out of stock.
        if entry.get("name") == "available" and isinstance(quantity, int) and not isinstance(quantity, bool):
            return quantity
    raise NotUnderstoodError("the quantity available is missing")


def _not_found(level: LevelReference) -> Reading:
    if words := ill_formed(level):
        return Reading(level, None, review("invalid_id", words))
    return Reading(level, None, review("not_found", "Shopify has no such inventory item"))


def _split_whole(orders: Sequence[Mapping[str, Any]]) -> tuple[list[OrderDocument], list[str]]:
    """Return the documents of the orders that came whole, and the ids of those to be asked for one by one: with more
    parts than were asked for, or not understood (one of them must not hide the rest of its page)."""
    whole, others = [], []
    for order in orders:
        try:
            if _is_whole(order):
                whole.append(document_of_node(order))
                continue
        except NotUnderstoodError as error:
            _log.warning("an order of the list is not understood: %s", error)
        others.append(numeric_id(text(order, "id")))
    return whole, others


def _is_whole(order: Mapping[str, Any]) -> bool:
    connections = [mapping(order, "lineItems")]
    for name, connection in (("fulfillments", "fulfillmentLineItems"), ("refunds", "refundLineItems")):
        parts = objects(order, name)
        if len(parts) >= documents.PARTS_AN_ORDER:
            return False
        connections += [mapping(part, connection) for part in parts]
    connections.append(mapping(order, "fulfillmentOrders"))
    connections += [mapping(part, "lineItems") for part in nodes(order, "fulfillmentOrders")]
    return not any(mapping(connection, "pageInfo").get("hasNextPage") for connection in connections)


def _found_nodes(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the nodes of a lookup by ids: null where there is none, empty where the id names another type."""
    found = data.get(name)
    if not isinstance(found, list):
        raise NotUnderstoodError(f"{name} is not a list")
    return [node for node in found if isinstance(node, Mapping) and node]


def _seconds(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
