"""The stand-ins on one loopback port: `python -m invsync_dagster.sandbox.server`, for the demo and for socket tests.

/<channel>/... is the platform's own API, with its faults as they look on a socket; /_sandbox/... is for whoever drives
the demo: books, purchases, faults.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.responses import Response as HttpResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from invsync_dagster.channels import load
from invsync_dagster.clock import SystemClock
from invsync_dagster.environment import Environment, load_env_file
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox.faces import ActionError
from invsync_dagster.sandbox.faults import DONE_FIRST, STATUS, Fault, Faults, Kind
from invsync_dagster.sandbox.world import World, read_catalogue
from invsync_dagster.settings import Home

_log = logging.getLogger(__name__)

SAVE_SECONDS = 2.0
# Longer than any request deadline of a channel, so that it is the caller who gives up.
_HOLD_SECONDS = 120.0


def create_app(world: World) -> Starlette:
    """Return the app that serves `world`."""
    control = [
        Route("/_sandbox/health", _guarded(partial(_health, world)), methods=["GET"]),
        Route("/_sandbox/webhooks", _guarded(partial(_webhook_faults, world)), methods=["POST"]),
        Route("/_sandbox/save", _guarded(partial(_save, world)), methods=["POST"]),
        Route("/_sandbox/{channel}/books", _guarded(partial(_books, world)), methods=["GET"]),
        Route("/_sandbox/{channel}/faults", _guarded(partial(_faults, world)), methods=["POST"]),
        Route("/_sandbox/{channel}/{action}", _guarded(partial(_act, world)), methods=["POST"]),
    ]
    return Starlette(routes=[*control, Mount("/", app=_Doors(world))])


class _Doors:
    """The ASGI app of the platforms' own APIs; below Starlette's responses, because it also breaks connections."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].split("/")[1]
        if scope["type"] != "http" or name not in self._world:
            await HttpResponse(status_code=404)(scope, receive, send)
            return
        try:
            request = await _request(scope, receive)
        except ClientDisconnect:
            return
        fault = self._world.next_fault(name)
        done: Response | None = None
        if fault is None or fault.kind in DONE_FIRST:
            done = await run_in_threadpool(self._world.handle, name, request)
        if fault is None or fault.kind in STATUS:
            answer = fault.response() if fault is not None else done
            await _answer(scope, receive, send, answer)
        elif fault.kind is Kind.SLOW:
            await asyncio.sleep(fault.seconds)
            await _answer(scope, receive, send, done)
        elif fault.kind in (Kind.TIMEOUT_BEFORE, Kind.TIMEOUT_AFTER):
            await _hold(receive)
        else:
            # A port that serves all channels can't refuse for one: a caller sees REFUSE as a connection that breaks.
            # LATE breaks it too, so that the answer is lost now and the write lands `seconds` after that.
            if fault.kind is Kind.LATE:
                self._world.land_later(name, request, fault.seconds)
            await _cut(send)


async def _request(scope: Scope, receive: Receive) -> Request:
    """Return the request with its address and headers as the caller wrote them, which signatures cover."""
    http = HttpRequest(scope, receive)
    target = scope["raw_path"].decode("ascii")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("ascii")
    url = f"http://{http.headers.get('host', '127.0.0.1')}{target}"
    return Request(scope["method"], url, dict(http.headers.items()), await http.body())


async def _answer(scope: Scope, receive: Receive, send: Send, answer: Response | None) -> None:
    if answer is not None:
        await HttpResponse(answer.body, answer.status, dict(answer.headers))(scope, receive, send)


async def _hold(receive: Receive) -> None:
    """Give no answer until the caller gives up."""
    try:
        async with asyncio.timeout(_HOLD_SECONDS):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        _log.warning("a request was held for %g s, and its caller still waits", _HOLD_SECONDS)


async def _cut(send: Send) -> None:
    """Begin an answer and break the connection: uvicorn closes it where fewer bytes came than were announced."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4096")]})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


# --- the control endpoints --------------------------------------------------------------------------------------------

Endpoint = Callable[[HttpRequest], Awaitable[HttpResponse]]


def _guarded(work: Callable[[HttpRequest, Mapping[str, Any]], Any]) -> Endpoint:
    """Wrap `work(request, given)` on a thread: its result as JSON, 400 with the reason for what can't be done."""

    async def endpoint(request: HttpRequest) -> HttpResponse:
        channel = request.path_params.get("channel")
        try:
            given = await request.json() if await request.body() else {}
            if not isinstance(given, dict):
                raise ActionError("the body must be an object")
            return JSONResponse(await run_in_threadpool(work, request, given))
        except KeyError as error:
            return JSONResponse({"error": f"there is no {error.args[0]!r} here", "channel": channel}, 404)
        except (ActionError, ValueError, TypeError) as error:
            return JSONResponse({"error": str(error), "channel": channel}, 400)

    return endpoint


def _health(world: World, request: HttpRequest, given: Mapping[str, Any]) -> Any:
    return {"status": "ok", "names": world.names, **world.figures()}


