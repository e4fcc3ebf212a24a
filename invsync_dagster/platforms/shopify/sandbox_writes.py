"""The stand-in's `inventorySetQuantities` and `inventoryActivate`: checked as Shopify does, once per idempotency key."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from invsync_dagster.platforms.shopify.sandbox_books import Books
from invsync_dagster.platforms.shopify.sandbox_views import gid, level_node, number_of

_MAX_ROWS = 250
_MAX_QUANTITY = 1_000_000_000
_REASONS = frozenset(
    {"correction", "cycle_count_available", "other", "received", "restock", "safety_stock", "shrinkage"}
)
_REFERENCE = re.compile(r"gid://[\w-]+/[\w-]+/[\w.:-]+")
# How long Shopify remembers a key is not documented where we could read it; a day is usual.
_REMEMBERED = timedelta(hours=24)


class Writes:
    """Runs the mutations on the books; each returns its payload, or the message of a top-level error."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._answers: dict[str, tuple[datetime, str, dict[str, Any]]] = {}
        self._groups = 0

    def set_quantities(self, given: Mapping[str, Any], key: str, now: datetime) -> dict[str, Any] | str:
        """Set the quantities, or answer what the same key was answered before."""
        self._forget(now)
        same = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
        if key in self._answers:
            _, before, payload = self._answers[key]
            if before != same:
                return _refused("IDEMPOTENCY_KEY_PARAMETER_MISMATCH", "The key was used with other parameters")
            if payload["userErrors"]:
                return _refused("IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED", "A previous request with this key failed")
            return payload
        answer = self._set(given)
        if not isinstance(answer, str):
            self._answers[key] = (now, same, answer)
        return answer

    def activate(self, item_id: str, location_id: str, available: int, key: str, now: datetime) -> dict[str, Any]:
        """Stock an item at a location, or answer what the same key was answered before; its user errors have no code."""
        self._forget(now)
        if key in self._answers:
            return self._answers[key][2]
        item, location = number_of(item_id, "InventoryItem") or 0, number_of(location_id, "Location") or 0
        article = self._books.articles.get(item)
        level, refusals = None, []
        if article is None:
            refusals = [(["inventoryItemId"], "The inventory item couldn't be found.")]
        elif location not in self._books.locations:
            refusals = [(["locationId"], "The location couldn't be found.")]
        elif location in article.available:
            # Seen in the field: https://github.com/search?q=%22already+active+at+the+location%22&type=code
            words = "Not allowed to set available quantity when the item is already active at the location."
            refusals = [(["available"], words)]
        else:
            article.available[location] = available
        if article is not None and location in article.available:
            level = level_node(article, location)
        told = [{"field": field, "message": words} for field, words in refusals]
        answer = {"inventoryLevel": level, "userErrors": told}
        self._answers[key] = (now, "", answer)
        return answer

    def dump(self) -> dict[str, Any]:
        """Return the remembered keys as JSON values."""
        answers = {key: [at.isoformat(), same, payload] for key, (at, same, payload) in self._answers.items()}
        return {"answers": answers, "groups": self._groups}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self._groups = state["groups"]
        self._answers = {
            key: (datetime.fromisoformat(at), same, payload) for key, (at, same, payload) in state["answers"].items()
        }

    def _set(self, given: Mapping[str, Any]) -> dict[str, Any] | str:
        rows = given["quantities"]
        if len(rows) > _MAX_ROWS:
            return f"The input array size of {len(rows)} is greater than the maximum allowed of {_MAX_ROWS}."
        for row in rows:
            for name in ("quantity", "changeFromQuantity"):
                value = row.get(name)
                if not (value is None and name != "quantity") and (
                    not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**31
                ):
                    return f"Variable $input of type InventorySetQuantitiesInput! was provided invalid value for {name}"
        if given.get("name") not in {"available", "on_hand"}:
            return _refused("INVALID_NAME", "The quantity name must be either 'available' or 'on_hand'.", "name")
        if given.get("reason") not in _REASONS:
            return _refused("INVALID_REASON", "The specified reason is invalid.", "reason")
        if not _REFERENCE.fullmatch(given.get("referenceDocumentUri") or ""):
            words = "The specified reference document is invalid."
            return _refused("INVALID_REFERENCE_DOCUMENT", words, "referenceDocumentUri")
        times = Counter((row["inventoryItemId"], row["locationId"]) for row in rows)
        refusals = [
            {"code": code, "field": ["input", "quantities", str(index), name], "message": message}
            for index, row in enumerate(rows)
            for code, name, message in [self._refusal(row, times[row["inventoryItemId"], row["locationId"]])]
            if code
        ]
        if refusals:
            return {"inventoryAdjustmentGroup": None, "userErrors": refusals}
        changed = False
        for row in rows:
            item, location = _numbers(row)
            article = self._books.articles[item]
            changed |= article.tracked and article.available[location] != row["quantity"]
            self._books.set_available(item, location, row["quantity"])
        self._groups += 1
        # Clients in production report a null group without an error; a call that changes nothing is a likely cause.
        group = {"id": gid("InventoryAdjustmentGroup", self._groups)} if changed else None
        return {"inventoryAdjustmentGroup": group, "userErrors": []}

    def _refusal(self, row: Mapping[str, Any], times: int) -> tuple[str, str, str]:
        item, location = _numbers(row)
        article = self._books.articles.get(item)
        if times > 1:
            words = "The combination of inventoryItemId and locationId must be unique."
            return "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR", "inventoryItemId", words
        if article is None:
            return "INVALID_INVENTORY_ITEM", "inventoryItemId", "The specified inventory item could not be found."
        if location not in self._books.locations:
            return "INVALID_LOCATION", "locationId", "The specified location could not be found."
        if location not in article.available:
            words = "The specified inventory item is not stocked at the location."
            return "ITEM_NOT_STOCKED_AT_LOCATION", "locationId", words
        if not article.mutable:
            words = "The specified inventory item is not allowed to be adjusted via API."
            return "NON_MUTABLE_INVENTORY_ITEM", "inventoryItemId", words
        if row["quantity"] < 0:
            return "INVALID_QUANTITY_NEGATIVE", "quantity", "The quantity can't be negative."
        if row["quantity"] > _MAX_QUANTITY:
            return "INVALID_QUANTITY_TOO_HIGH", "quantity", "The total quantity can't be higher than 1,000,000,000."
        if "changeFromQuantity" not in row:
            return "COMPARE_QUANTITY_REQUIRED", "changeFromQuantity", "changeFromQuantity must be given, even if null."
        if row["changeFromQuantity"] is not None and row["changeFromQuantity"] != article.available[location]:
            words = "The changeFromQuantity value does not match persisted value."
            return "CHANGE_FROM_QUANTITY_STALE", "changeFromQuantity", words
        return "", "", ""

    def _forget(self, now: datetime) -> None:
        # Keys are entered in the order of time, so the old ones stand first.
        while self._answers:
            oldest = next(iter(self._answers))
            if now - self._answers[oldest][0] < _REMEMBERED:
                return
            del self._answers[oldest]


def _numbers(row: Mapping[str, Any]) -> tuple[int, int]:
    return number_of(row["inventoryItemId"], "InventoryItem") or 0, number_of(row["locationId"], "Location") or 0


def _refused(code: str, message: str, name: str = "") -> dict[str, Any]:
    field = ["input", name] if name else None
    return {"inventoryAdjustmentGroup": None, "userErrors": [{"code": code, "field": field, "message": message}]}
