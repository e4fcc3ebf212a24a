"""Measures imports: seconds and memory of files of 10,000, 100,000 and 1,000,000 rows, on SQLite and PostgreSQL.

Inventory files into an empty stock and into one with five listings a SKU, and mapping files of a fifth as many SKUs on five
channels each; each a first time, and a second time: with a tenth of the quantities moved, whichever, or the same mapping again.
Between two days' files of a stock with listings the channels are brought in step, and the database comes to rest.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Engine, text, update

from benchmarks._databases import BACKENDS, database
from benchmarks._report import figure
from benchmarks.ledger import AT_ONCE, CHANNELS, build
from invsync_dagster.inventory import channels
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.importing import import_file
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.tables import inventory_levels
from invsync_dagster.settings import ImportLimits

SIZES = (10_000, 100_000, 1_000_000)
GOAL_SECONDS = 60
GOAL_MB = 600
GOAL_ROWS = 1_000_000


def write_file(path: Path, rows: int, moved: int) -> None:
    """Write a price list of `rows` SKUs, whose order is not that of the SKUs; `moved` changes a tenth of the quantities.

    Which ones is chance: every tenth SKU would be one on each page of the levels, which is the dearest tenth that there is.
    """
    chance = Random(moved)
    with path.open("w", encoding="utf-8") as file:
        file.write("sku,product_name,quantity\n")
        for number in range(rows):
            index = number * 7_919 % rows
            units = 10 + index % 90 + (moved if chance.random() < 0.1 else 0)
            file.write(f'"SKU-{index:07d}","Product, number {index}",{units}\n')


def measure(rows: int, backend: str, listed: bool) -> None:
    """Import a file, then a second one over it; prints the seconds of each, those in the transaction, and the peak memory.

    Into an empty stock, or (`listed`) into one of as many SKUs with five listings each, all of whose quantities the first moves,
    and all of which are pushed before the second.
    """
    with tempfile.TemporaryDirectory() as name, database(backend, name) as url:
        folder = Path(name)
        engine = build(url, rows) if listed else open_database(url, make=True)
        migrate(engine)
        seconds = []
        waits: list[float] = []
        for number, day in enumerate((2, 3)):
            path = folder / f"stock-{day}.csv"
            write_file(path, rows, number * 3)
            now = datetime(2026, 1, day, tzinfo=UTC)
            first_applied: list[float] = []

            def told(step: str, _rows: int, seen: list[float] = first_applied) -> None:
                if step == "applied" and not seen:
                    seen.append(time.perf_counter())

            limits = ImportLimits(moved_share=1, moved_minimum_units=10**9)
            basis = Basis(engine, folder / "imports", limits, now, "benchmark", progress=told)
            begun = time.perf_counter()
            result = import_file(basis, path, Declaration(as_of=now))
            ended = time.perf_counter()
            assert result.state == "applied", result.render()
            seconds.append(ended - begun)
            waits.append(ended - first_applied[0])
            if listed and number == 0:
                _bring_in_step(engine, rows)
        engine.dispose()
    _tell(seconds, waits)


def _bring_in_step(engine: Engine, skus: int) -> None:
    """Leave the levels as pushes of all of them do, and the database as a night does."""
    level = inventory_levels.c
    shown = dict.fromkeys(("effective_quantity", "expected", "sent_quantity", "acknowledged_quantity"), level.desired)
    for low in range(0, len(CHANNELS) * skus, AT_ONCE):
        some = update(inventory_levels).where(level.id > low, level.id <= low + AT_ONCE)
        with write_transaction(engine) as connection:
            connection.execute(some.values(**shown, out_of_step_since=None))
    engine.dispose()  # with SQLite whoever closes last writes the WAL back
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
                connection.execute(text(statement))
    os.sync()


def measure_mapping(rows: int, backend: str) -> None:
    """Map `rows` listings of a stock of a fifth of the SKUs, then the same again; prints as `measure` does."""
    with tempfile.TemporaryDirectory() as name, database(backend, name) as url:
        folder = Path(name)
        engine = open_database(url, make=True)
        migrate(engine)
        now = datetime(2026, 1, 1, tzinfo=UTC)
        with write_transaction(engine) as connection:
            for channel in CHANNELS:
                channels.register(connection, channel, "shopify", "sandbox", True, Rules(), now, now)
        first_applied: list[float] = []

        def told(step: str, _rows: int) -> None:
            if step == "applied" and not first_applied:
                first_applied.append(time.perf_counter())

        basis = Basis(engine, folder / "imports", ImportLimits(), now, "benchmark")
        skus = rows // len(CHANNELS)
        write_file(folder / "stock.csv", skus, 0)
        assert import_file(basis, folder / "stock.csv", Declaration(as_of=now)).state == "applied"
        path = folder / "mapping.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("central_sku,channel,platform_sku,platform_item_id,platform_location_id\n")
            for number, channel in enumerate(CHANNELS):
                for index in (at * 7_919 % skus for at in range(skus)):
                    item = f"gid://shopify/InventoryItem/{number * skus + index}"
                    file.write(f"SKU-{index:07d},{channel},SKU-{index:07d},{item},gid://shopify/Location/1\n")
        seconds, waits = [], []
        for _ in range(2):
            first_applied.clear()
            begun = time.perf_counter()
            result = import_file(replace(basis, progress=told), path)
            ended = time.perf_counter()
            seconds.append(ended - begun)
            waits.append(ended - first_applied[0])
            assert (result.state, result.rejections) == ("applied", ()), result.render()
        engine.dispose()
    _tell(seconds, waits)


def _tell(seconds: list[float], waits: list[float]) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "waits": waits, "peak": peak}))


# What is imported, and of which of the two times the goal speaks: a file moves all quantities of a stock with listings only
# where something has gone wrong.
PARTS = {"inventory": (True, True), "inventory of a listed stock": (False, True), "mapping": (True, True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for backend, rows, part in product(given.backends, given.rows, given.parts):
        if given.run:
            if part == "mapping":
                measure_mapping(rows, backend)
            else:
                measure(rows, backend, listed=part != "inventory")
            continue
        found = _in_a_process("--rows", str(rows), "--backends", backend, "--parts", part)
        for which, goes, seconds, waits in zip(
            ("first", "second"), PARTS[part], found["seconds"], found["waits"], strict=True
        ):
            judged = goes and rows == GOAL_ROWS
            figure(
                f"{part}, {rows} rows, on {backend}, {which} time",
                seconds,
                "s",
                goal=GOAL_SECONDS if judged else None,
                met=seconds <= GOAL_SECONDS if judged else None,
                microseconds_a_row=round(seconds / rows * 1e6, 1),
                seconds_in_the_transaction=round(waits, 2),
            )
        judged = rows == GOAL_ROWS
        name = f"{part}, {rows} rows, on {backend}, peak memory"
        figure(
            name,
            found["peak"],
            "MB",
            goal=GOAL_MB if judged else None,
            met=found["peak"] <= GOAL_MB if judged else None,
        )


def _in_a_process(*arguments: str) -> dict[str, Any]:
    """Measure in a process of its own, since the peak memory of a process never falls."""
    command = [sys.executable, "-m", "benchmarks.imports", "--run", *arguments]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ))
    found: dict[str, Any] = json.loads(run.stdout)
    return found


if __name__ == "__main__":
    main()
