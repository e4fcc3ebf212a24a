"""What a request of ours that writes quantities says, read from its bytes alone."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, unquote

from invsync_dagster.platforms.transport import Request


def written_key(request: Request) -> str | None:
    """Return the idempotency key of a request that writes quantities ("" where the platform has none), None for every
    other request."""
    if request.url.endswith("/batch"):
        return "" if json.loads(request.body)["update"] else None
    if request.url.endswith(("/bulk_update_price_quantity", "/edit-inventory")) or request.method == "PATCH":
        return ""
    if request.url.endswith("/stock") and request.method == "POST":
        return next(value for name, value in request.headers.items() if name.lower() == "idempotency-key")
    if b"inventorySetQuantities" in request.body or b"inventoryActivate" in request.body:
        return str(json.loads(request.body)["variables"].get("key", ""))
    return None


def written_compare(request: Request, item: str) -> int | None:
    """Return the compare-and-set value of one row of a writing request to a shop."""
    rows = json.loads(request.body)["variables"].get("input", {"quantities": []})["quantities"]
    return next((row["changeFromQuantity"] for row in rows if row["inventoryItemId"] == item), None)


def written_rows(request: Request) -> dict[str, int]:
    """Return what a writing request says, quantity by item id."""
    if request.url.endswith("/edit-inventory"):
        rows = json.loads(parse_qs(request.body.decode())["sku_inventory"][0])
        return {row["sku_id"]: int(row["inventory"]) for row in rows}
    body = json.loads(request.body)
    if request.method == "PATCH":
        (patch,) = body["patches"]
        sku = re.sub(r".*/items/[^/]+/([^/?]+).*", r"\1", request.url)
        return {unquote(sku): patch["value"][0]["quantity"]}
    if "requests" in body:
        return {row["sku"]: row["shipToLocationAvailability"]["quantity"] for row in body["requests"]}
    if "update" in body:
        return {str(row["id"]): row["stock_quantity"] for row in body["update"]}
    if "updates" in body:
        return {row["sku"]: row["available_quantity"] for row in body["updates"]}
    given = body["variables"]
    stocked = {given[f"item{n}"]: given[f"available{n}"] for n in range(body["query"].count("inventoryActivate("))}
    rows = given["input"]["quantities"] if "input" in given else []
    return stocked | {row["inventoryItemId"]: row["quantity"] for row in rows}
