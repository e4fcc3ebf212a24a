"""The disk is full, or the database's server is gone: one sentence with the mend, nothing lost, and the next run goes on."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.database import DatabaseGoneError, open_database
from invsync_dagster.inventory.tables import central_inventory, channels, inventory_levels
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.world import World
from invsync_dagster.settings import Home
from tests import databases
from tests.postgres_server import PASSWORD, shared_server
from tests.unit.commands import ERP_MAIN, MAPPING_HEADER, invoke, own_root, stand_ins

CHANNELS = f"channels:\n{ERP_MAIN}    limits: {{{{write_linger: 0}}}}\n"
HEADER = "sku,product_name,quantity,reserved_quantity,status\n"
SKUS = [f"S{number:03d}" for number in range(300)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each_database: str) -> Iterator[World]:
    """An installation with 10 pieces of everything, and the ERP's stand-in, which shows 10 as well."""
    own_root(monkeypatch, tmp_path)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("INVSYNC_DATABASE_URL", databases.fresh_url(tmp_path / "data"))
    articles = {"erp_main": [Article(sku, 10) for sku in SKUS]}
    with stand_ins(Home.from_environment(), CHANNELS, articles) as made:
        assert invoke("channels", "sync").exit_code == 0
        assert invoke("import", stock_file(10)).exit_code == 0
        (tmp_path / "mapping.csv").write_text(
            MAPPING_HEADER + "".join(f"{sku},erp_main,{sku},{sku},\n" for sku in SKUS)
        )
        assert invoke("import", tmp_path / "mapping.csv").exit_code == 0
        assert invoke("approve", "erp_main", "--reason", "looked").exit_code == 0
        assert invoke("sync", SKUS[0]).exit_code == 0
        yield made


def stock_file(quantity: int) -> Path:
    path = Home.from_environment().root / f"stock-{quantity}.csv"
    path.write_text(HEADER + "".join(f"{sku},,{quantity},0,active\n" for sku in SKUS))
    return path


def quantities() -> set[int]:
    engine = open_database(Home.from_environment().database_url)
    with engine.connect() as connection:
        found = set(connection.execute(select(central_inventory.c.quantity)).scalars())
        assert audit(connection) == []
    engine.dispose()
    return found


