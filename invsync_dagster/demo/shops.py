"""The stand-in shops as the demo sees them: their own books, and what people do in them, over the control endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

TIMEOUT_SECONDS = 30.0


class RefusedError(Exception):
    """Something that can't be done in a shop, such as selling what is sold out."""


@dataclass(frozen=True, slots=True)
class Book:
    """What a shop's own books say of one level; `on_hand` only at the ERP."""

    item_id: str
    location_id: str
    sku: str
    quantity: int
    on_hand: int | None = None


@dataclass(frozen=True, slots=True)
class Sale:
    """What a buyer took: units by the shop's own SKU; `order` is "" for a sale at a desk."""

    shop: str
    order: str
    units: Mapping[str, int]


class Shops:
    """All stand-ins behind the sandbox server at `address`."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._session = requests.Session()
        self._session.trust_env = False  # on loopback: no proxy

    def is_ready(self) -> bool:
        """Say whether the server answers."""
        try:
            return bool(self.health())
        except requests.RequestException:
            return False

    def health(self) -> dict[str, Any]:
        """Return the names of the shops, calls and faults of each, webhooks on their way, late writes."""
        answer = self._session.get(f"{self._address}/_sandbox/health", timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        return dict(answer.json())

    def is_quiet(self) -> bool:
        """Say whether no webhook is on its way and no write has still to land."""
        health = self.health()
        return not health["webhooks"]["pending"] and not health["late_writes"]

    def books(self, shop: str) -> list[Book]:
        """Return a shop's books."""
        answer = self._session.get(f"{self._address}/_sandbox/{shop}/books", timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        return [Book(**row) for row in answer.json()]

    def promised(self, shop: str) -> dict[str, int]:
        """Return the units of a shop's open orders by its own SKU, as its own books have them."""
        return {row["sku"]: row["quantity"] for row in self._act(shop, "promised", {})}

    def open_orders(self, shop: str) -> list[str]:
        """Return the ids of a shop's orders with units left to ship, oldest first."""
        return [str(order) for order in self._act(shop, "open_orders", {})]

    def unshipped(self, shop: str, order: str) -> dict[str, int]:
        """Return the units left to ship of an order by the shop's own SKU."""
        return {row["sku"]: row["quantity"] for row in self._act(shop, "unshipped", {"order": order})}

    def buy(self, shop: str) -> Sale:
        """Let a buyer choose and buy. Raises `RefusedError`."""
        answer = self._act(shop, "buy", {})
        return Sale(shop, str(answer["order"]), {line["sku"]: line["quantity"] for line in answer["lines"]})

    def order(self, shop: str, units: Mapping[str, int]) -> None:
        """Let a buyer take so many units of the shop's own SKUs. Raises `RefusedError`."""
        lines = [{"sku": sku, "quantity": quantity} for sku, quantity in units.items()]
        self._act(shop, "buy", {"lines": lines})

    def fulfil(self, shop: str, order: str) -> None:
        """Ship what is left of an order. Raises `RefusedError`."""
        self._act(shop, "fulfil", {"order": order})

    def cancel(self, shop: str, order: str) -> None:
        """Cancel what isn't shipped of an order, which is sold again. Raises `RefusedError`."""
        self._act(shop, "cancel", {"order": order, "restock": True})

    def refund(self, shop: str, order: str) -> None:
        """Take a shipped order back into stock. Raises `RefusedError`."""
        self._act(shop, "refund", {"order": order, "restock_type": "return"})

    def move(self, erp: str, action: str, sku: str, quantity: int) -> None:
        """Move the ERP's shelf: `ship` units out, `restock` or `adjust` by units. Raises `RefusedError`."""
        self._act(erp, action, {"sku": sku, "quantity": quantity})

    def set_faults(
        self, shop: str, rates: Mapping[str, float], script: Sequence[Mapping[str, Any] | None] = ()
    ) -> None:
        """Set what goes wrong with the calls to a shop: shares by kind, and one-shots for the next calls."""
        self._act(shop, "faults", {"rates": dict(rates), "script": list(script)})

    def set_webhook_faults(self, **shares: float) -> None:
        """Set the shares of webhooks that are dropped, doubled and held back (`drop`, `duplicate`, `delay`)."""
        answer = self._session.post(f"{self._address}/_sandbox/webhooks", json=shares, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()

    def _act(self, shop: str, action: str, given: Mapping[str, Any]) -> Any:
        url = f"{self._address}/_sandbox/{shop}/{action}"
        answer = self._session.post(url, json=dict(given), timeout=TIMEOUT_SECONDS)
        if answer.status_code in (400, 404):
            raise RefusedError(f"{shop} {action}: {answer.json().get('error')}")
        answer.raise_for_status()
        return answer.json()
