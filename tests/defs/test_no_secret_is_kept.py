"""No secret is anywhere but where it was put: all that a day leaves behind is searched for every one of them.

The day has good pushes over six platforms, and then shops that answer each request with all that it held: headers, address
and body, as an error, as a page, and as an access token.
"""

from __future__ import annotations

import base64
import csv
import json
import logging
import os
import random
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest
from click.testing import CliRunner

from invsync_dagster.alerts.sending import send
from invsync_dagster.alerts.watchman import Watchman
from invsync_dagster.channels import load, load_for_webhooks
from invsync_dagster.cli import main
from invsync_dagster.clock import SystemClock
from invsync_dagster.defs.alerting import alerts_sensor_function
from invsync_dagster.defs.build import build
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.environment import Environment
from invsync_dagster.inventory.database import open_database
from invsync_dagster.platforms.erp import wire
from invsync_dagster.sandbox.server import SandboxServer
from invsync_dagster.sandbox.world import World, read_catalogue
from invsync_dagster.settings import Home
from invsync_dagster.setup import make_folders_and_tables
from invsync_dagster.webhooks.gates import gates_of
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from tests.unit.webhooks.serving import ask, opened, served

ROOT = Path(__file__).parents[2]
SKUS = 3
SETTINGS = {
    "  retries: 3 ": "  retries: 0 ",
    "  push_deadline_seconds: 20": "  push_deadline_seconds: 5",
    "  # ui_url": "  alerts: [{ url_env: ALERTS_HOOK }]\n  # ui_url",
}


def marker(name: str) -> str:
    """A secret that is found wherever it turns up."""
    return f"zq-{random.Random(name).getrandbits(96):024x}-{name[-4:].lower()}"


def written_as(secret: str) -> set[bytes]:
    """The secret as it stands, in addresses, in JSON, in hexadecimal, and anywhere inside of base64."""
    plain = secret.encode()
    forms = {plain, quote(secret, safe="").encode(), quote(secret).encode(), json.dumps(secret)[1:-1].encode()}
    forms |= {plain.hex().encode(), plain.hex().upper().encode()}
    for before in range(3):
        inside = slice(-(-before * 8 // 6), (before + len(plain)) * 8 // 6)
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(b"\0" * before + plain)[inside])
    return forms


class _Echo(BaseHTTPRequestHandler):
    """A shop that gives back whatever it is sent: as an error of each class, and where a token is asked for, as the token."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode("latin-1")
        told = f"{self.path} {dict(self.headers)} {body}"
        self.server.heard.append(told)  # type: ignore[attr-defined]
        if "token" in self.path.lower() or "grant_type" in body:
            status, answer = 200, {"access_token": marker("ISSUED"), "expires_in": 7200, "token_type": "Bearer"}
            answer |= {"refresh_token": marker("RENEWED"), "refresh_expires_in": 72000, "code": "0"}
        else:
            status = (401, 400, 403, 500, 404, 422, 429, 200)[len(self.server.heard) % 8]  # type: ignore[attr-defined]
            answer = {"message": told, "code": told, "error": told, "errors": [{"message": told, "code": told}]}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.heard = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The sample's channels with three of its SKUs, every secret a marker."""
    for name in ("INVSYNC_DATA", "INVSYNC_DATABASE_URL", "INVSYNC_DAGSTER_DATABASE_URL", "INVSYNC_INBOX_KEY"):
        monkeypatch.delenv(name, raising=False)
    text = (ROOT / "channels.yaml").read_text()
    for before, after in SETTINGS.items():
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "channels.yaml").write_text(text)
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.setenv("INVSYNC_ROOT", str(tmp_path))
    monkeypatch.setenv("INVSYNC_DAGSTER_STATE", str(tmp_path / "data" / "dagster"))
    monkeypatch.setenv("INVSYNC_DAGSTER_LOGS", str(tmp_path / "data" / "dagster-logs"))
    for name in re.findall(r"_env: ([A-Z_]+)", text):
        monkeypatch.setenv(name, marker(name))
    monkeypatch.setenv("ALERTS_HOOK", f"json://user:{marker('ALERTS_HOOK')}@127.0.0.1:9/hook")
    home = Home.from_environment()
    make_folders_and_tables(home)
    _sample(tmp_path / "sample")
    return home


