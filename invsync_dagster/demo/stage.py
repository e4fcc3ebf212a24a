"""Sets the stage: may the demo run here, the stock with two weeks behind it, and the first pushes approved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from sqlalchemy import func, select

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.demo.catalogue import Catalogue, ShownBy, read_catalogue, write_shops
from invsync_dagster.demo.history import History, invent
from invsync_dagster.demo.services import DemoError
from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.channels import approve_first_push
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.history import close_day
from invsync_dagster.inventory.imports import results
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.importing import import_file
from invsync_dagster.inventory.tables import channels, stock_ledger
from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home
from invsync_dagster.sync.preview import Preview, preview_channel
from invsync_dagster.sync.registration import register_channels
from invsync_dagster.sync.workspace import Workspace

ACTOR = "demo"
SHOPS = ("shopify", "woocommerce", "amazon", "ebay", "alibaba")
"""The platforms at which the demo's buyers buy."""
ADDRESSES = ("shop_url", "store_url", "api_url", "gateway_url", "base_url")
"""The settings that say where a channel's platform is."""
RUN_ID = "demo-history"
# What became known within so long is applied together, as one run of a quiet shop would have done.
BATCH = timedelta(hours=2)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """What the demo plays on: the sandbox channels by what they are, the port of their stand-ins, and the catalogue."""

    shops: tuple[str, ...]
    erp: str
    sandbox_port: int
    catalogue: Catalogue
    rules: Mapping[str, ShownBy]

    @property
    def channels(self) -> tuple[str, ...]:
        return (*self.shops, self.erp)


def set_stage(home: Home, configuration: Configuration) -> Stage:
    """Check that the demo may run with this configuration. Raises `DemoError` with one line for what stops it."""
    if configuration.problems:
        raise DemoError(configuration.problems[0] + _and_more(configuration.problems))
    real = [channel.name for channel in configuration.channels if channel.environment != "sandbox"]
    if real:
        raise DemoError(f"the demo invents sales, so it runs on sandbox channels only; production: {', '.join(real)}")
    shops = tuple(channel.name for channel in configuration.channels if channel.platform in SHOPS)
    erps = [channel.name for channel in configuration.channels if channel.platform == "erp"]
    if not shops or len(erps) != 1:
        raise DemoError(f"the demo needs at least one shop ({', '.join(SHOPS)}) and exactly one ERP in channels.yaml")
    ports = {port for channel in configuration.channels if (port := _port(channel)) is not None}
    if len(ports) != 1:
        raise DemoError(
            "the sandbox channels of channels.yaml must name one address, since one server stands in for all"
        )
    sample = sample_folder(home)
    try:
        catalogue = read_catalogue(sample)
    except OSError as error:
        raise DemoError(f"{error.filename} can't be read ({error.strerror})") from error
    rules = {channel.name: ShownBy(**channel.rules.model_dump()) for channel in configuration.channels}
    return Stage(shops, erps[0], ports.pop(), catalogue, rules)


def sample_folder(home: Home) -> Path:
    """Return the folder of the sample catalogue, which belongs to the project and not to the installation's data."""
    return home.root / "data" / "sample"


def shops_folder(home: Home) -> Path:
    """Return the folder of the catalogue that the stand-ins start with."""
    return home.data / "sandbox" / "catalogue"


def stock_shops(home: Home, stage: Stage) -> None:
    """Write what the stand-ins start with; those that have sold before go on with their own books."""
    write_shops(stage.catalogue, sample_folder(home), shops_folder(home), stage.rules)


def fill_stock(ws: Workspace, stage: Stage, random: Random, say: Say) -> None:
    """Import the sample catalogue with two weeks of business before it; a stock that has entries is left as it is."""
    with ws.engine.connect() as connection:
        entries = connection.execute(select(func.count()).select_from(stock_ledger)).scalar_one()
    if entries:
        register_channels(ws)
        say(f"the stock goes on from {entries} ledger entries")
        return
    now = ws.clock.now()
    history = invent(stage.catalogue, stage.shops, stage.erp, now, random)
    register_channels(replace(ws, clock=VirtualClock(history.begins)))
    opening = _write_opening(ws, stage, history)
    sample = sample_folder(ws.home)
    say(_import(ws, opening, history.begins, history.begins))
    say(_import(ws, sample / "mapping.csv", history.begins, None))
    for known_at, batch in history.batches(BATCH):
        with write_transaction(ws.engine) as connection:
            ledger.apply(connection, batch, now=known_at, run_id=RUN_ID)
    say(f"lived through {len(history.happenings)} events of the last {(now - history.begins).days} days")
    say(_import(ws, sample / "inventory.csv", now, now))
    zone = ws.configuration.settings.time_zone
    day = history.begins.date()
    with write_transaction(ws.engine) as connection:
        while day < now.date():
            close_day(connection, day, zone, now)
            day += timedelta(days=1)


def _write_opening(ws: Workspace, stage: Stage, history: History) -> Path:
    path = ws.home.data / "demo" / "opening-inventory.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["sku,product_name,quantity,reserved_quantity,status"]
    for article in stage.catalogue.articles.values():
        name = '"' + article.name.replace('"', '""') + '"'
        status = "active" if article.active else "inactive"
        lines.append(f"{article.sku},{name},{history.opening[article.sku]},{article.reserved},{status}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _import(ws: Workspace, path: Path, now: datetime, as_of: datetime | None) -> str:
    basis = Basis(ws.engine, ws.home.imports, ws.configuration.settings.import_limits, now, ACTOR, RUN_ID)
    rejects = ws.home.data / "demo" / f"{path.name}.rejects.csv"
    result = import_file(basis, path, Declaration(as_of=as_of), rejects)
    if result.state not in (results.APPLIED, results.ALREADY) or result.preview is None:
        raise DemoError(f"{path.name} could not be imported: {result.state}: {result.reason}")
    found = result.preview
    return f"imported {path.name}: {found.added} added, {found.changed} changed, {found.rejected} rejected"


def approve_channels(ws: Workspace, stage: Stage, show: Callable[[Preview], None], say: Say) -> list[str]:
    """Preview and approve the first push of each channel that isn't approved yet, and return their names."""
    with ws.engine.connect() as connection:
        waiting = set(
            connection.execute(select(channels.c.name).where(channels.c.push_approved_at.is_(None))).scalars()
        )
    approved = [name for name in stage.channels if name in waiting]
    # Each waits for the rate of its own platform: side by side they wait once.
    with ThreadPoolExecutor(max_workers=len(stage.channels)) as pool:
        previews = {name: pool.submit(preview_channel, ws, name) for name in approved}
        for name, preview in previews.items():
            try:
                show(preview.result())
            except PlatformError as error:
                raise DemoError(f"{name} can't be previewed: {error}") from error
            reason = "the preview was shown in the demo's terminal"
            with write_transaction(ws.engine) as connection:
                approve_first_push(connection, name, actor=ACTOR, reason=reason, now=ws.clock.now())
            say(f"{name}: its first push is approved by {ACTOR!r}")
    return approved


def _port(channel: Channel) -> int | None:
    values = channel.settings.model_dump()
    address = next((values[name] for name in ADDRESSES if values.get(name)), "")
    return urlsplit(str(address)).port


def _and_more(problems: tuple[str, ...]) -> str:
    return f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
