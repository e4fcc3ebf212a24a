"""`kill -9` of the receiver, of who applies and of who pushes, at points that a seed chooses, while senders send: real processes
on loopback.

What is proven at the end: every delivery that was answered is applied, every delivery that is kept is applied exactly once,
and the books add up, by the ledger's own audit and by the raw deliveries; each attempt of a level has its outcome, and after
pushes that nobody kills the other channel shows by its own book what is available.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import importlib
import json
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

from sqlalchemy import select

from invsync_dagster.inventory import channels
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.audit_attempts import audit_attempts
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import central_inventory, deliveries, inventory_levels, is_change, stock_ledger
from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import apply_inbox
from invsync_dagster.sync.prove import prove_orders
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.report import PushReport
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox
from invsync_dagster.webhooks.kept import Kept
from invsync_dagster.webhooks.seals import Seals
from invsync_dagster.webhooks.segments import Delivery
from tests.processes.desk import API_KEY, SIGNING_SECRET, WEBHOOK_SECRET, Desk
from tests.processes.pusher import CHANNEL as DESK

SENDERS, SKUS, IN_STOCK = 3, 40, 1_000_000
SOLD = [f"SKU-{number:03d}" for number in range(SKUS)]
START = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_ID = 10**12
# The longest that a process is let work before it is killed; the shortest is nothing.
LONGEST = 0.3
SECRET = "the secret that signs webhooks"
# Sealed, as an inbox with a key is: a kill amid a sealed segment must leave as little as amid an open one.
KEY = base64.b64encode(bytes(range(32))).decode()
CHANNELS = """\
channels:
  - name: shop
    platform: shopify
    environment: sandbox
    settings:
      shop_url: http://127.0.0.1:1/shop
      access_token_env: SHOP_TOKEN
      webhook_secret_env: SHOP_SECRET
  - name: {desk}
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:{port}
      api_key_env: DESK_KEY
      signing_secret_env: DESK_SIGNING
      webhook_secret_env: DESK_WEBHOOK
    # What a killed pusher has sent is there at once, or never.
    limits: {{rate: 1000, burst: 1000, write_batch: 10, write_linger: 0.5, request_deadline: 5}}
