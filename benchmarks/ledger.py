"""Measures the stock: order events applied a second, and the changes of 500 SKUs found among a million."""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

from sqlalchemy import BindParameter, Connection, Engine, bindparam, select, text, update

from benchmarks._report import figure
from invsync_dagster.events import Content, LineReference, Movement, OrderDocument, OrderLine
from invsync_dagster.inventory import channels, ledger, levels
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.database import migrate, open_database, write_transaction
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.tables import inventory_levels, work_queue
from invsync_dagster.platforms.shopify.settings import LIMITS
from invsync_dagster.sync.claims import Due, claim_writes

START = datetime(2026, 1, 1, tzinfo=UTC)
CHANNELS = [f"shop_{index}" for index in range(5)]

# The SKU of the number i, on both databases.
SKU = "'SKU-' || substr(CAST(10000000 + i AS TEXT), 2)"

# Rows that one statement fills in. With SQLite it keeps in memory what it changes in a table with triggers, and calls them for.
AT_ONCE = 100_000

# Events a transaction, beside all in one: a SKU that sells in several transactions has its levels recomputed in each. The
# first is what the intake takes at most (sync.intake.DELIVERIES_AT_ONCE).
BATCHES = (5_000, 20_000)


def build(url: str, skus: int) -> Engine:
    """Fill an empty database with `skus` SKUs of 1,000 units, each with one listing in each of the five channels, all in step.

    The levels are left as the push that brought them there leaves them: each was claimed once, so with SQLite its page has room
    for that. A database that was filled to the brim would split two pages for each of the first changes. A text of a claim's
    length makes that room, and is no work that the queue would take in.
    """
    engine = open_database(url, make=True)
    migrate(engine)
    with write_transaction(engine) as connection:
        for number, name in enumerate(CHANNELS):
            rules = Rules(buffer=number, percent=100 - number)
            channels.register(connection, name, "shopify", "sandbox", True, rules, START - timedelta(days=1), START)
    with write_transaction(engine) as connection:
        _fill(connection, skus)
    with write_transaction(engine) as connection:
        level = inventory_levels.c.id
        for low in range(0, len(CHANNELS) * skus, AT_ONCE):
            connection.execute(
                update(inventory_levels).where(level > low, level <= low + AT_ONCE).values(last_error="")
            )
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))  # it does it by itself, a minute after
            connection.execute(text("CHECKPOINT"))  # so that the first change of each page writes all of it
    return engine