def _webhook_faults(world: World, request: HttpRequest, given: Mapping[str, Any]) -> Any:
    faults = world.courier.set_faults(given)
    return {name: getattr(faults, name) for name in ("drop", "duplicate", "delay", "delay_seconds")}


def _save(world: World, request: HttpRequest, given: Mapping[str, Any]) -> Any:
    return {"saved": world.save()}


def _books(world: World, request: HttpRequest, given: Mapping[str, Any]) -> Any:
    return [asdict(shown) for shown in world.books(request.path_params["channel"])]


def _faults(world: World, request: HttpRequest, given: Mapping[str, Any]) -> Any:
    """{"rates": {kind: share}} replaces the rates, {"script": [{"kind", "seconds"} | null]} queues one-shots."""
    rates = {Kind(kind): float(rate) for kind, rate in given.get("rates", {}).items()}
    script = [entry if entry is None else _fault(entry) for entry in given.get("script", [])]

    def change(faults: Faults) -> dict[str, float]:
        if "rates" in given:
            faults.set_rates(rates)
        faults.script(script)
        return {str(kind): rate for kind, rate in faults.rates.items()}

    return {"rates": world.with_faults(request.path_params["channel"], change)}


def _fault(entry: Mapping[str, Any]) -> Fault:
    return Fault(Kind(str(entry.get("kind"))), float(entry.get("seconds", 0.0)))


def _act(world: World, request: HttpRequest, given: Mapping[str, Any]) -> Any:
    action = request.path_params["action"]
    return world.within(request.path_params["channel"], lambda standin: standin.actions[action](given))


# --- the process ------------------------------------------------------------------------------------------------------


class SandboxServer:
    """The server on a thread of this process, for tests and for a demo that keeps it inside."""

    def __init__(self, world: World, port: int = 0) -> None:
        """Bind a loopback port, 0 for any free one. Raises `OSError` if it is taken."""
        self._world = world
        self._socket = loopback_socket(port)
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(_config(world))
        self._thread = threading.Thread(target=self._serve, name="sandbox", daemon=True)

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> SandboxServer:
        self._world.start()
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self._world.stop()


def loopback_socket(port: int) -> socket.socket:
    """Return a socket bound to 127.0.0.1: connections queue from now on. Raises `OSError` if the port is taken."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        bound.listen(128)
    except OSError:
        bound.close()
        raise
    return bound


def _config(world: World) -> uvicorn.Config:
    # uvicorn reports each connection cut on purpose as an error of the app.
    return uvicorn.Config(
        create_app(world), lifespan="off", access_log=False, log_level="critical", timeout_graceful_shutdown=2
    )


def main(arguments: list[str] | None = None) -> int:
    """Serve the sandbox channels of channels.yaml until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m invsync_dagster.sandbox.server", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8790, help="loopback port; the channels' addresses name it")
    parser.add_argument(
        "--state", type=Path, help="file that keeps the books (default: sandbox/state.json in the data)"
    )
    parser.add_argument("--receiver", default="http://127.0.0.1:8791", help="where webhooks go, before /webhooks/")
    parser.add_argument("--catalogue", type=Path, help="folder of inventory.csv and mapping.csv (default: data/sample)")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s sandbox %(levelname)s %(message)s")
    load_env_file(Home.from_environment().root)
    home = Home.from_environment()
    environ = Environment(os.environ)
    channels = [channel for channel in load(home, environ).channels if channel.environment == "sandbox"]
    usable = [channel for channel in channels if not channel.disabled_reason]
    state_file = given.state or home.data / "sandbox" / "state.json"
    try:
        bound = loopback_socket(given.port)
    except OSError as error:
        print(f"sandbox: port {given.port} can't be used: {error.strerror}", file=sys.stderr)
        return 1
    try:
        catalogue = read_catalogue(given.catalogue or home.root / "data" / "sample")
        world = World(usable, environ, catalogue, SystemClock(), SystemRandom(), given.receiver, state_file)
    except (OSError, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    for channel in channels:
        if channel.disabled_reason:
            _log.warning("no stand-in for a disabled channel: %s", channel.disabled_reason)
    _serve_until_signal(world, bound)
    return 0


def _serve_until_signal(world: World, bound: socket.socket) -> None:
    server = uvicorn.Server(_config(world))
    stopped = threading.Event()

    def save_now_and_then() -> None:
        while not stopped.wait(SAVE_SECONDS):
            try:
                world.save()
            except OSError as error:
                _log.error("the books can't be saved, and are tried again: %s", error)

    saver = threading.Thread(target=save_now_and_then, name="saver", daemon=True)
    world.start()
    saver.start()
    try:
        # uvicorn takes SIGTERM and SIGINT for a graceful end, and raises the signal again once it is through.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[bound])
    finally:
        stopped.set()
        saver.join()
        world.stop()
        bound.close()


if __name__ == "__main__":
    sys.exit(main())
