"""Applies a million webhook deliveries from the inbox in one pass: doubled, out of order, broken; balances proven apart."""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from benchmarks._report import figure
from benchmarks.ledger import CHANNELS, build
from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.clock import SystemClock
from invsync_dagster.defs.sensors import Waiting
from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.database import open_database
from invsync_dagster.inventory.tables import central_inventory, deliveries
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.settings import Home, Settings
from invsync_dagster.sync import intake
from invsync_dagster.sync.prove import prove_orders
from invsync_dagster.sync.understanding import Doors
from invsync_dagster.sync.worker import LockedWorker
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.files import write_durably
from invsync_dagster.webhooks.inbox import Inbox
from invsync_dagster.webhooks.quarantine import Quarantine
from invsync_dagster.webhooks.segments import Delivery, encode

GOAL_PER_SECOND = 10_000
GOAL_MB = 500
DOUBLED, LATE, BROKEN = 0.10, 0.05, 0.01
# Of the sensor, or the runner, at an inbox that changes with every delivery.
LOOKS = 1_000
# As many as a receiver under such a load puts into one.
A_SEGMENT = 200
START = datetime(2026, 1, 2, tzinfo=UTC)
IN_STOCK = 1_000
BUYER = {
    "email": "ann.buyer@example.com",
    "phone": "+49 30 1234567",
    "note": "Please leave it with the neighbour.",
    "customer": {"first_name": "Ann", "last_name": "Buyer", "orders_count": 3},
    "shipping_address": {"name": "Ann Buyer", "address1": "1 Some Street", "zip": "10115", "city": "Berlin"},
}
BREAKS: tuple[Callable[[bytes], bytes], ...] = (
    lambda body: body[: len(body) // 2],
    lambda body: body.replace(b'"line_items"', b'"items"'),
    lambda body: body.replace(b'"quantity": ', b'"quantity": "many", "x": '),
    lambda body: b"[" + body + b"]",
)


def generate(inbox: Path, count: int, skus: int, rng: random.Random) -> tuple[Counter[str], Counter[str], int]:
    """Fill the inbox with segments; return what every SKU must have left and must have promised, and the broken ones.

    An order is told when it is made and, two of three, when it is shipped, cancelled or edited. What is late comes up to
    5,000 deliveries after its turn. A broken delivery is a copy of a good one.
    """
    shipped: Counter[str] = Counter()
    promised: Counter[str] = Counter()
    late: dict[int, list[Delivery]] = defaultdict(list)
    group: list[Delivery] = []
    recent: list[Delivery] = []
    told = broken = segments = 0
    for number, delivery in enumerate(order_deliveries(skus, rng, shipped, promised)):
        due = late.pop(number, [])
        if rng.random() < LATE:
            late[number + rng.randrange(1, 5_000)].append(delivery)
        else:
            due.append(delivery)
        for one in due:
            group.append(one)
            recent = [*recent[-999:], one] if rng.random() < 0.05 else recent
            if rng.random() < DOUBLED / (1 - DOUBLED) and recent:
                group.append(rng.choice(recent))
            if rng.random() < BROKEN:
                body = rng.choice(BREAKS)(one.body)
                group.append(Delivery(one.channel, one.topic, one.received_at, one.headers, body))
                broken += 1
        if len(group) >= A_SEGMENT:
            _write(inbox, segments, group)
            told, segments, group = told + len(group), segments + 1, []
        if told + len(group) >= count:
            break
    # What is late still is told: an order without its last word would be counted as something else.
    group += [one for waiting in late.values() for one in waiting]
    _write(inbox, segments, group)
    return shipped, promised, broken


def order_deliveries(
    skus: int, rng: random.Random, shipped: Counter[str], promised: Counter[str]
) -> Iterator[Delivery]:
    """Yield the deliveries of one order after another, and count what each comes to."""
    order = 10**12
    while True:
        order += 1
        channel, number = rng.randrange(len(CHANNELS)), rng.randrange(1, skus + 1)
        sku, units, at = f"SKU-{number:07d}", rng.randint(1, 3), START + timedelta(seconds=order % 10**6)
        document: dict[str, Any] = {
            "id": order,
            "created_at": at.isoformat(),
            "updated_at": at.isoformat(),
            **BUYER,
            "line_items": [
                {
                    "id": order * 10,
                    "variant_id": number,
                    "variant_inventory_management": "shopify",
                    "sku": sku,
                    "name": "Product",
                    "price": "19.90",
                    "quantity": units,
                    "current_quantity": units,
                    "fulfillable_quantity": units,
                }
            ],
            "fulfillments": [],
            "refunds": [],
        }
        promised[sku] += units
        yield _delivery(CHANNELS[channel], "orders/create", document, at)
        fate = rng.randrange(3)
        later = at + timedelta(minutes=5)
        line = document["line_items"][0]
        if fate == 0:
            continue
        promised[sku] -= units
        document["updated_at"] = later.isoformat()
        line["fulfillable_quantity"] = 0
        if fate == 1:
            parcel = {"id": order, "status": "success", "created_at": later.isoformat()}
            document["fulfillments"] = [{**parcel, "line_items": [{"id": line["id"], "quantity": units}]}]
            shipped[sku] += units
        else:
            document["cancelled_at"] = later.isoformat()
            line["current_quantity"] = 0
        yield _delivery(CHANNELS[channel], "orders/updated", document, later)


def _delivery(channel: str, topic: str, document: dict[str, Any], at: datetime) -> Delivery:
    headers = {
        "content-type": "application/json",
        "x-shopify-topic": topic,
        "x-shopify-shop-domain": f"{channel}.example",
    }
    return Delivery(channel, topic, at, headers, json.dumps(document).encode())


def _write(inbox: Path, number: int, group: list[Delivery]) -> None:
    # Not through the writer: a million durable deliveries are another figure, and the disk would be warm from them.
    micros = (START - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) + number
    (inbox / f"{micros:016d}-benchmark.segment").write_bytes(encode(group))


def workspace(folder: Path, url: str) -> Workspace:
    settings = VENDORS["shopify"].settings.model_validate(
        {"shop_url": "http://127.0.0.1:1/shop", "access_token_env": "T", "webhook_secret_env": "S"}
    )
    shops = tuple(Channel(name=name, platform="shopify", environment="sandbox", settings=settings) for name in CHANNELS)
    return Workspace(
        home=Home(root=folder, data=folder, database_url=url, channels_file=folder / "channels.yaml"),
        configuration=Configuration(settings=Settings(), channels=shops),
        engine=open_database(url, make=True),
        clock=SystemClock(),
        rng=random.Random(1),
        worker=LockedWorker(folder / "locks", random.Random(1)),
        environ={"T": "token", "S": "secret"},
    )


@contextmanager
def timed(parts: dict[str, float]) -> Iterator[None]:
    """Add up where the processor's seconds go, by wrapping the steps from the outside."""
    steps: list[tuple[str, Any, str]] = [
        ("read_files", Inbox, "read"),
        ("parse", Doors, "understand"),
        ("apply", ledger, "apply"),
        ("move_files", Inbox, "finish"),
        ("list_files", Inbox, "segments"),
        ("quarantine", Quarantine, "keep_all"),
    ]
    kept = [(owner, name, getattr(owner, name)) for _, owner, name in steps]
    for part, owner, name in steps:
        setattr(owner, name, _timed(parts, part, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)


def _timed(parts: dict[str, float], part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            parts[part] += time.process_time() - began

    return wrapped


def measure(folder: Path, count: int, skus: int, *, prove: bool) -> bool:
    url = f"sqlite:///{folder}/stock.db"
    build(url, skus).dispose()
    inbox = Inbox(folder / "inbox")
    inbox.prepare(START)
    shipped, promised, broken = generate(inbox.folder, count, skus, random.Random(1))
    ws = workspace(folder, url)
    parts: dict[str, float] = defaultdict(float)
    load = os.getloadavg()[0]
    with timed(parts):
        began, cpu = time.perf_counter(), time.process_time()
        report = intake.apply_inbox(ws, run_id="benchmark")
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wrong = _wrong(ws, shipped, promised)
    if report.quarantined != broken:
        wrong.append(f"{report.quarantined} quarantined, {broken} broken")
    with ws.engine.connect() as connection:
        began_audit = time.perf_counter()
        wrong += [str(one) for one in audit(connection)[:3]]
        audited = time.perf_counter() - began_audit
    for words in wrong:
        print(words, file=sys.stderr)
    rate = report.deliveries / seconds
    shares: dict[str, Any] = {f"{part}_cpu_s": round(spent, 1) for part, spent in parts.items()}
    figure(
        "deliveries_applied", rate, "1/s", GOAL_PER_SECOND, rate >= GOAL_PER_SECOND,
        deliveries=report.deliveries, broken=broken, entries=report.entries, skus=skus, seconds=round(seconds, 1),
        cpu_s=round(cpu, 1), per_cpu_second=round(report.deliveries / cpu), load_before=round(load, 1), **shares,
    )  # fmt: skip
    figure("deliveries_memory", memory, "MB", GOAL_MB, memory < GOAL_MB)
    figure("audit_of_the_books", audited, "s")
    if prove:
        began = time.perf_counter()
        proof = prove_orders(ws, START - timedelta(days=1), ws.clock.now())
        took = time.perf_counter() - began
        figure(
            "deliveries_proven",
            proof.proven.deliveries / took,
            "1/s",
            lines=proof.proven.proven,
            seconds=round(took, 1),
        )
        if proof.proven.contradicted or proof.proven.moved_on:
            wrong.append(f"{proof.proven.contradicted} contradicted, {proof.proven.moved_on} moved on")
    ws.close()
    return not wrong and rate >= GOAL_PER_SECOND and memory < GOAL_MB


def _wrong(ws: Workspace, shipped: Counter[str], promised: Counter[str]) -> list[str]:
    """Hold every balance against what the orders come to."""
    stock = central_inventory.c
    wrong = []
    with ws.engine.connect() as connection:
        for sku, quantity, reserved in connection.execute(select(stock.sku, stock.quantity, stock.reserved_quantity)):
            right = (IN_STOCK - shipped[sku], promised[sku])
            if (quantity, reserved) != right:
                wrong.append(f"{sku} has {quantity}, {reserved} reserved; it must have {right[0]}, {right[1]} reserved")
        receipts = connection.execute(select(func.count()).select_from(deliveries)).scalar_one()
    return wrong[:3] + ([] if receipts else ["no receipts"])


def measure_waiting(folder: Path, many: int) -> None:
    """Print what a long inbox costs who looks at it, and who writes into it."""
    inbox = Inbox(folder / "waiting")
    inbox.prepare(START)
    one = encode([Delivery("shop_0", "orders/create", START, {}, b"{}")])
    write_durably(inbox.folder / f"{0:016d}-a.segment", one)
    few = _writes(inbox.folder, one)
    for number in range(many):
        (inbox.folder / f"{number:016d}-benchmark.segment").write_bytes(one)
    began = time.perf_counter()
    found = inbox.segments(intake.SEGMENTS_LISTED)
    listed = (time.perf_counter() - began) * 1000
    assert len(found) >= min(many, intake.SEGMENTS_LISTED)
    full = _writes(inbox.folder, one)
    waiting, began = Waiting(inbox.folder), time.perf_counter()
    for number in range(LOOKS):
        write_durably(inbox.folder / f"{number:016d}-look.segment", one)
        waiting.newest(time.time())
    looked = (time.perf_counter() - began) * 1000 / LOOKS
    figure("list_a_long_inbox", listed, "ms", waiting=many)
    figure("write_beside_a_long_inbox", full, "ms", floor=few, ratio=full / few, waiting=many, median_of=200)
    figure("write_and_look_at_a_long_inbox", looked, "ms", floor=full, ratio=looked / full, waiting=many, mean_of=LOOKS)


def _writes(folder: Path, content: bytes) -> float:
    """Return the median milliseconds of a durable write."""
    times = []
    for number in range(200):
        began = time.perf_counter()
        write_durably(folder / f"{number:016d}-{threading.get_ident()}.segment", content)
        times.append(time.perf_counter() - began)
    return sorted(times)[100] * 1000


def main() -> int:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    parser.add_argument("--skus", type=int, default=20_000)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--prove", action="store_true", help="hold all deliveries against the books afterwards")
    given = parser.parse_args()
    # Beside the data, not in the temporary folder, which may be in memory.
    data = Path(__file__).parents[1] / "data"
    data.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-deliveries-", dir=data) as folder:
        met = measure(Path(folder), given.deliveries, given.skus, prove=given.prove)
        measure_waiting(Path(folder), given.waiting)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
