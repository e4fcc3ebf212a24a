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
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from time import monotonic

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from invsync_dagster.channels import load_for_webhooks
from invsync_dagster.clock import Clock, SystemClock
from invsync_dagster.environment import Environment, SecretFileError, read_environment
from invsync_dagster.platforms.doors import ChallengedDoor, GreetedDoor, KeyedDoor
from invsync_dagster.platforms.errors import NotUnderstoodError, SignatureError
from invsync_dagster.platforms.transport import RequestsTransport, Transport
from invsync_dagster.settings import Home
from invsync_dagster.webhooks.bodies import Bodies
from invsync_dagster.webhooks.floods import FoldedLog, FullError, Shares
from invsync_dagster.webhooks.gates import Gates, gates_of
from invsync_dagster.webhooks.group import GroupCommit, NotWrittenError, Writer
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.keys import Keys
from invsync_dagster.webhooks.queues import QueuePoller, pollers_of
from invsync_dagster.webhooks.seals import InboxKeyError, Seals
from invsync_dagster.webhooks.segments import Delivery
from invsync_dagster.webhooks.server import REFUSED, server_of
from invsync_dagster.webhooks.status.counts import Counts
from invsync_dagster.webhooks.status.desk import PATHS, Desk
from invsync_dagster.webhooks.status.tokens import NO_TOKENS, TokenError, Tokens

log = logging.getLogger("invsync.receiver")

# What a sender that honours it waits before it tries again.
RETRY_AFTER = {"retry-after": "30"}
# What isn't taken is answered so much later: a flood of it waits, where its answers would bring the next ones at once and keep
# the loop from all others. Whoever opens connections instead gives up the old ones for them (`server.MOST_CONNECTIONS`).
REFUSED_SECONDS = 0.5
WEBHOOKS = "/webhooks/"
# Parts of header names that say that the value may be a secret, or somebody's address: never kept.
NOT_KEPT = ("auth", "token", "secret", "cookie", "key", "password", "forwarded", "real-ip")
# What the log calls a name that is none of ours: a stranger's words fill no log.
UNKNOWN = "a channel that channels.yaml doesn't have"


@dataclass(frozen=True)
class _Opened:
    """What one reading of the configuration opens: its gates, the keys of those that sign with published ones, its queues."""

    gates: Gates
    keys: Keys
    keyed: Mapping[str, KeyedDoor]
    challenged: Mapping[str, ChallengedDoor]
    max_bytes: int
    pollers: Sequence[QueuePoller]
    desk: Desk


