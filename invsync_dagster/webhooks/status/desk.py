"""The receiver's answers to whoever asks how all stands: /status as JSON, /metrics for Prometheus, /status.html for people."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.transport import is_loopback
from invsync_dagster.webhooks.floods import FoldedLog
from invsync_dagster.webhooks.inbox import is_segment
from invsync_dagster.webhooks.status import document, metrics, page
from invsync_dagster.webhooks.status.counts import Counts
from invsync_dagster.webhooks.status.tokens import COOKIE, SIGNED_IN_FOR, Tokens

JSON, METRICS, PAGE = "/status", "/metrics", "/status.html"
PATHS = frozenset((JSON, METRICS, PAGE))
# What is made is given to all who ask within this time; and to so many. The others are told to come again, half a second later:
# 3,700 answers a second to 400 connections let a delivery wait for 0.8 s.
MADE_FOR = timedelta(seconds=1)
MOST_A_SECOND = 50
# Beyond so many waiting segments they are not counted: a listing of 200,000 takes 0.1 s.
MOST_COUNTED = 10_000
MOST_FORM_BYTES = 4_096

_ALWAYS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
}
_OF_PAGE = _ALWAYS | {"content-security-policy": page.POLICY, "x-frame-options": "DENY"}

# Reads a request's body of at most so many bytes, None if it is longer. Raises TimeoutError and ClientDisconnect.
ReadBody = Callable[[Request, int], Awaitable[bytes | None]]


class Desk:
    """Answers from the document in `folder` and from the receiver's own `counts`, to bearers of a token alone."""

    def __init__(
        self, folder: Path, inbox: Path, tokens: Tokens, counts: Counts, clock: Clock, log: FoldedLog, read: ReadBody
    ) -> None:
        self._folder = folder
        self._inbox = inbox
        self._tokens = tokens
        self._counts = counts
        self._clock = clock
        self._log = log
        self._read = read
        self._making = asyncio.Lock()
        self._made: dict[str, tuple[datetime, bytes]] = {}
        self._second, self._asked = datetime.min.replace(tzinfo=UTC), 0

    async def answer(self, request: Request, method: str, path: str) -> Response:
        """Answer one of `PATHS`. 404 where there is no token, as for any path that isn't there."""
        if not self._tokens:
            return Response(status_code=404)
        return await (self._page(request, method) if path == PAGE else self._to_program(request, method, path))

    async def _to_program(self, request: Request, method: str, path: str) -> Response:
        if method not in ("GET", "HEAD"):
            return Response(status_code=405, headers={"allow": "GET"})
        given = request.headers.get("authorization", "")
        if not self._tokens.bears(given):
            if given:
                self._log.refused_visitor(401, "the token is wrong")
            return Response(status_code=401, headers={"www-authenticate": "Bearer"})
        if self._is_too_much():
            return _later()
        if path == METRICS:
            return Response(await self._make(path, metrics.render), media_type=metrics.MEDIA_TYPE, headers=_ALWAYS)
        return Response(await self._make(path, _as_json), media_type="application/json", headers=_ALWAYS)

    async def _page(self, request: Request, method: str) -> Response:
        if method == "POST":
            return await self._sign_in_or_out(request)
        if method not in ("GET", "HEAD"):
            return Response(status_code=405, headers={"allow": "GET, POST"})
        if not self._is_signed_in(request):
            return _html(page.form(wrong=False), 401)
        if self._is_too_much():
            return _later()
        return _html(await self._make(PAGE, page.render))

    async def _sign_in_or_out(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            return Response(status_code=415)
        try:
            body = await self._read(request, MOST_FORM_BYTES)
        except TimeoutError:
            return Response(status_code=408, headers={"connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return Response(status_code=413, headers={"connection": "close"})
        fields = parse_qs(body.decode("utf-8", "replace"))
        if "sign_out" in fields and self._is_signed_in(request):
            return _to_page(_cookie("", timedelta(), request))
        if not self._tokens.fits(fields.get("token", [""])[0].strip()):
            self._log.refused_visitor(401, "the token is wrong")
            return _html(page.form(wrong="token" in fields), 401)
        return _to_page(_cookie(self._tokens.cookie(self._clock.now()), SIGNED_IN_FOR, request))

    def _is_signed_in(self, request: Request) -> bool:
        return self._tokens.knows(request.cookies.get(COOKIE, ""), self._clock.now())

    def _is_too_much(self) -> bool:
        """Count one more who may see the status, and say whether this second has had enough of them."""
        now = self._clock.now()
        if abs(now - self._second) >= timedelta(seconds=1):
            self._second, self._asked = now, 0
        self._asked += 1
        return self._asked > MOST_A_SECOND

    async def _make(self, path: str, render: Callable[[document.Seen, Mapping[str, object]], bytes]) -> bytes:
        """Return what `render` makes of the document now; it is made apart from the loop, which webhooks have."""
        async with self._making:
            now = self._clock.now()
            before = self._made.get(path)
            if before is not None and abs(now - before[0]) < MADE_FOR:
                return before[1]
            made = await asyncio.to_thread(partial(self._render, render, now))
            self._made[path] = now, made
            return made

    def _render(self, render: Callable[[document.Seen, Mapping[str, object]], bytes], now: datetime) -> bytes:
        return render(document.seen(document.read(self._folder), now), self._own())

    def _own(self) -> dict[str, object]:
        """Return what only the receiver knows, under the keys of docs/status.md."""
        counts = self._counts
        quantiles = counts.quantiles((0.5, 0.99))
        return {
            "segments_waiting": _waiting(self._inbox),
            "taken": counts.taken,
            "seconds_of_taken": counts.seconds_of_taken,
            "answer_p50_seconds": quantiles[0] if quantiles else None,
            "answer_p99_seconds": quantiles[1] if quantiles else None,
            "answers": [
                {"channel": channel, "status": status, "number": number}
                for (channel, status), number in sorted(counts.answers.items())
            ],
            "refused": [
                {"channel": channel, "reason": reason, "number": number}
                for (channel, reason), number in sorted(counts.refusals.items())
            ],
        }


def _as_json(seen: document.Seen, receiver: Mapping[str, object]) -> bytes:
    own = {"verdict": seen.verdict, "age_seconds": seen.age_seconds, "problems": seen.problems, "receiver": receiver}
    return json.dumps({"version": document.VERSION, **seen.document, **own}, ensure_ascii=False).encode()


def _waiting(inbox: Path) -> int | None:
    """Return how many segments wait, None where the inbox can't be read: then most of all somebody looks here."""
    number = 0
    try:
        with os.scandir(inbox) as entries:
            for entry in entries:
                number += is_segment(entry.name)
                if number == MOST_COUNTED:
                    break
    except OSError:
        return None
    return number


def _html(content: bytes, status: int = 200) -> Response:
    return Response(content, status, headers=_OF_PAGE, media_type="text/html")


def _later() -> Response:
    return Response(status_code=429, headers={"retry-after": "1"})


def _to_page(cookie: str) -> Response:
    return Response(status_code=303, headers=_ALWAYS | {"location": PAGE, "set-cookie": cookie})


def _cookie(value: str, lasts: timedelta, request: Request) -> str:
    """Return the header that sets the cookie. Lax: a link in a mail leads to the page and not to the form; nothing is changed
    by a request that has it. Over plain HTTP browsers take no `Secure` one, so that it is left out on loopback alone."""
    host = request.headers.get("host", "")
    secure = "" if is_loopback(re.sub(r":\d+$", "", host).strip("[]")) else "; Secure"
    return f"{COOKIE}={value}; Path={PAGE}; Max-Age={int(lasts.total_seconds())}; HttpOnly; SameSite=Lax{secure}"
