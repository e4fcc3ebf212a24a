"""The stand-in account of Alibaba.com: both gateways over its own books, with their refusals, quotas and lags."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.alibaba.sandbox_books import AccountError, Books, Order, Product, Sku
from invsync_dagster.platforms.alibaba.sandbox_gate import Gate, Grant, Quota, RefusedError
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.transport import Request, Response

__all__ = ["AccountError", "AlibabaSandbox"]

WAREHOUSE = "CN_LOCAL_01"
_THEIRS = ZoneInfo("America/Los_Angeles")
_MOST_PRODUCTS = 20
_MOST_ORDERS = 100


class AlibabaSandbox:
    """One seller's account, behind `handle`. Its buyers move its own numbers; it tells nobody, and is asked.

    `rate`, `burst` and `daily` are the calls that the app may make; `lag` is how late a changed number is shown;
    `token_lifetime` how long an access token is good, in seconds.
    """

    def __init__(
        self,
        *,
        app_key: str,
        app_secret: str,
        refresh_token: str,
        clock: Clock,
        session: str = "",
        rate: float = 5.0,
        burst: float = 10.0,
        daily: int = 1_000_000,
        lag: float = 0.0,
        token_lifetime: float = 86_400.0,
    ) -> None:
        ends_at = clock.now().timestamp() + (10**9 if session else 0)
        grant = Grant(session, refresh_token, ends_at)
        self.gate = Gate(app_key, app_secret, grant, Quota(rate, burst, daily), token_lifetime, clock)
        self._clock = clock
        self._books = Books(lag)

    # --- the account's people ---------------------------------------------------------------------------------------

    def add_sku(self, code: str, quantity: int, *, product: int = 0, sku: int = 0) -> LevelReference:
        """Add a SKU, to a product of its own or to `product`, and return its level. Raises `AccountError`."""
        return _level(*self._books.add(code, quantity, product=product, sku=sku))

    def add_product(self, code: str, quantity: int, *, product: int = 0) -> LevelReference:
        """Add a product without SKUs and return its level. Raises `AccountError`."""
        return _level(*self._books.add(code, quantity, product=product, sku=-1))

    def remove(self, level: LevelReference) -> None:
        """Take a SKU away, and its product with the last one."""
        product, sku = _numbers(level)
        del self._books.products[product].skus[sku]
        if not self._books.products[product].skus:
            del self._books.products[product]

    def buy(self, lines: Mapping[LevelReference, int], *, state: str = "undeliver") -> str:
        """Take an order in `state` and return its id. Raises `AccountError` if there aren't enough."""
        units = {_numbers(level): quantity for level, quantity in lines.items()}
        return str(self._books.buy(units, self._clock.now(), state=state).trade)

    def bring(self, order_id: str, state: str) -> None:
        """Bring an order into another state (`wait_confirm_receipt`, `trade_close`, …). Raises `AccountError`."""
        self._books.bring(int(order_id), state, self._clock.now())

    def redraft(self, order_id: str, units: Mapping[str, int]) -> None:
        """Change the units per line id of an order that isn't paid yet, 0 takes a line out. Raises `AccountError`."""
        self._books.redraft(int(order_id), dict(units), self._clock.now())

    def edit_stock(self, level: LevelReference, quantity: int) -> None:
        """Change a number by hand, as the seller's staff does. Raises `AccountError`."""
        self._books.sku(*_numbers(level)).put(quantity, self._clock.now().timestamp(), self._books.lag)

    def revoke(self) -> None:
        """End the seller's grant."""
        self.gate.grant = Grant("revoked", "revoked", 0.0)

    def order(self, order_id: str) -> Order:
        """Return an order of the books. Raises `AccountError`."""
        return self._books.order(int(order_id))

    def orders(self) -> Sequence[Order]:
        """Return all orders of the books, oldest first."""
        return list(self._books.orders.values())

    def open_orders(self) -> list[str]:
        """Return the ids of the orders that are to be shipped, oldest first."""
        return [str(trade) for trade in self._books.open_orders()]

    def promised(self, order_id: str = "") -> dict[LevelReference, int]:
        """Return the units sold and not shipped yet per level, of all orders or one."""
        units: dict[LevelReference, int] = {}
        for trade in [int(order_id)] if order_id else self._books.open_orders():
            if trade in self._books.open_orders():
                for line in self._books.order(trade).lines:
                    level = _level(line.product, line.sku)
                    units[level] = units.get(level, 0) + line.quantity
        return units

    def shown(self, level: LevelReference) -> int:
        """Return the true number of a level. Raises `AccountError`."""
        return self._books.sku(*_numbers(level)).quantity

    def books(self) -> dict[LevelReference, int]:
        """Return the true number of every level."""
        products = self._books.products.values()
        return {_level(each.number, sku.number): sku.quantity for each in products for sku in each.skus.values()}

    def take_outgoing(self) -> tuple[()]:
        """Return nothing: there are no webhooks."""
        return ()

    def dump(self) -> dict[str, Any]:
        """Return the account's state as JSON values."""
        return {"books": self._books.dump(), "grant": asdict(self.gate.grant), "quota": asdict(self.gate.quota)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self._books.load(state["books"])
        self.gate.grant, self.gate.quota = Grant(**state["grant"]), Quota(**state["quota"])

    # --- the gateways -----------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answer one call of either gateway: TOP's name their method, GOP's stand in the address."""
        asked = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        if "method" in asked:
            return _json(self._top(asked))
        path = urlsplit(request.url).path
        for api, work in self._apis().items():
            if path.endswith(api[0]):
                return _json(self._gop(api[0], asked, work))
        return _json({"type": "ISV", "code": "InvalidApiPath", "message": f"no {path}", "request_id": "0"})

    def _gop(self, path: str, asked: Mapping[str, str], work: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        try:
            self.gate.pass_gop(path, asked)
            return {"code": "0", **work(asked), "request_id": "0ba2887315178178017221014"}
        except RefusedError as refused:
            return {"type": refused.kind, "code": refused.code, "message": refused.message, "request_id": "0"}

    def _top(self, asked: Mapping[str, str]) -> dict[str, Any]:
        try:
            self.gate.pass_top(asked)
            for (_, method), work in self._apis().items():
                if method == asked["method"]:
                    answer = {**work(asked), "request_id": "0"}
                    return {f"{method.replace('.', '_')}_response": _wrapped_lists(answer)}
            raise RefusedError("22", "isv.invalid-method", "Invalid method")
        except RefusedError as refused:
            error = {"code": refused.kind, "msg": "refused", "sub_code": refused.code, "sub_msg": refused.message}
            return {"error_response": {**error, "request_id": "0"}}

    def _apis(self) -> dict[tuple[str, str], Callable[[Mapping[str, str]], dict[str, Any]]]:
        return {
            ("/auth/token/refresh", ""): lambda asked: self.gate.refresh(asked.get("refresh_token", "")),
            ("/icbu/product/edit-inventory", ""): self._edit_inventory,
            ("/alibaba/icbu/product/get/v2", ""): self._get_product,
            ("/alibaba/icbu/product/search/v2", ""): self._search,
            ("/icbu/product/inventory/update", "alibaba.icbu.product.inventory.update"): self._change_inventory,
            ("/icbu/product/inventory/get", "alibaba.icbu.product.sku.inventory.get"): self._get_inventory,
            ("/alibaba/order/list", "alibaba.seller.order.list"): self._list_orders,
            ("/alibaba/order/get", "alibaba.seller.order.get"): self._get_order,
            ("/order/logistics/query", "alibaba.seller.order.logistics.get"): self._get_logistics,
        }

    # --- products ---------------------------------------------------------------------------------------------------

    def _edit_inventory(self, asked: Mapping[str, str]) -> dict[str, Any]:
        product = self._books.products.get(int(asked.get("product_id", "0")))
        if product is None:
            return _no("B_PRODUCT_NOT_FOUND", "The product does not exist")
        if "sku_inventory" not in asked and "inventory" not in asked:
            return _no("B_INVENTORY_ALL_NULL", "SPU and SKU inventory cannot both be empty")
        if "sku_inventory" in asked and "inventory" in asked:
            return _no("B_INVENTORY_CONFLICT", "SPU and SKU inventory cannot be processed at the same time")
        if "inventory" in asked:
            numbers = {-1: int(asked["inventory"])}
        else:
            given = json.loads(asked["sku_inventory"])
            rows = given.items() if isinstance(given, dict) else [(row["sku_id"], row["inventory"]) for row in given]
            numbers = {int(sku): int(quantity) for sku, quantity in rows}
        # One SKU that isn't there, and nothing of the call is done.
        if any(sku not in product.skus or quantity < 0 for sku, quantity in numbers.items()):
            return _no("B_PRODUCT_PARAM_INVALID", "The parameter is invalid")
        for sku, quantity in numbers.items():
            product.skus[sku].put(quantity, self._clock.now().timestamp(), self._books.lag)
        return {"result": {"data": None, "success": True}}

    def _change_inventory(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Add or take off what is asked, as often as it is asked: this call knows no repetition."""
        given = json.loads(asked["request_param"])
        product = self._books.products.get(given["product_id"])
        if product is None:
            return _no("B_PRODUCT_NOT_FOUND", "The product does not exist")
        if any(
            row["sku_id"] not in product.skus or row["inventory_code"] != WAREHOUSE for row in given["inventory_list"]
        ):
            return _no("B_PRODUCT_PARAM_INVALID", "The parameter is invalid")
        for row in given["inventory_list"]:
            sku = product.skus[row["sku_id"]]
            change = row["inventory"] if row["operate"] == "plus" else -row["inventory"]
            sku.put(max(0, sku.quantity + change), self._clock.now().timestamp(), self._books.lag)
        return {"result": {"success": True, "data": "true", "trace_id": "0"}}

    def _get_product(self, asked: Mapping[str, str]) -> dict[str, Any]:
        product = self._books.products.get(int(asked.get("product_id", "0")))
        if product is None:
            return _no("B_PRODUCT_NOT_FOUND", "The product does not exist")
        return {"result": {"success": True, "product_info": self._product_view(product)}}

    def _search(self, asked: Mapping[str, str]) -> dict[str, Any]:
        size, page = int(asked.get("page_size", "10")), int(asked.get("page_index", "1"))
        if not 1 <= size <= _MOST_PRODUCTS:
            return _no("B_PRODUCT_PARAM_INVALID", "page_size is at most 20")
        products = sorted(self._books.products.values(), key=lambda product: product.number)
        shown = products[(page - 1) * size : page * size]
        if not shown:
            return _no("B_PRODUCT_NOT_FOUND", "The product does not exist")
        counts = {"page_index": page, "page_size": size, "total_item": len(products)}
        views = [self._product_view(product) for product in shown]
        return {"result": {"success": True, "product_info": views, "page": counts}}

    def _product_view(self, product: Product) -> dict[str, Any]:
        skus = [sku for sku in product.skus.values() if sku.number != -1]
        own = product.skus.get(-1)
        return {
            "basic_info": {
                # Some of its ids come as numbers, however long.
                "product_id": product.number,
                "title": product.title,
                "status": product.status,
                "model_number": own.code if own else "",
            },
            "trade_info": {
                "inventory": sum(map(self._shown, product.skus.values())),
                "sku_info": [
                    {"sku_id": sku.number, "sku_code": sku.code, "inventory": self._shown(sku)} for sku in skus
                ],
            },
        }

    def _get_inventory(self, asked: Mapping[str, str]) -> dict[str, Any]:
        product = self._books.products.get(int(asked.get("product_id", "0")))
        if product is None:
            return _no("B_PRODUCT_NOT_FOUND", "The product does not exist")
        rows = [
            {
                "sku_id": sku.number,
                "inventory_code": WAREHOUSE,
                "inventory": self._shown(sku),
                "sku_outer_id": sku.code,
            }
            for sku in product.skus.values()
        ]
        return {"result": {"success": True, "data_list": rows}}

    def _shown(self, sku: Sku) -> int:
        return sku.shown(self._clock.now().timestamp(), self._books.lag)

    # --- orders -----------------------------------------------------------------------------------------------------

    def _list_orders(self, asked: Mapping[str, str]) -> dict[str, Any]:
        query = json.loads(asked.get("param_trade_ecology_order_list_query", "{}")) or {
            name: json.loads(value) if value[:1] == "{" else value for name, value in asked.items()
        }
        if query.get("role") != "seller":
            return {"value": {"total_count": "0", "order_list": []}}
        found = sorted(self._books.orders.values(), key=lambda order: (-order.modified, -order.trade))
        if "status" in query:
            found = [order for order in found if order.state == query["status"]]
        # It goes by the words, which are in the time of California.
        for name, keep in (("modified_date_start", 1), ("modified_date_end", -1)):
            if name in query:
                bound = datetime.strptime(query[name]["date_str"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=_THEIRS)
                limit = bound.timestamp() * 1000
                found = [order for order in found if keep * (order.modified - limit) >= 0]
        size, page = min(int(query.get("page_size", 10)), _MOST_ORDERS), int(query.get("start_page", 0))
        entries = [_head(order) for order in found[page * size : (page + 1) * size]]
        return {"value": {"total_count": str(len(found)), "order_list": entries}}

    def _get_order(self, asked: Mapping[str, str]) -> dict[str, Any]:
        order = self._books.orders.get(int(asked.get("e_trade_id", "0")))
        if order is None:
            return {"value": {}}
        products = [
            {
                "id": line.line,
                "product_id": str(line.product),
                **({} if line.sku == -1 else {"sku_id": str(line.sku)}),
                "sku_code": line.code,
                "quantity": f"{line.quantity}.0000",
                "unit": "Pieces",
            }
            for line in order.lines
        ]
        return {"value": {**_head(order), "order_products": products}}

    def _get_logistics(self, asked: Mapping[str, str]) -> dict[str, Any]:
        order = self._books.orders.get(int(asked.get("trade_id", asked.get("e_trade_id", "0"))))
        if order is None or not order.shipped:
            return {"value": {"logistic_status": "UNDELIVERED", "shipping_order_list": []}}
        voucher = {"tracking_number": "123432", "service_provider": "EX_ASP_OCEAN_EXPRESS"}
        return {
            "value": {
                "logistic_status": "CONFIRM_RECEIPT",
                "shipping_order_list": [{"voucher": voucher}],
                "shipment_date": _date(order.shipped),
            }
        }


def _head(order: Order) -> dict[str, Any]:
    return {
        "trade_id": str(order.trade),
        "trade_status": order.state,
        "create_date": _date(order.created),
        "modify_date": _date(order.modified),
    }


def _date(milliseconds: int) -> dict[str, str]:
    words = datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone(_THEIRS).strftime("%b. %d, %Y, %H:%M:%S %Z.")
    return {"format_date": words, "timestamp": str(milliseconds)}


def _no(code: str, message: str) -> dict[str, Any]:
    return {"result": {"success": False, "msg_code": code, "message": message, "trace_id": "0"}}


def _wrapped_lists(value: Any) -> Any:
    """Put each list into an object of its own, as TOP's JSON does."""
    if isinstance(value, dict):
        return {name: _wrapped_lists(inner) for name, inner in value.items()}
    return {"item": [_wrapped_lists(inner) for inner in value]} if isinstance(value, list) else value


def _json(value: Any) -> Response:
    return Response(200, {"content-type": "application/json;charset=UTF-8"}, json.dumps(value).encode())


def _level(product: int, sku: int) -> LevelReference:
    return LevelReference(str(product if sku == -1 else sku), str(product))


def _numbers(level: LevelReference) -> tuple[int, int]:
    product = int(level.location_id)
    return product, -1 if level.item_id == level.location_id else int(level.item_id)