class Receiver:
    """The receiver's app: POST /webhooks/{channel}, POST /inventory-webhook, GET /healthz, and to bearers of a token /status,
    /status.html and /metrics (docs/receiver-openapi.yaml).

    Answers 202 once the delivery is on disk, and 200 to a platform's greeting of a new webhook. Else: 400 for what can't
    be taken, 401 for a signature that doesn't prove its sender, 408 for a body that doesn't come, 413 for one that is too
    large, 415 for anything but JSON, 503 while nothing can be written, or the channel is closed, isn't there, or has more
    waiting than its share. Bodies of answers say nothing, and why is in the log. A GET of a channel's address is answered
    where its platform asks with it whose address it is. A queue that can't be read makes /healthz `degraded`, whose answer
    stays 200: webhooks are taken all the same.
    """

    def __init__(self, writer: Writer, inbox: Path, status: Path, clock: Clock, transport: Transport) -> None:
        """`transport` fetches public keys, `status` is the folder of the status document. Nothing is taken before `open`."""
        self._group = GroupCommit(writer)
        self._inbox = inbox
        self._status = status
        self._clock = clock
        self._transport = transport
        self._shares = Shares()
        self._bodies = Bodies()
        self._counts = Counts()
        self._log = FoldedLog(clock, self._counts)
        self._running = False
        self._lifespan = Starlette(lifespan=self._live)
        self._opened = self._opening(Gates({}), 0, (), NO_TOKENS)

    def open(
        self, gates: Gates, max_bytes: int, pollers: Sequence[QueuePoller] = (), tokens: Tokens = NO_TOKENS
    ) -> None:
        """Take deliveries by these gates, bodies of up to `max_bytes` bytes, empty these queues while the app runs, and show
        the status to bearers of these tokens; called again, it changes all of it for what comes next, and no delivery is
        refused for it."""
        if self._running:
            _exchange(self._opened.pollers, pollers)
        self._opened = self._opening(gates, max_bytes, pollers, tokens)

    def _opening(self, gates: Gates, max_bytes: int, pollers: Sequence[QueuePoller], tokens: Tokens) -> _Opened:
        keyed = {name: door for name, door in gates.doors.items() if isinstance(door, KeyedDoor)}
        challenged = {name: door for name, door in gates.doors.items() if isinstance(door, ChallengedDoor)}
        keys = Keys(self._transport, self._clock)
        return _Opened(gates, keys, keyed, challenged, max_bytes, pollers, self._desk_for(tokens))

    def show_to(self, tokens: Tokens) -> None:
        """Show the status to bearers of these tokens from now on, and leave all else as it is."""
        self._opened = replace(self._opened, desk=self._desk_for(tokens))

    def _desk_for(self, tokens: Tokens) -> Desk:
        return Desk(self._status, self._inbox, tokens, self._counts, self._clock, self._log, self._form)

    @property
    def channels(self) -> Sequence[str]:
        """The channels whose webhooks are taken."""
        return tuple(self._opened.gates.doors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # No router and its layers: 95 instead of 120 us of processor time a delivery, and no answers but ours.
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        response = await self._answer(Request(scope, receive, send), scope["method"], scope["path"])
        if response.status_code >= 400:
            scope[REFUSED] = True
            await asyncio.sleep(REFUSED_SECONDS)
        await response(scope, receive, send)

    async def _answer(self, request: Request, method: str, path: str) -> Response:
        if path.startswith(WEBHOOKS):
            channel = path.removeprefix(WEBHOOKS)
            return await self._counted(request, channel) if method == "POST" else self._challenge(request, channel)
        if path == "/inventory-webhook":
            plain = self._opened.gates.plain
            return await self._counted(request, plain) if method == "POST" else _wrong_method("POST")
        if path == "/healthz":
            return await self._health() if method in ("GET", "HEAD") else _wrong_method("GET")
        if path in PATHS:
            return await self._opened.desk.answer(request, method, path)
        return Response(status_code=404)

    @asynccontextmanager
    async def _live(self, app: Starlette) -> AsyncIterator[None]:
        _exchange((), self._opened.pollers)
        self._running = True
        yield
        _exchange(self._opened.pollers, ())
        await self._group.close()

    async def _health(self) -> Response:
        problem = await self._group.check()
        if not problem and not os.access(self._inbox, os.W_OK | os.X_OK):
            problem = "the inbox can't be written"
        if problem:
            self._log.refused("all channels", 503, problem)
            return JSONResponse({"status": "failing"}, 503)
        degraded = any(poller.problem for poller in self._opened.pollers)
        return JSONResponse({"status": "degraded" if degraded else "ok"})

    def _challenge(self, request: Request, channel: str) -> Response:
        """Answer whatever isn't a POST: a platform's challenge, else 405."""
        door = self._opened.challenged.get(channel)
        answer = door.challenge_answer(request.query_params) if door is not None and request.method == "GET" else None
        return Response(answer, media_type="application/json") if answer is not None else _wrong_method("POST")

    async def _counted(self, request: Request, channel: str) -> Response:
        gates = self._opened.gates
        began = monotonic()
        response = await self._take(request, channel)
        name = channel if channel in gates.doors or channel in gates.closed else UNKNOWN
        self._counts.answered(name, response.status_code, monotonic() - began)
        return response

    async def _form(self, request: Request, max_bytes: int) -> bytes | None:
        return await self._bodies.read(request, "a form", max_bytes)

    async def _take(self, request: Request, channel: str) -> Response:
        opened = self._opened
        gates, max_bytes = opened.gates, opened.max_bytes
        door = gates.doors.get(channel)
        if door is None:
            # Not 404: a channel that left the file by mistake, or was disabled, keeps its sender's deliveries.
            if channel in gates.closed:
                self._log.refused(channel, 503, gates.closed[channel])
            else:
                self._log.refused(UNKNOWN, 503, "nobody has the name", f" {channel!r:.60}")
            return Response(status_code=503, headers=RETRY_AFTER)
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
            body = await self._bodies.read(request, channel, max_bytes)
        except TimeoutError:
            return Response(status_code=408, headers={"connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)
        except FullError:
            return Response(status_code=503, headers=RETRY_AFTER | {"connection": "close"})
        if body is None:
            return Response(status_code=413, headers={"connection": "close"})
        if not body:
            return Response(status_code=400)
        if greeted is not None:
            return Response(status_code=200 if greeted.is_greeting(headers, body) else 415)
        try:
            keyed = opened.keyed.get(channel)
            if keyed is not None and keyed.wanted_key(headers, self._clock.now()):
                # A share of its own: strangers who name a key that is being asked for take none of the channel's.
                with self._shares.of(f"{channel}, for a key", len(body)):
                    if not await opened.keys.ready(channel, keyed, headers):
                        return self._refused(channel, 503, "the key that it names can't be had now", RETRY_AFTER)
            with self._shares.of(channel, len(body)):
                now = self._clock.now()
                door.verify(headers, body, now)
                topic = door.topic(headers, body)
                kept = {name: value for name, value in headers.items() if _is_kept(name)}
                await self._group.keep(Delivery(channel, topic, now, kept, body))
        except SignatureError as error:
            return self._refused(channel, 401, str(error))
        except NotUnderstoodError as error:
            return self._refused(channel, 400, f"it is signed, but {error}")
        except FullError:
            return self._refused(channel, 503, "more of its deliveries are waiting than may", RETRY_AFTER)
        except NotWrittenError:
            return Response(status_code=503, headers=RETRY_AFTER)
        return Response(status_code=202)

    def _refused(self, channel: str, status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
        self._log.refused(channel, status, reason)
        return Response(status_code=status, headers=headers)


def _exchange(before: Sequence[QueuePoller], after: Sequence[QueuePoller]) -> None:
    for poller in before:
        poller.stop()
    for poller in after:
        poller.start()


def _wrong_method(right: str) -> Response:
    return Response(status_code=405, headers={"allow": right})


@lru_cache(maxsize=1024)
def _is_kept(name: str) -> bool:
    """Tell whether a header goes into the inbox: the platforms' own (`x-…`) without secrets, and the body's type."""
    return name == "content-type" or (name.startswith("x-") and not any(word in name for word in NOT_KEPT))


def main() -> int:
    """Run the receiver until SIGTERM or SIGINT; what was taken by then is written and answered. Returns the exit code.

    Listens on INVSYNC_RECEIVER_HOST (127.0.0.1) and INVSYNC_RECEIVER_PORT (8791). Secrets come from the environment, and
    from the file that INVSYNC_ENV_FILE names, else `.env` in the root, or from files that they name (`X_FILE`). On SIGHUP
    all of these and channels.yaml are read anew, while deliveries are taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # It warns of each message that isn't HTTP: strangers would fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    at_start = dict(os.environ)
    try:
        environ = read_environment(at_start)
    except OSError as error:
        print(f"INVSYNC_ENV_FILE {at_start['INVSYNC_ENV_FILE']} can't be read: {error.strerror}", file=sys.stderr)
        return 2
    # Proxies, certificates and AWS's own ways to find credentials are looked for there.
    os.environ.update(environ)
    clock = SystemClock()
    host = environ.get("INVSYNC_RECEIVER_HOST") or "127.0.0.1"
    port = environ.get("INVSYNC_RECEIVER_PORT") or "8791"
    if not port.isdecimal() or int(port) > 65535:
        print(f"INVSYNC_RECEIVER_PORT is {port!r}: give a port from 0 to 65535", file=sys.stderr)
        return 2
    try:
        home = Home.from_environment(environ)
        seals = Seals.from_environment(Environment(environ))
    except (InboxKeyError, SecretFileError) as error:
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
    # Until `_serve` has read everything, there is nothing to read anew.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server takes these two over, ends in order, and raises them again: then this makes the exit code 0.
        signal.signal(number, _end)
    receiver = Receiver(_writer(home, clock, seals), home.inbox, home.status, clock, RequestsTransport())
    server = server_of(receiver)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, listener, receiver, home, seals, at_start))
    return 0


async def _serve(
    server: uvicorn.Server,
    listener: socket.socket,
    receiver: Receiver,
    home: Home,
    seals: Seals,
    at_start: Mapping[str, str],
) -> None:
    clock = SystemClock()
    one_at_a_time = asyncio.Lock()
    under_way: set[asyncio.Task[None]] = set()

    async def reopen() -> None:
        async with one_at_a_time:
            try:
                environ = await asyncio.to_thread(read_environment, at_start)
            except OSError as error:
                log.error("INVSYNC_ENV_FILE can't be read, so all stays as it was: %s", error.strerror)
                return
            os.environ.update(environ)
            secrets = Environment(environ)
            configuration = await asyncio.to_thread(load_for_webhooks, home, secrets)
            for problem in configuration.problems:
                log.warning("%s", problem)
            gates = gates_of(configuration, secrets)
            # Whatever becomes of the channels: a token that is taken back is one that somebody has lost.
            tokens = _tokens(secrets)
            receiver.show_to(tokens)
            if not gates.doors and receiver.channels:
                log.error("no channel can be opened, so those that are open stay so: %s", ", ".join(receiver.channels))
                return
            pollers = pollers_of(gates.doors, lambda: _writer(home, clock, seals), clock)
            receiver.open(gates, configuration.settings.max_webhook_bytes, pollers, tokens)
            log.info("open for %s", ", ".join(receiver.channels) or "no channel")

    def reopen_soon() -> None:
        task = asyncio.create_task(reopen())
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reopen_soon)
    await reopen()
    # Measured at 64 connections: full collections over the loaded modules stop everything for 45 ms (p99 50 ms with
    # them, 18 ms without), and the writing thread waits up to the switch interval after each of its system calls
    # (p99 18 ms at the usual 5 ms, 8 ms at 0.2 ms).
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(0.0002)
    log.info("listening on %s:%s for %s", *listener.getsockname()[:2], ", ".join(receiver.channels) or "no channel")
    await server.serve(sockets=[listener])


def _tokens(environ: Mapping[str, str]) -> Tokens:
    """Return who may see the status; nobody where a token is none: webhooks are taken all the same."""
    try:
        return Tokens.from_environment(environ)
    except (TokenError, SecretFileError) as error:
        log.error("%s", error)
        return NO_TOKENS


def _writer(home: Home, clock: Clock, seals: Seals) -> SegmentWriter:
    return SegmentWriter(home.inbox, clock, random.Random(), seals)  # noqa: S311 - unique file names, nothing secret


def _end(number: int, frame: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
