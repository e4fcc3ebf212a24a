"""The connected WooCommerce channel: each write is one call to one batch route, never waits and is never repeated here."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from invsync_dagster.clock import Clock
from invsync_dagster.events import Content, OrderDocument
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
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery
from invsync_dagster.platforms.fields import identity, moment, understanding
from invsync_dagster.platforms.rows import refused_unsent, review, sent_without
from invsync_dagster.platforms.subscribing import Subscription, SubscriptionsAnswer
from invsync_dagster.platforms.transport import Transport
from invsync_dagster.platforms.woocommerce import errors
from invsync_dagster.platforms.woocommerce.api import Api
from invsync_dagster.platforms.woocommerce.articles import (
    ID,
    UNMANAGED,
    ill_formed,
    is_unmanaged,
    not_found,
    reading_of,
    unmanaged,
    well_formed,
)
from invsync_dagster.platforms.woocommerce.listings import listing_of
from invsync_dagster.platforms.woocommerce.orders import (
    TRASHED_FROM,
    document_of,
    has_refunds,
    refund_of,
    whole_units,
)
from invsync_dagster.platforms.woocommerce.pace import Pace
from invsync_dagster.platforms.woocommerce.settings import MOST_ROWS, WooCommerceSettings
from invsync_dagster.platforms.woocommerce.signing import Signer
from invsync_dagster.platforms.woocommerce.subscriptions import Webhooks
from invsync_dagster.platforms.woocommerce.windows import Window, window_from

ORDERS_A_PAGE = 50
# Begins the cursors of the orders in the trash.
_TRASH = "trash:"

_PRODUCT_FIELDS = "id,type,name,sku,manage_stock,stock_quantity"
_VARIATION_FIELDS = f"{_PRODUCT_FIELDS},parent_id"
_ORDER_FIELDS = {
    "_fields": (
        "id,status,date_created_gmt,date_modified_gmt,date_paid_gmt,date_completed_gmt,line_items,refunds,meta_data"
    ),
    # Of the order's meta, which plugins fill; the meta of its lines is told all the same.
    "include_meta": TRASHED_FROM,
}

_log = logging.getLogger(__name__)


class WooCommercePlatform:
    """The `Platform` of one store. Its representation and its messages never hold the key or its secret.

    A level is a product (`location_id` ""), or a variation with its product as `location_id`; where a product keeps the
    stock of its variations, the product is their level.
    """

    def __init__(
        self,
        settings: WooCommerceSettings,
        signer: Signer,
        limits: Limits,
        transport: Transport,
        clock: Clock,
        webhook_secret: str,
    ) -> None:
        self._store = settings.store_url
        self._signer = signer
        self._api = Api(settings.store_url, signer, transport, clock, webhook_secret)
        self._limits = limits
        self._writes = Pace(limits.write_batch, limits.request_deadline)
        self._reads = Pace(limits.read_batch, limits.request_deadline)
        self._orders_pace = Pace(ORDERS_A_PAGE, limits.request_deadline)
        self._paces = {"writes": self._writes, "reads": self._reads, "orders": self._orders_pace}
        self._webhooks = Webhooks(self._api, webhook_secret, self._orders_pace)

    def __repr__(self) -> str:
        return f"WooCommercePlatform({self._store})"

    @property
    def limits(self) -> Limits:
        """The limits, with the batches that the store's host is up to now (see `pace`)."""
        return replace(self._limits, write_batch=self._writes.rows, read_batch=self._reads.rows)

    @property
    def pace(self) -> str:
        """What was learned of the store's host, as a text."""
        kept = {name: pace.kept for name, pace in self._paces.items()}
        return json.dumps({**kept, "in_query": self._signer.in_query})

    def go_on_from(self, pace: str) -> None:
        """Go on at the pace that another process has come to, and prove the key as it does."""
        learned = json.loads(pace)
        self._signer.in_query = learned.get("in_query") is True
        for name in self._paces.keys() & learned.keys():
            self._paces[name].go_on_from(*learned[name])

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        """Set stock quantities of products, or of the variations of one product, in one call.

        WooCommerce has neither compare-and-set nor idempotency keys: `expected` and `key` play no part. Stock management
        is never switched on: an article without it is rejected for review. Raises `ValueError` above `write_batch`, and
        for rows of several locations.
        """
        if len(rows) > self._limits.write_batch:
            raise ValueError(f"at most {self._limits.write_batch} rows a call, not {len(rows)}")
        if len({row.level.location_id for row in rows}) > 1:
            raise ValueError("the rows of one call are products, or variations of one product")
        times = Counter(row.level for row in rows)
        refused = [refused_unsent(row, times[row.level], ill_formed(row.level)) for row in rows]
        return WriteAnswer(sent_without(refused, rows, self._set))

    def _set(self, rows: Sequence[WriteRow]) -> tuple[Outcome, ...]:
        product = rows[0].level.location_id
        path = f"/products/{product}/variations/batch" if product else "/products/batch"
        update = [{"id": int(row.level.item_id), "stock_quantity": row.quantity} for row in rows]
        try:
            answer = self._api.posted(path, {"update": update}, _is_batch, self._writes, len(rows))
        except PlatformError as error:
            return outcomes_of_failure(error, len(rows))
        found: dict[str, list[Mapping[str, Any]]] = {}
        for entry in answer["update"]:
            found.setdefault(str(entry.get("id")), []).append(entry)
        outcomes = tuple(self._outcome(row, found.get(row.level.item_id, [])) for row in rows)
        if all(outcome.code == UNMANAGED for outcome in outcomes):
            try:
                self._stop_if_nothing_is_managed(self._writes)
            except PlatformError as error:
                return outcomes_of_failure(error, len(rows))
        return outcomes

    def _outcome(self, row: WriteRow, entries: Sequence[Mapping[str, Any]]) -> Outcome:
        if len(entries) != 1:
            words = (
                "the answer has no result for this article" if not entries else "the answer names this article twice"
            )
            return Outcome(Result.UNKNOWN, Recovery.SETTLE, "no_clear_result", words)
        entry = entries[0]
        if "error" in entry:
            return errors.outcome_of_row_error(entry["error"], self._api.secrets)
        if entry.get("status") == "trash":
            # The store writes there too; a reading doesn't find it.
            return review("not_found", "this article is in the store's trash")
        if (problem := unmanaged(entry)) is not None:
            return problem
        if whole_units(entry.get("stock_quantity")) == row.quantity:
            return Outcome(Result.ACKNOWLEDGED)
        return Outcome(Result.UNKNOWN, Recovery.SETTLE, "not_confirmed", "the answer shows another stock_quantity")

    # --- reading ----------------------------------------------------------------------------------------------------

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        """Read products in one call and variations in another. Raises `PlatformError`, `ValueError` above `read_batch`."""
        if len(levels) > self._limits.read_batch:
            raise ValueError(f"at most {self._limits.read_batch} levels a call, not {len(levels)}")
        wanted = [level for level in dict.fromkeys(levels) if well_formed(level)]
        found: dict[LevelReference, Reading] = {}
        calls = 0
        for path, fields, chosen in (
            ("/products", _PRODUCT_FIELDS, [level for level in wanted if not level.location_id]),
            ("/variations", _VARIATION_FIELDS, [level for level in wanted if level.location_id]),
        ):
            if not chosen:
                continue
            # What an answer lacks is asked for again by itself before it counts as gone: a host may give fewer rows than
            # asked for, and a cache that looks at the path alone gives itself away with what wasn't asked for.
            missing, asked = chosen, 0
            while missing and len(missing) != asked:
                asked = len(missing)
                entries = self._articles(path, fields, missing)
                calls += 1
                with understanding():
                    found |= {reading.level: reading for reading in map(reading_of, entries)}
                missing = [level for level in missing if level not in found] if entries else []
        if found and all(is_unmanaged(reading) for reading in found.values()):
            self._stop_if_nothing_is_managed(self._reads)
            calls += 1
        budget = self._told_of(calls) if calls else None
        return ReadAnswer(tuple(found.get(level) or not_found(level) for level in levels), budget)

    def _articles(self, path: str, fields: str, levels: Sequence[LevelReference]) -> list[Mapping[str, Any]]:
        ids = [level.item_id for level in levels]
        # `include` alone would give the first 10.
        query = {"include": ",".join(ids), "per_page": str(MOST_ROWS), "_fields": fields}
        entries, _ = self._api.listed(path, query, self._reads, len(ids))
        return _only(entries, ids)

    def _stop_if_nothing_is_managed(self, pace: Pace) -> None:
        """Tell the one switch that makes every article read as unmanaged from articles that are. Raises `PlatformError`:
        the channel stops, instead of all its listings going to review."""
        if self._api.product_setting("woocommerce_manage_stock", pace) == "no":
            words = (
                "the store keeps no stock: tick WooCommerce → Settings → Products → Inventory → Enable stock management"
            )
            raise PlatformError(Recovery.REAUTHENTICATE, "stock_management_off", words)

    # --- orders -----------------------------------------------------------------------------------------------------

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        """List orders modified in [since, until), oldest change first; those with refunds as unclear orders.

        WooCommerce tells times in whole seconds, so both ends are rounded down to one, and its `modified_after` and
        `modified_before` leave out their own second. An order that changes while its window is listed moves behind the
        page, and is found there again. The status `any` leaves out the trash, so the last page is followed by a second
        call for that: a trashed order whose webhook was lost would stay reserved for good.
        """
        if cursor.startswith(_TRASH):
            return self._changed_page("trash", cursor.removeprefix(_TRASH), since, until)
        page = self._changed_page("any", cursor, since, until)
        if page.cursor:
            return page
        trashed = self._changed_page("trash", "", since, until)
        content = Content(
            documents=page.content.documents + trashed.content.documents,
            unclear_orders=page.content.unclear_orders + trashed.content.unclear_orders,
        )
        return OrdersPage(content, trashed.cursor, self._told_of(2))

    def _changed_page(self, status: str, cursor: str, since: datetime, until: datetime) -> OrdersPage:
        window = window_from(cursor, since, until, self._orders_a_page)
        query = {
            "orderby": "modified",
            "order": "asc",
            "status": status,
            "dates_are_gmt": "true",
            "modified_after": window.after,
            "modified_before": window.before,
        }
        page = self._orders_page(query, window, "date_modified_gmt")
        return replace(page, cursor=f"{_TRASH}{page.cursor}") if status == "trash" and page.cursor else page

    def open_orders(self, cursor: str = "") -> OrdersPage:
        """List the orders that are paid or on hold and not completed, oldest first; those with refunds as unclear ones.

        A shop's own states (plugins add some) aren't listed: WooCommerce can't say what they mean.
        """
        window = window_from(cursor, None, None, self._orders_a_page)
        query = {"orderby": "date", "order": "asc", "status": "processing,on-hold", "dates_are_gmt": "true"}
        if window.after:
            query["after"] = window.after
        return self._orders_page(query, window, "date_created_gmt")

    @property
    def _orders_a_page(self) -> int:
        return self._orders_pace.rows

    def _orders_page(self, query: dict[str, str], window: Window, timed_by: str) -> OrdersPage:
        asked = {**query, **_ORDER_FIELDS, "page": str(window.page), "per_page": str(window.size)}
        entries, _ = self._api.listed("/orders", asked, self._orders_pace, window.size)
        with understanding():
            times = [moment(entry, timed_by) for entry in entries]
            if window.since is not None and any(at < window.since for at in times):
                raise errors.cached("it tells of orders from before the time asked for")
            kept, cursor = window.cut(times)
            whole, unclear = _split_whole([entries[index] for index in kept])
        content = Content(documents=tuple(whole), unclear_orders=tuple(unclear))
        return OrdersPage(content, cursor, self._told_of(1))

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        """Fetch whole orders by id with their refunds, those in the trash too, unknown ones left out. Raises `PlatformError`."""
        wanted = [order_id for order_id in dict.fromkeys(order_ids) if ID.fullmatch(order_id)]
        calls = 0
        found: dict[str, Mapping[str, Any]] = {}
        for status in ("any", "trash"):
            missing = [order_id for order_id in wanted if order_id not in found]
            for start in range(0, len(missing), ORDERS_A_PAGE):
                ids = ",".join(missing[start : start + ORDERS_A_PAGE])
                query = {"include": ids, "status": status, "per_page": str(ORDERS_A_PAGE), **_ORDER_FIELDS}
                entries, _ = self._api.listed("/orders", query, self._orders_pace, 0)
                calls += 1
                with understanding():
                    found |= {identity(entry, "id"): entry for entry in _only(entries, missing)}
        documents = []
        for order_id, order in found.items():
            refunds = []
            with understanding():
                if has_refunds(order):
                    fields = "id,date_created_gmt,line_items"
                    query = {"per_page": str(MOST_ROWS), "_fields": fields}
                    entries, _ = self._api.listed(f"/orders/{order_id}/refunds", query, self._orders_pace, 0)
                    calls += 1
                    refunds = [refund_of(entry) for entry in entries]
                documents.append(document_of(order, refunds))
        return OrdersPage(Content(documents=tuple(documents)), "", self._told_of(calls) if calls else None)

    def _told_of(self, calls: int) -> Budget:
        """What calls took of the host's patience: WooCommerce itself counts none."""
        return Budget(self._limits.burst, self._limits.rate, float(calls))

    # --- listings and credentials -----------------------------------------------------------------------------------

    def listings(self, cursor: str = "") -> ListingsPage:
        """Return a page of all products, drafts and private ones too, and after them of all variations.

        A cursor counts the articles before it, so that a page may be of any size: fewer while the host is slow. A product
        that is deleted during the walk moves the following ones forward, so that one may be left out: what a walk misses is
        to be read before it is believed to be gone. Raises `PlatformError`.
        """
        kind, _, number = (cursor or "products:0").partition(":")
        if kind not in ("products", "variations") or not number.isdecimal():
            raise ValueError("this cursor was never given")
        fields = _PRODUCT_FIELDS if kind == "products" else _VARIATION_FIELDS
        size = self._reads.rows
        query = {"orderby": "id", "order": "asc", "status": "any", "offset": number, "per_page": str(size)}
        entries, total = self._api.listed(f"/{kind}", {**query, "_fields": fields}, self._reads, size)
        with understanding():
            found = tuple(listing_of(entry) for entry in entries)
        # A store leaves out what it can't show, and a host may give fewer than asked for: the next page begins behind what
        # was given. A host may strip the headers that count; then only a page that isn't full is surely the last.
        seen = int(number) + (len(entries) or size)
        if seen < total if total is not None else len(entries) >= size:
            return ListingsPage(found, f"{kind}:{seen}")
        return ListingsPage(found, "variations:0" if kind == "products" else "")

    def subscriptions(self, address: str) -> SubscriptionsAnswer:
        """Tell how the store's webhooks to `address` stand. Raises `PlatformError`."""
        if not address:
            return SubscriptionsAnswer(())
        with understanding():
            found, calls = self._webhooks.found(address)
        return SubscriptionsAnswer(found, self._told_of(calls))

    def subscribe(self, subscription: Subscription, address: str) -> SubscriptionsAnswer:
        """Make a webhook, or switch it on again with our secret. Raises `PlatformError`."""
        with understanding():
            return SubscriptionsAnswer((self._webhooks.put(subscription, address),), self._told_of(1))

    def make_ready(self) -> None:
        """Return at once: the key doesn't run out."""

    def check_credentials(self) -> None:
        """Return if the key may read orders and write products, and the store keeps stock. Raises `PlatformError`."""
        self._api.listed("/orders", {"per_page": "1", "_fields": "id"}, self._orders_pace, 0)
        # An empty batch changes nothing. PHP writes an empty object as [].
        self._api.posted(
            "/products/batch", {"update": []}, lambda value: value == [] or isinstance(value, dict), self._writes, 0
        )
        self._stop_if_nothing_is_managed(self._reads)


def _only(entries: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the entries of an answer. Raises `PlatformError` if one of them wasn't asked for."""
    if not {str(entry["id"]) for entry in entries} <= set(ids):
        raise errors.cached("it tells of what was not asked for")
    return list(entries)


def _is_batch(value: Any) -> bool:
    rows = value.get("update") if isinstance(value, Mapping) else None
    return isinstance(rows, list) and all(isinstance(entry, Mapping) for entry in rows)


def _split_whole(orders: Sequence[Mapping[str, Any]]) -> tuple[list[OrderDocument], list[str]]:
    """Return the documents of the orders that say all, and the ids of those to be asked for one by one: with refunds, or
    not understood (one of them must not hide the rest of its page)."""
    whole, others = [], []
    for order in orders:
        try:
            if not has_refunds(order):
                whole.append(document_of(order))
                continue
        except NotUnderstoodError as error:
            _log.warning("an order of the list is not understood: %s", error)
        others.append(identity(order, "id"))
    return whole, others
