"""`invsync inbox` and `invsync audit`: what a person sees and does of the deliveries that wait and that are kept."""

from __future__ import annotations

import base64
import json
import random
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from invsync_dagster.clock import SystemClock
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.tables import operator_actions, order_lines
from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import apply_inbox
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.seals import Seals
from invsync_dagster.webhooks.segments import Delivery
from tests.unit.commands import invoke, migrated, own_root

CHANNELS = """\
channels:
  - name: shop
    platform: shopify
    environment: sandbox
    settings:
      shop_url: http://127.0.0.1:9/shop
      access_token_env: CLI_TOKEN
      webhook_secret_env: CLI_SECRET
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An installation with one shop and nothing in stock."""
    (tmp_path / "channels.yaml").write_text(CHANNELS)
    home = migrated(own_root(monkeypatch, tmp_path, "CLI_TOKEN", "CLI_SECRET"))
    Inbox(home.inbox).prepare(SystemClock().now())
    return home


def receive(home: Home, *bodies: object, seals: Seals | None = None) -> None:
    """Put deliveries into the inbox, one segment."""
    clock = SystemClock()
    headers = {"x-shopify-topic": "orders/create"}
    group = [Delivery("shop", "orders/create", clock.now(), headers, json.dumps(body).encode()) for body in bodies]
    SegmentWriter(home.inbox, clock, random.Random(), seals or Seals()).write(group)


def apply(home: Home) -> None:
    ws = Workspace.open(home)
    apply_inbox(ws, run_id="run")
    ws.close()


def order(number: int) -> dict[str, object]:
    line = {"id": number, "variant_id": 1, "sku": "A", "quantity": 2, "current_quantity": 2, "fulfillable_quantity": 2}
    at = "2026-01-01T00:00:00Z"
    return {"id": number, "created_at": at, "updated_at": at, "line_items": [line]}


def test_the_list_counts_what_waits_and_names_what_is_in_quarantine_and_kept(home: Home) -> None:
    assert "0 segments wait to be applied; new ones are not sealed" in invoke("inbox", "list").stdout
    receive(home, order(1), {"id": 2})
    words = invoke("inbox", "list").stdout
    assert "1 segments wait to be applied, the oldest for 0 s" in words
    apply(home)
    words = invoke("inbox", "list").stdout
    assert "0 segments wait" in words
    assert "Quarantine: 1, the latest" in words
    assert "line_items is not a list of objects" in words
    assert "Kept for a replay" in words
    document = json.loads(invoke("inbox", "list", "--json").stdout)
    assert document["waiting"] == {"segments": 0, "oldest_seconds": 0.0}
    assert [one["channel"] for one in document["quarantined"]] == ["shop"]
    assert [(day["segments"], day["is_erased"]) for day in document["days"]] == [(1, False)]


