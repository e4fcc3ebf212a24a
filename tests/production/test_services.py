"""The services of the production set-up, started together as they stand on PostgreSQL: they work, and end in order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from invsync_dagster.demo.dagster_api import Dagster
from invsync_dagster.demo.services import DemoError
from invsync_dagster.platforms.erp import wire
from tests.postgres_server import PASSWORD, shared_server
from tests.production.deployed import BIN, Deployed, units

CHANNELS = """\
channels:
  - name: erp_main
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:9
      api_key_env: ERP_KEY
      signing_secret_env: ERP_SIGNING
      webhook_secret_env: ERP_WEBHOOK
"""

STATUS_TOKEN = "a-token-of-the-tests-0123456789"
EVENT = {"event_id": "e1", "sku": "0071", "change_type": "adjustment", "quantity": 7, "version": 1}
RUNS = """query { runsOrError(filter: { pipelineName: "webhooks" }) {
  __typename ... on Runs { results { runId status } } } }"""
TAGS = """query($id: ID!) { runOrError(runId: $id) { ... on Run { tags { key value } } } }"""
START_SENSOR = """mutation($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } } }"""
AGAIN = """mutation($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) { __typename ... on PythonError { message } } }"""


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    """The set-up over two databases of a user who owns them and nothing else; the password is in PGPASSWORD alone."""
    server = shared_server()
    with server.admin() as admin:
        admin.execute(f"CREATE ROLE invsync LOGIN PASSWORD '{PASSWORD}'".encode())
        for name in ("invsync", "dagster"):
            admin.execute(f"CREATE DATABASE {name} OWNER invsync".encode())
    address = f"postgresql://invsync@127.0.0.1:{server.port}"
    made = Deployed(
        tmp_path,
        {
            "INVSYNC_DATABASE_URL": f"{address}/invsync",
            "INVSYNC_DAGSTER_DATABASE_URL": f"{address}/dagster",
            "PGPASSWORD": PASSWORD,
            "PATH": f"{BIN}:{server.bin}:/usr/bin:/bin",
            "ERP_KEY": "key",
            "ERP_SIGNING": "signing",
        },
        {"ERP_WEBHOOK": "webhook", "INVSYNC_STATUS_TOKEN": STATUS_TOKEN},
    )
    (tmp_path / "channels.yaml").write_text(CHANNELS)
    try:
        yield made
    finally:
        made.stop()
        with server.admin() as admin:
            for name in ("invsync", "dagster"):
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            admin.execute(b"DROP ROLE invsync")


def webhook_runs(dagster: Dagster) -> list[str]:
    return [run["status"] for run in dagster.ask(RUNS, {})["runsOrError"]["results"]]


def problems_on_the_page(receiver: str) -> list[str]:
    """Return what the status says is wrong; the sensor writes it, the receiver serves it."""
    answer = requests.get(f"{receiver}/status", headers={"Authorization": f"Bearer {STATUS_TOKEN}"}, timeout=10)
    assert answer.status_code == 200, answer.status_code
    return [problem["cause"] for problem in answer.json()["problems"]]


def test_the_services_run_a_job_on_postgresql_take_webhooks_and_end_in_order(deployed: Deployed) -> None:
    upgraded = deployed.run(str(BIN / "python"), "-m", "invsync_dagster.cli", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    assert "Dagster's storage: migrated" in upgraded.stdout
    assert not (deployed.folder / "data" / "backups").exists()  # there was nothing to back up
    assert PASSWORD not in upgraded.stdout + upgraded.stderr

    (deployed.folder / "stock.csv").write_text("sku,quantity\n0071,10\n")
    imported = deployed.run(str(BIN / "python"), "-m", "invsync_dagster.cli", "import", "stock.csv")
    assert imported.returncode == 0, imported.stderr
    with shared_server().admin("invsync") as stock:
        assert stock.execute("SELECT sku, quantity FROM central_inventory").fetchall() == [("0071", 10)]

    deployed.start()
    dagster = Dagster(f"http://127.0.0.1:{deployed.ports['3000']}")
    deployed.wait_for("the code location", lambda: dagster.is_ready(["invsync"]))
    viewer = Dagster(f"http://127.0.0.1:{deployed.ports['3001']}")
    deployed.wait_for("the viewer", lambda: viewer.is_ready(["invsync"]))
    with pytest.raises(DemoError, match="UnauthorizedError"):
        viewer.launch("backup", {})
    dagster._session.headers["X-Invsync-User"] = "ann"  # as the proxy sends it
    run_id = dagster.launch("backup", {"user": "root"})
    assert {"key": "user", "value": "ann"} in dagster.ask(TAGS, {"id": run_id})["runOrError"]["tags"]
    sensor = {"repositoryLocationName": "invsync", "repositoryName": "__repository__", "sensorName": "status_sensor"}
    assert dagster.ask(START_SENSOR, {"selector": sensor})["startSensor"]["__typename"] == "Sensor"
    deployed.wait_for("the run", lambda: dagster.run_status(run_id) in ("SUCCESS", "FAILURE"))
    assert dagster.run_status(run_id) == "SUCCESS"
    receiver = f"http://127.0.0.1:{deployed.ports['8791']}"
    assert requests.get(f"{receiver}/healthz", timeout=10).ok
    unsigned = {"content-type": "application/json"}
    assert requests.post(f"{receiver}/webhooks/erp_main", data="{}", headers=unsigned, timeout=10).status_code == 401

    timestamp, body = (
        str(int(time.time())),
        json.dumps({**EVENT, "occurred_at": datetime.now(UTC).isoformat()}).encode(),
    )
    signed = {
        **unsigned,
        wire.TIMESTAMP_HEADER: timestamp,
        wire.SIGNATURE_HEADER: wire.sign("webhook", timestamp, body),
    }
    assert requests.post(f"{receiver}/webhooks/erp_main", data=body, headers=signed, timeout=10).status_code == 202
    # The ERP's address is nobody's: the delivery is applied, and the push fails. Terminable and so on: test_runner.py
    deployed.wait_for("the runner's run", lambda: webhook_runs(dagster) == ["FAILURE"])
    deployed.wait_for("the status", lambda: problems_on_the_page(receiver) == ["push_failed:erp_main"])
    with shared_server().admin("invsync") as stock:
        assert stock.execute("SELECT channel FROM deliveries").fetchall() == [("erp_main",)]
    [runs_own] = dagster.ask(RUNS, {})["runsOrError"]["results"]
    params = {"parentRunId": runs_own["runId"], "strategy": "ALL_STEPS"}
    again = dagster.ask(AGAIN, {"params": params})["launchRunReexecution"]
    assert again["__typename"] == "LaunchRunSuccess", again
    deployed.wait_for("the run again", lambda: webhook_runs(dagster) == ["FAILURE", "FAILURE"])

    assert len(list((deployed.folder / "data" / "backups").glob("invsync-*/manifest"))) == 1
    with shared_server().admin("dagster") as storage:
        query = "SELECT count(*) FROM event_logs WHERE run_id = %s AND dagster_event_type = 'ASSET_MATERIALIZATION'"
        assert storage.execute(query, [run_id]).fetchone() == (1,)
    assert not list((deployed.folder / "data").rglob("*.db"))
    assert all(PASSWORD not in deployed.log(name) for name in deployed.processes)

    upgraded_again = deployed.run(str(BIN / "python"), "-m", "invsync_dagster.cli", "upgrade", "--no-backup")
    assert (upgraded_again.returncode, upgraded_again.stdout.splitlines()[-1]) == (0, "Dagster's storage: up to date")
    codes = deployed.stop()
    assert set(codes) == set(units())
    assert codes["invsync-runner"] == 0
