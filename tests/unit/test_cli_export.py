"""`invsync export`: periods as people name them, and refusals in one line."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from invsync_dagster.settings import Home
from tests.unit.commands import invoke, migrated, own_root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An installation in Berlin with one SKU, imported now."""
    (tmp_path / "channels.yaml").write_text("settings: { time_zone: Europe/Berlin }\nchannels: []\n")
    (tmp_path / "stock.csv").write_text("sku,quantity\n0071,10\n")
    home = migrated(own_root(monkeypatch, tmp_path))
    assert invoke("import", tmp_path / "stock.csv").exit_code == 0
    return home


def test_a_period_is_given_in_days_of_the_settings_zone_or_in_times(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    done = invoke("export", "ledger", "--from", "2026-01-01", "--to", "2100-07-01", "--output", file)
    assert (done.exit_code, done.stdout) == (
        0,
        f"{file}: 1 rows of ledger, from 2025-12-31T23:00:00+00:00 to before 2100-06-30T22:00:00+00:00\n",
    )
    with file.open(newline="") as opened:
        [row] = csv.DictReader(opened)
    assert (row["sku"], row["quantity_after"]) == ("0071", "10")
    begin, end = "2026-01-01T00:00:00+01:00", "2100-01-01T00:00:00Z"
    parquet = tmp_path / "all.parquet"
    period = ("--from", begin, "--to", end)
    assert invoke("export", "ledger", *period, "--format", "parquet", "--output", parquet).exit_code == 0
    assert pq.read_table(parquet)["sku"].to_pylist() == ["0071"]
    nothing = invoke("export", "actions", *period, "--output", tmp_path / "actions.csv")
    assert (nothing.exit_code, ": 0 rows of actions, from " in nothing.stdout) == (0, True)


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("2026-02-30", "2026-03-01", "--from 2026-02-30 is no day"),
        ("2026-03-01", "2026-03-01", "--from 2026-03-01 is not before --to 2026-03-01"),
        ("2026-03-01T00:00:00", "2026-03-02", "--from"),
        ("yesterday", "2026-03-02", "--from"),
    ],
)
def test_a_period_that_is_none_is_refused_in_one_line(
    home: Home, tmp_path: Path, since: str, until: str, said: str
) -> None:
    refused = invoke("export", "ledger", "--from", since, "--to", until, "--output", tmp_path / "a.csv")
    assert refused.exit_code == 2
    assert said in refused.stderr and refused.stderr.count("\n") == 1
    assert not (tmp_path / "a.csv").exists()


def test_a_file_that_can_not_be_written_is_refused_in_one_line_and_one_that_is_there_is_kept(
    home: Home, tmp_path: Path
) -> None:
    period = ("--from", "2026-01-01", "--to", "2100-01-01")
    (tmp_path / "mine.csv").write_text("mine")
    for file, said in ((tmp_path / "mine.csv", "it is there already"), (tmp_path / "no" / "a.csv", "No such file")):
        refused = invoke("export", "orders", *period, "--output", file)
        assert refused.exit_code == 2
        assert said in refused.stderr and refused.stderr.count("\n") == 1
    assert (tmp_path / "mine.csv").read_text() == "mine"


def test_a_secret_file_that_gives_nothing_is_one_line(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVSYNC_DATABASE_URL_FILE", str(tmp_path / "none"))
    refused = invoke("status")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(
        f"invsync: INVSYNC_DATABASE_URL_FILE names {tmp_path / 'none'}, which can't be read"
    )
    assert refused.stderr.count("\n") == 1