def test_a_time_is_replayed_and_says_what_came_of_it(home: Home) -> None:
    receive(home, order(1), order(2))
    apply(home)
    since = (SystemClock().now() - timedelta(minutes=5)).isoformat()
    result = invoke("inbox", "replay", "--from", since)
    assert result.exit_code == 0
    assert "2 deliveries applied again: 0 ledger entries of 0 SKUs came of it" in result.stdout
    assert "0 deliveries" in invoke("inbox", "replay", "--from", since, "--to", since).stdout
    assert "2 deliveries" in invoke("inbox", "replay", "--from", since, "--channel", "shop").stdout


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name files of the quarantine, or a time with --from"),
        (["--channel", "shop"], "name files of the quarantine, or a time with --from"),
        (["--from", "yesterday"], "--from 'yesterday' is no time"),
        (["--from", "2026-01-01T00:00:00"], "has no time zone"),
        (["--from", "2026-01-01T00:00:00Z", "--channel", "shoop"], "no channel 'shoop'"),
        (["--to", "2026-01-01T00:00:00Z", "1-0.json"], "--to and --channel go with --from"),
        (["--from", "2026-01-01T00:00:00Z", "1-0.json"], "name files of the quarantine, or a time with --from"),
        (["1-0.json"], "there is no such file"),
    ],
)
def test_what_can_not_be_replayed_is_refused_in_one_line(arguments: list[str], words: str) -> None:
    result = invoke("inbox", "replay", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_quarantined_file_is_put_back_sealed_where_there_is_a_key(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = base64.b64encode(bytes(32)).decode()
    monkeypatch.setenv("INVSYNC_INBOX_KEY", key)
    receive(home, {"id": 2, "note": "Ann Buyer"}, seals=Seals([bytes(32)]))
    apply(home)
    (entry,) = json.loads(invoke("inbox", "list", "--json").stdout)["quarantined"]
    assert "new ones are sealed" in invoke("inbox", "list").stdout
    result = invoke("inbox", "replay", Path(entry["path"]).name)
    assert result.exit_code == 0
    (segment,) = Inbox(home.inbox).segments(10)
    assert segment.read_bytes().startswith(b"invsync-sealed 1 ")
    monkeypatch.setenv("INVSYNC_INBOX_KEY", "no key")
    refused = invoke("inbox", "list")
    assert refused.exit_code == 2
    assert "INVSYNC_INBOX_KEY" in refused.stderr
    assert "no key\n" not in refused.stderr


def test_the_audit_says_what_is_proven_and_ends_with_1_where_a_delivery_contradicts(home: Home) -> None:
    receive(home, order(1), order(2), {"id": 3})
    apply(home)
    good = invoke("audit")
    assert good.exit_code == 0
    assert (
        "books: 0 differences; attempts: 0 differences; orders: 2 deliveries and 0 lines told by polls prove 2 lines"
        in good.stdout
    )
    assert "1 deliveries could not be read" in good.stdout

    engine = open_database(home.database_url)
    with write_transaction(engine) as connection:
        connection.execute(delete(order_lines).where(order_lines.c.order_id == "2"))
    engine.dispose()
    bad = invoke("audit")
    assert bad.exit_code == 1
    assert "! shop order 2 line 2: the line is not in the books: " in bad.stdout
    assert "says ordered 2 at revision" in bad.stdout
    assert "invsync inbox replay --from" in bad.stdout
    document = json.loads(invoke("audit", "--json").stdout)
    assert (document["contradicted"], document["proven"], document["differences"]) == (1, 1, [])

    assert invoke("inbox", "replay", "--from", "2020-01-01T00:00:00Z").exit_code == 0
    assert invoke("audit").exit_code == 0


def test_the_audit_looks_at_a_time_alone_if_told(home: Home) -> None:
    receive(home, order(1))
    apply(home)
    assert (
        "0 deliveries and 0 lines told by polls prove 0 lines" in invoke("audit", "--to", "2026-01-01T00:00:00Z").stdout
    )
    assert invoke("audit", "--from", "now").exit_code == 2


def test_a_quarantined_delivery_is_dropped_with_a_reason_that_is_kept(home: Home) -> None:
    receive(home, {"id": 2})
    apply(home)
    (entry,) = json.loads(invoke("inbox", "list", "--json").stdout)["quarantined"]
    assert "! 1 deliveries are in quarantine" in invoke("status").stdout
    assert invoke("inbox", "drop", entry["path"]).exit_code == 2
    result = invoke("inbox", "drop", entry["path"], "--reason", "a test of theirs", "--actor", "ann")
    assert (result.exit_code, result.stdout) == (0, f"{Path(entry['path']).name}: dropped\n")
    assert json.loads(invoke("inbox", "list", "--json").stdout)["quarantined"] == []
    assert "quarantine" not in invoke("status").stdout
    ws = Workspace.open(home)
    with ws.engine.connect() as connection:
        row = connection.execute(select(operator_actions).where(operator_actions.c.action == "delivery dropped")).one()
    ws.close()
    assert (row.actor, row.reason, row.subject) == ("ann", "a test of theirs", Path(entry["path"]).name)
    again = invoke("inbox", "drop", entry["path"], "--reason", "again")
    assert (again.exit_code, "no file of that name is in quarantine" in again.stderr) == (2, True)
