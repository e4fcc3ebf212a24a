"""What one process of invsync works with: the home, the configuration, the database, the clock, and connected channels."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from sqlalchemy import Engine

from invsync_dagster.channels import Channel, Configuration, load
from invsync_dagster.clock import Clock, SystemClock
from invsync_dagster.environment import Environment
from invsync_dagster.inventory.database import open_database
from invsync_dagster.inventory.installation import required_installation
from invsync_dagster.platforms.contract import Platform
from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.transport import RequestsTransport, Transport
from invsync_dagster.settings import Home
from invsync_dagster.sync.limiter import Limiter
from invsync_dagster.sync.line import Line
from invsync_dagster.sync.worker import LockedWorker, Worker


def requests_transport(channel: Channel) -> Transport:
    """Return the pooled `requests` transport of one channel."""
    return RequestsTransport()


@dataclass
class Workspace:
    """Everything a cycle needs; tests and the simulation pass their own clock, randomness, worker and transports."""

    home: Home
    configuration: Configuration
    engine: Engine
    clock: Clock
    rng: random.Random
    worker: Worker
    environ: Mapping[str, str]
    transport: Callable[[Channel], Transport] = requests_transport
    _platforms: dict[str, Platform] = field(default_factory=dict)
    _lines: dict[str, Line] = field(default_factory=dict)

    @classmethod
    def open(cls, home: Home, environ: Mapping[str, str] | None = None) -> Self:
        """Open the home on the machine's clock; the database must be migrated.

        Raises `NotRestoredError` for one that comes from a backup and was not restored to the end.
        """
        engine = open_database(home.database_url)
        try:
            with engine.connect() as connection:
                required_installation(connection)
        except BaseException:
            engine.dispose()
            raise
        return cls.over(home, engine, Environment(os.environ if environ is None else environ))

    @classmethod
    def over(cls, home: Home, engine: Engine, environ: Mapping[str, str]) -> Self:
        """Return the workspace of a home whose database is opened already."""
        rng = random.Random()  # noqa: S311 - names and jitter, nothing secret
        return cls(
            home=home,
            configuration=load(home, environ),
            engine=engine,
            clock=SystemClock(),
            rng=rng,
            worker=LockedWorker(home.locks, rng),
            environ=environ,
        )

    def close(self) -> None:
        """Close the connections and free the worker's lock."""
        self.engine.dispose()
        if isinstance(self.worker, LockedWorker):
            self.worker.close()

    def beside(self) -> Self:
        """Return the workspace of another thread of this process: it connects to the platforms by itself."""
        return replace(self, _platforms=dict(self._platforms), _lines=dict(self._lines))

    def channel(self, name: str) -> Channel:
        """Return the configured channel `name`. Raises KeyError with the known names."""
        for channel in self.configuration.channels:
            if channel.name == name:
                return channel
        known = ", ".join(channel.name for channel in self.configuration.channels)
        raise KeyError(f"no channel {name!r} in {self.home.channels_file.name}; there are: {known}")

    def platform(self, channel: Channel) -> Platform:
        """Return the connected client of a channel, one a process."""
        if channel.name not in self._platforms:
            vendor = VENDORS[channel.platform]
            secrets = channel.secrets(self.environ)
            self._platforms[channel.name] = vendor.connect(
                channel.settings, secrets, channel.limits, self.line(channel), self.clock
            )
        return self._platforms[channel.name]

    def line(self, channel: Channel) -> Line:
        """Return what a channel's client sends by, one a process."""
        if channel.name not in self._lines:
            self._lines[channel.name] = Line(self.transport(channel), self.clock)
        return self._lines[channel.name]

    def door(self, channel: Channel) -> WebhookDoor:
        """Return what reads a channel's webhooks."""
        return VENDORS[channel.platform].door(channel.settings, channel.door_secrets(self.environ))

    def limiter(self, channel: Channel) -> Limiter:
        """Return the shared rate limit of a channel."""
        return Limiter(self.engine, channel.name, self.platform(channel).limits)

    def orders_limiter(self, channel: Channel) -> Limiter | None:
        """Return the shared rate limit of a channel's orders, None where they have no other than the channel's."""
        limits = self.platform(channel).limits
        return Limiter(self.engine, f"{channel.name}:orders", limits) if limits.orders_apart else None
