"""Four real processes over one database at once: nothing is applied twice, claimed twice, or let through too early."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Row, Table, select

from invsync_dagster.inventory import channels
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import central_inventory, inventory_levels, stock_ledger, sync_logs
from tests import databases
from tests.processes.member import AT, BURST, CALLS, CHANNEL, ORDERS, PROCESSES, RATE, ROUNDS, SKUS, Told, sku_of

ROOT = Path(__file__).parents[2]
IN_STOCK = 100


@dataclass
class Together:
    """What all processes told, and the database they left."""

    told: list[Told]
    engine: Engine

    def rows(self, table: Table) -> list[Row[Any]]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key.columns)))


@pytest.mark.usefixtures("each_database")
def test_four_processes_at_once_apply_claim_and_wait_as_one(tmp_path: Path) -> None:
    url = databases.fresh_url(tmp_path)
    engine = databases.opened(url)
    fill(engine)
    told = [Told(**answer) for answer in run_together("member", tmp_path, url, PROCESSES)]
    together = Together(told, engine)
    each_delivery_is_applied_once_whoever_was_first(together)
    attempts_of_a_level_are_numbered_without_gaps_or_doubles(together)
    no_level_is_on_its_way_in_two_processes_at_once(together)
    the_last_number_sent_is_the_one_acknowledged(together)
    all_processes_together_stay_inside_the_rate(together)


def run_together(module: str, folder: Path, url: str, count: int) -> list[dict[str, Any]]:
    """Run `count` processes of a module of this folder at once; return what each told."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"tests.processes.{module}", str(folder), url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        for number in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [json.loads(process.communicate(timeout=120)[0]) for process in processes]


def fill(engine: Engine) -> None:
    by: dict[str, Any] = {"actor": "test", "reason": "", "now": AT}
    skus = [sku_of(n) for n in range(SKUS)]
    with write_transaction(engine) as connection:
        channels.register(connection, CHANNEL, "erp", "sandbox", True, Rules(), AT - timedelta(days=1), AT)
        set_skus(connection, [Sku(sku) for sku in skus], **by)
        counted = [Count(sku, IN_STOCK, AT - timedelta(hours=1)) for sku in skus]
        apply_counts(connection, counted, CountSource("opening"), now=AT, run_id="")
        set_listings(connection, [Listing(CHANNEL, sku, sku, platform_sku=sku) for sku in skus], **by)
        channels.approve_first_push(connection, CHANNEL, **by)


def each_delivery_is_applied_once_whoever_was_first(together: Together) -> None:
    sold = Counter(sku_of(n) for n in range(ROUNDS * ORDERS))
    balances = {row.sku: (row.quantity, row.reserved_quantity) for row in together.rows(central_inventory)}
    assert balances == {sku: (IN_STOCK, sold[sku]) for sku in balances}
    entries = [row for row in together.rows(stock_ledger) if row.order_id]
    assert len(entries) == ROUNDS * ORDERS == sum(told.entries for told in together.told)
    sequences = [row.sequence for row in together.rows(stock_ledger)]
    assert sequences == list(range(1, len(sequences) + 1))
    with together.engine.connect() as connection:
        assert audit(connection) == []


def attempts_of_a_level_are_numbered_without_gaps_or_doubles(together: Together) -> None:
    attempts = defaultdict(list)
    for row in together.rows(sync_logs):
        if row.action == "push":
            attempts[row.level_id].append(row.attempt)
    assert len(attempts) == SKUS
    for level in together.rows(inventory_levels):
        assert sorted(attempts[level.id]) == list(range(1, level.attempt + 1))


def no_level_is_on_its_way_in_two_processes_at_once(together: Together) -> None:
    ways = defaultdict(list)
    for told in together.told:
        for item, began, ended, _ in told.writes:
            ways[item].append((began, ended))
    assert len(ways) == SKUS
    assert sum(bool(told.writes) for told in together.told) >= 2, "only one process pushed: nothing was tested"
    for times in ways.values():
        assert all(first[1] <= second[0] for first, second in pairwise(sorted(times)))


def the_last_number_sent_is_the_one_acknowledged(together: Together) -> None:
    last: dict[str, tuple[float, int]] = {}
    for told in together.told:
        for item, began, _, quantity in told.writes:
            last[item] = max(last.get(item, (0.0, 0)), (began, quantity))
    levels = together.rows(inventory_levels)
    assert {level.item_id: level.acknowledged_quantity for level in levels} == {
        item: quantity for item, (_, quantity) in last.items()
    }
    assert [told.problems for told in together.told] == [[]] * PROCESSES
    assert [level for level in levels if level.claim is not None] == []


def all_processes_together_stay_inside_the_rate(together: Together) -> None:
    # A process reads its clock before it waits for the writer before it: so each may be a call early.
    allowed = BURST + PROCESSES
    starts = sorted(start for told in together.told for start in told.starts)
    assert len(starts) == PROCESSES * CALLS > 2 * allowed
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            assert last - first + 1 <= allowed + (starts[last] - starts[first]) * RATE