def _sample(folder: Path) -> None:
    folder.mkdir()
    listed: dict[str, set[str]] = {}
    with (ROOT / "data" / "sample" / "mapping.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        listed.setdefault(row["central_sku"], set()).add(row["channel"])
    chosen = sorted(listed, key=lambda sku: (-len(listed[sku]), sku))[:SKUS]
    for name, key in (("inventory", "sku"), ("mapping", "central_sku")):
        with (ROOT / "data" / "sample" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            some = [row for row in csv.DictReader(file) if row[key] in chosen]
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(some[0]))
            writer.writeheader()
            writer.writerows(some)


class Day:
    """What people and machines do with the installation; `said` is all that was printed."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.home = home
        self.instance = instance
        self.said: list[str] = []

    def invoke(self, *arguments: str) -> int:
        result = CliRunner().invoke(main, arguments)
        self.said += [result.output, repr(result.exception)]
        return result.exit_code

    def run(self, job: str) -> bool:
        definitions = build(self.home, load(self.home, Environment(self.environ)), Invsync(grace_seconds=1.0))
        result = definitions.resolve_job_def(job).execute_in_process(instance=self.instance, raise_on_error=False)
        return result.success

    @property
    def environ(self) -> dict[str, str]:
        return dict(os.environ)

    def move_shops(self, port: int) -> None:
        file = self.home.channels_file
        file.write_text(
            re.sub(r"http://127\.0\.0\.1:\d+/(?=[a-z]+_[a-z]+)", f"http://127.0.0.1:{port}/", file.read_text())
        )

    def change_stock(self) -> None:
        file = self.home.root / "sample" / "inventory.csv"
        with file.open(newline="", encoding="utf-8") as opened_file:
            rows = list(csv.DictReader(opened_file))
        for row in rows:
            row["quantity"] = str(int(row["quantity"]) + 7)
        with file.open("w", newline="", encoding="utf-8") as opened_file:
            writer = csv.DictWriter(opened_file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        assert self.invoke("import", str(file)) == 0

    def webhooks(self) -> None:
        """One delivery that is signed, one that is not, and one whose sender says more than he should."""
        configuration = load_for_webhooks(self.home, self.environ)
        Inbox(self.home.inbox).prepare(SystemClock().now())
        writer = SegmentWriter(self.home.inbox, SystemClock(), random.Random(1))
        app = opened(gates_of(configuration, self.environ), writer, self.home.inbox, SystemClock(), 10_000)
        sku = (self.home.root / "sample" / "inventory.csv").read_text().splitlines()[1].split(",")[0]
        event = {"event_id": "e1", "sku": sku, "change_type": "adjustment", "quantity": 9, "version": 1}
        body = json.dumps({**event, "occurred_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}).encode()
        stamp = str(int(time.time()))
        secret = self.environ["ERP_MAIN_WEBHOOK_SECRET"]
        headers = {
            "content-type": "application/json",
            wire.TIMESTAMP_HEADER: stamp,
            wire.EVENT_HEADER: "e1",
            "authorization": f"Bearer {secret}",
            "x-shop-token": secret,
            "cookie": secret,
        }
        with served(app) as port:
            signed = headers | {wire.SIGNATURE_HEADER: wire.sign(secret, stamp, body)}
            assert ask(port, "POST", "/webhooks/erp_main", body, signed)[0] == 202
            for wrong in (secret, wire.sign("wrong", stamp, body)):
                unsigned = headers | {wire.SIGNATURE_HEADER: wrong}
                assert ask(port, "POST", "/webhooks/erp_main", body, unsigned)[0] == 401
            assert ask(port, "POST", "/webhooks/nobody", body, signed)[0] == 503

    def alerts(self, watchman: Watchman) -> None:
        assets = build(self.home, watchman.configuration, Invsync()).resolve_asset_graph()
        look = alerts_sensor_function(lambda: watchman, set(assets.asset_check_keys))
        result = look(dg.build_sensor_context(self.instance))
        assert isinstance(result, dg.SensorResult)
        self.said.append(str(result.skip_reason))


@pytest.fixture
def day(home: Home) -> Iterator[Day]:
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        yield Day(home, instance)


def kept(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield all that lies in a folder, and of databases also every value as it is, however the pages cut it."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        yield path, content
        if content.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                yield path, "\n".join(database.iterdump()).encode()


@pytest.fixture
def searched(
    home: Home, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Callable[[Day, list[str]], list[str]]:
    def search(day: Day, secrets: list[str]) -> list[str]:
        """Return where any of the secrets is, with 40 bytes before it."""
        printed = capfd.readouterr()
        places = list(kept(home.data))
        assert {path.suffix for path, _ in places} >= {".db", ".segment"}
        # The tokens that replace a grant, and the copy of channels.yaml, in which people may have put anything.
        theirs = {home.data / "secrets" / "alibaba_main.json", home.last_good_channels_file}
        assert all(path.stat().st_mode & 0o077 == 0 for path in theirs if path.exists())
        places = [(path, content) for path, content in places if path not in theirs]
        for name, text in (
            ("log", caplog.text),
            ("out", printed.out),
            ("err", printed.err),
            ("cli", "\n".join(day.said)),
        ):
            places.append((Path(name), text.encode()))
        forms = {form: secret for secret in secrets for form in written_as(secret)}
        any_of_them = re.compile(b"|".join(map(re.escape, sorted(forms, key=len, reverse=True))))
        return [
            f"{path}: {content[max(0, hit.start() - 40) : hit.end()]!r}"
            for path, content in places
            for hit in any_of_them.finditer(content)
        ]

    return search


def test_the_search_finds_a_secret_however_it_is_written(
    home: Home, day: Day, searched: Callable[..., list[str]]
) -> None:
    secret = marker("PLANTED")
    login = base64.b64encode(f"user:{secret}".encode()).decode()
    planted = [secret, json.dumps({"a": secret}), secret.encode().hex(), login, login[3:]]
    (home.inbox / "x.segment").write_bytes(b"")
    for number, text in enumerate(planted):
        (home.data / f"planted{number}").write_text(f"…{text}…")
    assert len(searched(day, [secret])) >= len(planted)
    assert searched(day, [marker("OTHER")]) == []


def test_no_secret_is_in_databases_logs_reports_or_messages(
    home: Home,
    day: Day,
    echo: ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    searched: Callable[..., list[str]],
) -> None:
    caplog.set_level(logging.INFO)
    configuration = load(home, Environment(day.environ))
    assert configuration.problems == ()
    names = [channel.name for channel in configuration.channels]
    secrets = [value for value in day.environ.values() if value.startswith("zq-")]
    assert len(secrets) >= 20
    secrets += [marker("ISSUED"), marker("RENEWED"), marker("ALERTS_HOOK")]

    # A good day.
    catalogue = read_catalogue(home.root / "sample")
    books = home.root / "shops.json"
    world = World(
        configuration.channels, day.environ, catalogue, SystemClock(), random.Random(1), "http://127.0.0.1:9", books
    )
    with SandboxServer(world) as server:
        day.move_shops(server.port)
        assert day.invoke("channels", "sync") == 0
        for name in ("inventory", "mapping"):
            assert day.invoke("import", str(home.root / "sample" / f"{name}.csv")) == 0
        for name in names:
            day.invoke("preview", name)
            assert day.invoke("approve", name, "--reason", "looked at") == 0
        assert day.run("incremental")
        day.webhooks()
        assert day.run("webhooks")
        day.invoke("webhooks", "sync")
    # A bad one: every answer holds what was asked.
    day.move_shops(echo.server_port)
    day.change_stock()
    assert not day.run("incremental")
    for name in names:
        day.invoke("preview", name)
        day.invoke("discover", name)
    day.run("subscriptions")
    day.invoke("sync", "SKU-1")
    engine = open_database(home.database_url)
    watchman = Watchman(home, load(home, Environment(day.environ)), day.environ, engine, SystemClock(), send)
    day.alerts(watchman)
    engine.dispose()
    for command in (
        ["alerts", "test"],
        ["alerts", "list"],
        ["status"],
        ["audit"],
        ["channels", "list"],
        ["webhooks", "list"],
    ):
        day.invoke(*command)
    day.run("backup")
    # Configuration that names a secret in place of its variable.
    text = home.channels_file.read_text()
    home.channels_file.write_text(text.replace("ERP_MAIN_API_KEY", marker("ERP_MAIN_API_KEY")))
    day.invoke("status")
    day.run("incremental")

    heard = "\n".join(echo.heard)  # type: ignore[attr-defined]
    sent = [secret for secret in secrets if any(form.decode() in heard for form in written_as(secret))]
    assert len(sent) >= 8, "the shops must have heard the secrets that they give back"
    assert not (found := searched(day, secrets)), "\n".join(found)
