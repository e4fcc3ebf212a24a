"""Channels from the file to the database, the first push as a decision, and the identity of workers."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from invsync_dagster.channels import Configuration, Rules
from invsync_dagster.inventory.channels import approve_first_push
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels
from invsync_dagster.sync.preview import preview_channel
from invsync_dagster.sync.registration import missing_channels, register_channels
from invsync_dagster.sync.worker import LockedWorker
from tests.unit.sync.conftest import LittleWorld

SKU = "SKU-0001"


def configure(world: LittleWorld, configuration: Configuration) -> None:
    world.processes[0].configuration = configuration


def test_a_change_of_rules_in_the_file_recomputes_the_channels_levels_and_no_others(world: LittleWorld) -> None:
    shown = world.shown("shop_main", SKU)
    changed = [
        replace(channel, rules=Rules(buffer=2)) if channel.name == "shop_main" else channel
        for channel in world.configuration.channels
    ]
    assert register_channels(world.processes[0]) == 0
    configure(world, replace(world.configuration, channels=tuple(changed)))
    assert register_channels(world.processes[0]) > 0
    assert world.level("shop_main", SKU).desired == shown - 2
    assert world.changes("erp_main") == 0
    world.push("shop_main")
    assert world.shown("shop_main", SKU) == shown - 2
    assert register_channels(world.processes[0]) == 0


def test_the_policy_for_what_comes_back_is_the_files_without_a_level_recomputed(world: LittleWorld) -> None:
    first, *rest = world.configuration.channels
    configure(world, replace(world.configuration, channels=(replace(first, restock="never"), *rest)))
    assert register_channels(world.processes[0]) == 0
    with world.engine.connect() as connection:
        policies = dict(connection.execute(select(channels.c.name, channels.c.restock)).all())
    assert policies.pop(first.name) == "never"
    assert set(policies.values()) == {"as_told"}


def test_a_channel_that_the_file_lost_is_paused_and_goes_on_when_it_is_back(world: LittleWorld) -> None:
    rest = tuple(channel for channel in world.configuration.channels if channel.name != "shop_main")
    configure(world, replace(world.configuration, channels=rest))
    register_channels(world.processes[0])
    assert missing_channels(world.processes[0]) == ["shop_main"]
    configure(world, world.configuration)
    register_channels(world.processes[0])
    assert missing_channels(world.processes[0]) == []
    report = world.push("shop_main")
    assert report.read == report.settled > 0  # read before anything is written


def test_a_file_that_gives_no_channel_at_all_pauses_nothing(world: LittleWorld) -> None:
    configure(world, Configuration(problems=("unreadable",)))
    assert register_channels(world.processes[0]) == 0
    assert missing_channels(world.processes[0]) == []


def test_a_preview_shows_per_level_what_a_push_would_change_and_writes_nothing(world: LittleWorld) -> None:
    with write_transaction(world.engine) as connection:
        connection.execute(update(channels).where(channels.c.name == "erp_main").values(push_approved_at=None))
    right = world.shown("erp_main", SKU)
    world.erp.edit_available(SKU, right + 50)
    world.erp.edit_available("SKU-0002", 0)
    preview = preview_channel(world.processes[0], "erp_main")
    assert next((row.sku, row.move) for row in preview.changes) == (SKU, -50)
    totals = preview.totals()
    assert (totals["levels"], totals["equal"], totals["raised"], totals["lowered"]) == (20, 18, 1, 1)
    assert world.shown("erp_main", SKU) == right + 50
    with write_transaction(world.engine) as connection:
        approve_first_push(connection, "erp_main", actor="ann", reason="looked", now=world.clock.now())
    with world.engine.connect() as connection:
        row = connection.execute(select(channels).where(channels.c.name == "erp_main")).one()
    assert row.push_approved_by == "ann"


def test_a_preview_has_the_time_that_the_channels_budget_asks_for(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = world.processes[0]
    platform = ws.platform(ws.channel("erp_main"))
    slow = replace(platform.limits, rate=1 / 7200, burst=1.0, read_batch=10)
    monkeypatch.setattr(type(platform), "limits", property(lambda _: slow))
    began = world.clock.now()
    assert preview_channel(ws, "erp_main").totals()["levels"] == 20
    assert timedelta(hours=2) <= world.clock.now() - began < timedelta(hours=4)


def test_a_preview_tells_what_can_not_be_read(world: LittleWorld) -> None:
    del world.erp._articles[SKU]
    preview = preview_channel(world.processes[0], "erp_main")
    (unreadable,) = [row for row in preview.rows if row.shown is None]
    assert unreadable.sku == SKU
    assert unreadable.problem
    assert preview.totals()["unreadable"] == 1


def test_a_worker_is_alive_as_long_as_its_process_and_dead_after_a_kill(tmp_path: Path) -> None:
    me = LockedWorker(tmp_path, random.Random(1))
    program = (
        "import random, sys, pathlib\n"
        "from invsync_dagster.sync.worker import LockedWorker\n"
        "worker = LockedWorker(pathlib.Path(sys.argv[1]), random.Random(2))\n"
        "print(worker.name, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        assert me.is_alive(name)
        other.kill()
        other.wait()
        assert not me.is_alive(name)
    assert not me.is_alive(name)
    assert me.is_alive(me.name)
    me.close()
    assert not LockedWorker(tmp_path, random.Random(3)).is_alive(me.name)


def test_of_a_worker_on_another_host_nothing_is_known_so_its_claims_run_out(tmp_path: Path) -> None:
    me = LockedWorker(tmp_path, random.Random(1))
    assert me.is_alive("elsewhere:17-00aa")
    assert not me.is_alive(me.name.rpartition(":")[0] + ":17-00aa")
    me.close()
