"""What the server and every stand-in on it agree on: articles, what books show, actions and their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from invsync_dagster.platforms.transport import Request, Response

Action = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Article:
    """One article of the sample catalogue as one channel lists it: `quantity` units there are, `shown` on show (None: all)."""

    sku: str
    quantity: int
    item_id: str = ""
    location_id: str = ""
    variant_id: str = ""
    shown: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a stand-in's own books say of one level; `on_hand` only where it keeps such a book (the ERP)."""

    item_id: str
    location_id: str
    sku: str
    quantity: int
    on_hand: int | None = None


class ActionError(Exception):
    """Something that can't be done in the stand-in, with the reason for whoever asked."""


class Webhook(Protocol):
    """A webhook as a stand-in gives it out."""

    @property
    def headers(self) -> dict[str, str]: ...

    @property
    def body(self) -> bytes: ...


class StandIn(Protocol):
    """A stand-in as the server keeps it; not safe for threads by itself."""

    actions: Mapping[str, Action]
    """What people do there, by name, each with JSON arguments and a JSON result; raises `ActionError`, `ValueError`,
    or `KeyError` with the unknown name."""
    webhook_retries: int

    def handle(self, request: Request) -> Response: ...

    def books(self) -> Sequence[Shown]: ...

    def take_outgoing(self) -> Sequence[Webhook]: ...

    def signed(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers of an attempt made now."""
        ...

    def dump(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...


def wanted(given: Mapping[str, Any]) -> dict[str, int]:
    """Return the units per SKU under `lines`, {} if there is none. Raises `ActionError`."""
    given_lines = given.get("lines", [])
    if not isinstance(given_lines, list) or not all(isinstance(line, dict) for line in given_lines):
        raise ActionError("lines must be a list of objects with sku and quantity")
    return {text(line, "sku"): units(line) for line in given_lines}


def lines(basket: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return units per SKU as lines of an order."""
    return [{"sku": sku, "quantity": quantity} for sku, quantity in basket.items()]


def text(given: Mapping[str, Any], name: str) -> str:
    """Return an argument that is a text. Raises `ActionError`."""
    value = given.get(name)
    if not isinstance(value, str):
        raise ActionError(f"{name} must be a text")
    return value


def units(given: Mapping[str, Any]) -> int:
    """Return the argument `quantity`, a whole number. Raises `ActionError`."""
    value = given.get("quantity")
    if type(value) is not int:
        raise ActionError("quantity must be a whole number")
    return value
