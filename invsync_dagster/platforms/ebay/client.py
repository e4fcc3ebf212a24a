"""The connected eBay account: each write is one call for up to 25 SKUs, never waits and is never repeated here."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from invsync_dagster.clock import Clock
from invsync_dagster.events import Content, OrderDocument
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.contract import (
    Budget,
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
from invsync_dagster.platforms.ebay import errors
from invsync_dagster.platforms.ebay.listings import fixed_price, is_published, item_quantity, listing_of, offered
from invsync_dagster.platforms.ebay.orders import document_of, is_shipped_in_part
from invsync_dagster.platforms.ebay.quota import Quota
from invsync_dagster.platforms.ebay.settings import MOST_ROWS, EbaySettings
from invsync_dagster.platforms.ebay.subscriptions import Subscriptions
from invsync_dagster.platforms.ebay.windows import ORDERS_A_PAGE, Walk, walk_from
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery
from invsync_dagster.platforms.fields import moment, text, understanding
from invsync_dagster.platforms.oauth import GrantTokens
from invsync_dagster.platforms.rows import refused_unsent, review, sent_without
from invsync_dagster.platforms.subscribing import Subscription, SubscriptionsAnswer
from invsync_dagster.platforms.transport import Request, Response, Transport

# getOrders takes up to 50 ids, and looks back two years at most.
MOST_ORDER_IDS = 50
_OLDEST = timedelta(days=729)

_SKU = re.compile(r"[ -~]{1,50}|[^\x00-\x1f]{1,50}")
_OFFER = re.compile(r"[0-9]{1,20}")
_ORDER = re.compile(r"[0-9A-Za-z!-]{1,60}")

_INVENTORY = "/sell/inventory/v1"
_FULFILLMENT = "/sell/fulfillment/v1"

_log = logging.getLogger(__name__)


class EbayPlatform:
    """The `Platform` of one seller's account. Its representation and its messages never hold a secret.

    A level is a SKU of the Inventory API; its `location_id` is the offer that keeps a quantity of its own, else "".
    """

    def __init__(
        self,
        settings: EbaySettings,
        tokens: GrantTokens,
        limits: Limits,
        transport: Transport,
        clock: Clock,
        notifications: Subscriptions,
        quota: Quota,
    ) -> None:
        self._notifications = notifications
        self._quota = quota
        self._url = settings.api_url
        self._tokens = tokens
        self._limits = limits
        self._transport = transport
        self._clock = clock

    def __repr__(self) -> str:
        return f"EbayPlatform({self._url})"

    @property
    def limits(self) -> Limits:
        return self._limits

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        """Set the quantities of SKUs, and of the offers that keep their own, by bulkUpdatePriceQuantity.

        eBay has neither compare-and-set nor idempotency keys: `expected` and `key` play no part. Prices are never named,
        so they stay. Raises `ValueError` above `write_batch`.
        """
        if len(rows) > self._limits.write_batch:
            raise ValueError(f"at most {self._limits.write_batch} rows a call, not {len(rows)}")
        times = Counter(row.level.item_id for row in rows)
        refused = [refused_unsent(row, times[row.level.item_id], _ill_formed(row.level)) for row in rows]
        return WriteAnswer(sent_without(refused, rows, self._set))

    def _set(self, rows: Sequence[WriteRow]) -> tuple[Outcome, ...]:
        path = f"{_INVENTORY}/bulk_update_price_quantity"
        try:
            answer = self._post(path, {"requests": [_request(row) for row in rows]}, writing=True)
        except PlatformError as error:
            return outcomes_of_failure(error, len(rows))
        found: dict[str, list[Mapping[str, Any]]] = {}
        for entry in answer["responses"]:
            found.setdefault(str(entry.get("sku")), []).append(entry)
        return tuple(self._outcome(row.level, found.get(row.level.item_id, [])) for row in rows)

    def _outcome(self, level: LevelReference, entries: Sequence[Mapping[str, Any]]) -> Outcome:
        """Return what became of a SKU: its own row, the row of the offer that was named, and of any that eBay tells besides."""
        by_offer = {str(entry.get("offerId") or ""): self._of_row(entry) for entry in entries}
        named = {"", level.location_id}
        if len(by_offer) != len(entries) or not named <= by_offer.keys():
            # A SKU that isn't there fails as a whole, whatever it was asked with.
            gone = next((one for one in by_offer.values() if one.recovery is Recovery.REVIEW), None)
            words = "the answer has no clear result for this SKU"
            return gone or Outcome(Result.UNKNOWN, Recovery.SETTLE, "no_clear_result", words)
        outcomes = list(by_offer.values())
        worst = next((one for one in reversed(outcomes) if one.result is not Result.ACKNOWLEDGED), outcomes[0])
        if len({one.result for one in outcomes}) > 1 and worst.recovery is not Recovery.REVIEW:
            # The item's number was changed and the offer's wasn't, or the other way round.
            return Outcome(Result.UNKNOWN, Recovery.SETTLE, worst.code, f"done in part: {worst.message}")
        return worst

    def _of_row(self, entry: Mapping[str, Any]) -> Outcome:
        return errors.outcome_of_row(entry.get("statusCode"), entry.get("errors"), self._tokens.secrets)

    # --- reading ----------------------------------------------------------------------------------------------------

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        """Read SKUs in one call, and their offers one by one; the answer says what it took.

        The offers of a level that names none are asked for as well: a seller may give one a quantity of its own at any
        time, and buyers see that instead of the item's. Raises `PlatformError`, `ValueError` above `read_batch`.
        """
        return self._read(levels, lambda level: True)

    def read_quickly(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        """Read SKUs in one call, and only the offers that levels name: those show a quantity of their own.

        Raises `PlatformError`, `ValueError` above `read_batch`.
        """
        return self._read(levels, lambda level: bool(level.location_id))

    def _read(self, levels: Sequence[LevelReference], asks_offers: Callable[[LevelReference], bool]) -> ReadAnswer:
        if len(levels) > self._limits.read_batch:
            raise ValueError(f"at most {self._limits.read_batch} levels a call, not {len(levels)}")
        wanted = list(dict.fromkeys(level.item_id for level in levels if _well_formed(level)))
        if not wanted:
            return ReadAnswer(tuple(_not_found(level) for level in levels))
        asked = {"requests": [{"sku": sku} for sku in wanted]}
        answer = self._post(f"{_INVENTORY}/bulk_get_inventory_item", asked, writing=False)
        found: dict[LevelReference, Reading] = {}
        calls = 1
        with understanding():
            entries = {text(entry, "sku"): entry for entry in answer["responses"] if entry.get("sku")}
            for level in dict.fromkeys(levels):
                if not _well_formed(level) or level.item_id not in entries:
                    continue
                reading = self._reading(level, entries[level.item_id])
                if reading.problem is None and asks_offers(level):
                    calls += 1
                    reading = _with_offer(reading, self._offers(level.item_id))
                found[level] = reading
        return ReadAnswer(tuple(found.get(level) or _not_found(level) for level in levels), self._spent(calls))

    def _reading(self, level: LevelReference, entry: Mapping[str, Any]) -> Reading:
        outcome = self._of_row(entry)
        if outcome.result is Result.REJECTED:
            return Reading(level, None, replace(outcome, recovery=Recovery.REVIEW))
        item = entry.get("inventoryItem")
        if outcome.result is not Result.ACKNOWLEDGED or not isinstance(item, Mapping):
            raise PlatformError(Recovery.RETRY, outcome.code or "row_error", outcome.message or "a row has no item")
        return Reading(level, item_quantity(item), platform_sku=level.item_id)

    def _offers(self, sku: str) -> Sequence[Mapping[str, Any]]:
        """Return the offers of a SKU, none where eBay knows no such SKU or offer."""
        try:
            answer = self._get(f"{_INVENTORY}/offer", {"sku": sku}, _has("offers"))
        except PlatformError as error:
            if error.recovery is Recovery.REVIEW:
                return []
            raise
        offers: Sequence[Mapping[str, Any]] = answer["offers"]
        return offers

    # --- orders -----------------------------------------------------------------------------------------------------

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        """List orders modified in [since, until); those with shipped units as unclear orders. Raises `PlatformError`.

        eBay's window includes both its ends, in milliseconds.
        """
        walk = walk_from(cursor, since, until)
        return self._orders_page(walk, "lastmodifieddate:{window}", "lastModifiedDate")

    def open_orders(self, cursor: str = "") -> OrdersPage:
        """List the orders of the last two years with units to ship, those shipped in part as unclear ones.

        Raises `PlatformError`.
        """
        now = self._clock.now()
        walk = walk_from(cursor, now - _OLDEST, now + timedelta(days=1))
        return self._orders_page(walk, "creationdate:{window},orderfulfillmentstatus:{{NOT_STARTED|IN_PROGRESS}}", "")

    def _orders_page(self, walk: Walk, wanted: str, timed_by: str) -> OrdersPage:
        now = self._clock.now()
        total, entries = self._list(walk, wanted)
        calls = 1
        if (earlier := walk.earlier(total)) is not None:
            walk, calls = earlier, 2
            total, entries = self._list(walk, wanted)
        with understanding():
            kept = [entry for entry in entries if not timed_by or walk.since <= moment(entry, timed_by) < walk.until]
            whole, unclear = _split_whole(kept)
        cursor = walk.next(total, len(entries), now)
        return OrdersPage(Content(documents=tuple(whole), unclear_orders=tuple(unclear)), cursor, self._spent(calls))

    def _list(self, walk: Walk, wanted: str) -> tuple[int, list[Mapping[str, Any]]]:
        query = {
            "filter": wanted.format(window=walk.window(self._clock.now())),
            "limit": str(ORDERS_A_PAGE),
            "offset": str(walk.offset),
        }
        answer = self._get(f"{_FULFILLMENT}/order", query, _has("orders"))
        total = answer.get("total")
        if type(total) is not int:
            raise PlatformError(Recovery.RETRY, "malformed_answer", "the list of orders has no total")
        return total, answer["orders"]

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        """Fetch whole orders by id with what was shipped of them, unknown ones left out. Raises `PlatformError`."""
        wanted = [order_id for order_id in dict.fromkeys(order_ids) if _ORDER.fullmatch(order_id)]
        documents, calls = [], 0
        for start in range(0, len(wanted), MOST_ORDER_IDS):
            ids = ",".join(wanted[start : start + MOST_ORDER_IDS])
            calls += 1
            with understanding():
                for order in self._get(f"{_FULFILLMENT}/order", {"orderIds": ids}, _has("orders"))["orders"]:
                    shipped: Sequence[Mapping[str, Any]] = []
                    if is_shipped_in_part(order):
                        calls += 1
                        number = quote(text(order, "orderId"), safe="")
                        path = f"{_FULFILLMENT}/order/{number}/shipping_fulfillment"
                        shipped = self._get(path, {}, _has("fulfillments"))["fulfillments"]
                    documents.append(document_of(order, shipped))
        return OrdersPage(Content(documents=tuple(documents)), "", self._spent(calls) if calls else None)

    # --- listings and credentials -----------------------------------------------------------------------------------

    def listings(self, cursor: str = "") -> ListingsPage:
        """Return a page of the account's items with their offers, which are asked for item by item.

        Listings that weren't made through the Inventory API aren't among them, and can't be driven. `offset` is the
        number of the page, as eBay has it there. Raises `PlatformError`.
        """
        if cursor and not (cursor.isascii() and cursor.isdecimal()):
            raise ValueError("this cursor was never given")
        number = int(cursor or "0")
        query = {"limit": str(MOST_ROWS), "offset": str(number)}
        answer = self._get(f"{_INVENTORY}/inventory_item", query, _has("inventoryItems"))
        items = answer["inventoryItems"]
        with understanding():
            found = tuple(listing_of(item, self._offers(text(item, "sku"))) for item in items)
        more = bool(answer.get("next")) and bool(items)
        return ListingsPage(found, str(number + 1) if more else "", self._spent(1 + len(items)))

    def subscriptions(self, address: str) -> SubscriptionsAnswer:
        """Tell how the notifications to `address` stand that the seller subscribed to. Raises `PlatformError`."""
        if not address:
            return SubscriptionsAnswer(())
        self._notifications.calls = 0
        with understanding():
            found = self._notifications.found(address)
        return SubscriptionsAnswer(found, self._spent(self._notifications.calls))

    def subscribe(self, subscription: Subscription, address: str) -> SubscriptionsAnswer:
        """Subscribe to a topic, with the destination that it needs, or enable what is off. Raises `PlatformError`."""
        self._notifications.calls = 0
        with understanding():
            made = self._notifications.put(subscription, address)
        return SubscriptionsAnswer((made,), self._spent(self._notifications.calls))

    def make_ready(self) -> None:
        """Renew the access token where that is due. Raises `PlatformError`."""
        self._tokens.token(self._transport, self._clock.now())

    def check_credentials(self) -> None:
        """Return if the consent is for inventory and for orders. Raises `PlatformError`."""
        self._get(f"{_INVENTORY}/inventory_item", {"limit": "1", "offset": "0"}, _has("inventoryItems"))
        self._get(f"{_FULFILLMENT}/order", {"limit": "1", "offset": "0"}, _has("orders"))

    # --- one call ---------------------------------------------------------------------------------------------------

    def _spent(self, calls: int) -> Budget:
        return Budget(self._limits.burst, self._limits.rate, float(calls))

    def _get(self, path: str, query: Mapping[str, str], expected: Callable[[Any], bool]) -> Any:
        address = f"{self._url}{path}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        response = self._send("GET", address, b"", writing=False)
        return errors.json_of(response, expected, writing=False, secrets=self._tokens.secrets)

    def _post(self, path: str, document: Mapping[str, Any], *, writing: bool) -> Any:
        body = json.dumps(document, separators=(",", ":")).encode()
        response = self._send("POST", f"{self._url}{path}", body, writing=writing)
        return errors.json_of(response, _has("responses"), writing=writing, secrets=self._tokens.secrets)

    def _send(self, method: str, url: str, body: bytes, *, writing: bool) -> Response:
        """Send one request. A token refused while it was old is forgotten, and the next call takes a new one; of a call refused
        for its number, eBay is asked until when."""
        now = self._clock.now()
        token = self._tokens.token(self._transport, now)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body:
            headers["Content-Type"] = "application/json"
        request = Request(method, url, headers, body)
        response = answer_to(request, self._transport, deadline=self._limits.request_deadline, writing=writing)
        if response.status == 401 and self._tokens.refused(token, now):
            raise PlatformError(Recovery.RETRY, "token_expired", "eBay refuses a token that was given a while ago")
        if response.status == 429 and "retry-after" not in response.headers:
            refusal = self._quota.refusal("fulfillment" if _FULFILLMENT in url else "inventory")
            if refusal is not None:
                raise refusal
        return response


def _has(name: str) -> Callable[[Any], bool]:
    """Return the test for an object with a list of objects under `name`."""

    def holds(value: Any) -> bool:
        rows = value.get(name) if isinstance(value, Mapping) else None
        return isinstance(rows, list) and all(isinstance(entry, Mapping) for entry in rows)

    return holds


def _well_formed(level: LevelReference) -> bool:
    return bool(_SKU.fullmatch(level.item_id)) and (not level.location_id or bool(_OFFER.fullmatch(level.location_id)))


def _ill_formed(level: LevelReference) -> str:
    return (
        "" if _well_formed(level) else "the level's ids are not an eBay SKU (up to 50 characters) and an offer's number"
    )


def _request(row: WriteRow) -> dict[str, Any]:
    """Return a row as eBay takes it: an offer's own quantity overrides its item's, so both are set."""
    level = row.level
    request: dict[str, Any] = {"sku": level.item_id, "shipToLocationAvailability": {"quantity": row.quantity}}
    if level.location_id:
        request["offers"] = [{"offerId": level.location_id, "availableQuantity": row.quantity}]
    return request


def _with_offer(reading: Reading, offers: Sequence[Mapping[str, Any]]) -> Reading:
    """Return the reading with what buyers see: the number of the offer that the level names.

    Where it names none and an offer has a number of its own, what we write is not what buyers see: a person must look.
    """
    level = reading.level
    if not level.location_id:
        fixed = fixed_price(offers)
        own = None if fixed is None else offered(fixed)
        if fixed is None or own is None:
            return reading
        words = (
            f"its offer {text(fixed, 'offerId')} has a quantity of its own ({own}), and buyers see that one: map the SKU with "
            "this offer as its platform_location_id (invsync discover proposes the row), or take the quantity off the offer"
        )
        return Reading(level, None, review("own_quantity", words))
    offer = next((each for each in offers if each.get("offerId") == level.location_id), None)
    if offer is None or not is_published(offer):
        return Reading(
            level, None, review("not_published", f"the offer {level.location_id} is not there or not published")
        )
    own = offered(offer)
    return reading if own is None else Reading(level, own, platform_sku=level.item_id)


def _not_found(level: LevelReference) -> Reading:
    words = "the account has no such SKU in the Inventory API (a listing made elsewhere is not in it)"
    return Reading(level, None, review("not_found" if _well_formed(level) else "invalid_id", words))


def _split_whole(orders: Sequence[Mapping[str, Any]]) -> tuple[list[OrderDocument], list[str]]:
    """Return the documents of the orders that say all, and the ids of those to be asked for one by one: with shipped units,
    or not understood (one of them must not hide the rest of its page)."""
    whole, others = [], []
    for order in orders:
        try:
            if not is_shipped_in_part(order):
                whole.append(document_of(order))
                continue
        except NotUnderstoodError as error:
            _log.warning("an order of the list is not understood: %s", error)
        others.append(text(order, "orderId"))
    return whole, others
