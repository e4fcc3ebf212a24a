"""The connected Amazon account: each write is one patch of one SKU, which Amazon takes now and works on later."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from invsync_dagster.clock import Clock
from invsync_dagster.events import Content, OrderDocument
from invsync_dagster.platforms.amazon import errors
from invsync_dagster.platforms.amazon.answers import is_item, is_items, is_order, is_orders, is_submission, next_token
from invsync_dagster.platforms.amazon.feeds import Feeds
from invsync_dagster.platforms.amazon.listings import listing_of, reading_of
from invsync_dagster.platforms.amazon.orders import document_of, identity
from invsync_dagster.platforms.amazon.reports import Reports
from invsync_dagster.platforms.amazon.rows import DOTS, is_sku, not_found, patch_of, refusal_of
from invsync_dagster.platforms.amazon.settings import BULK, BULK_READ, MOST_SKUS, AmazonSettings, limits_as_told
from invsync_dagster.platforms.amazon.subscriptions import Subscriptions
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.contract import (
    Budget,
    BulkLimits,
    BulkNumbers,
    BulkReading,
    BulkReadLimits,
    BulkReport,
    LevelReference,
    Limits,
    ListingsPage,
    OrdersPage,
    Outcome,
    ReadAnswer,
    Reading,
    Result,
    WriteAnswer,
    WriteRow,
    outcomes_of_failure,
)
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery
from invsync_dagster.platforms.fields import moment, objects, understanding
from invsync_dagster.platforms.oauth import GrantTokens
from invsync_dagster.platforms.subscribing import Subscription, SubscriptionsAnswer
from invsync_dagster.platforms.transport import Request, Transport

ORDERS_A_PAGE = 100
# searchListingsItems pages through at most 1,000 items of one search.
MOST_PAGED = 1000
# Orders are listed up to two minutes ago at the latest (orders 2026-01-01, lastUpdatedBefore).
ORDERS_LAG = timedelta(minutes=2)

_LISTINGS = "/listings/2021-08-01/items"
_ORDERS = "/orders/2026-01-01/orders"
# Packages tell when units left; the only address in them is the seller's own.
_ORDER_DATA = "FULFILLMENT,CANCELLATION,PACKAGES"
_OPEN = "PENDING_AVAILABILITY,PENDING,UNSHIPPED,PARTIALLY_SHIPPED"
_BEGINNING = "2000-01-01T00:00:00Z"

_log = logging.getLogger(__name__)


class AmazonPlatform:
    """The `Platform` of one seller in one region. Its representation and its messages never hold a token or secret.

    A level is a seller SKU, whatever number of marketplaces it is offered in (`location_id` "").
    """

    def __init__(
        self,
        settings: AmazonSettings,
        tokens: GrantTokens,
        limits: Limits,
        transport: Transport,
        clock: Clock,
        app_tokens: GrantTokens,
    ) -> None:
        self._settings = settings
        self._items = f"{_LISTINGS}/{quote(settings.seller_id, safe='')}"
        self._marketplaces = ",".join(settings.marketplaces)
        self._tokens = tokens
        self._limits = limits
        self._transport = transport
        self._clock = clock
        self._feeds = Feeds(settings, self._call, tokens, transport, limits.request_deadline)
        self._reports = Reports(settings, self._call, transport)
        self._subscriptions = Subscriptions(settings, self._call, partial(self._call, tokens=app_tokens))

    def __repr__(self) -> str:
        return f"AmazonPlatform({self._settings.region}, {self._settings.seller_id})"

    @property
    def limits(self) -> Limits:
        return self._limits

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        """Patch the quantity of one SKU, and nothing else of it: lead time and other channels' fields stay.

        Amazon has neither compare-and-set nor idempotency keys: `expected` and `key` play no part. A patch that is taken
        is accepted, never acknowledged: only a reading shows what became of it. Raises `ValueError` above one row.
        """
        if len(rows) > self._limits.write_batch:
            raise ValueError(f"at most {self._limits.write_batch} row a call, not {len(rows)}")
        return WriteAnswer(tuple(map(self._patch, rows)))

    def _patch(self, row: WriteRow) -> Outcome:
        if (refused := refusal_of(row)) is not None:
            return refused
        document = patch_of(self._settings.product_type, row.quantity)
        path = f"{self._items}/{quote(row.level.item_id, safe='')}"
        query = {"marketplaceIds": self._settings.marketplaces[0], "includedData": "issues"}
        try:
            answer = self._call("PATCH", path, query, is_submission, document)
        except PlatformError as error:
            return outcomes_of_failure(error, 1)[0]
        if answer["status"] != "ACCEPTED":
            return errors.outcome_of_issues(answer.get("issues"), self._tokens.secrets)
        return Outcome(Result.ACCEPTED, handle=answer["submissionId"], check_after=self._limits.read_lag)

    # --- the bulk lane ----------------------------------------------------------------------------------------------

    @property
    def bulk(self) -> BulkLimits:
        return BULK

    def submit(self, rows: Mapping[int, WriteRow]) -> Outcome:
        """Hand in a JSON_LISTINGS_FEED that merges the quantities; the rows' numbers are its message ids."""
        return self._feeds.submit(rows)

    def submitted(self, handle: str) -> BulkReport:
        """Tell where a feed stands, with what its report says of each message. Raises `PlatformError`."""
        return self._feeds.submitted(handle)

    # --- reading ----------------------------------------------------------------------------------------------------

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        """Read SKUs in one call; those with a comma, which lists of SKUs can't name, one by one.

        Raises `PlatformError`, `ValueError` above `read_batch`.
        """
        if len(levels) > self._limits.read_batch:
            raise ValueError(f"at most {self._limits.read_batch} levels a call, not {len(levels)}")
        wanted = [level.item_id for level in dict.fromkeys(levels) if is_sku(level)]
        listed = [sku for sku in wanted if "," not in sku]
        data = "summaries,fulfillmentAvailability"
        items: list[Mapping[str, Any]] = []
        calls, cost = 0, self._limits.read_cost
        if listed:
            query = {"identifiersType": "SKU", "identifiers": ",".join(listed), "includedData": data}
            answer = self._get(self._items, {**query, "pageSize": str(MOST_SKUS)}, is_items)
            items += answer["items"]
            calls += 1
        for sku in wanted:
            if "," in sku:
                calls += 1
                items += self._one(sku, data)
        found: dict[LevelReference, Reading] = {}
        with understanding():
            for item in items:
                reading = reading_of(item, self._settings.marketplaces[0])
                found[reading.level] = reading
        budget = self._spent(calls, cost) if calls else None
        return ReadAnswer(tuple(found.get(level) or not_found(level) for level in levels), budget)

    def _one(self, sku: str, data: str) -> list[Mapping[str, Any]]:
        try:
            return [self._get(f"{self._items}/{quote(sku, safe='')}", {"includedData": data}, is_item)]
        except PlatformError as error:
            if error.code != "not_found":
                raise
            return []

    @property
    def bulk_read(self) -> BulkReadLimits:
        return replace(BULK_READ, least=self._settings.bulk_read_from)

    def read_all(self) -> Outcome:
        """Ask for the merchant listings report of the first marketplace."""
        return self._reports.ask()

    def reading_of_all(self, handle: str) -> BulkReading:
        """Tell where a listings report stands. Raises `PlatformError`."""
        return self._reports.state(handle)

    def numbers_read(self, address: str, cursor: str = "") -> BulkNumbers:
        """Fetch a listings report, which is one piece. Raises `PlatformError`."""
        return self._reports.numbers(address)

    # --- orders -----------------------------------------------------------------------------------------------------

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        """List the seller-fulfilled orders updated in [since, until), as far as Amazon lists them by now.

        It lists none of the last two minutes: how far the list reaches stands in `known_until`.
        """
        query = {"lastUpdatedAfter": _told(since)}
        # A later end than two minutes ago is refused; without one Amazon takes the latest that there is.
        if until <= self._clock.now() - ORDERS_LAG - timedelta(seconds=5):
            query["lastUpdatedBefore"] = _told(until)
        return self._orders_page(query, cursor, since, until)

    def open_orders(self, cursor: str = "") -> OrdersPage:
        """List the seller-fulfilled orders with units neither shipped nor cancelled."""
        return self._orders_page({"createdAfter": _BEGINNING, "fulfillmentStatuses": _OPEN}, cursor, None, None)

    def _orders_page(
        self, query: dict[str, str], cursor: str, since: datetime | None, until: datetime | None
    ) -> OrdersPage:
        query |= {"fulfilledBy": "MERCHANT", "includedData": _ORDER_DATA}
        query |= {"maxResultsPerPage": str(ORDERS_A_PAGE), **({"paginationToken": cursor} if cursor else {})}
        answer = self._get(_ORDERS, query, is_orders)
        documents: list[OrderDocument] = []
        unclear: list[str] = []
        known_until = None
        with understanding():
            if since is not None and answer.get("lastUpdatedBefore") is not None:
                known_until = moment(answer, "lastUpdatedBefore")
            for order in answer["orders"]:
                at = moment(order, "lastUpdatedTime")
                if since is None or until is None or since <= at < until:
                    _sort(order, documents, unclear)
        return OrdersPage(
            Content(documents=tuple(documents), unclear_orders=tuple(unclear)),
            next_token(answer),
            known_until=known_until,
        )

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        """Fetch orders by id one by one, unknown ones left out. Raises `PlatformError`."""
        documents = []
        calls = 0
        for order_id in dict.fromkeys(order_ids):
            if not order_id or order_id in DOTS:
                continue
            calls += 1
            query = {"includedData": _ORDER_DATA}
            try:
                answer = self._get(f"{_ORDERS}/{quote(order_id, safe='')}", query, is_order, everywhere=True)
            except PlatformError as error:
                if error.code != "not_found":
                    raise
                continue
            with understanding():
                documents.append(document_of(answer["order"]))
        budget = self._spent(calls) if calls else None
        return OrdersPage(Content(documents=tuple(documents)), budget=budget)

    # --- listings and credentials -----------------------------------------------------------------------------------

    def listings(self, cursor: str = "") -> ListingsPage:
        """Return a page of all items of the first marketplace, oldest first.

        One search gives 1,000 items at most, so after so many the walk goes on from the creation of the last one, which
        is named twice then. Raises `PlatformError`.
        """
        after, count, token = _walk_from(cursor)
        home = self._settings.marketplaces[0]
        query = {"marketplaceIds": home, "includedData": "summaries,fulfillmentAvailability"}
        query |= {"pageSize": str(MOST_SKUS), "sortBy": "createdDate", "sortOrder": "ASC"}
        query |= ({"createdAfter": after} if after else {}) | ({"pageToken": token} if token else {})
        answer = self._get(self._items, query, is_items)
        count += len(answer["items"])
        following = next_token(answer)
        with understanding():
            found = tuple(listing_of(item, home) for item in answer["items"])
            if count < MOST_PAGED:
                return ListingsPage(found, f"{after}|{count}|{following}" if following else "")
            last = max((_created(item) for item in answer["items"]), default="")
        if last <= after:
            words = f"{MOST_PAGED} items were created in one moment: Amazon can't list those behind them"
            raise PlatformError(Recovery.REJECT, "too_many_items", words)
        return ListingsPage(found, f"{last}|0|")

    def subscriptions(self, address: str) -> SubscriptionsAnswer:
        """Tell how the notifications stand; `address` plays no part, since the settings say where they go.

        Raises `PlatformError`.
        """
        self._subscriptions.calls = 0
        with understanding():
            return SubscriptionsAnswer(self._subscriptions.found(), self._spent(self._subscriptions.calls))

    def subscribe(self, subscription: Subscription, address: str) -> SubscriptionsAnswer:
        """Subscribe to a type of notifications, with the destination that it needs. Raises `PlatformError`."""
        self._subscriptions.calls = 0
        with understanding():
            made = self._subscriptions.put(subscription)
        return SubscriptionsAnswer((made,), self._spent(self._subscriptions.calls))

    def make_ready(self) -> None:
        """Renew the access token where that is due. Raises `PlatformError`."""
        self._tokens.token(self._transport, self._clock.now())

    def check_credentials(self) -> None:
        """Return if the token is given and may read listings and orders. Raises `PlatformError`."""
        self._get(self._items, {"pageSize": "1", "includedData": "summaries"}, is_items)
        query = {"createdAfter": _told(self._clock.now() - timedelta(days=1)), "maxResultsPerPage": "1"}
        try:
            self._get(_ORDERS, query, is_orders)
        except PlatformError as error:
            # One call in three minutes is all that Amazon allows, and whom it throttles it knows.
            if error.recovery is not Recovery.WAIT:
                raise

    # --- one call ---------------------------------------------------------------------------------------------------

    def _spent(self, calls: int, cost: float = 1.0) -> Budget:
        return Budget(self._limits.burst, self._limits.rate, calls * cost)

    def _get(
        self, path: str, query: Mapping[str, str], expected: Callable[[Any], bool], *, everywhere: bool = False
    ) -> Any:
        marketplaces = {} if everywhere else {"marketplaceIds": self._marketplaces}
        return self._call("GET", path, {**marketplaces, **query}, expected)

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        expected: Callable[[Any], bool],
        document: Mapping[str, Any] | None = None,
        tokens: GrantTokens | None = None,
    ) -> Any:
        tokens = tokens or self._tokens
        token = tokens.token(self._transport, self._clock.now())
        headers = {
            "x-amz-access-token": token,
            "x-amz-date": self._clock.now().strftime("%Y%m%dT%H%M%SZ"),
            "Accept": "application/json",
        }
        body = b""
        if document is not None:
            body = json.dumps(document, separators=(",", ":")).encode()
            headers["Content-Type"] = "application/json"
        url = self._settings.api_url + path
        if query:
            url += f"?{urlencode(query, quote_via=quote, safe=',')}"
        writing = method == "PATCH" or path.endswith("/feeds") or (method == "POST" and "/subscriptions/" in path)
        request = Request(method, url, headers, body)
        response = answer_to(request, self._transport, deadline=self._limits.request_deadline, writing=writing)
        if response.status in (401, 403) and tokens.refused(token, self._clock.now()):
            # A new token may be all that it needs; if a new one is refused too, the grant is dead.
            raise PlatformError(Recovery.RETRY, "token_refused", "Amazon refuses a token that isn't new any more")
        self._limits = limits_as_told(self._limits, response, writes=method == "PATCH", reads=path == self._items)
        return errors.json_of(response, expected, writing=writing, secrets=tokens.secrets)


def _sort(order: Mapping[str, Any], documents: list[OrderDocument], unclear: list[str]) -> None:
    """Put an order of a list to the documents, or to those to be asked for: one of them must not hide its page."""
    try:
        documents.append(document_of(order))
    except NotUnderstoodError as error:
        _log.warning("an order of the list is not understood: %s", error)
        unclear.append(identity(order, "orderId"))


def _created(item: Mapping[str, Any]) -> str:
    return _told(max(moment(summary, "createdDate") for summary in objects(item, "summaries")))


def _walk_from(cursor: str) -> tuple[str, int, str]:
    if not cursor:
        return "", 0, ""
    after, _, rest = cursor.partition("|")
    count, bar, token = rest.partition("|")
    if not bar or not count.isdecimal():
        raise ValueError("this cursor was never given")
    return after, int(count), token


def _told(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