"""
MODULES = {
    "receiver": "invsync_dagster.webhooks.receiver",
    "applier": "tests.processes.applier",
    "pusher": "tests.processes.pusher",
}
# Who is killed at once: appliers write most.
KILLED = (
    ["receiver"],
    ["applier"],
    ["applier"],
    ["pusher"],
    ["pusher"],
    ["applier", "receiver"],
    ["applier", "pusher"],
)


@dataclass
class Told:
    """What happened: kills by process, deliveries answered and kept (a sender repeats what it got no answer to), calls that
    wrote to the other channel, and all that is not as it should be."""

    kills: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    kept: int = 0
    orders: int = 0
    written: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def run(name: str, root: Path, environ: dict[str, str], told: Connection) -> None:
    """Be a process of the installation, which tells on `told` what it would write on its standard outputs."""
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(root)
    for descriptor in (1, 2):
        os.dup2(told.fileno(), descriptor)
    sys.exit(importlib.import_module(MODULES[name]).main())


class House:
    """The installation in a folder: its processes by name, started again after each death.

    They are forked from a process that has only imported their modules: with the interpreter's start, 1.3 s each, fewer
    could be killed. What they do from `main` on is what they do in the field.
    """

    def __init__(self, folder: Path, url: str, desk_port: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        (folder / "channels.yaml").write_text(CHANNELS.format(desk=DESK, port=desk_port), encoding="utf-8")
        self.environ = {
            "PATH": os.environ["PATH"],
            "INVSYNC_ROOT": str(folder),
            "INVSYNC_DATABASE_URL": url,
            "INVSYNC_RECEIVER_PORT": str(self.port),
            "INVSYNC_INBOX_KEY": KEY,
            "SHOP_TOKEN": "token",
            "SHOP_SECRET": SECRET,
            "DESK_KEY": API_KEY,
            "DESK_SIGNING": SIGNING_SECRET,
            "DESK_WEBHOOK": WEBHOOK_SECRET,
        }
        self.home = Home.from_environment(self.environ)
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload([*MODULES.values(), __name__])
        self._processes: dict[str, tuple[BaseProcess, Connection]] = {}

    def start(self, name: str) -> None:
        """Start a process, and return once it works."""
        ours, theirs = self._forks.Pipe(duplex=False)
        process = self._forks.Process(target=run, args=(name, self.home.root, self.environ, theirs))
        process.start()
        theirs.close()
        self._processes[name] = (process, ours)
        said = b""
        # What it says from then on, a line for each refusal, nobody reads: it fits into the pipe.
        while not any(words in said for words in (b"listening on", b"ready\n")):
            more = os.read(ours.fileno(), 4096)
            if not more:
                raise RuntimeError(f"the {name} didn't start:\n{said.decode()}")
            said += more

    def kill(self, name: str) -> None:
        """Kill a process as the system would, without a word."""
        process, told = self._processes.pop(name)
        assert process.is_alive(), f"the {name} had ended by itself"
        process.kill()
        process.join()
        told.close()

    def close(self) -> None:
        for name in list(self._processes):
            self.kill(name)


class Senders:
    """Threads that send one order after another, each again until it is answered, as platforms do."""

    def __init__(self, port: int) -> None:
        self.answered: list[int] = []
        self._port = port
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _send(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        order = FIRST_ID * (number + 1)
        while not self._ending.is_set():
            try:
                if self._post(connection, order) == 202:
                    self.answered.append(order)
                    order += 1
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(0.02)
        connection.close()

    @staticmethod
    def _post(connection: http.client.HTTPConnection, order: int) -> int:
        body = body_of(order)
        signature = base64.b64encode(hmac.digest(SECRET.encode(), body, hashlib.sha256)).decode()
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": "orders/create",
            "X-Shopify-Hmac-Sha256": signature,
        }
        connection.request("POST", "/webhooks/shop", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def body_of(order: int) -> bytes:
    """An order of one unit, of the SKU that its number says."""
    at = datetime.now(UTC).isoformat()
    line = {"id": order, "variant_id": None, "sku": f"SKU-{order % SKUS:03d}", "quantity": 1}
    line |= {"current_quantity": 1, "fulfillable_quantity": 1}
    return json.dumps({"id": order, "created_at": at, "updated_at": at, "line_items": [line]}).encode()


def fill(url: str) -> None:
    """Stock the SKUs, each listed in the shop and at the desk."""
    engine = open_database(url)
    with write_transaction(engine) as connection:
        channels.register(connection, "shop", "shopify", "sandbox", True, Rules(), START, START)
        channels.register(connection, DESK, "erp", "sandbox", False, Rules(), START, START)
        set_skus(connection, [Sku(sku) for sku in SOLD], actor="test", reason="", now=START)
        counted = [Count(sku, IN_STOCK, START + timedelta(seconds=1)) for sku in SOLD]
        apply_counts(connection, counted, CountSource("opening"), now=START, run_id="")
        offers = [Listing("shop", sku, f"item-{sku}", platform_sku=sku) for sku in SOLD]
        offers += [Listing(DESK, sku, sku, platform_sku=sku) for sku in SOLD]
        set_listings(connection, offers, actor="test", reason="", now=START)
        channels.approve_first_push(connection, DESK, actor="test", reason="", now=START)
    engine.dispose()


def live_through(folder: Path, url: str, kills: int, seed: int) -> Told:
    """Kill as often as said, at points that the seed chooses; then let the rest be applied, and say what was found."""
    rng, told, began = Random(seed), Told(), time.monotonic()
    fill(url)
    desk = Desk(SOLD, IN_STOCK)
    house = House(folder, url, desk.port)
    senders = None
    try:
        for name in MODULES:
            house.start(name)
        senders = Senders(house.port)
        while told.kills.total() < kills:
            time.sleep(rng.random() * LONGEST)
            names = rng.choice(KILLED)
            for name in names:
                house.kill(name)
            told.kills.update(names)
            for name in names:
                house.start(name)
        senders.end()
    finally:
        if senders is not None:
            senders.end()
        house.close()
    ws = Workspace.open(house.home, house.environ)
    apply_inbox(ws, run_id="the last")
    last = _push_until_none_waits(ws)
    told.answered, told.written = len(senders.answered), desk.written
    _look(ws, senders.answered, told)
    _look_at(desk, ws, last.problem, told)
    ws.close()
    desk.close()
    told.seconds = time.monotonic() - began
    return told


def _push_until_none_waits(ws: Workspace) -> PushReport:
    """Push as often as it takes: what a killed pusher was about to send may land until the desk's deadline is over."""
    given_up = ws.clock.now() + timedelta(seconds=30)
    while True:
        report = push_channel(ws, DESK, run_id="the last", deadline=given_up)
        if not (report.left or report.waiting) or report.problem or ws.clock.now() > given_up:
            return report
        time.sleep(0.1)


