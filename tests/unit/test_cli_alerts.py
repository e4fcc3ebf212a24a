"""`invsync alerts`: the test message to each target, and the list, without an address in either."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from invsync_dagster.alerts import book
from invsync_dagster.alerts.causes import Cause, Found, Kind, Severity
from invsync_dagster.inventory.database import open_database
from invsync_dagster.settings import AlertTarget, Home
from tests.sinks import Sink, web_sink
from tests.unit.commands import invoke, migrated, own_root

CHANNELS = """\
settings:
  alerts:
    - url_env: ALERTS_HOOK
    - { url_env: ALERTS_PHONE, severity: error }
channels: []
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("ALERTS_PHONE", raising=False)
    (tmp_path / "channels.yaml").write_text(CHANNELS)
    return migrated(own_root(monkeypatch, tmp_path))


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    with web_sink() as sink:
        monkeypatch.setenv("ALERTS_HOOK", f"json://127.0.0.1:{sink.port}/planted-key")
        yield sink


def test_each_target_gets_a_test_message_and_its_outcome_is_printed(home: Home, sink: Sink) -> None:
    result = invoke("alerts", "test")
    assert result.exit_code == 1
    assert "ALERTS_HOOK" in result.output
    assert "taken" in result.output
    assert "the variable is not set: set it in .env" in result.output
    assert "planted-key" not in result.output
    assert [title for title, _ in sink.told] == ["invsync: test"]


def test_where_every_target_takes_it_the_test_ends_well(
    home: Home, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERTS_PHONE", f"json://127.0.0.1:{sink.port}/other-key")
    result = invoke("alerts", "test", "--json")
    assert result.exit_code == 0
    outcome = {"taken": True, "answer": ""}
    assert json.loads(result.output) == {"ALERTS_HOOK": outcome, "ALERTS_PHONE": outcome}


def test_without_a_target_it_says_where_to_name_one(home: Home) -> None:
    home.channels_file.write_text("channels: []\n")
    result = invoke("alerts", "test")
    assert result.exit_code == 2
    assert "settings: alerts" in result.output


def test_the_list_shows_what_is_open_what_was_over_and_what_nobody_took(home: Home) -> None:
    assert invoke("alerts", "list").output == "no open alert\n"
    engine = open_database(home.database_url)
    now = datetime.now(UTC)
    cause = Cause(Kind.CREDENTIALS, "shop", Severity.ERROR, "shop refuses us", "no token.", channel="shop")
    late = Cause(Kind.OLD_CHANGES, "shop", Severity.WARNING, "shop: old changes", "3 wait.", channel="shop")
    readers = book.Readers((AlertTarget(url_env="ALERTS_HOOK"),), "")
    for minute, causes in ((-10, (cause, late)), (-8, (cause,)), (-5, (cause,))):
        book.note(engine, Found(causes), readers, now + timedelta(minutes=minute))
    notices = book.take_due(engine, "ALERTS_HOOK", now, timedelta(minutes=1))
    book.not_told(engine, notices, "it refused", now)
    engine.dispose()
    output = invoke("alerts", "list").output
    assert "error since" in output
    assert "shop refuses us\n  no token." in output
    assert "old changes" not in output
    assert "! ALERTS_HOOK: 3 not told yet, last answer: it refused" in output
    assert ", over since " in invoke("alerts", "list", "--lately").output
    found = json.loads(invoke("alerts", "list", "--json").output)
    assert [alert["cause"] for alert in found["alerts"]] == ["credentials:shop"]
    assert found["untold"] == {"ALERTS_HOOK": [3, "it refused"]}


def test_a_target_without_its_variable_is_a_problem_of_the_file_that_names_the_line(home: Home, sink: Sink) -> None:
    problems = json.loads(invoke("status", "--json").output)["configuration_problems"]
    assert problems == [
        "channels.yaml line 4: settings: the environment variable ALERTS_PHONE is not set — set it in .env; nobody is alerted "
        "there until then"
    ]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("url_env: mailtos://me:planted@example.com", "must be the name of an environment variable"),
        ("url_env: HOOK, colour: red", "unknown key 'alerts.0.colour'"),
        ("severity: error", "alerts.0.url_env is missing"),
    ],
)
def test_a_bad_target_is_named_by_its_line_and_never_by_a_pasted_address(home: Home, entry: str, said: str) -> None:
    home.channels_file.write_text(f"settings:\n  alerts:\n    - {{ {entry} }}\nchannels: []\n")
    [problem] = json.loads(invoke("status", "--json").output)["configuration_problems"]
    assert problem.startswith("channels.yaml line 3: settings: ")
    assert said in problem
    assert "planted" not in problem
