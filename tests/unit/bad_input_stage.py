"""An installation with two shops on sockets, worked by the command line, for what a bad day does to it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from invsync_dagster.channels import load
from invsync_dagster.cli import main
from invsync_dagster.clock import SystemClock
from invsync_dagster.demo.services import free_port
from invsync_dagster.inventory.database import migrate, open_database
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.server import SandboxServer
from invsync_dagster.sandbox.world import World
from invsync_dagster.settings import Home
from tests.simulation.written import written_key, written_rows

CHANNELS = """\
# What we sell, and where.
settings:
  low_stock: 2       # pushed before all others
  import_limits: {{moved_share: 0.1, moved_minimum_units: 300}}
channels:
  # The store gets all but a few.
  - name: woo_main
    platform: woocommerce
    environment: sandbox
    settings:
      store_url: http://127.0.0.1:{port}/woo_main
      consumer_key_env: BAD_KEY
      consumer_secret_env: BAD_SIGNING
      webhook_secret_env: BAD_WEBHOOK
    rules:
      buffer: 1      # for what sells meanwhile
      maximum: 5
    limits: {{write_linger: 0, rate: 1000, burst: 1000}}

  - name: erp_main
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:{port}/erp_main
      api_key_env: BAD_KEY
      signing_secret_env: BAD_SIGNING
      webhook_secret_env: BAD_WEBHOOK
    limits: {{write_linger: 0}}
"""
SKUS = [f"S{number:03d}" for number in range(60)]
IN_STOCK = 10
SHOWN = {"woo_main": 5, "erp_main": 10}
OTHER = "woo_other"


class CountingWorld(World):
    """Counts the rows that are written to its shops."""

    written = 0

    def handle(self, name: str, request: Request) -> Response:
        bare = replace(request, url=request.url.partition("?")[0])  # the store's has a signature behind it
        if written_key(bare) is not None:
            self.written += len(written_rows(bare))
        return super().handle(name, request)


class Desk:
    """The terminal of an installation in step, and what its shops were told since."""

    def __init__(self, home: Home, world: CountingWorld) -> None:
        self.home = home
        self.world = world
        self._files = 0

    def run(self, *arguments: object, exit_code: int = 0) -> str:
        """Run a command; returns what it printed on both streams."""
        result = self.invoke(*arguments)
        assert result.exit_code == exit_code, (result.output, result.stderr, result.exception)
        return result.stdout + result.stderr

    @staticmethod
    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(one) for one in arguments])

    def json(self, *arguments: object) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def stock_file(self, quantities: dict[str, object], name: str = "stock.csv") -> Path:
        """Write an inventory file that was counted just now."""
        path = self.home.root / name
        path.write_text("sku,quantity\n" + "".join(f'{sku},"{units}"\n' for sku, units in quantities.items()))
        return path

    def mapping_file(self, skus: list[str], **rules: int) -> Path:
        """Write a mapping file of the store with rules of the listings' own."""
        self._files += 1
        path = self.home.root / f"mapping-{self._files}.csv"
        columns = ",".join(["central_sku,channel,platform_sku,platform_item_id,platform_location_id", *rules])
        values = "".join(f",{value}" for value in rules.values())
        rows = "".join(f"{sku},woo_main,{sku},{item_id(sku)},{values}\n" for sku in skus)
        path.write_text(f"{columns}\n{rows}")
        return path

    def count(self, path: Path, exit_code: int = 0) -> dict[str, Any]:
        """Import an inventory file as of now."""
        now = SystemClock().now().isoformat()
        return dict(json.loads(self.run("import", path, "--as-of", now, "--json", exit_code=exit_code)))

    def edit(self, old: str, new: str) -> None:
        """Change a line of channels.yaml, as a person does, and take it over."""
        text = self.home.channels_file.read_text()
        assert old in text
        self.home.channels_file.write_text(text.replace(old, new))
        self.run("channels", "sync")

    def push(self) -> int:
        """Push all, which is no success while anything is held; returns the rows that were written."""
        before = self.world.written
        held = bool(self.json("held", "list")["levels"])
        self.run("sync", *SKUS, exit_code=int(held))
        return self.world.written - before

    def shown(self) -> dict[str, set[int]]:
        return {name: {row.quantity for row in self.world.books(name)} for name in SHOWN}

    def untouched(self) -> bool:
        """Push, and say whether the shops were told nothing and show what they showed."""
        return self.push() == 0 and self.shown() == {name: {number} for name, number in SHOWN.items()}


def item_id(sku: str) -> str:
    return str(1000 + int(sku[1:]))


@contextmanager
def desk_in(root: Path, environment: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Open an installation with sixty SKUs of ten pieces, whose two shops show them, by their rules."""
    for name in ("INVSYNC_DATA", "INVSYNC_DATABASE_URL", "INVSYNC_CHANNELS"):
        environment.delenv(name, raising=False)
    environment.setenv("INVSYNC_ROOT", str(root))
    for name in ("BAD_KEY", "BAD_SIGNING", "BAD_WEBHOOK"):
        environment.setenv(name, f"secret-of-{name}")
    home = Home.from_environment()
    engine = open_database(home.database_url, make=True)
    migrate(engine)
    engine.dispose()
    port = free_port()
    home.channels_file.write_text(CHANNELS.format(port=port))
    articles = {
        "woo_main": [Article(sku, SHOWN["woo_main"], item_id(sku)) for sku in SKUS],
        "erp_main": [Article(sku, SHOWN["erp_main"]) for sku in SKUS],
        # Another store, whose articles have the same ids, since they are counted up from 1000 there too.
        OTHER: [Article(f"X{sku}", 7, item_id(sku)) for sku in SKUS],
    }
    clock, nobody, state = SystemClock(), "http://127.0.0.1:9", root / "shops.json"
    channels = load(home).channels
    channels = (*channels, replace(channels[0], name=OTHER))
    world = CountingWorld(channels, os.environ, articles, clock, random.Random(1), nobody, state)
    with SandboxServer(world, port):
        desk = Desk(home, world)
        desk.run("channels", "sync")
        opening = desk.stock_file(dict.fromkeys(SKUS, IN_STOCK))
        long_ago = (clock.now() - timedelta(days=1)).isoformat()
        desk.run("import", opening, "--as-of", long_ago)
        desk.run("import", desk.mapping_file(SKUS))
        listings = "".join(f"{sku},erp_main,{sku},{sku},\n" for sku in SKUS)
        header = "central_sku,channel,platform_sku,platform_item_id,platform_location_id\n"
        (root / "erp.csv").write_text(header + listings)
        desk.run("import", root / "erp.csv")
        for name in SHOWN:
            desk.run("approve", name, "--reason", "looked")
        assert desk.untouched()
        yield desk
