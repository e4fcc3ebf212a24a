"""Measures the drill of a lost machine: 100,000 SKUs and 1,000,000 ledger entries backed up, restored, equal to the live state.

Between the backup and the crash deliveries come in; they are in the inbox that survives. Seconds of the backup, its proof, the
restore with what came since, on SQLite and PostgreSQL.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, bindparam, select, text

from benchmarks._databases import BACKENDS, database
from benchmarks._report import figure
from benchmarks.ledger import CHANNELS, SKU, START, build
from invsync_dagster.backups.proving import prove
from invsync_dagster.backups.restoring import Restoring
from invsync_dagster.backups.sealing import BackupKeys
from invsync_dagster.backups.taking import take
from invsync_dagster.clock import SystemClock
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import central_inventory, inventory_levels, order_lines
from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import apply_inbox
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import SegmentWriter
from invsync_dagster.webhooks.segments import Delivery
from tests.postgres_server import installed_binaries

GOAL_S = 60
KEPT, SINCE = 20_000, 5_000
SECRETS = {"KEY": "key"}
ENTRY = """
  - name: {name}
    platform: shopify
    environment: sandbox
    settings: {{ shop_url: "http://127.0.0.1:9/{name}", access_token_env: KEY, webhook_secret_env: KEY }}
"""


def sell(engine: Engine, skus: int, entries: int) -> None:
    """Fill the books up to `entries` entries: open orders of one unit, set-wise."""
    sold = entries - skus
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :sold) "
    sku = SKU.replace(" i ", " ((i - 1) % :skus + 1) ")
    none = "CAST('[]' AS JSON)" if engine.dialect.name == "postgresql" else "'[]'"
    typed = [
        bindparam("sold", sold),
        bindparam("skus", skus),
        bindparam("now", START, central_inventory.c.last_updated.type),
    ]
    with write_transaction(engine) as connection:
        for statement in (
            "INSERT INTO stock_ledger (sequence, event_id, sku, kind, quantity_delta, reserved_delta, moved_delta,"
            " quantity_after, reserved_after, channel, order_id, line_id, reference, reason, occurred_at, received_at,"
            " applied_at, run_id) " + numbers + f"SELECT :skus + i, 'order/' || i, {sku}, 'reserve', 0, 1, 0, 1000,"
            " (i - 1) / :skus + 1, 'shop_0', CAST(i AS TEXT), '1', '', '', :now, :now, :now, '' FROM n",
            "INSERT INTO order_lines (channel, order_id, line_id, sku, level_id, platform_sku, item_id, variant_id, revision,"
            " ordered, cancelled, shipped, restocked, written_off, shipments, restocks, write_offs, bookings, booked_reserved,"
            " booked_shipped, booked_restocked, declined, created_at, updated_at, ignored_reason) "
            + numbers
            + f"SELECT 'shop_0', CAST(i AS TEXT), '1', {sku}, (i - 1) % :skus + 1, {sku}, '', '', 1, 1, 0, 0, 0, 0,"
            f" {none}, {none}, {none}, 1, 1, 0, 0, 0, :now, :now, '' FROM n",
        ):
            connection.execute(text(statement).bindparams(*[one for one in typed if f":{one.key}" in statement]))
        connection.execute(
            text(
                "UPDATE central_inventory SET reserved_quantity = sums.reserved, version = sums.version FROM (SELECT sku,"
                " sum(reserved_delta) AS reserved, max(sequence) AS version FROM stock_ledger GROUP BY sku) AS sums"
                " WHERE sums.sku = central_inventory.sku"
            )
        )


def receive(home: Home, count: int, skus: int, first: int, rng: random.Random) -> None:
    """Let `count` orders come in, ten a segment."""
    clock = SystemClock()
    writer = SegmentWriter(home.inbox, clock, rng)
    home.inbox.mkdir(parents=True, exist_ok=True)
    for start in range(first, first + count, 10):
        group = []
        for number in range(start, start + 10):
            sku = f"SKU-{rng.randrange(skus) + 1:07d}"
            line = {"id": number + 1, "sku": sku, "quantity": 1, "current_quantity": 1, "fulfillable_quantity": 1}
            at = clock.now().isoformat()
            order = {"id": 10**9 + number, "created_at": at, "updated_at": at, "line_items": [line]}
            topic = "orders/create"
            group.append(
                Delivery(
                    CHANNELS[number % 5], topic, clock.now(), {"x-shopify-topic": topic}, json.dumps(order).encode()
                )
            )
        writer.write(group)


def state(engine: Engine) -> dict[str, str]:
    """Return a hash of the balances, of the order totals, and of what the levels should show."""
    level, line, central = inventory_levels.c, order_lines.c, central_inventory.c
    totals = (line.ordered, line.cancelled, line.shipped, line.restocked, line.booked_reserved, line.booked_shipped)
    tables = {
        "balances": select(central.sku, central.quantity, central.reserved_quantity),
        "orders": select(line.channel, line.order_id, line.line_id, line.sku, line.revision, *totals),
        "levels": select(level.channel, level.item_id, level.location_id, level.central_sku, level.desired),
    }
    told = {}
    for name, query in tables.items():
        rows = hashlib.sha256()
        with engine.connect().execution_options(yield_per=10_000) as connection:
            for row in connection.execute(query.order_by(*query.selected_columns)):
                rows.update(repr(tuple(row)).encode())
        told[name] = rows.hexdigest()
    return told


def home_at(folder: Path, url: str) -> Home:
    """Return a home with the five shops."""
    folder.mkdir()
    home = Home(folder, folder / "data", url, folder / "channels.yaml")
    home.data.mkdir()
    home.channels_file.write_text("channels:" + "".join(ENTRY.format(name=name) for name in CHANNELS))
    return home


@contextmanager
def measured(told: dict[str, tuple[float, float]], name: str) -> Iterator[None]:
    """Note the seconds that something took, and those in which this process had a core: others may work on the machine."""
    began, busy = time.perf_counter(), time.process_time()
    yield
    told[name] = time.perf_counter() - began, time.process_time() - busy


def run(backend: str, skus: int, entries: int, keys: BackupKeys) -> None:
    """Build, back up, live on, lose the database, restore, compare."""
    clock, rng = SystemClock(), random.Random(1)
    with (
        tempfile.TemporaryDirectory(prefix="invsync-") as folder,
        tempfile.TemporaryDirectory(prefix="invsync-") as elsewhere,
        database(backend, folder) as url,
        database(backend, elsewhere) as empty,
    ):
        engine = build(url, skus)
        sell(engine, skus, entries)
        engine.dispose()
        live = home_at(Path(folder) / "live", url)
        receive(live, KEPT, skus, 0, rng)
        ws = Workspace.open(live, SECRETS)
        began = apply_inbox(ws, run_id="benchmark")
        if began.entries != KEPT:
            raise SystemExit(f"restore: {began.entries} of {KEPT} orders were booked: {began.reasons[:3]}")

        told: dict[str, tuple[float, float]] = {}
        with measured(told, "backup"):
            taken = take(live, keys, clock.now())
        with measured(told, "proof"):
            proof = prove(taken, url, keys)
        if proof.differences or not proof.is_restored:
            raise SystemExit(f"restore: the backup isn't good: {proof}")
        with measured(told, "next_backup"):
            take(live, keys, clock.now() + timedelta(hours=1))

        receive(live, SINCE, skus, KEPT, rng)
        apply_inbox(ws, run_id="benchmark")
        expected = state(ws.engine)
        ws.close()

        new = home_at(Path(elsewhere) / "new", empty)
        with measured(told, "restore"):
            restored = Restoring(new, taken.path, keys, SECRETS, "benchmark", clock.now(), live.inbox).restore()
        ws = Workspace.open(new, SECRETS)
        with measured(told, "since"):
            report = apply_inbox(ws, run_id="benchmark")
        with measured(told, "audit"), ws.engine.connect() as connection:
            differences = audit(connection)
        found = state(ws.engine)
        ws.close()
    equal = found == expected and not differences
    details: dict[str, Any] = {"backend": backend, "skus": skus, "entries": entries, "sealed": bool(keys.name)}
    for name, (seconds, busy) in told.items():
        figure(f"restore.{name}", seconds, "s", cpu_s=round(busy, 1), **details)
    drill = [told[name] for name in ("backup", "restore", "since", "audit")]
    total = sum(seconds for seconds, _ in drill)
    figure("restore.size", taken.manifest.size_bytes / 1e6, "MB", **details)
    figure(
        "restore.drill",
        total,
        "s",
        GOAL_S,
        equal and total < GOAL_S,
        cpu_s=round(sum(busy for _, busy in drill), 1),
        equal=equal,
        levels=restored.levels,
        applied_again=report.deliveries,
        new_entries=report.entries,
        **details,
    )
    if not equal:
        raise SystemExit(
            f"restore: {[name for name in expected if found[name] != expected[name]]} differ; {differences[:3]}"
        )


def main() -> None:
    """Run the drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skus", type=int, default=100_000)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument("--sealed", action="store_true", help="seal the backup too")
    given = parser.parse_args()
    os.environ["PATH"] = f"{installed_binaries()}:{os.environ['PATH']}"
    for backend in given.backend or BACKENDS:
        run(backend, given.skus, given.entries, BackupKeys([bytes(32)] if given.sealed else []))


if __name__ == "__main__":
    main()
