"""Measures a push of 100,000 changes in a process as a run has it: memory, and time from claim to record.

The ERP's stand-in for this is a bare server in a process of its own that acknowledges every row at once: what is measured
is ours alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sqlalchemy import text

from benchmarks._report import figure
from invsync_dagster.platforms.contract import WriteAnswer, WriteRow

MEMORY_GOAL_MB = 400
RECORD_GOAL_MS = 60
SHOWN_BEFORE = 90

CHANNELS_FILE = """
settings: {{push_deadline_seconds: 600}}
channels:
  - name: erp_main
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:{port}
      api_key_env: BENCH_KEY
      signing_secret_env: BENCH_SIGN
      webhook_secret_env: BENCH_HOOK
    limits: {{rate: 100000, burst: 100000}}
"""


class AcknowledgesAll(BaseHTTPRequestHandler):
    """Answers each write with ok for every row, each reading with the number of before, and each list with nothing new."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: apart, the second waits 40 ms for the first one's acknowledgement

    def do_GET(self) -> None:
        self._answer({"events": [], "next_cursor": ""})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/query"):
            self._answer({"items": [{"sku": sku, "available_quantity": SHOWN_BEFORE} for sku in asked["skus"]]})
            return
        updates = asked["updates"]
        rows = [{"sku": row["sku"], "status": "ok", "available_quantity": row["available_quantity"]} for row in updates]
        self._answer({"results": rows})

    def _answer(self, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def serve(port: int) -> None:
    ThreadingHTTPServer(("127.0.0.1", port), AcknowledgesAll).serve_forever()


def push(levels: int) -> None:
    """Build the stock, push it, and print what that took as one JSON line (this is the measured process)."""
    from invsync_dagster import definitions  # what every run of Dagster imports
    from invsync_dagster.inventory.channels import approve_first_push
    from invsync_dagster.inventory.database import migrate, open_database, write_transaction
    from invsync_dagster.settings import Home
    from invsync_dagster.sync.push import push_channel
    from invsync_dagster.sync.registration import register_channels
    from invsync_dagster.sync.workspace import Workspace

    definitions.definitions()
    home = Home.from_environment()
    migrate(open_database(home.database_url, make=True))
    ws = Workspace.open(home)
    register_channels(ws)
    with write_transaction(ws.engine) as connection:
        approve_first_push(connection, "erp_main", actor="benchmark", reason="", now=ws.clock.now())
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :levels) "
        values = {"levels": levels, "before": SHOWN_BEFORE, "now": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"}
        for statement in (
            "INSERT INTO central_inventory (sku, product_name, quantity, reserved_quantity, reserved_external, status,"
            " last_updated, version) "
            + numbers
            + "SELECT printf('SKU-%07d', i), '', 100, 0, 0, 'active', :now, 0 FROM n",
            "INSERT INTO inventory_levels (id, channel, item_id, location_id, central_sku, pushable, shared, stopped_reason,"
            " desired, desired_sequence, rules_revision, out_of_step_since, effective_quantity, expected, attempt, touched,"
            " due_at, failures, last_error, held_reason) "
            + numbers
            + "SELECT i, 'erp_main', printf('SKU-%07d', i), '', printf('SKU-%07d', i), 1, 0, '', 100, 0, 0, :now,"
            " :before, :before, 0, 0, :now, 0, '', '' FROM n",
            "INSERT INTO platform_mapping (id, central_sku, platform_name, platform_sku, platform_item_id,"
            " platform_location_id, platform_variant_id, status, status_reason, rules_revision, percent_before, level_id,"
            " created_at, updated_at) "
            + numbers
            + "SELECT i, printf('SKU-%07d', i), 'erp_main', printf('SKU-%07d', i), printf('SKU-%07d', i), '', '', 'active',"
            " '', 0, NULL, i, :now, :now FROM n",
        ):
            connection.execute(text(statement), values)
    platform = ws.platform(ws.channel("erp_main"))
    in_write, writes = 0.0, 0
    write = platform.write

    def timed_write(rows: Sequence[WriteRow], *, key: str) -> WriteAnswer:
        nonlocal in_write, writes
        cpu = time.process_time()
        answer = write(rows, key=key)
        in_write, writes = in_write + time.process_time() - cpu, writes + 1
        return answer

    platform.write = timed_write  # type: ignore[method-assign]
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    report = push_channel(ws, "erp_main", run_id="benchmark", deadline=ws.clock.now() + timedelta(minutes=10))
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    ws.close()
    print(
        json.dumps(
            {
                "in_write": in_write,
                "writes": writes,
                "acknowledged": report.acknowledged,
                "left": report.left,
                "problem": report.problem,
                "calls": report.api_calls,
                "seconds": seconds,
                "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "peak_mb": after.ru_maxrss / 1024,
                "before_mb": before.ru_maxrss / 1024,
            }
        )
    )


def measure(levels: int) -> None:
    """Run server and push in processes of their own and print the figures."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="invsync-") as folder:
        (Path(folder) / "channels.yaml").write_text(CHANNELS_FILE.format(port=port))
        secrets = {"BENCH_KEY": "key", "BENCH_SIGN": "sign", "BENCH_HOOK": "hook"}
        environ = {**os.environ, **secrets, "INVSYNC_ROOT": folder, "INVSYNC_DATA": "data"}
        for name in ("INVSYNC_DATABASE_URL", "INVSYNC_CHANNELS"):
            environ.pop(name, None)
        me = [sys.executable, "-m", "benchmarks.push"]
        with subprocess.Popen([*me, "--serve", str(port)], env=environ) as server:
            try:
                done = subprocess.run(
                    [*me, "--push", str(levels)],
                    env=environ,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                    timeout=900,
                )
            finally:
                server.terminate()
    told = json.loads(done.stdout.splitlines()[-1])
    if told["acknowledged"] != levels or told["left"] or told["problem"]:
        raise SystemExit(f"not everything was pushed: {told}")
    peak = told["peak_mb"]
    figure(
        f"push_{levels}_changes_peak_memory",
        peak,
        "MB",
        goal=MEMORY_GOAL_MB,
        met=peak < MEMORY_GOAL_MB,
        floor=told["before_mb"],
        note="floor: the process before the push, Dagster and the definitions loaded",
    )
    figure(f"push_{levels}_changes_time", told["seconds"], "s", calls=told["calls"])
    ours = 1000 * (told["cpu"] - told["in_write"]) / (levels / 1000)
    figure(
        "push_claim_to_record_cpu_per_1000_levels", ours, "ms", goal=RECORD_GOAL_MS, met=ours <= RECORD_GOAL_MS,
        levels_a_call=levels // told["writes"],
    )  # fmt: skip


def main() -> None:
    """Run the measurement; `--serve` and `--push` are its two child processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=int, default=100_000)
    parser.add_argument("--serve", type=int)
    parser.add_argument("--push", type=int)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve)
    elif given.push is not None:
        push(given.push)
    else:
        measure(given.levels)


if __name__ == "__main__":
    main()
