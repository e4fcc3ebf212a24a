"""Several accounts of one platform: credentials, limits and webhook secrets of their own; sandboxes beside real shops; pauses."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import select

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.inventory import channels, listings
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.catch_up import catch_up
from invsync_dagster.inventory.channels import approve_first_push
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.lines import REHEARSAL
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.status import status
from invsync_dagster.inventory.tables import (
    central_inventory,
    inventory_levels,
    order_lines,
    platform_mapping,
    rate_limits,
    stock_ledger,
)
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.errors import SignatureError
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.transport import InProcessTransport
from invsync_dagster.settings import Home, Settings
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.reconcile import full_sync
from invsync_dagster.sync.registration import register_channels
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.worker import LockedWorker
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.segments import Delivery
from tests import databases

START = datetime(2026, 3, 2, tzinfo=UTC)
EAST, WEST = "east", "west"
SKUS = {"A": 10, "B": 6}
BY: dict[str, Any] = {"actor": "ann", "reason": "test", "now": START}
Environment = Literal["sandbox", "production"]


@dataclass
class Accounts:
    """Two shops of one platform with all goods, in step, and the webhooks that they send."""

    ws: Workspace
    clock: VirtualClock
    shops: dict[str, ShopifySandbox]
    levels: dict[str, dict[str, LevelReference]]
    writes: dict[str, int] = field(default_factory=dict)
    number: int = 0

    def push(self, name: str) -> PushReport:
        return push_channel(self.ws, name, run_id="run", deadline=self.clock.now() + timedelta(minutes=5))

    def sell(self, name: str, sku: str, units: int = 1) -> None:
        self.shops[name].buy({self.levels[name][sku]: units})

    def hear(self, name: str, *, as_of: str = "") -> IntakeReport:
        """Take in the waiting webhooks of a shop, at the door of `as_of` (default: its own)."""
        report, door = IntakeReport(), self.ws.door(self.ws.channel(as_of or name))
        taken = []
        for each in self.shops[name].take_outgoing():
            headers = {key.lower(): value for key, value in each.headers.items()}
            if as_of:
                headers["x-shopify-shop-domain"] = f"{as_of}.myshopify.com"
            door.verify(headers, each.body, self.clock.now())
            self.number += 1
            topic = door.topic(headers, each.body)
            taken.append(Delivery(name, topic, self.clock.now(), headers, each.body, f"segment:{self.number}"))
        apply_deliveries(self.ws, taken, report, run_id="intake")
        return report

    def shown(self, name: str) -> dict[str, int]:
        return {sku: self.shops[name].available(level) for sku, level in self.levels[name].items()}

    def available(self) -> dict[str, int]:
        stock = central_inventory.c
        with self.ws.engine.connect() as connection:
            assert audit(connection) == []
            rows = connection.execute(select(stock.sku, stock.quantity - stock.reserved_quantity)).all()
        return dict(rows)

    def level(self, name: str, sku: str) -> Any:
        column = inventory_levels.c
        with self.ws.engine.connect() as connection:
            query = select(inventory_levels).where(column.channel == name, column.central_sku == sku)
            return connection.execute(query).one()


Make = Callable[..., Accounts]


@pytest.fixture
def make(each_database: str, tmp_path: Path) -> Make:
    """Return what makes the accounts, each of an environment."""

    def accounts(east: Environment = "production", west: Environment = "production", **settings: Any) -> Accounts:
        clock = VirtualClock(START)
        environ: dict[str, str] = {}
        shops: dict[str, ShopifySandbox] = {}
        configured = []
        for name, environment in ((EAST, east), (WEST, west)):
            variables = {"access_token_env": f"{name.upper()}_TOKEN", "webhook_secret_env": f"{name.upper()}_HOOK"}
            environ |= {variable: f"the value of {variable}" for variable in variables.values()}
            model = VENDORS["shopify"].settings.model_validate(
                {"shop_url": f"https://{name}.myshopify.com", **variables}
            )
            configured.append(Channel(name, "shopify", environment, model, cut_over_at=START, **settings))
            shops[name] = ShopifySandbox(
                access_token=environ[f"{name.upper()}_TOKEN"],
                webhook_secret=environ[f"{name.upper()}_HOOK"],
                clock=clock,
                random=random.Random(name),
                domain=f"{name}.myshopify.com",
            )
        levels = {name: {sku: shop.add_article(sku, n) for sku, n in SKUS.items()} for name, shop in shops.items()}
        engine = databases.fresh_engine()
        ws = Workspace(
            home=Home(root=tmp_path, data=tmp_path, database_url="", channels_file=tmp_path / "channels.yaml"),
            configuration=Configuration(settings=Settings(), channels=tuple(configured)),
            engine=engine,
            clock=clock,
            rng=random.Random(1),
            worker=LockedWorker(tmp_path, random.Random(1)),
            environ=environ,
            transport=lambda channel: InProcessTransport(shops[channel.name].handle, clock),
        )
        register_channels(ws)
        with write_transaction(engine) as connection:
            set_skus(connection, [Sku(sku) for sku in SKUS], **BY)
            opening = [Count(sku, quantity, START) for sku, quantity in SKUS.items()]
            apply_counts(connection, opening, CountSource("opening"), now=START, run_id="")
            offers = [
                Listing(name, sku, level.item_id, level.location_id, platform_sku=sku)
                for name, places in levels.items()
                for sku, level in places.items()
            ]
            set_listings(connection, offers, **BY)
            for name in shops:
                approve_first_push(connection, name, **BY)
        made = Accounts(ws, clock, shops, levels)
        clock.advance(60)
        for name in shops:
            assert not made.push(name).problem
        return made

    return accounts


def test_a_sale_at_one_account_lowers_the_other_and_each_is_called_with_its_own_token(make: Make) -> None:
    both = make()
    both.sell(EAST, "A", 3)
    assert both.hear(EAST).entries == 1
    assert both.push(WEST).acknowledged == 1
    assert both.shown(WEST) == both.available() == {"A": 7, "B": 6}
    both.sell(WEST, "B")
    both.hear(WEST)
    both.push(EAST)
    assert both.shown(EAST) == both.available() == {"A": 7, "B": 5}


def test_a_webhook_signed_with_the_other_accounts_secret_is_refused_and_changes_nothing(make: Make) -> None:
    both = make()
    both.sell(EAST, "A")
    with pytest.raises(SignatureError):
        both.hear(EAST, as_of=WEST)
    assert both.available() == SKUS


def test_accounts_have_rate_limits_of_their_own(make: Make) -> None:
    both = make()
    both.ws.limiter(both.ws.channel(EAST)).block((both.clock.now() + timedelta(hours=1)).timestamp(), "")
    both.sell(EAST, "A")
    both.sell(WEST, "A")
    both.hear(EAST)
    both.hear(WEST)
    west = both.push(WEST)
    assert (west.problem, west.wait_seconds, both.shown(WEST)["A"]) == ("", 0.0, 8)
    east = push_channel(both.ws, EAST, run_id="run", deadline=both.clock.now() + timedelta(seconds=20))
    assert (east.pushed, both.shown(EAST)["A"]) == (0, 9)
    with both.ws.engine.connect() as connection:
        assert set(connection.execute(select(rate_limits.c.channel)).scalars()) == {EAST, WEST}


def test_an_account_whose_token_is_dead_does_not_stop_the_other(make: Make) -> None:
    both = make()
    both.shops[EAST].access_token = "another"
    both.sell(WEST, "A", 2)
    both.hear(WEST)
    dead, alive = both.push(EAST), both.push(WEST)
    assert dead.stopped
    assert "the value of" not in dead.problem
    assert (alive.problem, alive.stopped, both.shown(WEST)) == ("", False, both.available())
    both.shops[EAST].access_token = "the value of EAST_TOKEN"
    assert not both.push(EAST).problem
    assert both.shown(EAST) == both.available() == {"A": 8, "B": 6}


def test_what_a_sandbox_beside_production_sells_moves_no_stock_and_is_told(make: Make) -> None:
    both = make(west="sandbox")
    both.sell(WEST, "A", 4)
    report = both.hear(WEST)
    assert (report.entries, report.ignored > 0) == (0, True)
    assert both.push(WEST).problem == ""
    assert both.available() == SKUS
    with both.ws.engine.connect() as connection:
        assert set(connection.execute(select(order_lines.c.ignored_reason)).scalars()) == {REHEARSAL}
        found = status(connection, both.clock.now(), 0)
    assert [(one.channel, one.environment, one.rehearses) for one in found.channels] == [
        (EAST, "production", False),
        (WEST, "sandbox", True),
    ]
    assert f"{WEST}: {REHEARSAL}; its numbers are kept in step" in found.notes()
    both.sell(EAST, "A")
    both.hear(EAST)
    for batch in range(16):
        assert not full_sync(both.ws, WEST, batch, run_id="full").problem
    assert both.shown(WEST) == both.available() == {"A": 9, "B": 6}


@pytest.mark.parametrize("environment", ["sandbox", "production"])
def test_where_all_are_of_one_environment_every_sale_counts(make: Make, environment: Environment) -> None:
    both = make(environment, environment)
    both.sell(WEST, "A", 4)
    both.hear(WEST)
    both.push(EAST)
    assert both.shown(EAST) == both.available() == {"A": 6, "B": 6}


@pytest.mark.parametrize(("west", "adopted"), [("sandbox", 0), ("production", 5)])
def test_a_sandbox_beside_production_has_no_edits_that_are_adopted(make: Make, west: Environment, adopted: int) -> None:
    both = make(west=west, differences="adopt")
    both.shops[WEST].edit_stock(both.levels[WEST]["A"], 15)
    both.clock.advance(60)
    done = [one.done for batch in range(16) for one in full_sync(both.ws, WEST, batch, run_id="full").differences]
    assert both.available() == {"A": 10 + adopted, "B": 6}
    assert done == ["adopted" if adopted else "reported: a sandbox beside production channels changes no stock"]


def pause_channel(both: Accounts, state: Literal["paused", "active"]) -> None:
    with write_transaction(both.ws.engine) as connection:
        channels.set_status(connection, EAST, state, actor="ann", reason="test", now=both.clock.now())
    catch_up(both.ws.engine, both.clock.now())


def pause_listing(both: Accounts, state: Literal["paused", "active"]) -> None:
    listing = platform_mapping.c
    with write_transaction(both.ws.engine) as connection:
        query = select(listing.id).where(listing.platform_name == EAST, listing.central_sku == "A")
        ids = list(connection.execute(query).scalars())
        listings.set_status(connection, ids, state, actor="ann", reason="test", now=both.clock.now())


@pytest.mark.parametrize("pause", [pause_channel, pause_listing])
def test_while_paused_nothing_is_written_sales_are_heard_and_it_is_read_first_when_it_goes_on(
    make: Make, pause: Callable[[Accounts, Literal["paused", "active"]], None]
) -> None:
    both = make()
    pause(both, "paused")
    attempt = both.level(EAST, "A").attempt
    both.sell(EAST, "A", 2)
    both.hear(EAST)
    both.sell(WEST, "A", 3)
    both.hear(WEST)
    assert both.push(WEST).problem == both.push(EAST).problem == ""
    assert both.shown(EAST)["A"] == 8  # its own sale alone
    assert both.shown(WEST) == both.available() == {"A": 5, "B": 6}
    assert both.level(EAST, "A").attempt == attempt
    both.shops[EAST].edit_stock(both.levels[EAST]["A"], 7)  # somebody works there while it is paused
    both.clock.advance(600)
    pause(both, "active")
    assert both.level(EAST, "A").uncertain is not None
    report = both.push(EAST)
    assert (report.problem, report.read >= 1) == ("", True)
    assert both.shown(EAST) == both.available() == {"A": 5, "B": 6}
    with both.ws.engine.connect() as connection:
        assert set(connection.execute(select(stock_ledger.c.kind)).scalars()) == {"count", "reserve"}


def test_a_channel_taken_out_of_the_file_is_paused_and_read_first_when_it_is_back(make: Make) -> None:
    both = make()
    whole = both.ws.configuration
    both.ws.configuration = replace(whole, channels=tuple(one for one in whole.channels if one.name != EAST))
    register_channels(both.ws)
    both.sell(EAST, "A", 2)
    both.sell(WEST, "A", 3)
    both.hear(WEST)
    assert both.shown(EAST)["A"] == 8
    both.ws.configuration = whole
    register_channels(both.ws)
    report = both.push(EAST)  # the sale of meanwhile is found by the list of orders
    assert (report.orders, report.problem) == (1, "")
    both.push(WEST)
    assert both.shown(EAST) == both.shown(WEST) == both.available() == {"A": 5, "B": 6}
