"""The commands as a person runs them, and the root of their own that tests run them in."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest
from click.testing import CliRunner, Result

from invsync_dagster.channels import load
from invsync_dagster.cli import main
from invsync_dagster.clock import SystemClock
from invsync_dagster.inventory.database_url import parse_url
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.server import SandboxServer
from invsync_dagster.sandbox.world import World
from invsync_dagster.settings import Home
from tests import databases

VARIABLES = (
    "INVSYNC_DATA",
    "INVSYNC_DATABASE_URL",
    "INVSYNC_DAGSTER_DATABASE_URL",
    "INVSYNC_CHANNELS",
    "INVSYNC_INBOX_KEY",
    "INVSYNC_BACKUP_KEY",
)

# One channel with the variables of its secrets, for a file of channels that `stand_ins` writes; options may follow it.
ERP_MAIN = """\
  - name: erp_main
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:{port}/erp_main
      api_key_env: ERP_KEY
      signing_secret_env: ERP_SIGNING
      webhook_secret_env: ERP_WEBHOOK
"""
SECRETS = ("ERP_KEY", "ERP_SIGNING", "ERP_WEBHOOK")
MAPPING_HEADER = "central_sku,channel,platform_sku,platform_item_id,platform_location_id\n"


def invoke(*arguments: object) -> Result:
    """Run `invsync` with these arguments."""
    return CliRunner().invoke(main, [str(one) for one in arguments])


def own_root(monkeypatch: pytest.MonkeyPatch, root: Path, *secrets: str) -> Home:
    """Make `root` the one in force, with nothing else set but `SECRETS` and the named secrets."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INVSYNC_ROOT", str(root))
    for name in (*SECRETS, *secrets):
        monkeypatch.setenv(name, f"secret-of-{name}")
    return Home.from_environment()


def migrated(home: Home) -> Home:
    """Give a home on SQLite its database."""
    databases.make_file(Path(str(parse_url(home.database_url).database)))
    return home


@contextmanager
def stand_ins(
    home: Home, channels: str, articles: Mapping[str, list[Article]] = MappingProxyType({})
) -> Iterator[World]:
    """Run the shops behind the channels of a home, whose file gets their port in the place of `{port}`."""
    home.channels_file.write_text(channels.format(port=9))
    state, nobody = home.data / "sandbox.json", "http://127.0.0.1:9"
    world = World(load(home).channels, os.environ, articles, SystemClock(), random.Random(1), nobody, state)
    with SandboxServer(world) as server:
        home.channels_file.write_text(channels.format(port=server.port))
        yield world
