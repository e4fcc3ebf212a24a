"""A small installation for tests of the Dagster rooms: three ERP channels, whose platforms are played by fakes."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import ClassVar

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from invsync_dagster.channels import Configuration, load
from invsync_dagster.defs.build import build
from invsync_dagster.defs.names import CAUSE
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.events import Content
from invsync_dagster.inventory.channels import approve_first_push
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.status import Status, status
from invsync_dagster.platforms.contract import (
    ChannelListing,
    LevelReference,
    Limits,
    ListingsPage,
    OrdersPage,
    Outcome,
    ReadAnswer,
    Reading,
    Result,
    WriteAnswer,
    WriteRow,
)
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home
from invsync_dagster.sync.registration import register_channels
from invsync_dagster.sync.worker import LockedWorker
from invsync_dagster.sync.workspace import Workspace
from tests import databases

SHOWN_BEFORE = 3  # units that each channel showed for each SKU before we came

SECRETS = {"KEY": "key", "SIGNING": "signing", "WEBHOOK": "webhook"}

ENTRY = """\
  - name: {name}
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:9
      api_key_env: KEY
      signing_secret_env: SIGNING
      webhook_secret_env: WEBHOOK
    cut_over_at: 2026-01-01T00:00:00Z
"""


@dataclass
class FakePlatform:
    """A channel in memory; it `hangs` until released, fails each call with `error`, can't read items in `broken`,
    or doesn't have those in `gone`."""

    shown: dict[str, int] = field(default_factory=dict)
    error: PlatformError | None = None
    hangs: threading.Event | None = None
    error_of_reading: PlatformError | None = None
    broken: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    written: list[tuple[str, int]] = field(default_factory=list)
    limits: Limits = field(default_factory=lambda: Limits(write_batch=50, read_batch=1, rate=1000.0, burst=1000.0))

    def _called(self) -> None:
        if self.hangs is not None:
            self.hangs.wait(20)
        if self.error is not None:
            raise self.error

    def write(self, rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        for row in rows:
            self.written.append((row.level.item_id, row.quantity))
            self.shown[row.level.item_id] = row.quantity
        return WriteAnswer(tuple(Outcome(Result.ACKNOWLEDGED) for _ in rows))

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        self._called()
        if self.error_of_reading is not None:
            raise self.error_of_reading
        for level in levels:
            if level.item_id in self.broken:
                raise PlatformError(Recovery.REJECT, "broken", f"{level.item_id} can't be read")
        return ReadAnswer(tuple(self._reading(level) for level in levels))

    def _reading(self, level: LevelReference) -> Reading:
        if level.item_id in self.gone:
            return Reading(level, None, Outcome(Result.REJECTED, Recovery.REVIEW, "not_found", "there is no such item"))
        return Reading(level, self.shown.get(level.item_id, 0))

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        self._called()
        return OrdersPage(Content())

    def open_orders(self, cursor: str = "") -> OrdersPage:
        return OrdersPage(Content())

    def listings(self, cursor: str = "") -> ListingsPage:
        self._called()
        return ListingsPage(
            tuple(ChannelListing(LevelReference(sku), sku, "", sku, "", n) for sku, n in self.shown.items())
        )

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        return OrdersPage(Content())

    def make_ready(self) -> None:
        pass

    def check_credentials(self) -> None:
        self._called()


class FakedInvsync(Invsync):
    """The resource over the installation of the test at hand."""

    installation: ClassVar["Installation"]

    def open_workspace(self) -> Workspace:
        return self.installation.open()


@dataclass
class Installation:
    """A home with its definitions; every run opens its own workspace with the fakes in it."""

    home: Home
    clock: VirtualClock
    platforms: dict[str, FakePlatform]
    instance: dg.DagsterInstance
    grace_seconds: float = 10.0
    _opened: Iterator[int] = field(default_factory=count)

    @property
    def configuration(self) -> Configuration:
        return load(self.home, SECRETS)

    def open(self) -> Workspace:
        # Two workers that are open at once must not have one name: each would wait for the other's lock.
        number = next(self._opened)
        return Workspace(
            home=self.home,
            configuration=self.configuration,
            engine=open_database(self.home.database_url),
            clock=self.clock,
            rng=random.Random(2 * number),
            worker=LockedWorker(self.home.locks, random.Random(2 * number + 1)),
            environ=SECRETS,
            _platforms=dict(self.platforms),
        )

    def definitions(self) -> dg.Definitions:
        FakedInvsync.installation = self
        return build(self.home, self.configuration, FakedInvsync(grace_seconds=self.grace_seconds))

    def run(
        self, job: str, *, selection: list[dg.AssetKey] | None = None, **arguments: object
    ) -> dg.ExecuteInProcessResult:
        """Run a job in this process; failures are in the result."""
        return (
            self.definitions()
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance,
                raise_on_error=False,
                asset_selection=selection,
                **arguments,  # type: ignore[arg-type]
            )
        )

    def status(self) -> Status:
        """Return how things stand."""
        ws = self.open()
        with ws.engine.connect() as connection:
            found = status(connection, self.clock.now(), 0)
        ws.close()
        return found

    def tags(self, result: dg.ExecuteInProcessResult) -> dict[str, str]:
        """Return the tags of a finished run."""
        run = self.instance.get_run_by_id(result.run_id)
        assert run is not None
        return dict(run.tags)

    def stock(self, quantities: dict[str, int], channels: Sequence[str]) -> None:
        """Import SKUs and list each on the channels, through the import folder."""
        self.home.imports.mkdir(parents=True, exist_ok=True)
        rows = [f"{sku},Name of {sku},{units},0,active" for sku, units in quantities.items()]
        (self.home.imports / "stock.csv").write_text(
            "\n".join(["sku,product_name,quantity,reserved_quantity,status", *rows]) + "\n"
        )
        listings = [f"{sku},{channel},{sku},{sku}," for channel in channels for sku in quantities]
        (self.home.imports / "listings.csv").write_text(
            "\n".join(["central_sku,channel,platform_sku,platform_item_id,platform_location_id", *listings]) + "\n"
        )
        for channel in channels:
            self.platforms[channel].shown = dict.fromkeys(quantities, SHOWN_BEFORE)
        result = self.run("import_files", selection=[dg.AssetKey("imports")])
        assert result.success


