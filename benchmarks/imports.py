"""Measures imports: seconds and memory of files of 10,000, 100,000 and 1,000,000 rows, first and second time.

Inventory files, and mapping files of a fifth as many SKUs on five channels each.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._report import figure
from benchmarks.ledger import CHANNELS
from invsync_dagster.inventory import channels
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.importing import import_file
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.settings import ImportLimits

SIZES = (10_000, 100_000, 1_000_000)
GOAL_SECONDS = 60
GOAL_MB = 600
GOAL_ROWS = 1_000_000


def write_file(path: Path, rows: int, moved: int) -> None:
    """Write a price list of `rows` SKUs, whose order is not that of the SKUs; `moved` changes a tenth of the quantities."""
    with path.open("w", encoding="utf-8") as file:
        file.write("sku,product_name,quantity\n")
        for number in range(rows):
            index = number * 7_919 % rows
            units = 10 + index % 90 + (moved if index % 10 == 0 else 0)
            file.write(f'"SKU-{index:07d}","Product, number {index}",{units}\n')


def measure(rows: int, url: str) -> None:
    """Import a file into an empty stock, then a second one over it; prints the seconds of each, and the peak memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = open_database(url or f"sqlite:///{folder / 'stock.db'}")
        migrate(engine)
        seconds = []
        waits: list[float] = []
        for number, day in enumerate((1, 2)):
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
        engine.dispose()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "waits": waits, "peak": peak}))


def measure_mapping(rows: int) -> None:
    """Map `rows` listings of a stock of a fifth of the SKUs, then the same again; prints as `measure` does."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = open_database(f"sqlite:///{folder / 'stock.db'}")
        migrate(engine)
        now = datetime(2026, 1, 1, tzinfo=UTC)
        with write_transaction(engine) as connection:
            for channel in CHANNELS:
                channels.register(connection, channel, "shopify", "sandbox", True, Rules(), now, now)
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
        seconds = []
        for _ in range(2):
            begun = time.perf_counter()
            result = import_file(basis, path)
            seconds.append(time.perf_counter() - begun)
            assert (result.state, result.rejections) == ("applied", ()), result.render()
        engine.dispose()
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--url", default="", help="an empty database (else: SQLite in a folder of its own)")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--mapping", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.mapping:
        measure_mapping(given.mapping)
        return
    if given.one:
        measure(given.one, given.url)
        return
    for rows in given.rows:
        found = _in_a_process("--one", str(rows), "--url", given.url)
        judged = rows == GOAL_ROWS
        for which, seconds, waits in zip(("first", "second"), found["seconds"], found["waits"], strict=True):
            figure(
                f"import of {rows} rows, {which} time",
                seconds,
                "s",
                goal=GOAL_SECONDS if judged else None,
                met=seconds <= GOAL_SECONDS if judged else None,
                microseconds_a_row=round(seconds / rows * 1e6, 1),
                seconds_in_the_transaction=round(waits, 2),
            )
        _figure_of_memory(f"peak memory of importing {rows} rows twice", found["peak"], judged)
        if given.url:
            continue  # that database isn't empty any more
        found = _in_a_process("--mapping", str(rows))
        for which, seconds in zip(("first", "second"), found["seconds"], strict=True):
            figure(
                f"mapping of {rows} rows, {which} time", seconds, "s", microseconds_a_row=round(seconds / rows * 1e6, 1)
            )
        _figure_of_memory(f"peak memory of mapping {rows} rows twice", found["peak"], judged)


def _in_a_process(*arguments: str) -> dict[str, Any]:
    """Measure in a process of its own, since the peak memory of a process never falls."""
    command = [sys.executable, "-m", "benchmarks.imports", *arguments]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ))
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def _figure_of_memory(name: str, peak: float, judged: bool) -> None:
    figure(name, peak, "MB", goal=GOAL_MB if judged else None, met=peak <= GOAL_MB if judged else None)


if __name__ == "__main__":
    main()