def shown(world: World) -> int:
    return next(book.quantity for book in world.books("erp_main") if book.sku == SKUS[0])


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("command", ["import", "sync", "channels"])
def test_a_full_disk_is_said_in_one_sentence_and_the_next_run_goes_on(world: World, command: str) -> None:
    arguments = {"import": ["import", str(stock_file(9))], "sync": ["sync", SKUS[0]], "channels": ["channels", "sync"]}
    if command == "sync":
        assert invoke("import", stock_file(9)).exit_code == 0
    if command == "channels":
        channels_file = Home.from_environment().channels_file
        channels_file.write_text(channels_file.read_text() + "    rules: {buffer: 1}\n")
    before = quantities()
    full = subprocess.run(
        [sys.executable, "-m", "invsync_dagster.cli", *arguments[command]],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),  # no file grows beyond a page
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (full.returncode, full.stderr.count("\n")) == (2, 1)
    assert "the stock's database can't be used: disk I/O error" in full.stderr
    assert full.stderr.endswith("has not happened; free space on its disk, and give the command again\n")
    assert (quantities(), shown(world)) == (before, 10)
    assert invoke(*arguments[command]).exit_code == 0
    assert invoke("sync", SKUS[0]).exit_code == 0
    assert shown(world) == 9


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "done", "status"),
    [
        (["channels", "pause", "erp_main", "--reason", "stocktaking"], "erp_main: paused\n", "paused"),
        (["channels", "retire", "erp_main", "--reason", "closed"], "erp_main: retired\n", "retired"),
        (["channels", "sync"], "registered: erp_main\n", "active"),
    ],
)
def test_a_disk_that_is_full_once_a_change_is_made_keeps_only_its_levels_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch, arguments: list[str], done: str, status: str
) -> None:
    if "sync" in arguments:
        channels_file = Home.from_environment().channels_file
        channels_file.write_text(channels_file.read_text() + "    rules: {buffer: 1}\n")

    def full(*_: object) -> int:
        raise DatabaseGoneError(None, None, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as while_full:
        while_full.setattr("invsync_dagster.cli.channels.catch_up", full)
        told = invoke(*arguments)
    assert told.exit_code == 1
    assert told.stdout == (
        f"{done}! that is done, and the levels follow with the next cycle, or `invsync channels sync`: the stock's database "
        "can't be used: database or disk is full; free space on its disk, and the next run does it\n"
    )
    [channel] = json.loads(invoke("channels", "list", "--json").stdout)
    assert channel["status"] == status
    assert waiting() == ["erp_main"]
    assert invoke("channels", "sync").exit_code == 0
    assert waiting() == []


def waiting() -> list[str]:
    """The channels whose levels have not followed a change yet."""
    engine = open_database(Home.from_environment().database_url)
    with engine.connect() as connection:
        late = channels.c.rules_revision > channels.c.recomputed_revision
        found = list(connection.execute(select(channels.c.name).where(late)).scalars())
    engine.dispose()
    return found


class Outage:
    """The time in which the database's server is stopped."""

    lasts = False

    def begin(self) -> None:
        if not self.lasts:
            self.lasts = True
            databases.stop_server()

    def end(self) -> None:
        if self.lasts:
            self.lasts = False
            shared_server().start()


@pytest.fixture
def outage() -> Iterator[Outage]:
    """One that ends with the test, however that ends."""
    outage = Outage()
    yield outage
    outage.end()


@pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)
def test_a_server_that_is_gone_is_said_in_one_sentence_by_every_command(world: World, outage: Outage) -> None:
    outage.begin()
    for arguments in (["import", stock_file(9)], ["sync", SKUS[0]], ["status"], ["explain", SKUS[0]]):
        told = invoke(*arguments)
        assert (told.exit_code, told.stderr.count("\n"), told.stdout) == (2, 1, ""), told.output
        assert told.stderr.startswith("invsync: the stock's database can't be used: ")
        assert told.stderr.endswith("has not happened; give the command again, once it is back\n")
        assert PASSWORD not in told.stderr
    outage.end()
    assert quantities() == {10}
    assert invoke("import", stock_file(9)).exit_code == 0
    assert invoke("sync", SKUS[0]).exit_code == 0
    assert (quantities(), shown(world)) == ({9}, 9)


@pytest.mark.parametrize("each_database", ["postgresql"], indirect=True)
def test_a_server_that_goes_in_the_middle_of_a_push_loses_nothing(
    world: World, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("import", stock_file(9)).exit_code == 0
    handle = world.handle

    def goes(name: str, request: Request) -> Response:
        answer = handle(name, request)
        if request.method == "POST":
            outage.begin()
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(world, "handle", goes)
        told = invoke("sync", SKUS[0])
    assert (told.exit_code, told.stderr.count("\n")) == (2, 1)
    assert "the stock's database can't be used" in told.stderr
    outage.end()
    assert shown(world) == 9  # the write landed, and nobody could note it
    engine = open_database(Home.from_environment().database_url)
    level = select(inventory_levels).where(inventory_levels.c.central_sku == SKUS[0])
    with engine.connect() as connection:
        assert connection.execute(level).one().claim is not None
    # The write may still land for as long as the platform says, so no reading of now settles it: it stays uncertain (that it
    # then is settled: tests/unit/sync/test_outage.py), and shows what it should.
    invoke("sync", SKUS[0])
    with engine.connect() as connection:
        after = connection.execute(level).one()
    engine.dispose()
    assert (after.claim, after.uncertain is not None, after.desired, shown(world)) == (None, True, 9, 9)
    assert quantities() == {9}