def queued_run(
    instance: dg.DagsterInstance, cause: str, status: dg.DagsterRunStatus = dg.DagsterRunStatus.QUEUED
) -> dg.DagsterRun:
    """Put a run of some code location into the instance's storage, with a cause."""
    location = RegisteredCodeLocationOrigin("invsync")
    origin = RemoteRepositoryOrigin(location, "repository").get_job_origin("incremental")
    return create_run_for_test(instance, status=status, tags={CAUSE: cause}, remote_job_origin=origin)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(settings={"telemetry": {"enabled": False}}) as instance:
        yield instance


@pytest.fixture
def install(tmp_path: Path, instance: dg.DagsterInstance) -> Callable[..., Installation]:
    """Return what makes an installation with the named channels, registered and approved."""

    def make(*names: str, settings: str = "", approved: bool = True) -> Installation:
        chosen = {} if databases.current() == "sqlite" else {"INVSYNC_DATABASE_URL": databases.fresh_url(tmp_path)}
        home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path), **chosen})
        home.data.mkdir()
        entries = "".join(ENTRY.format(name=name) for name in names)
        home.channels_file.write_text(f"settings:\n  sku_batches: 4\n{settings}channels:\n{entries}")
        if not chosen:
            databases.make_file(home.data / "invsync.db")
        engine = open_database(home.database_url)
        # Files are imported once they have stood still for two seconds: the clock is ahead of theirs.
        clock = VirtualClock(datetime.now(UTC).replace(microsecond=0))
        clock.advance(3600)
        made = Installation(home, clock, {name: FakePlatform() for name in names}, instance)
        ws = made.open()
        register_channels(ws)
        ws.close()
        if approved:
            with write_transaction(engine) as connection:
                for name in names:
                    approve_first_push(connection, name, actor="test", reason="test", now=clock.now())
        engine.dispose()
        return made

    return make
