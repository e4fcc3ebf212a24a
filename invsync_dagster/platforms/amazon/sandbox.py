"""The stand-in account: the Selling Partner API over its own books, with late processing, its rates, tokens that expire."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.amazon import sandbox_views as views
from invsync_dagster.platforms.amazon.sandbox_books import AccountError, Books, Item, Order, told
from invsync_dagster.platforms.amazon.sandbox_feeds import FeedDesk, feed_finished, problems_of
from invsync_dagster.platforms.amazon.sandbox_gate import Gate, RefusedError, answer_of
from invsync_dagster.platforms.amazon.sandbox_reports import ReportDesk
from invsync_dagster.platforms.amazon.sandbox_subscriptions import SubscriptionDesk
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.outgoing import Delivery, dump_deliveries, load_deliveries
from invsync_dagster.platforms.transport import Request, Response

__all__ = ["AccountError", "AmazonSandbox"]

_MARKETPLACE = "A1PA6795UKMFR9"
_MOST_SKUS = 20
_MOST_PAGED = 1000
_NOTIFICATIONS = ".*/notifications/v1"


class AmazonSandbox:
    """One seller's account in one region, behind `handle`. What buyers do moves its own number and fills `outgoing`.

    A patch is worked on `processing_seconds` after it was taken, a feed `feed_seconds` after, unless `feeds` says otherwise.
    `rate_factor` raises all the rates that Amazon grants. Orders are listed `orders_lag` seconds late, and in steady use once
    in `orders_every` seconds.
    """

    def __init__(
        self,
        *,
        seller_id: str,
        client_id: str,
        client_secret: str,
        refresh_token: str,
        notification_key: str,
        clock: Clock,
        marketplaces: Sequence[str] = (_MARKETPLACE,),
        processing_seconds: float = 0.0,
        feed_seconds: float = 300.0,
        rate_factor: float = 1.0,
        orders_lag: float = 120.0,
        orders_every: float = 1 / 0.0056,
    ) -> None:
        self._gate = Gate(client_id, client_secret, refresh_token, clock, rate_factor, orders_every)
        self._orders_lag = timedelta(seconds=orders_lag)
        self.outgoing: list[Delivery] = []
        self.processing_seconds = processing_seconds
        self._seller = seller_id
        self._key = notification_key
        self._clock = clock
        self._marketplaces = list(marketplaces)
        self._notifications = 0
        self._books = Books()
        self.feeds = FeedDesk(self._books, seller_id, clock, feed_seconds)
        self.reports = ReportDesk(self._books, clock)
        self.subscriptions = SubscriptionDesk()

    # --- the account's people ---------------------------------------------------------------------------------------

    def revoke(self) -> None:
        """Let the seller take back the app's authorization: no token of it is good any more."""
        self._gate.revoke()

    def expire_tokens(self) -> None:
        """Let every access token run out now; the grant stays."""
        self._gate.expire()

    def add_item(
        self,
        sku: str,
        quantity: int | None,
        *,
        fulfilled_by_amazon: bool = False,
        marketplaces: Sequence[str] | None = None,
        lead_time: int = 3,
    ) -> LevelReference:
        """Add a listing with a lead time, and return its level. Raises `AccountError`."""
        code = "AMAZON_EU" if fulfilled_by_amazon else "DEFAULT"
        own: dict[str, Any] = {"fulfillment_channel_code": code}
        if not fulfilled_by_amazon:
            own |= {"lead_time_to_ship_max_days": lead_time} | ({} if quantity is None else {"quantity": quantity})
        number = len(self._books.items)
        created = told(self._clock.now() - timedelta(days=400) + timedelta(seconds=number))
        self._books.add(Item(sku, {code: own}, list(marketplaces or self._marketplaces), created))
        return LevelReference(sku)

    def buy(
        self,
        units: Mapping[str, int],
        *,
        status: str = "UNSHIPPED",
        fulfilled_by: str = "MERCHANT",
        marketplace: str = "",
    ) -> str:
        """Sell units per SKU in one order and return its id. Raises `AccountError` if there aren't enough."""
        self._work()
        order = self._books.take_order(
            dict(units),
            self._clock.now(),
            status=status,
            marketplace=marketplace or self._marketplaces[0],
            fulfilled_by=fulfilled_by,
        )
        self._announce(order)
        return order.number

    def confirm(self, order_id: str) -> None:
        """Authorize the payment of a pending order."""
        order = self._books.order(order_id)
        order.status, order.updated = "UNSHIPPED", told(self._clock.now())
        self._announce(order)

    def ship(self, order_id: str, units: Mapping[str, int] | None = None) -> None:
        """Ship units per line id, or all that is left. Raises `AccountError`."""
        self._announce(self._books.ship(order_id, None if units is None else dict(units), self._clock.now()))

    def cancel_units(self, order_id: str, units: Mapping[str, int]) -> None:
        """Cancel some units per line id. Raises `AccountError`."""
        self._work()
        self._announce(self._books.cancel_units(order_id, dict(units), self._clock.now()))

    def cancel(self, order_id: str) -> None:
        """Cancel what isn't shipped of an order. Raises `AccountError`."""
        self._work()
        self._announce(self._books.cancel(order_id, self._clock.now()))

    def edit_stock(self, sku: str, quantity: int) -> None:
        """Set a number as somebody does in Seller Central."""
        self._work()
        self._books.move(sku, quantity - (self._books.item(sku).quantity or 0))

    def item(self, sku: str) -> Item:
        """Return an item as it is now. Raises `AccountError`."""
        self._work()
        return self._books.item(sku)

    def orders(self) -> list[Order]:
        """Return all orders, oldest first."""
        return list(self._books.orders.values())

    def open_orders(self) -> list[str]:
        """Return the ids of the orders with units neither shipped nor cancelled, oldest first."""
        return [order.number for order in self.orders() if order.is_open]

    def promised(self, order_id: str = "") -> dict[LevelReference, int]:
        """Return the units sold and not shipped yet per level, of all orders or one."""
        units: dict[LevelReference, int] = {}
        for order in self.orders():
            if order.is_open and order_id in ("", order.number):
                for line in order.lines.values():
                    level = LevelReference(line.sku)
                    units[level] = units.get(level, 0) + line.open
        return units

    def order(self, order_id: str) -> Order:
        """Return an order. Raises `AccountError`."""
        return self._books.order(order_id)

    def books(self) -> dict[LevelReference, int]:
        """Return the seller's own numbers."""
        self._work()
        items = self._books.items.values()
        return {LevelReference(item.sku): item.quantity for item in items if item.quantity is not None}

    def send_notification(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Put a notification of any type and content into `outgoing`, if it is subscribed to."""
        self._send(views.notification(kind, dict(payload), *self._next_notification()))

    def _next_notification(self) -> tuple[int, datetime]:
        self._notifications += 1
        return self._notifications, self._clock.now()

    def _send(self, message: dict[str, Any]) -> None:
        kind = message.get("NotificationType") or message["notificationType"]
        if not self.subscriptions.sends(kind):
            return
        body = json.dumps(views.event(message, self._notifications, self._clock.now())).encode()
        self.outgoing.append(Delivery({"Content-Type": "application/json", "X-Invsync-Key": self._key}, body))

    def take_outgoing(self) -> list[Delivery]:
        """Return the notifications not yet taken, and forget them."""
        self._work()
        taken, self.outgoing = self.outgoing, []
        return taken

    def dump(self) -> dict[str, Any]:
        """Return the account's state as JSON values, notifications on their way included."""
        return {
            "books": self._books.dump(),
            "outgoing": dump_deliveries(self.outgoing),
            "notifications": self._notifications,
            "feeds": self.feeds.dump(),
            "reports": self.reports.dump(),
            "subscriptions": self.subscriptions.dump(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self._books.load(state["books"])
        self.outgoing = load_deliveries(state["outgoing"])
        self._notifications = state["notifications"]
        self.feeds.load(state["feeds"])
        self.reports.load(state["reports"])
        self.subscriptions.load(state["subscriptions"])

    # --- the API ----------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answer one request to the API or to Login with Amazon."""
        self._work()
        parts = urlsplit(request.url)
        if parts.path.endswith("/auth/o2/token"):
            return self._gate.token_answer(request)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        routes: list[tuple[str, str, str, Callable[..., tuple[int, Any]]]] = [
            ("patch", "PATCH", r".*/listings/2021-08-01/items/([^/]+)/([^/]+)", self._patch),
            ("get", "GET", r".*/listings/2021-08-01/items/([^/]+)/([^/]+)", self._get_item),
            ("search", "GET", r".*/listings/2021-08-01/items/([^/]+)", self._search),
            ("orders", "GET", r".*/orders/2026-01-01/orders", self._search_orders),
            ("order", "GET", r".*/orders/2026-01-01/orders/([^/]+)", self._get_order),
            ("make_document", "POST", r".*/feeds/2021-06-30/documents", self.feeds.make_document),
            ("make_feed", "POST", r".*/feeds/2021-06-30/feeds", self.feeds.make_feed),
            ("feed", "GET", r".*/feeds/2021-06-30/feeds/([^/]+)", self.feeds.feed),
            ("document", "GET", r".*/feeds/2021-06-30/documents/([^/]+)", self.feeds.document),
            ("make_report", "POST", r".*/reports/2021-06-30/reports", self.reports.make),
            ("report", "GET", r".*/reports/2021-06-30/reports/([^/]+)", self.reports.report),
            ("report_document", "GET", r".*/reports/2021-06-30/documents/([^/]+)", self.reports.document),
            ("destinations", "GET", rf"{_NOTIFICATIONS}/destinations", self.subscriptions.destinations),
            ("make_destination", "POST", rf"{_NOTIFICATIONS}/destinations", self.subscriptions.make_destination),
            ("subscription", "GET", rf"{_NOTIFICATIONS}/subscriptions/([^/]+)", self.subscriptions.subscription),
            ("subscribe", "POST", rf"{_NOTIFICATIONS}/subscriptions/([^/]+)", self.subscriptions.subscribe),
        ]
        try:
            if "/signed-documents/" in parts.path:
                return self.feeds.signed(request)
            if "/signed-reports/" in parts.path:
                return self.reports.signed(request)
            for operation, method, pattern, action in routes:
                match = re.fullmatch(pattern, parts.path)
                if match and method == request.method:
                    rate = self._gate.admit(request, operation)
                    status, value = action(request, query, *map(unquote, match.groups()))
                    return answer_of(status, value, rate)
            raise RefusedError(403, "Unauthorized", "Access to requested resource is denied.")
        except RefusedError as refused:
            return refused.response

    def _work(self) -> None:
        self._books.work(self._clock.now())
        for feed in self.feeds.work():
            self._send(feed_finished(feed, self._seller, *self._next_notification()))

    def _patch(self, request: Request, query: Mapping[str, str], seller: str, sku: str) -> tuple[int, Any]:
        self._check(seller, query)
        try:
            document = json.loads(request.body)
            patches = document["patches"]
            if not document["productType"] or not isinstance(patches, list) or not patches:
                raise ValueError("nothing to patch")
        except (ValueError, KeyError, TypeError):
            raise RefusedError(400, "InvalidInput", "The request body is not valid.") from None
        item = self._books.items.get(sku)
        problems = []
        if item is None or query["marketplaceIds"].split(",")[0] not in item.marketplaces:
            problems.append(("8541", f"The SKU '{sku}' does not exist in the marketplace.", "INVALID_ATTRIBUTE"))
        else:
            problems += problems_of(patches)
        issues = [
            {"code": code, "message": words, "severity": "ERROR", "attributeNames": [], "categories": [category]}
            for code, words, category in problems
        ]
        if issues:
            return 200, {"sku": sku, "status": "INVALID", "submissionId": "0" * 32, "issues": issues}
        number = self._books.submit(sku, patches, self._clock.now(), self.processing_seconds)
        self._work()
        return 200, {"sku": sku, "status": "ACCEPTED", "submissionId": number, "issues": []}

    def _get_item(self, request: Request, query: Mapping[str, str], seller: str, sku: str) -> tuple[int, Any]:
        wanted = self._check(seller, query)
        item = self._books.items.get(sku)
        if item is None or not set(wanted) & set(item.marketplaces):
            raise RefusedError(404, "NOT_FOUND", f"SKU '{sku}' not found in marketplace {wanted[0]}")
        return 200, views.item_view(item, wanted, query.get("includedData", "summaries").split(","))

    def _search(self, request: Request, query: Mapping[str, str], seller: str) -> tuple[int, Any]:
        wanted = self._check(seller, query)
        items: Iterable[Item] = self._books.items.values()
        if "identifiers" in query:
            skus = query["identifiers"].split(",")
            if len(skus) > _MOST_SKUS or query.get("identifiersType") != "SKU":
                raise RefusedError(400, "InvalidInput", "At most 20 identifiers of one type can be given.")
            items = [self._books.items[sku] for sku in dict.fromkeys(skus) if sku in self._books.items]
        found = [item for item in items if set(wanted) & set(item.marketplaces)]
        found = [item for item in found if item.created >= query.get("createdAfter", "")]
        found.sort(key=lambda item: item.created, reverse=query.get("sortOrder", "DESC") == "DESC")
        size, start = int(query.get("pageSize", "10")), _start(query.get("pageToken", ""))
        if not 1 <= size <= _MOST_SKUS:
            raise RefusedError(400, "InvalidInput", "pageSize must be from 1 to 20.")
        data = query.get("includedData", "summaries").split(",")
        value: dict[str, Any] = {
            "numberOfResults": len(found),
            "items": [views.item_view(item, wanted, data) for item in found[start : start + size]],
        }
        if start + size < min(len(found), _MOST_PAGED):
            value["pagination"] = {"nextToken": f"page-{start + size}"}
        return 200, value

    def _search_orders(self, request: Request, query: Mapping[str, str]) -> tuple[int, Any]:
        if ("createdAfter" in query) == ("lastUpdatedAfter" in query):
            raise RefusedError(400, "InvalidInput", "Exactly one of createdAfter and lastUpdatedAfter must be given.")
        by_update = "lastUpdatedAfter" in query
        latest = self._clock.now() - self._orders_lag
        end = _moment(query["lastUpdatedBefore"]) if "lastUpdatedBefore" in query else latest
        if end > latest:
            raise RefusedError(400, "InvalidInput", "lastUpdatedBefore must be at least two minutes ago.")
        after = _moment(query["lastUpdatedAfter" if by_update else "createdAfter"])
        statuses = query["fulfillmentStatuses"].split(",") if "fulfillmentStatuses" in query else None
        found = [
            order
            for order in self._books.orders.values()
            if order.marketplace in query.get("marketplaceIds", order.marketplace).split(",")
            and order.fulfilled_by in query.get("fulfilledBy", order.fulfilled_by).split(",")
            and (statuses is None or order.status in statuses)
            and after <= _moment(order.updated if by_update else order.created) <= end
        ]
        size, start = int(query.get("maxResultsPerPage", "100")), _start(query.get("paginationToken", ""))
        if not 1 <= size <= 100:
            raise RefusedError(400, "InvalidInput", "maxResultsPerPage must be from 1 to 100.")
        data = query.get("includedData", "").split(",")
        value: dict[str, Any] = {"orders": [views.order_view(order, data) for order in found[start : start + size]]}
        value["lastUpdatedBefore" if by_update else "createdBefore"] = told(end)
        if start + size < len(found):
            value["pagination"] = {"nextToken": f"page-{start + size}"}
        return 200, value

    def _get_order(self, request: Request, query: Mapping[str, str], order_id: str) -> tuple[int, Any]:
        order = self._books.orders.get(order_id)
        if order is None:
            raise RefusedError(404, "NotFound", "The requested order was not found.")
        return 200, {"order": views.order_view(order, query.get("includedData", "").split(","))}

    def _check(self, seller: str, query: Mapping[str, str]) -> list[str]:
        if not hmac.compare_digest(seller.encode(), self._seller.encode()):
            raise RefusedError(403, "Unauthorized", "Access to requested resource is denied.")
        wanted = query.get("marketplaceIds", "").split(",")
        if not set(wanted) <= set(self._marketplaces):
            raise RefusedError(400, "InvalidInput", "A marketplace id is invalid.")
        return wanted

    def _announce(self, order: Order) -> None:
        self.send_notification("ORDER_CHANGE", views.order_change(order, self._seller))


def _start(token: str) -> int:
    match = re.fullmatch(r"(?:page-(\d+))?", token)
    if match is None:
        raise RefusedError(400, "InvalidInput", "The token is not valid.")
    return int(match[1] or 0)


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise RefusedError(400, "InvalidInput", "A date is not in ISO 8601 format.") from None