def _fill(connection: Connection, skus: int) -> None:
    """Fill the tables set-wise: through the front door a million SKUs with five listings would take minutes."""
    now: BindParameter[Any] = bindparam("now", START, inventory_levels.c.due_at.type)
    numbers = "WITH RECURSIVE n(i) AS (SELECT :lowest UNION ALL SELECT i + 1 FROM n WHERE i < :highest) "
    everything = [now, bindparam("lowest", 1), bindparam("highest", skus)]
    for statement in (
        "INSERT INTO central_inventory (sku, product_name, quantity, reserved_quantity, reserved_external, status,"
        " last_updated, version) " + numbers + f"SELECT {SKU}, 'Product', 1000, 0, 0, 'active', :now, i FROM n",
        "INSERT INTO stock_ledger (sequence, event_id, sku, kind, quantity_delta, reserved_delta, moved_delta, quantity_after,"
        " reserved_after, channel, order_id, line_id, reference, reason, occurred_at, received_at, applied_at, run_id) "
        + numbers
        + f"SELECT i, 'count/start/' || i, {SKU}, 'import', 1000, 0, 0, 1000, 0, '', '', '', '', '',"
        " :now, :now, :now, '' FROM n",
    ):
        connection.execute(text(statement).bindparams(*everything))
    for (number, name), low in product(enumerate(CHANNELS), range(0, skus, AT_ONCE)):
        typed = [now, bindparam("lowest", low + 1), bindparam("highest", min(low + AT_ONCE, skus))]
        own: list[BindParameter[Any]] = [
            bindparam("first", number * skus),
            bindparam("channel", name),
            bindparam("item", "gid://shopify/InventoryItem/"),
        ]
        claimed: BindParameter[str] = bindparam("claim", "0" * (32 + 16 + 26))  # token, worker, time
        shown: BindParameter[int] = bindparam("shown", (1000 - number) * (100 - number) // 100)
        connection.execute(
            text(
                "INSERT INTO inventory_levels (id, channel, item_id, location_id, central_sku, pushable, stopped_reason,"
                " desired, desired_sequence, rules_revision, effective_quantity, expected, acknowledged_quantity,"
                " acknowledged_at, acknowledged_attempt, attempt, sent_quantity, sent_at, sent_sequence, shared,"
                " touched, due_at, failures, last_error, held_reason) "
                + numbers
                + f"SELECT :first + i, :channel, :item || CAST(:first + i AS TEXT), '', {SKU}, true, '', :shown, i, 0, :shown,"
                " :shown, :shown, :now, 1, 1, :shown, :now, i, false, 1, :now, 0, :claim, '' FROM n"
            ).bindparams(*typed, *own, claimed, shown)
        )
        connection.execute(
            text(
                "INSERT INTO platform_mapping (id, central_sku, platform_name, platform_sku, platform_item_id,"
                " platform_location_id, platform_variant_id, status, status_reason, rules_revision, percent_before, level_id,"
                " created_at, updated_at) " + numbers + f"SELECT :first + i, {SKU}, :channel, {SKU},"
                " :item || CAST(:first + i AS TEXT), '', '',"
                " 'active', '', 0, NULL, :first + i, :now, :now FROM n"
            ).bindparams(*typed, *own)
        )


def order_events(count: int, skus: int, rng: random.Random) -> list[Inbound]:
    """Return `count` deliveries of one-line orders, 5 % of them duplicates; every fifth ships the order before it."""
    events: list[Inbound] = []
    for number in range(count):
        if events and rng.random() < 0.05:
            before = rng.choice(events[-1000:])
            events.append(
                Inbound(before.channel, before.content, before.received_at, f"receipt-{number}", before.topic)
            )
            continue
        at = START + timedelta(seconds=number)
        channel = rng.randrange(len(CHANNELS))
        item = f"gid://shopify/InventoryItem/{channel * skus + rng.randrange(skus) + 1}"
        order_id, units, shipped = str(number), rng.randint(1, 3), False
        if events and number % 5 == 0 and events[-1].topic == "orders/create":
            (document,) = events[-1].content.documents
            (line,) = document.lines
            order_id, item, units, shipped = document.order_id, line.reference.item_id, line.ordered, True
            channel = CHANNELS.index(events[-1].channel)
        shipments = (Movement(units, at),) if shipped else ()
        line = OrderLine("1", LineReference(item_id=item), units, shipments=shipments)
        document = OrderDocument(order_id, number, at, at, (line,))
        topic = "orders/updated" if shipped else "orders/create"
        events.append(Inbound(CHANNELS[channel], Content((document,)), at, f"receipt-{number}", topic))
    return events


def measure_apply(folder: Path, count: int, skus: int) -> None:
    """Print the events applied a second: in transactions as large as the intake's, larger ones, and in one."""
    events = order_events(count, skus, random.Random(1))
    for batch in sorted({*BATCHES, count}):
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            engine = build(f"sqlite:///{fresh}/stock.db", skus)
            seconds, longest = _apply(engine, events, batch)
            with engine.connect() as connection:
                differences = audit(connection)
            engine.dispose()
        if differences:
            raise SystemExit(f"the books don't add up: {differences[:3]}")
        rate = count / seconds
        figure(
            f"ledger_events_per_second_in_transactions_of_{batch}",
            rate,
            "events/s",
            goal=20_000 if batch == count else None,
            met=rate >= 20_000 if batch == count else None,
            events=count,
            skus=skus,
            listings_per_sku=len(CHANNELS),
            longest_transaction_s=round(longest, 2),
        )


def _apply(engine: Engine, events: list[Inbound], batch: int) -> tuple[float, float]:
    """Apply the events; return the seconds of all, and of the longest transaction."""
    longest = 0.0
    began = time.perf_counter()
    for start in range(0, len(events), batch):
        step = time.perf_counter()
        with write_transaction(engine) as connection:
            ledger.apply(connection, events[start : start + batch], now=START + timedelta(days=2), run_id="benchmark")
        longest = max(longest, time.perf_counter() - step)
    return time.perf_counter() - began, longest


def measure_find(folder: Path, sizes: tuple[int, int]) -> None:
    """Print how long the changes of 500 SKUs take to be found among few and among many SKUs, side by side."""
    engines = []
    for skus in sizes:
        began = time.perf_counter()
        engine = build(f"sqlite:///{folder}/{skus}.db", skus)
        figure(f"build_{skus}_skus", time.perf_counter() - began, "s")
        changed = [f"SKU-{number:07d}" for number in random.Random(2).sample(range(1, skus + 1), 500)]
        with write_transaction(engine) as connection:
            for sku in changed:
                connection.execute(text("UPDATE central_inventory SET quantity = 900 WHERE sku = :sku"), {"sku": sku})
            levels.recompute(connection, changed, START)
        engines.append(engine)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(15):
        for engine, taken in zip(engines, times, strict=True):
            began = time.perf_counter()
            found = find(engine)
            taken.append(time.perf_counter() - began)
            if found != 500 * len(CHANNELS):
                raise SystemExit(f"{found} changes found, not {500 * len(CHANNELS)}")
    few, many = (statistics.median(taken) * 1000 for taken in times)
    figure(f"find_500_changed_of_{sizes[1]}", many, "ms", goal=50, met=many < 50, floor=few, ratio=many / few)
    figure("find_ratio_many_to_few", many / few, "ratio", goal=1.5, met=many / few <= 1.5)
    times = ([], [])
    for _ in range(5):
        for engine, taken in zip(engines, times, strict=True):
            began = time.perf_counter()
            claimed = claim(engine)
            taken.append(time.perf_counter() - began)
            if claimed != 500 * len(CHANNELS):
                raise SystemExit(f"{claimed} changes claimed, not {500 * len(CHANNELS)}")
            with write_transaction(engine) as connection:
                connection.execute(text("UPDATE inventory_levels SET claim = NULL WHERE claim IS NOT NULL"))
    few, many = (statistics.median(taken) * 1000 for taken in times)
    figure(f"claim_500_changed_of_{sizes[1]}", many, "ms", goal=150, met=many < 150, floor=few, ratio=many / few)
    figure("claim_ratio_many_to_few", many / few, "ratio", goal=1.5, met=many / few <= 1.5)
    for engine in engines:
        engine.dispose()


def find(engine: Engine) -> int:
    """Read all due changes of every channel, lowest first, as the push finds them."""
    queued = work_queue.c
    found = 0
    with engine.connect() as connection:
        for name in CHANNELS:
            query = (
                select(queued.level_id, queued.desired)
                .where(
                    queued.channel == name, queued.is_change.is_(True), queued.due_at <= START, queued.claim.is_(None)
                )
                .order_by(queued.desired, queued.due_at)
            )
            found += len(connection.execute(query).all())
    return found


class Benchmark:
    """The worker of these claims."""

    name = "benchmark"

    def is_alive(self, name: str) -> bool:
        return True


def claim(engine: Engine) -> int:
    """Claim all due changes of every channel, a Shopify call's 250 levels a transaction, as the push does."""
    claimed = 0
    for name in CHANNELS:
        due = Due(name, START)
        while True:
            with write_transaction(engine) as connection:
                claims = claim_writes(connection, Benchmark(), "token", due, LIMITS, START + timedelta(minutes=2))
            claimed += len(claims)
            if len(claims) < 250:
                break
    return claimed


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--skus", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="invsync-") as folder:
        measure_apply(Path(folder), given.events, given.skus)
        measure_find(Path(folder), (given.few, given.many))


if __name__ == "__main__":
    main()
