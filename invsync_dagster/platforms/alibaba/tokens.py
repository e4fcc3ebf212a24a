"""The access token of a seller's grant, renewed before it runs out, and the file that keeps what replaces the grant's.

Each renewal may replace the refresh token too, so what came last must outlive the process, and all processes must use it
(docs/decisions/0018).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.alibaba import errors
from invsync_dagster.platforms.alibaba.gateway import REFRESH_TOKEN, Gop
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.oauth import DEADLINE, FRESH, is_token
from invsync_dagster.platforms.transport import Transport

# Renewed when a tenth of the token's life is left, and at most a day early: one that is refused for a while is still good.
_EARLY_SHARE = 0.1
_EARLIEST = timedelta(days=1)
# Lifetimes aren't published; a number beyond this is none.
_LONGEST = 10 * 365 * 86_400


@dataclass(frozen=True, slots=True)
class Kept:
    """What the file keeps: the tokens in force, their times in seconds since the epoch, and whose they are.

    `grant` is a digest of the refresh token that the seller was given, so that a new authorisation replaces the file.
    """

    grant: str
    access_token: str
    refresh_token: str
    given_at: float
    ends_at: float

    def __repr__(self) -> str:
        return f"Kept(ends_at={self.ends_at})"


class KeptTokens:
    """The `Tokens` of one grant at GOP. Its representation holds no secret; safe for threads and for processes."""

    def __init__(self, gateway: Gop, refresh_token: str, file: Path, transport: Transport, clock: Clock) -> None:
        if not refresh_token:
            raise ValueError("the refresh token is empty")
        self._gateway = gateway
        self._given = refresh_token
        self._grant = hashlib.sha256(refresh_token.encode()).hexdigest()
        self._file = file.expanduser()
        self._transport = transport
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: Kept | None = None
        self._refused = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        kept = (self._kept.access_token, self._kept.refresh_token) if self._kept else ()
        return (*kept, self._given, *self._gateway.secrets)

    def token(self) -> str:
        """Return a token that is good now. Raises `PlatformError`; nothing else was sent then."""
        with self._lock:
            now = self._clock.now().timestamp()
            if self._kept is None or not self._is_good(self._kept, now):
                with self._alone():
                    self._kept = self._read()  # another process may have renewed it
                    if self._kept is None or not self._is_good(self._kept, now):
                        self._kept = self._renewed_or_still_good(self._kept, now)
            return self._kept.access_token

    def refused(self, token: str) -> bool:
        """Use a token that was refused no more; return whether it was old, so that a new one may help."""
        with self._lock:
            self._refused = token
            kept = self._kept
            if kept is None or kept.access_token != token:
                return True
            return self._clock.now().timestamp() - kept.given_at > FRESH.total_seconds()

    def _is_good(self, kept: Kept, now: float) -> bool:
        if kept.access_token == self._refused:
            return False
        early = min(_EARLIEST.total_seconds(), _EARLY_SHARE * (kept.ends_at - kept.given_at))
        return now < kept.ends_at - early

    def _renewed_or_still_good(self, kept: Kept | None, now: float) -> Kept:
        try:
            renewed = self._renewed(kept.refresh_token if kept else self._given, now)
        except PlatformError as error:
            usable = kept is not None and now < kept.ends_at and kept.access_token != self._refused
            if kept is None or not usable or error.recovery is Recovery.REAUTHENTICATE:
                raise
            return kept
        self._write(renewed)
        return renewed

    def _renewed(self, refresh_token: str, now: float) -> Kept:
        at = self._clock.now()
        request = self._gateway.request(REFRESH_TOKEN, {"refresh_token": refresh_token}, "", at)
        response = answer_to(request, self._transport, deadline=DEADLINE, writing=False)
        answer = errors.object_of(response, writing=False, secrets=self.secrets)
        try:
            errors.check(answer, at, writing=False, secrets=self.secrets)
        except PlatformError as error:
            if error.recovery is not Recovery.REJECT:
                raise
            words = (
                f"the refresh token is refused: authorise the app again, and put the new one in place ({error.message})"
            )
            raise PlatformError(Recovery.REAUTHENTICATE, error.code, words) from error
        lifetime = _lifetime(answer.get("expires_in"))
        token, renewed = answer.get("access_token"), answer.get("refresh_token") or refresh_token
        if lifetime is None or not is_token(token) or not is_token(renewed):
            raise PlatformError(Recovery.RETRY, "malformed_answer", "the answer holds no token")
        # A grant whose refresh token ends first is renewed while that is still taken.
        refreshable = _lifetime(answer.get("refresh_expires_in")) or lifetime
        return Kept(self._grant, str(token), str(renewed), now, now + min(lifetime, refreshable))

    # --- the file ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the file's lock: two renewals at once could each undo the other's refresh token."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._file.with_name(f"{self._file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> Kept | None:
        """Return what the file keeps of this grant, None if it is another's, damaged or not there."""
        try:
            kept = Kept(**json.loads(self._file.read_bytes()))
            kept.given_at + kept.ends_at, kept.access_token + kept.refresh_token
        except (FileNotFoundError, ValueError, TypeError):
            return None
        except OSError as error:
            raise self._unusable(error) from error
        return kept if kept.grant == self._grant else None

    def _write(self, kept: Kept) -> None:
        """Replace the file at once or not at all; only its owner may read it."""
        fresh = self._file.with_name(f"{self._file.name}.new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                json.dump(asdict(kept), stream)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(self._file)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> PlatformError:
        words = f"the token file {self._file.name} can't be used: {error.strerror}; let its folder be written"
        return PlatformError(Recovery.REAUTHENTICATE, "token_file", words)


def _lifetime(value: Any) -> float | None:
    """Read a lifetime in seconds, which comes as a number or as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return float(value) if type(value) is int and 0 < value <= _LONGEST else None
