"""What the terminal shows: pushes with their time since the webhook, failures with their code, how every channel stands."""

from __future__ import annotations

import io
import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from random import Random

import pytest
from rich.console import Console
from sqlalchemy import insert, select

from invsync_dagster.demo.dagster_api import Dagster
from invsync_dagster.demo.services import DemoError
from invsync_dagster.demo.stage import Stage, fill_stock
from invsync_dagster.demo.street import Event
from invsync_dagster.demo.view import View
from invsync_dagster.demo.watch import ChannelFigures, Push, Watch, percentile
from invsync_dagster.events import Content, StockCount
from invsync_dagster.inventory import ledger
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import central_inventory, inventory_levels, sync_logs
from invsync_dagster.settings import Home
from invsync_dagster.sync.workspace import Workspace


def test_a_push_is_timed_from_the_webhook_that_caused_it(home: Home, ws: Workspace, stage: Stage) -> None:
    fill_stock(ws, stage, Random(3), lambda words: None)
    watch = Watch.open(home, stage.channels)
    received = ws.clock.now()
    count = StockCount("e-1", "0005", 77, received, 1, "restock")
    inbound = ledger.Inbound("erp", Content(counts=(count,)), received, receipt_id="segment:0")
    with write_transaction(ws.engine) as connection:
        ledger.apply(connection, [inbound], now=received, run_id="run")
        version = connection.execute(
            select(central_inventory.c.version).where(central_inventory.c.sku == "0005")
        ).scalar()
        level = connection.execute(
            select(inventory_levels.c.id).where(inventory_levels.c.central_sku == "0005")
        ).scalars()
        attempt = {
            "platform": "shop",
            "sku": "0005",
            "action": "push",
            "new_quantity": 40,
            "level_id": level.first(),
            "ledger_sequence": version,
        }
        rows = [
            {**attempt, "timestamp": received + timedelta(seconds=1), "status": "unknown", "code": "answer_lost"},
            {**attempt, "timestamp": received + timedelta(seconds=4), "status": "acknowledged", "code": ""},
        ]
        connection.execute(insert(sync_logs), rows)
    pushes = watch.new_pushes()
    assert [(push.status, push.seconds) for push in pushes] == [("unknown", None), ("acknowledged", 4.0)]
    assert watch.new_pushes() == []
    figures = watch.figures["shop"]
    assert (figures.acknowledged, figures.failed, figures.latency(0.5)) == (1, 1, 4.0)
    watch.close()


def test_what_was_accepted_is_acknowledged_by_the_reading_that_shows_it(
    home: Home, ws: Workspace, stage: Stage
) -> None:
    fill_stock(ws, stage, Random(3), lambda words: None)
    watch = Watch.open(home, stage.channels)
    now = ws.clock.now()
    row = {"platform": "shop", "sku": "0005", "timestamp": now, "new_quantity": 40, "level_id": 6}
    reading = {**row, "action": "read", "status": "observed", "code": "accepted"}
    with write_transaction(ws.engine) as connection:
        connection.execute(
            insert(sync_logs),
            [
                {**row, "action": "push", "status": "accepted", "code": "", "error_message": ""},
                {**reading, "error_message": "still uncertain: accepted"},
                {**reading, "error_message": "settled"},
                {**reading, "code": "own_sale", "error_message": "settled"},
            ],
        )
    assert [(push.status, push.new, push.code) for push in watch.new_pushes()] == [
        ("accepted", 40, ""), ("acknowledged", 40, ""),
    ]  # fmt: skip
    figures = watch.figures["shop"]
    assert (figures.accepted, figures.acknowledged, figures.failed) == (1, 1, 0)
    watch.close()


def test_levels_that_were_never_read_are_out_of_step(home: Home, ws: Workspace, stage: Stage) -> None:
    fill_stock(ws, stage, Random(3), lambda words: None)
    watch = Watch.open(home, stage.channels)
    assert watch.out_of_step(ws.clock.now()) == 23
    assert (watch.figures["shop"].out_of_step, watch.figures["erp"].out_of_step) == (11, 12)
    assert watch.unclear_orders() == 0
    watch.close()


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.95) == 3.0
    assert percentile([float(number) for number in range(100)], 0.95) == 95.0


def test_without_a_terminal_lines_and_figures_are_plain_text() -> None:
    output = io.StringIO()
    at = datetime(2026, 7, 1, tzinfo=UTC)
    with View(Console(file=output, width=160), "http://127.0.0.1:3000") as view:
        view.event(Event("sale", "shop", "2 × A-1"))
        view.notice("receiver ended by signal 9: started again")
        view.pushes(
            [
                Push(at, "erp", "A-1", "acknowledged", 9, 7, "", 2.25),
                Push(at, "erp", "B-1", "rejected", 4, 3, "invalid_quantity", None),
                Push(at, "amazon", "C-1", "accepted", 5, 4, "", None),
            ]
        )
        view.figures({"erp": ChannelFigures(acknowledged=1, accepted=7, failed=1, out_of_step=3)}, 3, 1)
    text = output.getvalue()
    assert "2 × A-1" in text
    assert "receiver ended by signal 9: started again" in text
    assert "A-1 9 → 7, 2.2 s after the webhook" in text
    assert "B-1 → 3: invalid_quantity" in text
    assert "accepted    amazon          C-1 5 → 4, to be read back" in text
    assert "│ erp     │      1 │        7 │      1 │" in text
    assert "1 sales; 3 levels out of step; Dagster at http://127.0.0.1:3000" in text


class _Webserver(BaseHTTPRequestHandler):
    """Answers every GraphQL call with the server's `answer`."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(self.server.answer).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def ask(answer: object, call: str, *arguments: object) -> object:
    """Call a method of `Dagster` against a webserver that gives one answer."""
    with HTTPServer(("127.0.0.1", 0), _Webserver) as server:
        server.answer = answer  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        try:
            return getattr(Dagster(f"http://127.0.0.1:{server.server_port}"), call)(*arguments)
        finally:
            thread.join()


def test_a_run_that_dagster_refuses_is_reported_in_its_words() -> None:
    refused = {"data": {"launchRun": {"__typename": "PythonError", "message": "no such job"}}}
    with pytest.raises(DemoError, match="can't launch incremental: no such job"):
        ask(refused, "launch", "incremental", {})


def test_dagster_is_ready_once_all_locations_are_loaded() -> None:
    node = {"name": "__repository__", "location": {"name": "invsync"}, "sensors": [], "schedules": []}
    loaded = {"data": {"repositoriesOrError": {"__typename": "RepositoryConnection", "nodes": [node]}}}
    assert ask(loaded, "is_ready", ["invsync"]) is True
    assert ask(loaded, "is_ready", ["invsync", "floor"]) is False
