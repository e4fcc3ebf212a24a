"""The receiver: checks a webhook's signature on its raw bytes, and answers once it is safe in the inbox."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from invsync_dagster.channels import load
from invsync_dagster.clock import Clock, SystemClock
from invsync_dagster.environment import load_env_file
from invsync_dagster.platforms.doors import ChallengedDoor, GreetedDoor, KeyedDoor
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError
from invsync_dagster.platforms.transport import RequestsTransport, Transport
from invsync_dagster.settings import Home
from invsync_dagster.webhooks.gates import Gates, gates_of, stocked_channels
from invsync_dagster.webhooks.group import GroupCommit, NotWrittenError, Writer
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.keys import Keys
from invsync_dagster.webhooks.queues import QueuePoller, pollers_of
from invsync_dagster.webhooks.seals import InboxKeyError, Seals
from invsync_dagster.webhooks.segments import Delivery

log = logging.getLogger("invsync.receiver")

# What a sender that honours it waits before it tries again.
RETRY_AFTER = {"retry-after": "30"}
# Shopify gives a delivery 5 s in all; who needs longer for a body holds a connection for nothing.
BODY_SECONDS = 10.0
# Each connection may hold one body of `max_webhook_bytes` before it is checked: this bounds the memory.
MOST_CONNECTIONS = 512
SHUTDOWN_SECONDS = 10
WEBHOOKS = "/webhooks/"
# Parts of header names that say that the value may be a secret, or somebody's address: never kept.
NOT_KEPT = ("auth", "token", "secret", "cookie", "key", "password", "forwarded", "real-ip")


@dataclass(frozen=True)
class _Post:
    """What takes deliveries: the gates, the keys of those that sign with published ones, and the inbox."""

    gates: Gates
    keys: Keys
    keyed: Mapping[str, KeyedDoor]
    group: GroupCommit
    clock: Clock
    max_bytes: int


def create_app(
    gates: Gates,
    writer: Writer,
    inbox: Path,
    clock: Clock,
    max_bytes: int,
    transport: Transport,
    pollers: Sequence[QueuePoller] = (),
) -> ASGIApp:
    """Return the receiver's app: POST /webhooks/{channel}, POST /inventory-webhook, GET /healthz.

    Answers 202 once the delivery is on disk, and 200 to a platform's greeting of a new webhook. Else: 400 for what can't
    be taken, 401 for a signature that doesn't prove its sender, 404 for a channel that isn't there, 408 for a body that
    doesn't come, 413 for one over `max_bytes`, 415 for anything but JSON, 503 while nothing can be written or the channel
    is closed. Bodies of answers say nothing. A GET of a channel's address is answered where its platform asks with it
    whose address it is. `transport` fetches public keys. `pollers` run with the app; a queue that can't be read is told by
    /healthz, whose answer stays 200: webhooks are taken all the same.
    """
    group = GroupCommit(writer)
    challenged = {name: door for name, door in gates.doors.items() if isinstance(door, ChallengedDoor)}
    keyed = {name: door for name, door in gates.doors.items() if isinstance(door, KeyedDoor)}
    post = _Post(gates, Keys(transport, clock), keyed, group, clock, max_bytes)

    async def inventory_webhook(request: Request) -> Response:
        return await _take(request, gates.plain, post)

    async def healthz(request: Request) -> Response:
        problem = await group.check()
        if not problem and not os.access(inbox, os.W_OK | os.X_OK):
            problem = "the inbox can't be written"
        if problem:
            return JSONResponse({"status": "failing", "problem": problem}, 503)
        queues = {poller.channel: poller.problem for poller in pollers if poller.problem}
        return JSONResponse({"status": "ok", **({"queues": queues} if queues else {})})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        for poller in pollers:
            poller.start()
        yield
        for poller in pollers:
            poller.stop()
        await group.close()

    others = Starlette(
        routes=[
            Route("/inventory-webhook", inventory_webhook, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
        ],
        lifespan=lifespan,
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # The busy path goes past the router and its layers: 95 instead of 120 us of processor time a delivery.
        if scope["type"] != "http" or not scope["path"].startswith(WEBHOOKS):
            await others(scope, receive, send)
            return
        channel = scope["path"].removeprefix(WEBHOOKS)
        if scope["method"] == "POST":
            response = await _take(Request(scope, receive, send), channel, post)
        else:
            response = _challenged(Request(scope, receive, send), challenged.get(channel))
        await response(scope, receive, send)

    return app


def _challenged(request: Request, door: ChallengedDoor | None) -> Response:
    """Answer whatever isn't a POST: a platform's challenge, else 405."""
    answer = door.challenge_answer(request.query_params) if door is not None and request.method == "GET" else None
    if answer is not None:
        return Response(answer, media_type="application/json")
    return Response(status_code=405, headers={"allow": "POST"})


async def _take(request: Request, channel: str, post: _Post) -> Response:
    gates, max_bytes = post.gates, post.max_bytes
    door = gates.doors.get(channel)
    if door is None:
        return Response(status_code=503, headers=RETRY_AFTER) if channel in gates.closed else Response(status_code=404)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    greeted = door if kind == "application/x-www-form-urlencoded" and isinstance(door, GreetedDoor) else None
    if kind != "application/json" and greeted is None:
        return Response(status_code=415)
    if headers.get("content-encoding", "identity").lower() != "identity":
        return Response(status_code=415)
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        return Response(status_code=400)
    if int(length) > max_bytes:
        return Response(status_code=413, headers={"connection": "close"})
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _body(request, max_bytes)
    except TimeoutError:
        return Response(status_code=408, headers={"connection": "close"})
    except ClientDisconnect:
        return Response(status_code=400)
    if body is None:
        return Response(status_code=413, headers={"connection": "close"})
    if not body:
        return Response(status_code=400)
    if greeted is not None:
        return Response(status_code=200 if greeted.is_greeting(headers, body) else 415)
    if channel in post.keyed and not await post.keys.ready(channel, post.keyed[channel], headers):
        return Response(status_code=503, headers=RETRY_AFTER)
    now = post.clock.now()
    try:
        door.verify(headers, body, now)
        topic = door.topic(headers, body)
    except SignatureError as error:
        log.warning("refused a webhook for %s: %s", channel, error)
        return Response(status_code=401)
    except NotUnderstoodError as error:
        log.warning("refused a signed webhook for %s: %s", channel, error)
        return Response(status_code=400)
    kept = {name: value for name, value in headers.items() if _is_kept(name)}
    try:
        await post.group.keep(Delivery(channel, topic, now, kept, body))
    except NotWrittenError:
        return Response(status_code=503, headers=RETRY_AFTER)
    return Response(status_code=202)


async def _body(request: Request, max_bytes: int) -> bytes | None:
    """Return the raw body, or None as soon as it is over `max_bytes`, whatever length was announced."""
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


@lru_cache(maxsize=1024)
def _is_kept(name: str) -> bool:
    """Tell whether a header goes into the inbox: the platforms' own (`x-…`) without secrets, and the body's type."""
    return name == "content-type" or (name.startswith("x-") and not any(word in name for word in NOT_KEPT))


def main() -> int:
    """Run the receiver until SIGTERM or SIGINT; what was taken by then is written and answered. Returns the exit code.

    Listens on INVSYNC_RECEIVER_HOST (127.0.0.1) and INVSYNC_RECEIVER_PORT (8791). A change of channels.yaml or of a
    secret takes a restart, as secrets come from the environment.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    load_env_file(Home.from_environment().root)
    home = Home.from_environment()
    clock = SystemClock()
    host = os.environ.get("INVSYNC_RECEIVER_HOST") or "127.0.0.1"
    port = os.environ.get("INVSYNC_RECEIVER_PORT") or "8791"
    if not port.isdecimal() or int(port) > 65535:
        print(f"INVSYNC_RECEIVER_PORT is {port!r}: give a port from 0 to 65535", file=sys.stderr)
        return 2
    try:
        seals = Seals.from_environment(os.environ)
    except InboxKeyError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        listener = socket.create_server((host, int(port)), backlog=2048)
    except OSError as error:
        print(f"the receiver can't listen on {host}:{port}: {os.strerror(error.errno or 0)}", file=sys.stderr)
        return 2
    try:
        Inbox(home.inbox).prepare(clock.now())
    except OSError as error:
        print(f"the inbox {home.inbox} can't be made: {error.strerror}", file=sys.stderr)
        return 2
    configuration = load(home)
    for problem in configuration.problems:
        log.warning("%s", problem)
    gates = gates_of(configuration, stocked_channels(home.database_url), os.environ)
    rng = random.Random()  # noqa: S311 - unique file names, nothing secret
    app = create_app(
        gates,
        SegmentWriter(home.inbox, clock, rng, seals),
        home.inbox,
        clock,
        configuration.settings.max_webhook_bytes,
        RequestsTransport(),
        pollers_of(gates.doors, lambda: SegmentWriter(home.inbox, clock, rng, seals), clock),
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server takes these two over, ends in order, and raises them again: then this makes the exit code 0.
        signal.signal(number, _end)
    # Measured at 64 connections: full collections over the loaded modules stop everything for 45 ms (p99 50 ms with
    # them, 18 ms without), and the writing thread waits up to the switch interval after each of its system calls
    # (p99 18 ms at the usual 5 ms, 8 ms at 0.2 ms).
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(0.0002)
    log.info("listening on %s:%s for %s", *listener.getsockname()[:2], ", ".join(gates.doors) or "no channel")
    server.run(sockets=[listener])
    return 0


def _end(number: int, frame: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
