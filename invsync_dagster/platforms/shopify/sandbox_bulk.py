"""The stand-in's bulk operations: one at a time, done later, a file of JSON lines that is kept for seven days."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from invsync_dagster.platforms.shopify.sandbox_books import Books
from invsync_dagster.platforms.shopify.sandbox_views import gid, level_node, number_of
from invsync_dagster.platforms.transport import Request, Response

_FILE = re.compile(r".*/bulk-files/(\d+)\.jsonl")
_BYTES = re.compile(r"bytes=(\d+)-(\d+)")
_KEPT = timedelta(days=7)


@dataclass
class _Operation:
    """What was read when it began; `status` and `error_code` are what it ends as at `ends_at`, times as ISO texts."""

    number: int
    ends_at: str
    lines: str
    status: str = "COMPLETED"
    error_code: str | None = None


class BulkOperations:
    """Reads the books in `seconds`; `end_next` lets the next one end in another way."""

    def __init__(self, books: Books) -> None:
        self.seconds = 30.0
        self.gives_pieces = True
        self.reached_at = ""
        self._books = books
        self._operations: dict[int, _Operation] = {}
        self._ends: tuple[str, str | None, float] = ("COMPLETED", None, 1.0)

    def end_next(self, status: str, error_code: str | None = None, share: float = 0.0) -> None:
        """Let the next operation end as FAILED or CANCELED with `share` of its lines."""
        self._ends = (status, error_code, share)

    def run(self, query: str, now: datetime) -> dict[str, Any]:
        """Start an operation; refused while another one runs."""
        running = [each for each in self._operations.values() if datetime.fromisoformat(each.ends_at) > now]
        if running:
            words = f"A bulk query operation for this app and shop is already in progress: {_gid(running[0])}."
            return _refused("OPERATION_IN_PROGRESS", words)
        if "inventoryLevels" not in query:
            return _refused("INVALID", "The query is not one that this stand-in knows")
        (status, error_code, share), self._ends = self._ends, ("COMPLETED", None, 1.0)
        lines = self._lines()
        kept = "".join(f"{line}\n" for line in lines[: int(len(lines) * share)])
        ends_at = (now + timedelta(seconds=self.seconds)).isoformat()
        operation = _Operation(1 + len(self._operations), ends_at, kept, status, error_code)
        self._operations[operation.number] = operation
        return {"bulkOperation": {"id": _gid(operation)}, "userErrors": []}

    def state(self, operation_gid: str, now: datetime) -> dict[str, Any] | None:
        """Return an operation as `BulkOperationState` selects it; its file lies beside the API (`reached_at`)."""
        operation = self._operations.get(number_of(operation_gid, "BulkOperation") or 0)
        if operation is None:
            return None
        node: dict[str, Any] = {
            "id": _gid(operation), "status": "RUNNING", "errorCode": None, "url": None, "partialDataUrl": None
        }  # fmt: skip
        ends_at = datetime.fromisoformat(operation.ends_at)
        if ends_at > now:
            return node
        if now - ends_at > _KEPT:
            return node | {"status": "EXPIRED"}
        address = f"{self.reached_at}/bulk-files/{operation.number}.jsonl"
        name = "url" if operation.status == "COMPLETED" else "partialDataUrl"
        return node | {
            "status": operation.status, "errorCode": operation.error_code, name: address if operation.lines else None
        }  # fmt: skip

    def file(self, request: Request, now: datetime) -> Response | None:
        """Answer a request for an operation's file, in pieces where asked for; None if it is for something else.

        The storage is not Shopify's own: whoever sends it a token has told it to a stranger, and is refused.
        """
        found = _FILE.fullmatch(urlsplit(request.url).path)
        if found is None or request.method != "GET":
            return None
        headers = {name.lower(): value for name, value in request.headers.items()}
        operation = self._operations.get(int(found[1]))
        ends_at = datetime.fromisoformat(operation.ends_at) if operation is not None else now
        if operation is None or not ends_at <= now <= ends_at + _KEPT or "x-shopify-access-token" in headers:
            return Response(403, {"content-type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
        body = operation.lines.encode()
        asked = _BYTES.fullmatch(headers.get("range", ""))
        if asked is None or not self.gives_pieces:
            return Response(200, {"content-type": "application/jsonl"}, body)
        first, last = int(asked[1]), min(int(asked[2]), len(body) - 1)
        if first >= len(body):
            return Response(416, {"content-range": f"bytes */{len(body)}"})
        told = {"content-type": "application/jsonl", "content-range": f"bytes {first}-{last}/{len(body)}"}
        return Response(206, told, body[first : last + 1])

    def dump(self) -> list[dict[str, Any]]:
        """Return the operations as JSON values."""
        return [asdict(operation) for operation in self._operations.values()]

    def load(self, state: list[Mapping[str, Any]]) -> None:
        """Take over what `dump` returned."""
        self._operations = {each["number"]: _Operation(**each) for each in state}

    def _lines(self) -> list[str]:
        lines = []
        for article in self._books.articles.values():
            item = gid("InventoryItem", article.item)
            lines.append(json.dumps({"id": item}))
            for location in article.available:
                level = level_node(article, location)
                level |= {"item": {"id": item, "tracked": article.tracked}, "__parentId": item}
                lines.append(json.dumps(level | {"location": {"id": gid("Location", location)}}))
        return lines


def _gid(operation: _Operation) -> str:
    return gid("BulkOperation", operation.number)


def _refused(code: str, message: str) -> dict[str, Any]:
    return {"bulkOperation": None, "userErrors": [{"code": code, "field": None, "message": message}]}
