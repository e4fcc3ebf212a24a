"""A small installation for the demo's tests: one shop, one ERP, twelve articles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from invsync_dagster.channels import load
from invsync_dagster.clock import SystemClock
from invsync_dagster.demo.shops import Shops
from invsync_dagster.demo.stage import Stage, set_stage, shops_folder, stock_shops
from invsync_dagster.sandbox.server import SandboxServer
from invsync_dagster.sandbox.world import World, read_catalogue
from invsync_dagster.settings import Home
from invsync_dagster.sync.workspace import Workspace
from tests.databases import make_file

CHANNELS = """\
channels:
  - name: shop
    platform: shopify
    environment: sandbox
    settings:
      shop_url: http://127.0.0.1:8790/shop
      access_token_env: SHOP_TOKEN
      webhook_secret_env: SHOP_WEBHOOK
    rules: { buffer: 2, maximum: 40 }
  - name: erp
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:8790/erp
      api_key_env: ERP_KEY
      signing_secret_env: ERP_SIGNING
      webhook_secret_env: ERP_WEBHOOK
"""

LOCATION = "gid://shopify/Location/70012345678"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The files of the installation; nothing is in its database yet."""
    for name in ("INVSYNC_DATA", "INVSYNC_DATABASE_URL", "INVSYNC_CHANNELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INVSYNC_ROOT", str(tmp_path))
    for name in ("SHOP_TOKEN", "SHOP_WEBHOOK", "ERP_KEY", "ERP_SIGNING", "ERP_WEBHOOK"):
        monkeypatch.setenv(name, f"secret of {name}")
    (tmp_path / "channels.yaml").write_text(CHANNELS)
    sample = tmp_path / "data" / "sample"
    sample.mkdir(parents=True)
    inventory = ["sku,product_name,quantity,reserved_quantity,status"]
    mapping = ["central_sku,channel,platform_sku,platform_item_id,platform_location_id,platform_variant_id,status,"
               "buffer,percent,minimum,maximum,dead_band"]  # fmt: skip
    for number in range(12):
        sku = f"00{number:02d}"
        inventory.append(
            f'{sku},"Mug, no. {number}",{number * 7},{number % 3},{"inactive" if number == 11 else "active"}'
        )
        item, variant = 43_000_000_000_000 + number, 41_000_000_000_000 + number
        gids = f"gid://shopify/InventoryItem/{item},{LOCATION},gid://shopify/ProductVariant/{variant}"
        mapping.append(f"{sku},shop,S-{sku},{gids},{'paused' if number == 10 else ''},{'5' if number == 9 else ''},,,,")
        mapping.append(f"{sku},erp,{sku},{sku},,,,,,,,")
    (sample / "inventory.csv").write_text("\n".join(inventory) + "\n")
    (sample / "mapping.csv").write_text("\n".join(mapping) + "\n")
    return Home.from_environment()


@pytest.fixture
def stage(home: Home) -> Stage:
    return set_stage(home, load(home))


@pytest.fixture
def ws(home: Home) -> Iterator[Workspace]:
    """The installation with a migrated database."""
    make_file(home.data / "invsync.db")
    workspace = Workspace.open(home)
    yield workspace
    workspace.close()


@pytest.fixture
def shops(home: Home, stage: Stage) -> Iterator[Shops]:
    """The stand-ins on a loopback port; their webhooks go nowhere."""
    stock_shops(home, stage)
    world = World(
        load(home).channels,
        os.environ,
        read_catalogue(shops_folder(home)),
        SystemClock(),
        Random(1),
        "http://127.0.0.1:9",
        home.data / "sandbox" / "state.json",
    )
    with SandboxServer(world) as server:
        yield Shops(f"http://127.0.0.1:{server.port}")
