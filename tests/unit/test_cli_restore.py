"""`invsync restore`: what a person sees of a backup, what is done with it, and how it refuses."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from invsync_dagster.backups.sealing import VARIABLE, BackupKeys
from invsync_dagster.backups.taking import Taken, take
from invsync_dagster.clock import SystemClock
from invsync_dagster.inventory.database import open_database
from invsync_dagster.inventory.tables import central_inventory, operator_actions
from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import apply_inbox
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.segments import Delivery
from tests import databases
from tests.postgres_server import PASSWORD, shared_server
from tests.unit.commands import invoke, own_root

CHANNELS = """\
channels:
  - name: shop
    platform: shopify
    environment: sandbox
    settings:
      shop_url: http://127.0.0.1:9/shop
      access_token_env: CLI_TOKEN
      webhook_secret_env: CLI_SECRET
"""
MAPPING = "central_sku,channel,platform_sku,platform_item_id,platform_location_id\nA,shop,A,1,2\n"


def url_in(root: Path) -> str:
    root.mkdir(exist_ok=True)
    if databases.current() == "sqlite":
        return f"sqlite:///{root / 'data' / 'invsync.db'}"
    made = databases.fresh_url(root, migrated=False)
    return shared_server().tcp_url(str(databases.opened(made).url.database))


@pytest.fixture
def move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each_database: str) -> Callable[[str], Home]:
    """Return what makes an empty home of a name the one in force."""
    monkeypatch.setenv("PATH", str(shared_server().bin), prepend=":")
    monkeypatch.setattr("invsync_dagster.cli.keeping.initialise_dagster", lambda home, environ: False)

    def moved(name: str) -> Home:
        own_root(monkeypatch, tmp_path / name, "CLI_TOKEN", "CLI_SECRET")
        monkeypatch.setenv("INVSYNC_DATABASE_URL", url_in(tmp_path / name))
        return Home.from_environment()

    return moved


def stocked(home: Home) -> None:
    home.channels_file.write_text(CHANNELS)
    assert invoke("upgrade", "--no-backup").exit_code == 0
    assert invoke("channels", "sync").exit_code == 0
    for name, content in (("stock.csv", "sku,quantity\nA,10\n"), ("mapping.csv", MAPPING)):
        (home.root / name).write_text(content)
        result = invoke("import", home.root / name)
        assert result.exit_code == 0, result.output
    Inbox(home.inbox).prepare(SystemClock().now())


def order(home: Home, number: int, *, apply: bool = True) -> None:
    """Let an order of two pieces come in, and apply it."""
    at = SystemClock().now().isoformat()
    line = {"id": number, "sku": "A", "quantity": 2, "current_quantity": 2, "fulfillable_quantity": 2}
    body = json.dumps({"id": number, "created_at": at, "updated_at": at, "line_items": [line]}).encode()
    headers = {"x-shopify-topic": "orders/create"}
    delivery = Delivery("shop", "orders/create", SystemClock().now(), headers, body)
    SegmentWriter(home.inbox, SystemClock(), random.Random()).write([delivery])
    if apply:
        ws = Workspace.open(home)
        apply_inbox(ws, run_id="run")
        ws.close()


def backed_up(home: Home) -> Taken:
    return take(home, BackupKeys.from_environment(os.environ), SystemClock().now())


def reserved(home: Home) -> int:
    engine = open_database(home.database_url)
    with engine.connect() as connection:
        units: int = connection.execute(select(central_inventory.c.reserved_quantity)).scalar_one()
    engine.dispose()
    return units


def test_a_lost_machine_comes_back_from_its_backup_and_the_inbox_that_survived(move: Callable[[str], Home]) -> None:
    old = move("old")
    stocked(old)
    order(old, 1)
    taken = backed_up(old)
    order(old, 2)
    order(old, 3, apply=False)
    new = move("new")
    preview = invoke("restore", taken.path, "--preview")
    assert preview.exit_code == 0, preview.output
    for words in (
        f"backup: {taken.path.name} of ",
        f"installation: {taken.manifest.installation}, on ",
        "stock: 1 SKUs, 1 levels, the ledger up to entry 2",
        "channels: shop (shopify, sandbox)",
        "inbox: 1 segments of 1 days, 0 files in quarantine",
        "nothing was changed",
    ):
        assert words in preview.stdout
    assert not new.data.exists()

    result = invoke("restore", taken.path, "--inbox", old.inbox, "--actor", "ann")
    assert result.exit_code == 0, result.output
    assert "; 1 levels are uncertain, and are read before they are raised" in result.stdout
    assert "inbox: 3 segments since then to be applied, 0 kept" in result.stdout
    assert "applied: 3 deliveries, 1 of them known to the backup; 2 ledger entries of 1 SKUs" in result.stdout
    assert "books: 0 differences" in result.stdout
    assert PASSWORD not in result.output
    assert reserved(new) == 6
    assert new.channels_file.read_text() == CHANNELS
    engine = open_database(new.database_url)
    with engine.connect() as connection:
        done = connection.execute(select(operator_actions).where(operator_actions.c.action == "restore")).one()
    engine.dispose()
    assert (done.actor, done.subject) == ("ann", taken.path.name)

    again = invoke("restore", taken.path)
    assert (again.exit_code, again.stderr.startswith("invsync: this home has a stock already (1 SKUs")) == (2, True)


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_what_does_not_fit_is_one_line_and_changes_nothing(
    move: Callable[[str], Home], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = move("old")
    stocked(old)
    monkeypatch.setenv(VARIABLE, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    taken = backed_up(old)
    new = move("new")
    for value, words in (
        ("", "it is not set"),
        ("short", "a key "),
        ("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=", "doesn't hold"),
    ):
        monkeypatch.setenv(VARIABLE, value)
        refused = invoke("restore", taken.path)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert words in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    refused = invoke("restore", tmp_path / "new")
    assert "is no whole backup of invsync" in refused.stderr
    assert not new.data.exists()


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_a_delivery_that_can_not_be_applied_is_told_and_the_exit_code_says_so(move: Callable[[str], Home]) -> None:
    old = move("old")
    stocked(old)
    taken = backed_up(old)
    headers = {"x-shopify-topic": "orders/create"}
    delivery = Delivery("shop", "orders/create", SystemClock().now(), headers, b"{}")
    SegmentWriter(old.inbox, SystemClock(), random.Random()).write([delivery])
    move("new")
    result = invoke("restore", taken.path, "--inbox", old.inbox)
    assert result.exit_code == 1
    assert "1 could not be applied" in result.stdout
    assert "\n! " in result.stdout
