"""How bytes reach a platform: one request type, one answer type, and the pooled `requests` session behind them."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

# A host that takes longer to accept a connection is down for us; nothing was sent, so trying again is free.
CONNECT_SECONDS = 5.0
CHUNK_BYTES = 65_536

# How long the watchdog sleeps where nothing is under way.
IDLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; header names are as the platform writes them, `body` is the exact bytes sent."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class TransportError(Exception):
    """No usable answer came. `sent` is False only if no byte of the request can have left."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Transport(Protocol):
    """Sends one request and returns its answer, or raises `TransportError`; never retries by itself."""

    def send(self, request: Request, *, deadline: float) -> Response:
        """Send within `deadline` seconds in all."""
        ...


class RequestsTransport:
    """One pooled `requests` session: TLS verified, deadlines kept, gzip accepted, redirects and cookies not followed.

    Plain `http://` to anything but loopback is refused. Proxies and CA bundles are taken from the environment as
    `requests` documents it, except for loopback; `.netrc` is never read. Messages of its errors hold method, host
    and path only.
    """

    def __init__(self) -> None:
        self._session = requests.Session()
        adapter = _Adapter()
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def send(self, request: Request, *, deadline: float) -> Response:
        """Send within `deadline` seconds in all. Raises `TransportError`."""
        parts = urlsplit(request.url)
        host = parts.hostname or ""
        what = f"{request.method} {host}{parts.path}"
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
            raise TransportError(f"{what}: refused, because only https:// is allowed beyond loopback", sent=False)
        if deadline <= 0:
            raise TransportError(f"{what}: no time left to send it", sent=False)
        # The deadline of a socket is real time even where the rest runs on a virtual clock.
        ends_at = time.monotonic() + deadline
        _progress.sent = False
        try:
            return self._exchange(request, ends_at, loopback=is_loopback(host))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            # Not chained: the causes carry header values and query strings.
            raise TransportError(f"{what}: {_reason(error, ends_at)}", sent=_progress.sent) from None

    def _exchange(self, request: Request, ends_at: float, *, loopback: bool) -> Response:
        headers = {"User-Agent": "invsync", "Accept-Encoding": "gzip", **request.headers}
        prepared = requests.Request(request.method, request.url, headers=headers, data=request.body or None).prepare()
        environment: dict[str, Any] = {"proxies": {}, "verify": True, "cert": None}
        if not loopback:
            environment = dict(self._session.merge_environment_settings(prepared.url, {}, True, True, None))
        remaining = ends_at - time.monotonic()
        timeout = urllib3.Timeout(total=remaining, connect=min(CONNECT_SECONDS, remaining))
        answer = self._session.send(
            prepared,
            **{**environment, "stream": True},
            timeout=timeout,  # type: ignore[arg-type]  # requests takes urllib3's Timeout; its stubs don't say so
            allow_redirects=False,
        )
        with answer:
            body = _read_body(answer.raw, ends_at)
        return Response(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, body)


class _Progress(threading.local):
    """Whether the request under way in this thread has begun to leave."""

    sent = False


_progress = _Progress()


class _Watchdog:
    """Shuts the sockets whose time is over: one thread for all requests of the process, asleep until the first is due.

    A timer a request costs a thread a request: half of all the processor time that a call takes.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[int, tuple[float, socket.socket]] = {}
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def guarding(self, sock: socket.socket, seconds: float) -> Iterator[None]:
        """Shut `sock` unless the block is left within `seconds`."""
        ends_at = time.monotonic() + seconds
        with self._changed:
            self._due[id(sock)] = ends_at, sock
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="invsync-deadlines", daemon=True)
                self._thread.start()
            elif ends_at < self._wakes_at:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._due.pop(id(sock), None)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for key, (ends_at, sock) in list(self._due.items()):
                    if ends_at <= now:
                        del self._due[key]
                        _shut(sock)
                self._wakes_at = min((ends_at for ends_at, _ in self._due.values()), default=now + IDLE_SECONDS)
                self._changed.wait(self._wakes_at - now)


_watchdog = _Watchdog()


class _Tracked(HTTPConnection):
    """A connection that notes when the first byte leaves, and that bounds the whole answer's head by its time-out.

    urllib3's own read time-out bounds each single read: a server that sends one byte a second would never meet it.
    """

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _progress.sent = True
        super().send(data)

    def getresponse(self) -> Any:
        timeout = self.timeout
        if self.sock is None or not isinstance(timeout, int | float):
            return super().getresponse()
        with _watchdog.guarding(self.sock, timeout):
            return super().getresponse()


class _TrackedTls(_Tracked, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Tracked


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TrackedTls


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(HTTPAdapter):
    """`requests`' adapter (no retries) with tracked connections, through a proxy too."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _read_body(raw: Any, ends_at: float) -> bytes:
    """Read the body piece by piece, so that the deadline holds for all of it."""
    chunks: list[bytes] = []
    while True:
        remaining = ends_at - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("deadline passed while reading")
        connection = getattr(raw, "connection", None)
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(remaining)
        chunk = raw.read1(CHUNK_BYTES, decode_content=True)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _reason(error: Exception, ends_at: float) -> str:
    """Say in a few fixed words what went wrong: the exceptions' own texts may hold what must not be told."""
    if time.monotonic() >= ends_at:
        return "no whole answer within the deadline"
    kinds: list[tuple[type[Exception], str]] = [
        (requests.exceptions.SSLError, "TLS failed"),
        (requests.exceptions.ProxyError, "the proxy failed"),
        (requests.exceptions.ConnectTimeout, "the connection was not accepted in time"),
        (requests.exceptions.InvalidHeader, "a header has characters that can't be sent"),
        (UnicodeError, "a header has characters that can't be sent"),
        (requests.exceptions.InvalidURL, "the address is not valid"),
        (TimeoutError, "timed out"),
        (requests.exceptions.Timeout, "timed out"),
        (urllib3.exceptions.TimeoutError, "timed out"),
    ]
    for kind, words in kinds:
        if isinstance(error, kind):
            return words
    return "the connection was cut" if _progress.sent else "the host could not be reached"


def is_loopback(host: str) -> bool:
    """Tell whether `host` is this machine itself: `localhost` or a loopback address, by its text and without DNS."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
