"""The project's own channels and sample catalogue, as `make demo` plays on them: every platform is among them and sells."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from invsync_dagster.channels import load
from invsync_dagster.clock import SystemClock
from invsync_dagster.demo.shops import Shops
from invsync_dagster.demo.stage import set_stage, shops_folder, stock_shops
from invsync_dagster.demo.street import Street
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sandbox.server import SandboxServer
from invsync_dagster.sandbox.world import World, read_catalogue
from invsync_dagster.settings import Home

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in ("INVSYNC_DATA", "INVSYNC_DATABASE_URL", "INVSYNC_CHANNELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INVSYNC_ROOT", str(tmp_path))
    shutil.copy(PROJECT / "channels.yaml", tmp_path)
    shutil.copytree(PROJECT / "data" / "sample", tmp_path / "data" / "sample")
    home = Home.from_environment()
    for name in re.findall(r"_env: (\w+)", home.channels_file.read_text(encoding="utf-8")):
        monkeypatch.setenv(name, f"secret of {name}")
    return home


def test_all_platforms_are_on_the_stage_and_whatever_people_do_shelf_and_orders_agree(home: Home) -> None:
    configuration = load(home)
    stage = set_stage(home, configuration)
    assert {channel.platform for channel in configuration.channels} == set(VENDORS)
    assert set(stage.channels) == {channel.name for channel in configuration.channels}
    stock_shops(home, stage)
    catalogue = read_catalogue(shops_folder(home))
    world = World(
        configuration.channels,
        os.environ,
        catalogue,
        SystemClock(),
        Random(1),
        "http://127.0.0.1:9",
        home.data / "sandbox" / "state.json",
    )
    with SandboxServer(world) as server:
        shops = Shops(f"http://127.0.0.1:{server.port}")
        before = sum(book.on_hand or 0 for book in shops.books(stage.erp))
        shown = {name: len(shops.books(name)) for name in stage.channels}
        assert all(200 <= levels <= 2000 for levels in shown.values()), shown
        street = Street(stage, shops, Random(5))
        moved, seen = 0, Counter[tuple[str, str]]()
        for _ in range(200):
            event = street.step()
            if event is None:
                continue
            units = sum(int(part.split(" × ")[0]) for part in event.words.split(", "))
            seen[event.what, event.shop] += 1
            if event.what == "shipped" or (event.what, event.shop) == ("sale", stage.erp):
                moved -= units
            elif event.what in ("sent back", "goods in"):
                moved += units
        assert sum(book.on_hand or 0 for book in shops.books(stage.erp)) == before + moved
        for name in stage.shops:
            assert seen["sale", name] and seen["shipped", name], (name, seen)
            orders = shops.open_orders(name)
            assert sum(shops.promised(name).values()) == sum(
                sum(shops.unshipped(name, order).values()) for order in orders
            )
