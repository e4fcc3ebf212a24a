"""`kill -9` of the receiver and of who applies, at points that a seed chooses, while senders send: real processes on loopback.

What is proven at the end: every delivery that was answered is applied, every delivery that is kept is applied exactly once,
and the books add up, by the ledger's own audit and by the raw deliveries.
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
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import central_inventory, deliveries, stock_ledger
from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import apply_inbox
from invsync_dagster.sync.prove import prove_orders
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox
from invsync_dagster.webhooks.kept import Kept
from invsync_dagster.webhooks.seals import Seals
from invsync_dagster.webhooks.segments import Delivery

SENDERS, SKUS, IN_STOCK = 3, 40, 1_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_ID = 10**12
# The longest that a process is let work before it is killed; the shortest is nothing.
LONGEST = 0.4
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
"""
MODULES = {"receiver": "invsync_dagster.webhooks.receiver", "applier": "tests.processes.applier"}


@dataclass
class Told:
    """What happened: kills by process, deliveries answered and kept (a sender repeats what it got no answer to), and all
    that is not as it should be."""

    kills: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    kept: int = 0
    orders: int = 0
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

    def __init__(self, folder: Path, url: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        (folder / "channels.yaml").write_text(CHANNELS, encoding="utf-8")
        self.environ = {
            "PATH": os.environ["PATH"],
            "INVSYNC_ROOT": str(folder),
            "INVSYNC_DATABASE_URL": url,
            "INVSYNC_RECEIVER_PORT": str(self.port),
            "INVSYNC_INBOX_KEY": KEY,
            "SHOP_TOKEN": "token",
            "SHOP_SECRET": SECRET,
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
    """Stock the SKUs, each listed in the shop."""
    skus = [f"SKU-{number:03d}" for number in range(SKUS)]
    engine = open_database(url)
    with write_transaction(engine) as connection:
        channels.register(connection, "shop", "shopify", "sandbox", True, Rules(), START, START)
        set_skus(connection, [Sku(sku) for sku in skus], actor="test", reason="", now=START)
        counted = [Count(sku, IN_STOCK, START + timedelta(seconds=1)) for sku in skus]
        apply_counts(connection, counted, CountSource("opening"), now=START, run_id="")
        offers = [Listing("shop", sku, f"item-{sku}", platform_sku=sku) for sku in skus]
        set_listings(connection, offers, actor="test", reason="", now=START)
    engine.dispose()


def live_through(folder: Path, url: str, kills: int, seed: int) -> Told:
    """Kill as often as said, at points that the seed chooses; then let the rest be applied, and say what was found."""
    rng, told, began = Random(seed), Told(), time.monotonic()
    fill(url)
    house = House(folder, url)
    senders = None
    try:
        for name in MODULES:
            house.start(name)
        senders = Senders(house.port)
        while told.kills.total() < kills:
            time.sleep(rng.random() * LONGEST)
            names = rng.choice((["receiver"], ["applier"], ["applier"], ["applier", "receiver"]))
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
    told.answered = len(senders.answered)
    _look(ws, senders.answered, told)
    ws.close()
    told.seconds = time.monotonic() - began
    return told


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
