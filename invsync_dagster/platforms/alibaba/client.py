"""The connected Alibaba.com channel: each write is one call for one product, never waits and is never repeated here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from invsync_dagster.clock import Clock
from invsync_dagster.events import Content, OrderDocument
from invsync_dagster.platforms.alibaba import errors, gateway, orders
from invsync_dagster.platforms.alibaba.gateway import Api, compact
from invsync_dagster.platforms.alibaba.products import ShownProduct, inventory_of, is_id, listings_of, products_of
from invsync_dagster.platforms.alibaba.settings import AlibabaSettings
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
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.fields import understanding
from invsync_dagster.platforms.oauth import Tokens
from invsync_dagster.platforms.rows import refused_unsent, review, sent_without
from invsync_dagster.platforms.transport import Request, Transport

PRODUCTS_A_PAGE = 20
ORDERS_A_PAGE = 50


class Gateway(Protocol):
    """What signs the calls of one of the two gateways."""

    @property
    def secrets(self) -> tuple[str, ...]: ...

    def request(self, api: Api, parameters: Mapping[str, str], token: str, now: datetime) -> Request: ...

    def unwrapped(self, api: Api, answer: Mapping[str, Any]) -> Mapping[str, Any]: ...


class AlibabaPlatform:
    """The `Platform` of one seller's account. Its representation and its messages never hold a key, secret or token.

    A level is a SKU with its product as `location_id`; a product without SKUs has its own id in both places.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        signer: Gateway,
        tokens: Tokens,
        limits: Limits,
        transport: Transport,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._signer = signer
        self._tokens = tokens
        self._limits = limits
        self._transport = transport
        self._clock = clock

    def __repr__(self) -> str:
        return f"AlibabaPlatform({self._settings.gateway}, {self._settings.url})"

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._limits

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        """Set, or change by differences, the numbers of SKUs of one product in one call.

        Alibaba.com has neither compare-and-set nor idempotency keys: `key` plays no part, and `expected` only where
        differences are written, as what they start from. A product refuses its call as a whole without a word on which
        row is at fault, so a refused call is followed by a reading, which tells the SKUs that aren't there. Raises
        `ValueError` above `write_batch`, and for rows of several products.
        """
        if len(rows) > self._limits.write_batch:
            raise ValueError(f"at most {self._limits.write_batch} rows a call, not {len(rows)}")
        if len({row.level.location_id for row in rows}) > 1:
            raise ValueError("the rows of one call are SKUs of one product")
        times = Counter(row.level for row in rows)
        with_skus = any(row.level.item_id != row.level.location_id for row in rows)
        refused = [self._refused_unsent(row, times[row.level], with_skus) for row in rows]
        return WriteAnswer(sent_without(refused, rows, self._send))

    def _refused_unsent(self, row: WriteRow, times: int, with_skus: bool) -> Outcome | None:
        if (refusal := refused_unsent(row, times, _ill_formed(row.level))) is not None:
            return refusal
        if with_skus and row.level.item_id == row.level.location_id:
            return review("has_skus", "the product has SKUs, which keep the stock: map them in its place")
        if self._settings.write == "delta" and row.expected is None:
            words = "a difference starts from a number that was read: read the level first"
            return Outcome(Result.REJECTED, Recovery.SETTLE, "not_read", words)
        if self._settings.write == "delta" and row.expected == row.quantity:
            return Outcome(Result.ACKNOWLEDGED)
        return None

    def _send(self, rows: Sequence[WriteRow]) -> Sequence[Outcome]:
        ends_at = self._ends_at()
        try:
            if self._settings.write == "delta":
                answer = self._call(gateway.CHANGE_INVENTORY, self._differences(rows), ends_at, writing=True)
            else:
                answer = self._call(gateway.EDIT_INVENTORY, self._numbers(rows), ends_at, writing=True)
        except PlatformError as error:
            if error.recovery is Recovery.REJECT and not error.code.startswith("http_"):
                return self._told_apart(rows, error, ends_at)
            return outcomes_of_failure(error, len(rows))
        if not any(errors.is_true(layer.get("success")) for layer in errors.layers(answer)):
            words = "the answer doesn't say that it was done"
            return [Outcome(Result.UNKNOWN, Recovery.SETTLE, "not_confirmed", words)] * len(rows)
        return [Outcome(Result.ACKNOWLEDGED)] * len(rows)

    def _numbers(self, rows: Sequence[WriteRow]) -> dict[str, str]:
        product = rows[0].level.location_id
        if rows[0].level.item_id == product:
            return {"product_id": product, "inventory": str(rows[0].quantity)}
        numbers: Any
        if self._settings.sku_inventory == "map":
            numbers = {row.level.item_id: row.quantity for row in rows}
        else:
            numbers = [{"sku_id": row.level.item_id, "inventory": str(row.quantity)} for row in rows]
        return {"product_id": product, "sku_inventory": compact(numbers)}

    def _differences(self, rows: Sequence[WriteRow]) -> dict[str, str]:
        product = rows[0].level.location_id
        changes = []
        for row in rows:
            difference = row.quantity - (row.expected or 0)
            changes.append(
                {
                    "sku_id": -1 if row.level.item_id == product else int(row.level.item_id),
                    "inventory_code": self._settings.warehouse_code,
                    "inventory": abs(difference),
                    "operate": "plus" if difference > 0 else "sub",
                }
            )
        return {"request_param": compact({"product_id": int(product), "inventory_list": changes})}

    def _told_apart(self, rows: Sequence[WriteRow], error: PlatformError, ends_at: datetime) -> Sequence[Outcome]:
        """Return the outcomes of a call that was refused as a whole, by what a reading shows of its rows."""
        try:
            shown = self._product(rows[0].level.location_id, ends_at)
        except PlatformError:
            return outcomes_of_failure(error, len(rows))
        there = set() if shown is None else {shown.level_of(sku) for sku in shown.skus}
        if all(row.level in there for row in rows):
            return outcomes_of_failure(error, len(rows))
        fine = Outcome(Result.NOT_SENT, Recovery.RETRY, "batch_refused", "other rows of the call were refused")
        if self._settings.write == "delta":
            # Numbers can be sent again whatever was done of them; of differences it must be read first.
            fine = replace(fine, result=Result.UNKNOWN, recovery=Recovery.SETTLE)
        return [fine if row.level in there else _missing(row.level) for row in rows]

    # --- reading ----------------------------------------------------------------------------------------------------

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        """Read the products of the levels, a call each.

        Raises `PlatformError`, `ValueError` above `read_batch` levels or `read_locations` products.
        """
        ends_at = self._ends_at()
        products = list(dict.fromkeys(level.location_id for level in levels if _well_formed(level)))
        limits = self._limits
        if len(levels) > limits.read_batch or len(products) > limits.read_locations:
            raise ValueError(
                f"at most {limits.read_batch} levels of {limits.read_locations} products, not {len(levels)}"
            )
        found: dict[LevelReference, Reading] = {}
        for number in products:
            shown = self._product(number, ends_at)
            for sku in shown.skus if shown is not None else ():
                level = LevelReference(sku.sku_id or number, number)
                problem = None
                if sku.quantity is None:
                    problem = review("unmanaged", "no inventory is kept for it")
                found[level] = Reading(level, sku.quantity, problem, sku.sku_id, sku.code)
        readings = tuple(found.get(level) or Reading(level, None, _missing(level)) for level in levels)
        return ReadAnswer(readings, self._spent(len(products)) if products else None)

    def _product(self, number: str, ends_at: datetime) -> ShownProduct | None:
        """Return what a product shows, None if it isn't there. Raises `PlatformError`."""
        try:
            if self._settings.write == "delta":
                asked = {"product_id": number, "language": "en_US"}
                answer = self._call(gateway.GET_INVENTORY, asked, ends_at)
                with understanding():
                    return inventory_of(answer, number, self._settings.warehouse_code or "")
            answer = self._call(gateway.GET_PRODUCT, {"product_id": number}, ends_at)
            with understanding():
                return next((each for each in products_of(answer) if each.product_id == number), None)
        except PlatformError as error:
            if error.recovery is Recovery.REVIEW:
                return None
            raise

    # --- orders -----------------------------------------------------------------------------------------------------

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        """List the ids of orders modified in [since, until): their lines are asked for one order at a time.

        An order that changes while the list is walked moves to another page, or comes in, and leaves none: pages can
        double an order, and don't lose one.
        """
        asked = {
            "modified_date_start": orders.window_start(since),
            "modified_date_end": orders.window_end(until),
        }
        found, following = self._list_orders(asked, cursor)
        ids = tuple(each.order_id for each in found if since <= each.changed_at < until)
        return OrdersPage(Content(unclear_orders=ids), following, self._spent(1))

    def open_orders(self, cursor: str = "") -> OrdersPage:
        """List the ids of the orders that are paid and not shipped, one state after the other."""
        state, _, page = (cursor or f"{orders.OPEN[0]}/").partition("/")
        if state not in orders.OPEN:
            raise ValueError("this cursor was never given")
        found, following = self._list_orders({"status": state}, page)
        if following:
            following = f"{state}/{following}"
        elif state != orders.OPEN[-1]:
            following = f"{orders.OPEN[orders.OPEN.index(state) + 1]}/"
        return OrdersPage(Content(unclear_orders=tuple(each.order_id for each in found)), following, self._spent(1))

    def _list_orders(self, filters: Mapping[str, Any], cursor: str) -> tuple[list[orders.ListedOrder], str]:
        page = int(cursor or "0")
        query = {"role": "seller", "start_page": page, "page_size": ORDERS_A_PAGE, **filters}
        if self._settings.gateway == "top":
            asked = {"param_trade_ecology_order_list_query": compact(query)}
        else:
            asked = {name: value if isinstance(value, str) else compact(value) for name, value in query.items()}
        answer = self._call(gateway.LIST_ORDERS, asked, self._ends_at())
        if orders.masked(answer):
            words = "Alibaba.com hides the orders' numbers from this app (21***54): ask for the right to orders in its console"
            raise PlatformError(Recovery.REJECT, "masked_orders", words)
        with understanding():
            found, total = orders.listed_orders(answer)
        is_last = len(found) < ORDERS_A_PAGE or (total is not None and (page + 1) * ORDERS_A_PAGE >= total)
        return found, "" if is_last else str(page + 1)

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        """Fetch whole orders, a call each, and one more for the logistics of those that may have left. Raises
        `PlatformError`."""
        documents: list[OrderDocument] = []
        calls = 0
        for order_id in dict.fromkeys(order_ids):
            if not is_id(order_id):
                continue
            calls += 1
            asked = {"e_trade_id": order_id, "language": "en_US"}
            try:
                order = orders.order_of(self._call(gateway.GET_ORDER, asked, self._ends_at()))
            except PlatformError as error:
                if error.recovery is Recovery.REVIEW:
                    continue
                raise
            if order is None:
                continue
            with understanding():
                shipped_at = None
                if orders.state_of(order) in orders.DEPENDING:
                    calls += 1
                    shipped_at = self._left_at(order_id, orders.changed_at(order, self._clock.now()))
                documents.append(orders.document_of(order, self._clock.now(), shipped_at))
        return OrdersPage(Content(documents=tuple(documents)), "", self._spent(calls) if calls else None)

    def _left_at(self, order_id: str, otherwise: datetime) -> datetime | None:
        name = "e_trade_id" if self._settings.gateway == "top" else "trade_id"
        asked = {name: order_id, "data_select": "logistic_order"}
        answer = self._call(gateway.GET_LOGISTICS, asked, self._ends_at())
        return orders.left_at(answer, otherwise)

    # --- listings and credentials -----------------------------------------------------------------------------------

    def listings(self, cursor: str = "") -> ListingsPage:
        """Return a page of all products with their SKUs. Raises `PlatformError`.

        A product that goes during the walk moves the following ones forward, so that one may be left out: what a walk
        misses is to be read before it is believed to be gone.
        """
        if self._settings.gateway == "top":
            words = "the top gateway has no call that lists products with their SKUs: map them by a file"
            raise PlatformError(Recovery.REJECT, "not_offered", words)
        page = int(cursor or "1")
        asked = {"page_index": str(page), "page_size": str(PRODUCTS_A_PAGE)}
        try:
            answer = self._call(gateway.SEARCH_PRODUCTS, asked, self._ends_at())
        except PlatformError as error:
            if error.recovery is not Recovery.REVIEW:
                raise
            return ListingsPage((), "", self._spent(1))  # "not found" of a list: there is nothing (more)
        with understanding():
            products = products_of(answer)
        found = tuple(listing for product in products for listing in listings_of(product))
        following = str(page + 1) if len(products) >= PRODUCTS_A_PAGE else ""
        return ListingsPage(found, following, self._spent(1))

    def make_ready(self) -> None:
        """Renew the access token where that is due. Raises `PlatformError`."""
        self._tokens.token()

    def check_credentials(self) -> None:
        """Ask for orders and, where such calls are used, for products. Raises `PlatformError`."""
        self._list_orders({}, "")
        if self._settings.write == "absolute":
            self.listings()

    # --- one call ---------------------------------------------------------------------------------------------------

    def _call(
        self, api: Api, parameters: Mapping[str, str], ends_at: datetime, *, writing: bool = False
    ) -> Mapping[str, Any]:
        """Make one call and return its answer out of its envelope. Raises `PlatformError`."""
        token = self._tokens.token()
        now = self._clock.now()
        request = self._signer.request(api, parameters, token, now)
        response = answer_to(request, self._transport, deadline=(ends_at - now).total_seconds(), writing=writing)
        secrets = (*self._tokens.secrets, *self._signer.secrets)
        try:
            answer = self._signer.unwrapped(api, errors.object_of(response, writing=writing, secrets=secrets))
            errors.check(answer, now, writing=writing, secrets=secrets)
        except PlatformError as error:
            of_token = error.code in errors.TOKEN_CODES or error.code == "http_401"
            if of_token and self._tokens.refused(token):
                words = "the token was refused before its time; the next call takes a new one"
                raise PlatformError(Recovery.RETRY, error.code, words) from error
            raise
        return answer

    def _ends_at(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self._limits.request_deadline)

    def _spent(self, calls: int) -> Budget:
        return Budget(self._limits.burst, self._limits.rate, float(calls))


def _well_formed(level: LevelReference) -> bool:
    return is_id(level.item_id) and is_id(level.location_id)


def _ill_formed(level: LevelReference) -> str:
    return "" if _well_formed(level) else "the level's ids are not those of an Alibaba.com SKU and its product"


def _missing(level: LevelReference) -> Outcome:
    if words := _ill_formed(level):
        return review("invalid_id", words)
    return review("not_found", f"product {level.location_id} is not there, or has no SKU {level.item_id}")
