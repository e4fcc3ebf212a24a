"""The stand-in of an own ERP: the other side of docs/erp-contract.md, with books, desks, a warehouse and webhooks.

It shares no code with the client or the webhook door, so that both sides are held against the contract and not against
each other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.outgoing import Delivery, dump_deliveries, load_deliveries
from invsync_dagster.platforms.transport import Request, Response

_MOST_ROWS = 100
_MOST_ITEMS = 500
_MOST_UNITS = 1_000_000_000
_MOST_BYTES = 1_048_576
_WINDOW_SECONDS = 300
_KEYS_KEPT = timedelta(hours=24)
_CHANGES_KEPT = timedelta(days=14)


@dataclass(slots=True)
class Article:
    """One article of the ERP: its own on-hand book with its version, and the number for the desks that we set."""

    on_hand: int
    available_quantity: int
    version: int = 0


class _RefusedError(Exception):
    """A call that is answered with an error object, nothing done."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.response = _answer(status, {"error": {"code": code, "message": message}}, headers)


class ErpSandbox:
    """A stateful ERP; `handle` is its door for our calls, the other methods are what happens inside the firm.

    Not safe for threads by itself.
    """

    def __init__(
        self,
        clock: Clock,
        random: Random,
        *,
        api_key: str,
        signing_secret: str,
        webhook_secret: str,
        rate: float = 10.0,
        burst: float = 20.0,
        page_size: int = 100,
    ) -> None:
        """Allow `rate` calls a second up to `burst` at once; a page of changes holds `page_size`."""
        self._clock = clock
        self._random = random
        self._api_key = api_key
        self._signing_secret = signing_secret
        self._webhook_secret = webhook_secret
        self._rate = rate
        self._burst = burst
        self._page_size = page_size
        self._tokens, self._refilled_at = burst, clock.now()
        self._articles: dict[str, Article] = {}
        self._changes: list[tuple[datetime, dict[str, Any]]] = []
        self._changes_dropped = 0
        self._keys: dict[str, tuple[datetime, str, dict[str, Any]]] = {}
        self.outgoing: list[Delivery] = []

    # --- inside the firm --------------------------------------------------------------------------------------------

    def add(self, sku: str, on_hand: int, available_quantity: int | None = None) -> None:
        """Put a new article into the books, without an event; the desks see all of it unless told otherwise."""
        self._articles[sku] = Article(on_hand, on_hand if available_quantity is None else available_quantity)

    def sell(self, sku: str, quantity: int = 1) -> str | None:
        """Sell at a desk, which sells no more than it sees and the shelf has; the event's id, None if it can't."""
        article = self._articles[sku]
        if quantity > min(article.on_hand, article.available_quantity):
            return None
        return self._change(sku, "sale", -quantity)

    def restock(self, sku: str, quantity: int) -> str:
        """Receive goods. Returns the event's id."""
        return self._change(sku, "restock", quantity)

    def adjust(self, sku: str, delta: int) -> str:
        """Correct the book by `delta`, for breakage or a find. Returns the event's id."""
        return self._change(sku, "adjustment", delta)

    def ship(self, sku: str, quantity: int) -> str:
        """Send out what another channel sold: the shelf falls, and the book with it. Returns the event's id."""
        return self._change(sku, "adjustment", -quantity)

    def edit_available(self, sku: str, quantity: int) -> None:
        """Change the desks' number behind our back, which the contract forbids."""
        self._articles[sku].available_quantity = quantity

    def change_credentials(self, api_key: str) -> None:
        """Take only this key from now on."""
        self._api_key = api_key

    def books(self) -> dict[str, dict[str, int]]:
        """Return all articles: SKU to on_hand, available_quantity, version."""
        return {sku: asdict(article) for sku, article in self._articles.items()}

    def book(self, sku: str) -> Article:
        """Return one article. Raises `KeyError`."""
        return self._articles[sku]

    def signed(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers for an attempt made now: a signature is good for 300 s, so each attempt is signed anew."""
        timestamp = str(int(self._clock.now().timestamp()))
        signature = _signature(self._webhook_secret, timestamp, body)
        return {**headers, "X-Invsync-Timestamp": timestamp, "X-Invsync-Signature": signature}

    def take_outgoing(self) -> list[Delivery]:
        """Return the webhooks not yet taken, in the order they happened, and forget them."""
        taken, self.outgoing = self.outgoing, []
        return taken

    def dump(self) -> dict[str, Any]:
        """Return the books, the log and the webhooks not yet taken as JSON data."""
        return {
            "articles": self.books(),
            "changes": [[at.isoformat(), event] for at, event in self._changes],
            "changes_dropped": self._changes_dropped,
            "keys": {key: [at.isoformat(), digest, answer] for key, (at, digest, answer) in self._keys.items()},
            "outgoing": dump_deliveries(self.outgoing),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self._articles = {sku: Article(**article) for sku, article in state["articles"].items()}
        self._changes = [(datetime.fromisoformat(at), event) for at, event in state["changes"]]
        self._changes_dropped = state["changes_dropped"]
        self._keys = {
            key: (datetime.fromisoformat(at), digest, answer) for key, (at, digest, answer) in state["keys"].items()
        }
        self.outgoing = load_deliveries(state["outgoing"])

    def _change(self, sku: str, change_type: str, delta: int) -> str:
        article = self._articles[sku]
        if article.on_hand + delta < 0:
            raise ValueError(f"{sku}: the shelf has {article.on_hand}, not {-delta}")
        now = self._clock.now()
        article.on_hand += delta
        article.version += 1
        event = {
            "event_id": f"erp-{self._random.getrandbits(64):016x}",
            "sku": sku,
            "change_type": change_type,
            "quantity": article.on_hand,
            "occurred_at": _text(now),
            "version": article.version,
        }
        while self._changes and self._changes[0][0] < now - _CHANGES_KEPT:
            self._changes.pop(0)
            self._changes_dropped += 1
        self._changes.append((now, event))
        body = json.dumps(event).encode()
        headers = {"Content-Type": "application/json", "X-Invsync-Event-Id": str(event["event_id"])}
        self.outgoing.append(Delivery(self.signed(headers, body), body))
        return str(event["event_id"])

    # --- the door ---------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answer one call as the contract says."""
        try:
            return self._handle(request)
        except _RefusedError as refused:
            return refused.response

    def _handle(self, request: Request) -> Response:
        parts = urlsplit(request.url)
        headers = {name.lower(): value for name, value in request.headers.items()}
        _, marker, path = parts.path.partition("/invsync/v1")
        routes = {
            "/ping": ("GET", self._ping),
            "/changes": ("GET", self._list_changes),
            "/stock": ("POST", self._set_stock),
            "/stock/query": ("POST", self._query_stock),
        }
        if not marker or path not in routes:
            raise _RefusedError(404, "no_such_path", "there is nothing here")
        if (path, request.method) == ("/stock", "GET"):
            routes["/stock"] = ("GET", self._list_stock)
        method, action = routes[path]
        if request.method != method:
            raise _RefusedError(405, "wrong_method", f"this path takes {method}", {"allow": method})
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self._authorise(headers, request.body if method == "POST" else target.encode())
        self._take_token()
        if method == "GET":
            return action({name: values[-1] for name, values in parse_qs(parts.query).items()}, headers)
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _RefusedError(415, "wrong_content_type", "the body must be application/json")
        if len(request.body) > _MOST_BYTES:
            raise _RefusedError(413, "too_large", f"the body must have at most {_MOST_BYTES} bytes")
        try:
            document = json.loads(request.body)
        except ValueError:
            raise _RefusedError(400, "bad_json", "the body is not JSON") from None
        if not isinstance(document, dict):
            raise _RefusedError(400, "bad_request", "the body is not an object")
        return action(document, headers | {"": hashlib.sha256(request.body).hexdigest()})

    def _authorise(self, headers: Mapping[str, str], signed: bytes) -> None:
        timestamp, signature = headers.get("x-invsync-timestamp", ""), headers.get("x-invsync-signature", "")
        known = hmac.compare_digest(headers.get("x-invsync-api-key", "").encode(), self._api_key.encode())
        fits = hmac.compare_digest(signature.encode(), _signature(self._signing_secret, timestamp, signed).encode())
        if not (known and fits):
            raise _RefusedError(401, "unauthorized", "the key or the signature is wrong")
        if not timestamp.isdigit() or abs(int(timestamp) - self._clock.now().timestamp()) > _WINDOW_SECONDS:
            raise _RefusedError(401, "expired_signature", "the timestamp is more than 300 s away from the ERP's clock")

    def _take_token(self) -> None:
        now = self._clock.now()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled_at).total_seconds() * self._rate)
        self._refilled_at = now
        if self._tokens < 1:
            seconds = math.ceil((1 - self._tokens) / self._rate)
            raise _RefusedError(429, "throttled", "too many calls", {"retry-after": str(seconds)})
        self._tokens -= 1

    def _ping(self, query: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
        return _answer(200, {"ok": True})

    def _set_stock(self, document: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
        now = self._clock.now()
        while self._keys and next(iter(self._keys.values()))[0] < now - _KEYS_KEPT:
            del self._keys[next(iter(self._keys))]
        key = headers.get("idempotency-key", "")
        if not 1 <= len(key) <= 255:
            raise _RefusedError(400, "no_idempotency_key", "Idempotency-Key must have 1 to 255 characters")
        if key in self._keys:
            _, digest, answer = self._keys[key]
            if digest != headers[""]:
                raise _RefusedError(409, "idempotency_mismatch", "this key was used with another body")
            return _answer(200, answer)
        updates = _rows(document, "updates")
        skus = [update.get("sku") if isinstance(update, dict) else None for update in updates]
        if not all(isinstance(sku, str) and sku for sku in skus):
            raise _RefusedError(400, "bad_request", "each update needs its sku")
        if len(set(skus)) != len(skus):
            raise _RefusedError(400, "duplicate_sku", "a call must not name one sku twice")
        answer = {"results": [self._set_one(update) for update in updates]}
        self._keys[key] = (now, headers[""], answer)
        return _answer(200, answer)

    def _set_one(self, update: Mapping[str, Any]) -> dict[str, Any]:
        sku, quantity, expected = update["sku"], update.get("available_quantity"), update.get("expected")
        article = self._articles.get(sku)
        if article is None:
            return {"sku": sku, "status": "not_found", "message": "there is no such article"}
        current = {"sku": sku, "available_quantity": article.available_quantity}
        if type(quantity) is not int or not 0 <= quantity <= _MOST_UNITS:
            return current | {"status": "invalid", "message": f"available_quantity must be from 0 to {_MOST_UNITS}"}
        if expected is not None and expected != article.available_quantity:
            return current | {"status": "stale", "message": "available_quantity is not what was expected"}
        article.available_quantity = quantity
        return {"sku": sku, "status": "ok", "available_quantity": quantity}

    def _query_stock(self, document: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
        skus = _rows(document, "skus")
        if not all(isinstance(sku, str) for sku in skus):
            raise _RefusedError(400, "bad_request", "skus must be texts")
        found = [sku for sku in skus if sku in self._articles]
        items = [{"sku": sku, **asdict(self._articles[sku])} for sku in found]
        return _answer(200, {"items": items, "not_found": [sku for sku in skus if sku not in self._articles]})

    def _list_stock(self, query: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
        skus = sorted(sku for sku in self._articles if sku > query.get("cursor", ""))
        page = skus[:_MOST_ITEMS]
        items = [{"sku": sku, "name": "", **asdict(self._articles[sku])} for sku in page]
        return _answer(200, {"items": items, "next_cursor": page[-1] if len(skus) > len(page) else ""})

    def _list_changes(self, query: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
        since, until = _time_in(query, "since"), _time_in(query, "until")
        cursor = str(query.get("cursor", "0"))
        if not cursor.isdigit():
            raise _RefusedError(400, "bad_cursor", "this cursor was never given")
        begin = max(0, int(cursor) - self._changes_dropped)
        within = [i for i in range(begin, len(self._changes)) if since <= self._changes[i][0] < until]
        page = within[: self._page_size]
        more = len(within) > len(page)
        events = [{**self._changes[i][1], "recorded_at": _text(self._changes[i][0])} for i in page]
        following = str(page[-1] + 1 + self._changes_dropped) if more else ""
        return _answer(200, {"events": events, "next_cursor": following})


def _rows(document: Mapping[str, Any], name: str) -> list[Any]:
    rows = document.get(name)
    if not isinstance(rows, list) or not rows:
        raise _RefusedError(400, "bad_request", f"{name} must be a list of 1 to {_MOST_ROWS}")
    if len(rows) > _MOST_ROWS:
        raise _RefusedError(413, "too_many_rows", f"{name} must be a list of 1 to {_MOST_ROWS}")
    return rows


def _time_in(query: Mapping[str, Any], name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(str(query.get(name, "")))
    except ValueError:
        raise _RefusedError(400, "bad_time", f"{name} must be an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise _RefusedError(400, "bad_time", f"{name} needs its offset")
    return moment.astimezone(UTC)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _signature(secret: str, timestamp: str, signed: bytes) -> str:
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + signed, hashlib.sha256).digest()
    return base64.b64encode(digest).decode("ascii")


def _answer(status: int, document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, {"content-type": "application/json", **(headers or {})}, json.dumps(document).encode())
