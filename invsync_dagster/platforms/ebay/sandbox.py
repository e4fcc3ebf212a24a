"""The stand-in eBay account: its APIs over its own books, with rows that fail alone, revision limits, quotas, notifications."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.ebay import sandbox_views as views
from invsync_dagster.platforms.ebay.sandbox_access import Access, Quota, Signer, answer
from invsync_dagster.platforms.ebay.sandbox_books import AccountError, Books, Item, Order, told
from invsync_dagster.platforms.ebay.sandbox_subscriptions import Subscriptions
from invsync_dagster.platforms.outgoing import Delivery, dump_deliveries, load_deliveries
from invsync_dagster.platforms.transport import Request, Response

__all__ = ["AccountError", "EbaySandbox"]

_MOST_ROWS = 25
_MOST_ORDERS = 200
_MOST_ORDER_IDS = 50
_REVISIONS_A_DAY = 250
_MOST_UNITS = 1_000_000_000
_WINDOW = r"\[([^\].]+\.\d+Z)\.\.([^\]]*)\]"
_ADDRESS = re.compile(
    r"(.*?)(/identity/v1|/sell/[a-z]+/v1|/commerce/notification/v1|/developer/analytics/v1_beta)(/.*)"
)


class _RefusedError(Exception):
    """An answer that says no to the whole call."""

    def __init__(self, status: int, number: int, message: str, **more: str) -> None:
        super().__init__(message)
        self.response = answer(status, {"errors": [views.error(number, message, **more)]})


class EbaySandbox:
    """One seller's account, behind `handle`. What buyers and the seller do moves its own numbers and fills `outgoing`.

    `calls_a_day`, `rate` and `burst` are the application's quota; `revisions_a_day` is a listing's.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        refresh_token: str,
        clock: Clock,
        random: Random,
        rate: float = 10.0,
        burst: float = 40.0,
        calls_a_day: int = 2_000_000,
        revisions_a_day: int = _REVISIONS_A_DAY,
    ) -> None:
        self.access = Access(client_id, client_secret, refresh_token, clock, random)
        self.quota = Quota(clock, calls_a_day, rate, burst)
        self.outgoing: list[Delivery] = []
        self._signer = Signer(random)
        self._clock = clock
        self._random = random
        self._revisions_a_day = revisions_a_day
        self._books = Books()
        self.subscriptions = Subscriptions()
        self._failing: dict[str, deque[dict[str, Any]]] = {}

    # --- the account's people ---------------------------------------------------------------------------------------

    def add_item(
        self, sku: str, quantity: int, *, own: bool = False, published: bool = True, offer: str = "", listing: str = ""
    ) -> LevelReference:
        """Add a SKU with an offer, that keeps a quantity of its `own` or shows the item's; variations are given their
        `listing`. Raises `AccountError`."""
        item = self._books.add(sku, quantity, own=own, published=published, offer=offer, listing=listing)
        return _level(item)

    def buy(self, lines: Mapping[LevelReference, int]) -> str:
        """Sell units in one order and return its id. Raises `AccountError` if there aren't enough."""
        order = self._books.sell({level.item_id: units for level, units in lines.items()}, self._clock.now())
        for line in order.lines.values():
            entry = {"orderLineItemId": line.line, "listingId": line.listing, "quantity": line.quantity}
            self._tell_order("ORDER_CONFIRMATION", order, entry)
        return order.number

    def cancel(self, order_id: str) -> None:
        """Cancel an order; eBay notifies nobody of it. Raises `AccountError`."""
        self._books.cancel(order_id, self._clock.now())

    def ship(self, order_id: str, units: Mapping[str, int] | None = None) -> None:
        """Ship units per line id, or all that is open. Raises `AccountError`."""
        order = self._books.order(order_id)
        left = {line.line: line.open for line in order.lines.values() if line.open}
        self._books.ship(order_id, left if units is None else units, self._clock.now())
        for line in order.lines.values():
            entry = {"orderLineItemId": line.line, "listingId": line.listing, "quantity": line.quantity}
            self._tell_order("ITEM_MARKED_SHIPPED", order, entry)

    def refund(self, order_id: str) -> None:
        """Pay an order back; no number moves and eBay notifies nobody of it. Raises `AccountError`."""
        self._books.refund(order_id, self._clock.now())

    def edit_stock(self, level: LevelReference, quantity: int) -> None:
        """Change a number by hand, as the seller does. Raises `AccountError`."""
        item = self._books.item(level.item_id)
        item.quantity = quantity
        item.own = None if item.own is None else quantity

    def end_listing(self, level: LevelReference) -> None:
        """Withdraw an item's offer. Raises `AccountError`."""
        self._books.item(level.item_id).published = False

    def remove(self, level: LevelReference) -> None:
        """Delete an item for good. Raises `KeyError`."""
        del self._books.items[level.item_id]

    def fail_next(self, sku: str, number: int, message: str, *, status: int = 400, category: str = "REQUEST") -> None:
        """Let the next write of a SKU fail by itself with this error."""
        row = {"statusCode": status, "sku": sku, "errors": [views.error(number, message, category=category)]}
        self._failing.setdefault(sku, deque()).append(row)

    def order(self, order_id: str) -> Order:
        """Return an order of the books. Raises `AccountError`."""
        return self._books.order(order_id)

    def open_orders(self) -> list[str]:
        """Return the ids of orders that are to be shipped, oldest first."""
        return [order.number for order in self._books.orders.values() if order.is_open]

    def promised(self, order_id: str = "") -> dict[LevelReference, int]:
        """Return the units sold and not shipped yet, of all orders or one. Raises `AccountError`."""
        units: dict[LevelReference, int] = {}
        for order in [self.order(order_id)] if order_id else self._books.orders.values():
            for line in order.lines.values() if order.is_open else ():
                if line.open:
                    level = _level(self._books.item(line.sku))
                    units[level] = units.get(level, 0) + line.open
        return units

    def set_own_quantity(self, sku: str, quantity: int) -> None:
        """Give the published offer of a SKU a quantity of its own, as a seller may at any time."""
        self._books.item(sku).own = quantity

    def shown(self, level: LevelReference) -> int:
        """Return what buyers see. Raises `AccountError`."""
        return self._books.item(level.item_id).shown

    def books(self) -> dict[LevelReference, int]:
        """Return what every level shows."""
        return {_level(item): item.shown for item in self._books.items.values()}

    def notify(self, topic: str, data: Mapping[str, Any]) -> None:
        """Put a notification of any topic and content into `outgoing`, signed, if it is subscribed to."""
        if not self.subscriptions.sends(topic):
            return
        now = told(self._clock.now())
        body = json.dumps(
            {
                "metadata": {"topic": topic, "schemaVersion": "1.0", "deprecated": False},
                "notification": {
                    "notificationId": f"{self._random.getrandbits(128):032x}",
                    "eventDate": now,
                    "publishDate": now,
                    "publishAttemptCount": 1,
                    "data": data,
                },
            },
            separators=(",", ":"),
        ).encode()
        self.outgoing.append(Delivery(self._signer.headers(body), body))

    def take_outgoing(self) -> list[Delivery]:
        """Return the notifications not yet taken, in the order they happened, and forget them."""
        taken, self.outgoing = self.outgoing, []
        return taken

    def dump(self) -> dict[str, Any]:
        """Return the account's state as JSON values, undelivered notifications included."""
        return {
            "books": self._books.dump(),
            "outgoing": dump_deliveries(self.outgoing),
            "signer": self._signer.dump(),
            "subscriptions": self.subscriptions.dump(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self._books.load(state["books"])
        self._signer.load(state["signer"])
        self.subscriptions.load(state["subscriptions"])
        self.outgoing = load_deliveries(state["outgoing"])

    # --- the API ----------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answer one request to eBay's API."""
        parts = urlsplit(request.url)
        headers = {name.lower(): value for name, value in request.headers.items()}
        request = Request(request.method, request.url, headers, request.body)
        match = _ADDRESS.fullmatch(parts.path)
        root, api, path = match.groups() if match else ("", "", parts.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            return self._routed(request, api, path, query, f"{parts.scheme}://{parts.netloc}{root}")
        except _RefusedError as refused:
            return refused.response

    def _routed(self, request: Request, api: str, path: str, query: Mapping[str, str], root: str) -> Response:
        if (request.method, api, path) == ("POST", "/identity/v1", "/oauth2/token"):
            return self.access.token(request)
        of_application = not api.startswith("/sell") and not path.startswith("/subscription")
        if not self.access.allows(request, seller=not of_application):
            raise _RefusedError(401, 1001, "Invalid access token", domain="OAuth")
        if (request.method, api, path) == ("GET", "/developer/analytics/v1_beta", "/rate_limit/"):
            return answer(200, {"rateLimits": [self.quota.view(query["api_context"], query["api_name"])]})
        if not self.quota.take(api.rpartition("/")[0]):
            raise _RefusedError(429, 2001, "Too many requests.", domain="ACCESS")
        told_of = self.subscriptions
        routes: list[tuple[str, str, Callable[..., Response]]] = [
            ("POST", r"/sell/inventory/v1/bulk_update_price_quantity", lambda: self._update(_rows(request))),
            ("POST", r"/sell/inventory/v1/bulk_get_inventory_item", lambda: self._get_items(_rows(request))),
            ("GET", r"/sell/inventory/v1/inventory_item", lambda: self._list_items(query, root)),
            ("GET", r"/sell/inventory/v1/offer", lambda: self._list_offers(query, root)),
            ("GET", r"/sell/fulfillment/v1/order", lambda: self._list_orders(query, root)),
            ("GET", r"/sell/fulfillment/v1/order/([^/]+)/shipping_fulfillment", self._list_fulfillments),
            ("GET", r"/commerce/notification/v1/public_key/([^/]+)", self._public_key),
            ("GET", r"/commerce/notification/v1/(destination|subscription)", partial(told_of.listed, query, root)),
            ("POST", r"/commerce/notification/v1/destination", partial(told_of.put_destination, request)),
            ("PUT", r"/commerce/notification/v1/config", partial(told_of.put_config, request)),
            ("PUT", r"/commerce/notification/v1/destination/([^/]+)", partial(told_of.put_destination, request)),
            ("POST", r"/commerce/notification/v1/subscription", partial(told_of.put_subscription, request)),
            ("PUT", r"/commerce/notification/v1/subscription/([^/]+)", partial(told_of.put_subscription, request)),
        ]
        for method, pattern, action in routes:
            match = re.fullmatch(pattern, api + path)
            if match and method == request.method:
                return action(*match.groups())
        raise _RefusedError(404, 2002, "Resource not found", domain="ACCESS")

    def _update(self, rows: Sequence[Mapping[str, Any]]) -> Response:
        revised: dict[str, bool] = {}
        responses = [response for row in rows for response in self._update_row(row, revised)]
        failed = any(response["statusCode"] != 200 for response in responses)
        return answer(207 if failed else 200, {"responses": responses})

    def _update_row(self, row: Mapping[str, Any], revised: dict[str, bool]) -> list[dict[str, Any]]:
        """Change one SKU and its offer, each by itself: one may be done where the other fails.

        `revised` are the listings that this call has revised, or may not: it counts once for all of a listing's variations.
        """
        sku = str(row.get("sku", ""))
        item = self._books.items.get(sku)
        if item is None:
            words = f"{sku} could not be found or is not available in the system."
            return [{"statusCode": 400, "sku": sku, "errors": [views.error(25702, words)]}]
        if self._failing.get(sku):
            return [self._failing[sku].popleft()]
        if item.listing not in revised:
            revised[item.listing] = self._books.revise(item.listing, self._clock.now(), self._revisions_a_day)
        if not revised[item.listing]:
            words = f"The listing {item.listing} exceeded the maximum of revisions for today."
            return [{"statusCode": 400, "sku": sku, "errors": [views.error(25002, words)]}]
        responses = []
        if "shipToLocationAvailability" in row:
            responses.append(self._set(item, row["shipToLocationAvailability"].get("quantity"), ""))
        for offer in row.get("offers", []):
            responses.append(self._set(item, offer.get("availableQuantity"), str(offer.get("offerId"))))
        return responses

    def _set(self, item: Item, quantity: Any, offer: str) -> dict[str, Any]:
        response: dict[str, Any] = {"statusCode": 200, "sku": item.sku, "errors": [], "warnings": []}
        if offer:
            response["offerId"] = offer
        if type(quantity) is not int or not 0 <= quantity <= _MOST_UNITS:
            return response | {"statusCode": 400, "errors": [views.error(25709, "Invalid value for quantity.")]}
        if offer and (offer != item.offer or not item.published):
            return response | {"statusCode": 400, "errors": [views.error(25713, "This Offer is not available.")]}
        if offer:
            item.own = quantity
        else:
            item.quantity = quantity
        return response

    def _get_items(self, rows: Sequence[Mapping[str, Any]]) -> Response:
        responses: list[dict[str, Any]] = []
        for row in rows:
            sku = str(row.get("sku", ""))
            if sku in self._books.items:
                shown = {**views.item_view(self._books.items[sku])}
                del shown["sku"]
                responses.append({"statusCode": 200, "sku": sku, "inventoryItem": shown, "errors": [], "warnings": []})
            else:
                errors = [views.error(25710, "We didn't find the resource you are requesting.")]
                responses.append({"statusCode": 404, "sku": sku, "errors": errors})
        failed = any(response["statusCode"] != 200 for response in responses)
        return answer(207 if failed else 200, {"responses": responses})

    def _list_items(self, query: Mapping[str, str], root: str) -> Response:
        limit, page = int(query.get("limit", "25")), int(query.get("offset", "0"))
        if not 1 <= limit <= _MOST_ORDERS:
            raise _RefusedError(400, 25709, "Invalid value for limit.")
        items = list(self._books.items.values())
        shown = items[page * limit : (page + 1) * limit]
        here = f"{root}/sell/inventory/v1/inventory_item?limit={limit}&offset="
        value = {
            "href": f"{here}{page}",
            "limit": limit,
            "size": -(-len(items) // limit),
            "total": len(items),
            "inventoryItems": [views.item_view(item) for item in shown],
        }
        return answer(200, value | ({"next": f"{here}{page + 1}"} if (page + 1) * limit < len(items) else {}))

    def _list_offers(self, query: Mapping[str, str], root: str) -> Response:
        item = self._books.items.get(query.get("sku", ""))
        if item is None:
            raise _RefusedError(404, 25713, "This Offer is not available.")
        offers = [views.offer_view(item)]
        href = f"{root}/sell/inventory/v1/offer"
        return answer(200, {"href": href, "limit": 100, "size": 1, "total": 1, "offers": offers})

    def _list_orders(self, query: Mapping[str, str], root: str) -> Response:
        limit, offset = int(query.get("limit", "50")), int(query.get("offset", "0"))
        found = list(self._books.orders.values())
        if "orderIds" in query:
            ids = query["orderIds"].split(",")
            if len(ids) > _MOST_ORDER_IDS:
                raise _RefusedError(400, 30900, "Exceeded maximum number of order IDs", domain="API_FULFILLMENT")
            found, limit, offset = [order for order in found if order.number in ids], _MOST_ORDER_IDS, 0
        elif not 1 <= limit <= _MOST_ORDERS:
            raise _RefusedError(400, 31100, f"Invalid limit: {limit}", domain="API_FULFILLMENT")
        else:
            wanted = query.get("filter", "")
            self._check(wanted)
            found = [order for order in found if _matches(order, wanted)]
        # The newest first.
        found.sort(key=lambda order: (order.created, order.number), reverse=True)
        api = f"{root}/sell/fulfillment/v1"
        shown = [views.order_view(order, api) for order in found[offset : offset + limit]]
        value = {"href": f"{api}/order", "limit": limit, "offset": offset, "total": len(found), "orders": shown}
        return answer(200, value)

    def _check(self, wanted: str) -> None:
        now = told(self._clock.now())
        for window in re.finditer(_WINDOW, wanted):
            if max(window[1], window[2]) > now:
                words = "Start and end dates can't be in the future"
                raise _RefusedError(400, 30850, words, domain="API_FULFILLMENT")

    def _list_fulfillments(self, number: str) -> Response:
        if number not in self._books.orders:
            raise _RefusedError(400, 32100, f"Invalid order ID: {number}", domain="API_FULFILLMENT")
        return answer(200, views.fulfillments_view(self._books.orders[number]))

    def _public_key(self, key_id: str) -> Response:
        if key_id != self._signer.key_id:
            raise _RefusedError(404, 195001, "The specified key id is invalid.", domain="API_NOTIFICATION")
        return answer(200, self._signer.public())

    def _tell_order(self, topic: str, order: Order, line: Mapping[str, Any]) -> None:
        buyer = {"userId": "ma8vp1jySJC", "username": "buyer"}
        self.notify(topic, {"user": buyer, "order": {"orderId": order.number, "orderLineItems": [line]}})


def _rows(request: Request) -> list[Mapping[str, Any]]:
    """Return the rows of a bulk request: up to 25, each of another SKU."""
    try:
        rows = json.loads(request.body)["requests"]
    except (ValueError, KeyError, TypeError):
        raise _RefusedError(400, 2004, "Invalid request", domain="ACCESS") from None
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MOST_ROWS:
        raise _RefusedError(400, 25727, "The number of inventory items in the request exceeds 25.")
    if len({row.get("sku") for row in rows}) < len(rows):
        raise _RefusedError(400, 25734, "SKU should be unique in the request.")
    return rows


def _matches(order: Order, wanted: str) -> bool:
    """Tell whether an order is among those that a filter names."""
    status = {"NOT_STARTED", "IN_PROGRESS"}
    for name, at in (("creationdate", order.created), ("lastmodifieddate", order.modified)):
        window = re.search(rf"{name}:{_WINDOW}", wanted)
        # All times are written alike, so they compare as texts; both ends are within.
        if window and not window[1] <= at <= (window[2] or "9"):
            return False
    if "orderfulfillmentstatus" in wanted:
        return views.order_view(order, "")["orderFulfillmentStatus"] in status
    return True


def _level(item: Item) -> LevelReference:
    return LevelReference(item.sku, "" if item.own is None else item.offer)