def _look(ws: Workspace, answered: list[int], told: Told) -> None:
    now = ws.clock.now() + timedelta(days=1)
    seals = Seals.from_environment(ws.environ)
    inbox = Inbox(ws.home.inbox, seals)
    kept = list(Kept(ws.home.inbox, seals).between(START, now))
    orders = {json.loads(item.body)["id"] for item in kept if isinstance(item, Delivery)}
    told.kept, told.orders = len(kept), len(orders)
    with ws.engine.connect() as connection:
        receipts = {row.receipt_id: row.state for row in connection.execute(select(deliveries))}
        entries = connection.execute(select(stock_ledger).where(stock_ledger.c.order_id != "")).all()
        promised = sum(connection.execute(select(central_inventory.c.reserved_quantity)).scalars())
        differences = audit(connection)
    booked = Counter(int(entry.order_id) for entry in entries)
    proof = prove_orders(ws, START, now)
    findings = {
        "waiting segments": inbox.waiting(),
        "files in quarantine": len(inbox.quarantine.files()),
        "answered deliveries that are not kept": len(set(answered) - orders),
        "kept deliveries that are not applied": len({item.receipt_id for item in kept} ^ set(receipts)),
        "receipts that are not of applied deliveries": sum(state != "applied" for state in receipts.values()),
        "orders that are booked, and not kept, or kept and not booked": len(orders ^ set(booked)),
        "orders that are booked twice": sum(times > 1 for times in booked.values()),
        "units promised too much or too little": abs(promised - len(orders)),
        "differences of the ledger's audit": len(differences),
        "lines that their deliveries contradict": proof.proven.contradicted,
        "lines that no delivery proves": abs(proof.proven.proven - len(orders)),
    }
    told.faults = [f"{number} {what}" for what, number in findings.items() if number]


def _look_at(desk: Desk, ws: Workspace, problem: str, told: Told) -> None:
    """Hold the other channel's own book against the stock, after a push that nobody killed."""
    stock, level = central_inventory.c, inventory_levels.c
    with ws.engine.connect() as connection:
        rows = connection.execute(select(stock.sku, (stock.quantity - stock.reserved_quantity).label("units")))
        available = {row.sku: row.units for row in rows}
        waiting = connection.execute(select(level.id).where(level.channel == DESK, is_change())).all()
        claimed = connection.execute(select(level.id).where(level.claim.is_not(None))).all()
        unexplained = audit_attempts(connection)
    shown = desk.shows()
    findings = {
        "SKUs of which the desk shows another number": sum(shown[sku] != units for sku, units in available.items()),
        "changes that wait after the last push": len(waiting),
        "claims that nobody holds": len(claimed),
        "differences of the audit of attempts": len(unexplained),
    }
    told.faults += [f"{number} {what}" for what, number in findings.items() if number]
    told.faults += [f"the last push: {problem}"] if problem else []
