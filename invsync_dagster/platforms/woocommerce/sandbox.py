"""The stand-in store: WooCommerce's REST API v3 over its own books, with its refusals, its host's limit and its webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.outgoing import Delivery, dump_deliveries, load_deliveries
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.platforms.woocommerce import sandbox_views as views
from invsync_dagster.platforms.woocommerce.sandbox_answers import MOST_ROWS, RefusedError, answer, numbers, page
from invsync_dagster.platforms.woocommerce.sandbox_auth import KeyCheck
from invsync_dagster.platforms.woocommerce.sandbox_books import Article, Books, Order, StoreError
from invsync_dagster.platforms.woocommerce.sandbox_webhooks import FIRST, Webhooks

__all__ = ["StoreError", "WooCommerceSandbox"]

_ROOT = "/wp-json/wc/v3"


class WooCommerceSandbox:
    """One store, behind `handle`. What its buyers and its staff do moves its own numbers and fills `outgoing`.

    `rate` and `burst` are calls a second as its host bears them. Its webhooks tell of orders, and of products only if
    `product_webhooks`; they are active until too many deliveries in a row have failed (`delivery_ended`), and none is
    ever sent again. `orders_as_posts`: the older storage of orders, where an edited line leaves the order's time.
    `failed_gives_back`: an order that fails gives back what it took, as from 11.0 on. `header_dropped`: the host passes no
    `Authorization` header on.
    """

    def __init__(
        self,
        *,
        consumer_key: str,
        consumer_secret: str,
        webhook_secret: str,
        clock: Clock,
        rate: float = 10.0,
        burst: float = 20.0,
        product_webhooks: bool = False,
        orders_as_posts: bool = False,
        failed_gives_back: bool = True,
        header_dropped: bool = False,
    ) -> None:
        self._header_dropped = header_dropped
        self._keys = KeyCheck(consumer_key, consumer_secret, clock, header_dropped=header_dropped)
        self.outgoing: list[Delivery] = []
        self.webhooks = Webhooks()
        self._webhook_secret = webhook_secret.encode()
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._product_webhooks = product_webhooks
        self._tokens = burst
        self._refilled_at = clock.now()
        self._books = Books(orders_as_posts=orders_as_posts, failed_gives_back=failed_gives_back)

    def change_key(self, consumer_key: str, consumer_secret: str) -> None:
        """Take this key from now on, and no other."""
        self._keys = KeyCheck(consumer_key, consumer_secret, self._clock, header_dropped=self._header_dropped)

    # --- the store's people -----------------------------------------------------------------------------------------

    def add_product(
        self,
        sku: str,
        quantity: int | None,
        *,
        number: int = 0,
        kind: str = "simple",
        status: str = "publish",
        managed: bool = True,
        backorders: bool = False,
    ) -> LevelReference:
        """Add a product (`variable` for one with variations) and return its level. Raises `StoreError`."""
        article = Article(number, sku, quantity, kind, 0, f"Product {sku}", status, managed, backorders)
        return _level(self._books.add(article))

    def add_variation(
        self,
        product: LevelReference,
        sku: str,
        quantity: int | None,
        *,
        number: int = 0,
        managed: bool = True,
        backorders: bool = False,
    ) -> LevelReference:
        """Add a variation; without `managed` its stock is its product's, if that keeps one. Raises `StoreError`."""
        parent = int(product.item_id)
        article = Article(
            number, sku, quantity, "variation", parent, f"Variation {sku}", "publish", managed, backorders
        )
        return _level(self._books.add(article))

    def buy(self, lines: Mapping[LevelReference, int], *, status: str = "processing", checked: bool = True) -> str:
        """Sell units per product or variation in one order and return its id. Raises `StoreError` if there aren't enough.

        `checked=False`: as an order made by hand or through REST, which may sell what isn't there.
        """
        units = {int(level.item_id): quantity for level, quantity in lines.items()}
        order = self._books.take_order(units, self._clock.now(), status=status, checked=checked)
        # One checkout sends a pair, and both show the order as it is when they leave.
        self._announce(order, "order.created", "order.updated")
        return str(order.number)

    def set_status(self, order_id: str, status: str) -> None:
        """Bring an order into another state (`cancelled`, `completed`, `pending`, …). Raises `StoreError`."""
        order = self._books.set_status(int(order_id), status, self._clock.now())
        if status == "trash":
            self.send_webhook("order.deleted", {"id": order.number})
        else:
            self._announce(order, "order.updated")

    def refund(self, order_id: str, units: Mapping[str, int], *, restock: bool) -> None:
        """Refund units per line id. Raises `StoreError`."""
        by_line = {int(line): quantity for line, quantity in units.items()}
        order = self._books.refund(int(order_id), by_line, self._clock.now(), restock=restock)
        self._announce(order, "order.updated")

    def edit_line(self, order_id: str, line_id: str, quantity: int) -> None:
        """Change the units of a line of an order, 0 removes it. Raises `StoreError`."""
        order = self._books.edit_line(int(order_id), int(line_id), quantity, self._clock.now())
        self._announce(order, "order.updated")

    def edit_stock(self, level: LevelReference, quantity: int) -> None:
        """Change a number by hand, as staff or a plugin does. Raises `StoreError`."""
        self._books.article(int(level.item_id)).quantity = quantity
        self._announce_article(self._books.article(int(level.item_id)))

    def switch_stock_management(self, on: bool) -> None:
        """Set "Enable stock management" of the store's settings: without it no article keeps a number."""
        self._books.managing = on

    def trash(self, level: LevelReference) -> None:
        """Put an article into the trash: it is listed no more, and can be written all the same. Raises `StoreError`."""
        self._books.article(int(level.item_id)).status = "trash"

    def remove(self, level: LevelReference) -> None:
        """Delete an article for good. Raises `KeyError`."""
        del self._books.articles[int(level.item_id)]

    def __contains__(self, number: int) -> bool:
        return number in self._books.articles

    def order(self, order_id: str) -> Order:
        """Return an order of the books. Raises `StoreError`."""
        return self._books.order(int(order_id))

    def orders(self) -> Sequence[Order]:
        """Return all orders of the books, oldest first."""
        return list(self._books.orders.values())

    def open_orders(self) -> list[str]:
        """Return the ids of orders that are to be shipped, oldest first."""
        return [str(order.number) for order in self._books.orders.values() if order.is_open]

    def promised(self, order_id: str = "") -> dict[LevelReference, int]:
        """Return the units sold and not shipped yet per product or variation, of all orders or one. Raises `StoreError`."""
        units: dict[LevelReference, int] = {}
        for order in [self.order(order_id)] if order_id else self.orders():
            for line in order.lines.values() if order.is_open else ():
                level = _level(self._books.article(line.article))
                # What was refunded and not restocked stays off the number until the order ends.
                units[level] = units.get(level, 0) + line.reduced
        return {level: count for level, count in units.items() if count}

    def shown(self, level: LevelReference) -> int | None:
        """Return the number shown for a level, None where none is kept. Raises `StoreError`."""
        return self._books.shown(int(level.item_id))

    def books(self) -> dict[LevelReference, int]:
        """Return what every level shows."""
        return {_level(article): article.quantity or 0 for article in self._books.articles.values() if article.managed}

    def send_webhook(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Put a webhook of any topic and content into `outgoing`, signed; none while none of its topic is active."""
        if not self.webhooks.sends(topic):
            return
        body = json.dumps(payload).encode()
        resource, _, event = topic.partition(".")
        second = str(int(self._clock.now().timestamp()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "WooCommerce/11.0.1 Hookshot (WordPress/7.1)",
            "X-WC-Webhook-Source": "http://127.0.0.1/",
            "X-WC-Webhook-Topic": topic,
            "X-WC-Webhook-Resource": resource,
            "X-WC-Webhook-Event": event,
            "X-WC-Webhook-Signature": _signature(self._webhook_secret, body),
            "X-WC-Webhook-ID": str(FIRST),
            # The same for all deliveries of one second.
            "X-WC-Webhook-Delivery-ID": hashlib.md5(f"{FIRST}{second}".encode(), usedforsecurity=False).hexdigest(),
        }
        self.outgoing.append(Delivery(headers, body))

    def ping(self) -> Delivery:
        """Return what a new webhook sends to its address: a form, unsigned."""
        body = f"webhook_id={FIRST}".encode()
        return Delivery({"Content-Type": "application/x-www-form-urlencoded"}, body)

    def delivery_ended(self, *, answered_well: bool) -> None:
        """Note how a delivery ended: 200 to 302 is well, anything else counts against the webhooks."""
        self.webhooks.ended(well=answered_well)

    def take_outgoing(self) -> list[Delivery]:
        """Return the webhooks not yet taken, in the order they happened, and forget them."""
        taken, self.outgoing = self.outgoing, []
        return taken

    def dump(self) -> dict[str, Any]:
        """Return the store's state as JSON values, undelivered webhooks included."""
        return {
            "books": self._books.dump(),
            "outgoing": dump_deliveries(self.outgoing),
            "webhooks": self.webhooks.dump(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self._books.load(state["books"])
        self.outgoing = load_deliveries(state["outgoing"])
        self.webhooks.load(state["webhooks"])

    # --- the API ----------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answer one request to the REST API."""
        parts = urlsplit(request.url)
        _, marker, path = parts.path.partition(_ROOT)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            if not marker:
                raise RefusedError(404, "rest_no_route", "No route was found matching the URL and request method.")
            self._take_token()
            self._keys.check(request, query)
            return self._answer(request, path, query)
        except RefusedError as refused:
            return refused.response

    def _answer(self, request: Request, path: str, query: Mapping[str, str]) -> Response:
        routes: list[tuple[str, str, Callable[..., Response]]] = [
            ("GET", r"/products", lambda: self._list_articles(query, variations=False)),
            ("GET", r"/variations", lambda: self._list_articles(query, variations=True)),
            ("GET", r"/orders", lambda: self._list_orders(query)),
            ("GET", r"/orders/(\d+)/refunds", lambda number: self._list_refunds(query, int(number))),
            ("POST", r"/products/batch", lambda: self._batch(request, 0)),
            ("POST", r"/products/(\d+)/variations/batch", lambda number: self._batch(request, int(number))),
            ("GET", r"/settings/products/woocommerce_manage_stock", self._stock_setting),
            ("GET", r"/webhooks", lambda: self.webhooks.listed(query)),
            ("POST", r"/webhooks", lambda: self.webhooks.create(request)),
            ("PUT", r"/webhooks/(\d+)", lambda number: self.webhooks.update(int(number), request)),
            # WordPress takes a POST for a PUT.
            ("POST", r"/webhooks/(\d+)", lambda number: self.webhooks.update(int(number), request)),
        ]
        for method, pattern, action in routes:
            match = re.fullmatch(pattern, path)
            if match and method == request.method:
                return action(*match.groups())
        raise RefusedError(404, "rest_no_route", "No route was found matching the URL and request method.")

    def _take_token(self) -> None:
        now = self._clock.now()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled_at).total_seconds() * self._rate)
        self._refilled_at = now
        if self._tokens < 1:
            wait = math.ceil((1 - self._tokens) / self._rate)
            refused = RefusedError(429, "too_many_requests", "Too many requests.")
            refused.response = Response(429, {"content-type": "text/html", "retry-after": str(wait)}, b"<h1>429</h1>")
            raise refused
        self._tokens -= 1

    def _list_articles(self, query: Mapping[str, str], *, variations: bool) -> Response:
        found = [each for each in self._books.articles.values() if bool(each.parent) == variations]
        found = [article for article in found if article.status != "trash"]
        if "sku" in query:
            # Commas separate SKUs, and variations are found beside products.
            skus = {*query["sku"].split(","), query["sku"]}
            found = [article for article in self._books.articles.values() if article.sku in skus]
        if "include" in query:
            wanted = numbers(query["include"], "include")
            found = [article for article in found if article.number in wanted]
        found.sort(key=lambda article: article.number, reverse=query.get("order", "desc") == "desc")
        return page([views.article_view(self._books, article) for article in found], query)

    def _list_orders(self, query: Mapping[str, str]) -> Response:
        found = list(self._books.orders.values())
        asked = query.get("status", "any").split(",")
        found = [each for each in found if each.status in asked or ("any" in asked and each.status != "trash")]
        if "include" in query:
            wanted = numbers(query["include"], "include")
            found = [each for each in found if each.number in wanted]
        if query.get("dates_are_gmt") == "true":
            # All times are written alike, so they compare as texts; both ends are left out.
            found = [
                each
                for each in found
                if query.get("modified_after", "") < each.modified < query.get("modified_before", "9")
                and query.get("after", "") < each.created < query.get("before", "9")
            ]
        by_change = query.get("orderby") == "modified"
        found.sort(
            key=lambda each: (each.modified if by_change else each.created, each.number),
            reverse=query.get("order", "desc") == "desc",
        )
        return page([views.order_view(each, query.get("include_meta", "")) for each in found], query)

    def _list_refunds(self, query: Mapping[str, str], number: int) -> Response:
        order = self._books.orders.get(number)
        if order is None:
            raise RefusedError(404, "woocommerce_rest_invalid_order_id", "Invalid order ID.")
        return page([views.refund_view(order, refund) for refund in order.refunds], query)

    def _batch(self, request: Request, product: int) -> Response:
        try:
            document = json.loads(request.body)
        except ValueError:
            raise RefusedError(400, "rest_invalid_json", "Invalid JSON body passed.") from None
        items = document.get("update", []) if isinstance(document, dict) else []
        if len(items) > MOST_ROWS:
            words = f"Unable to accept more than {MOST_ROWS} items for this request."
            raise RefusedError(413, "woocommerce_rest_request_entity_too_large", words)
        if not items:
            return answer(200, [])
        return answer(200, {"update": [self._update(item, product) for item in items]})

    def _update(self, item: Mapping[str, Any], product: int) -> dict[str, Any]:
        """Change one article as the store does: what it doesn't understand counts as 0 or is left alone."""
        number = item.get("id")
        article = self._books.articles.get(number) if isinstance(number, int) else None
        if article is None or article.parent != product:
            return {"id": number, "error": _no_article(variation=bool(product), elsewhere=article is not None)}
        if self._books.managing and isinstance(item.get("manage_stock"), bool):
            article.managed = item["manage_stock"]
        if self._books.managing and article.managed and "stock_quantity" in item:
            value = item["stock_quantity"]
            article.quantity = value if isinstance(value, int) else 0
            self._announce_article(article)
        return views.article_view(self._books, article)

    def _stock_setting(self) -> Response:
        return answer(200, {"id": "woocommerce_manage_stock", "value": "yes" if self._books.managing else "no"})

    def _announce(self, order: Order, *topics: str) -> None:
        for topic in topics:
            self.send_webhook(topic, views.order_view(order))

    def _announce_article(self, article: Article) -> None:
        if self._product_webhooks:
            self.send_webhook("product.updated", views.article_view(self._books, article))


def _signature(secret: bytes, body: bytes) -> str:
    return base64.b64encode(hmac.digest(secret, body, hashlib.sha256)).decode()


def _level(article: Article) -> LevelReference:
    return LevelReference(str(article.number), str(article.parent) if article.parent else "")


def _no_article(*, variation: bool, elsewhere: bool) -> dict[str, Any]:
    """Return the error of a row; `elsewhere`: it names a variation, or one of another product."""
    if variation:
        code, words, status = "woocommerce_rest_product_variation_invalid_id", "Invalid ID.", 404
    elif elsewhere:
        route = "/products/&lt;product_id&gt;/variations/&lt;id&gt;"
        words = f"To manipulate product variations you should use the {route} endpoint."
        code, status = "woocommerce_rest_invalid_product_id", 404
    else:
        code, words, status = "woocommerce_rest_product_invalid_id", "Invalid ID.", 400
    return {"code": code, "message": words, "data": {"status": status}}
