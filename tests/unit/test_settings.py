"""Where things are, and the defaults of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from invsync_dagster.settings import Home, Settings


def test_an_empty_environment_puts_everything_under_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = Home.from_environment({})
    assert home.root == tmp_path
    assert home.data == tmp_path / "data"
    assert home.inbox == tmp_path / "data" / "inbox"
    assert home.channels_file == tmp_path / "channels.yaml"
    assert home.database_url == f"sqlite:///{tmp_path}/data/invsync.db"


def test_variables_say_where_things_are_and_relative_paths_count_from_the_root() -> None:
    home = Home.from_environment(
        {
            "INVSYNC_ROOT": "/srv/stock",
            "INVSYNC_DATA": "state",
            "INVSYNC_CHANNELS": "/etc/channels.yaml",
            "INVSYNC_DATABASE_URL": "",
        }
    )
    assert (home.imports, home.reports, home.locks) == (
        Path("/srv/stock/state/imports"),
        Path("/srv/stock/state/reports"),
        Path("/srv/stock/state/locks"),
    )
    assert home.channels_file == Path("/etc/channels.yaml")
    assert home.database_url == "sqlite:////srv/stock/state/invsync.db"


def test_a_password_in_the_database_url_is_not_shown() -> None:
    home = Home.from_environment({"INVSYNC_DATABASE_URL": "postgresql+psycopg://stock:hidden@db/stock"})
    assert home.database_url.endswith("@db/stock")
    assert "hidden" not in repr(home)


def test_the_defaults_are_what_sellers_expect() -> None:
    settings = Settings()
    assert settings.incremental_every_minutes == 5
    assert settings.full_sync_cron == "0 3 * * *"
    assert settings.backup_cron == "0 * * * *"
    assert (settings.batch_size, settings.retries) == (50, 3)


def test_every_setting_is_described() -> None:
    fields = Settings.model_fields | type(Settings().import_limits).model_fields
    assert [name for name, field in fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("full_sync_cron", "daily"),
        ("time_zone", "Mars/Olympus"),
        ("time_zone", "../etc/passwd"),
        ("retries", -1),
        ("push_deadline_seconds", float("inf")),
        ("unheard_of", 1),
        ("import_limits", {"window_minutes": 0}),
        ("change_limits", {"window_minutes": 20_000}),
        ("change_limits", {"zeroed_share": 1.2}),
        ("change_limits", {"raised": 0.2}),
    ],
)
def test_a_setting_that_cannot_be_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})


def test_the_receivers_address_is_a_bare_one_that_platforms_may_call() -> None:
    assert Settings().receiver_url == ""
    assert Settings(receiver_url="https://sync.example.com/").receiver_url == "https://sync.example.com"
    assert Settings(receiver_url="http://127.0.0.1:8791").receiver_url == "http://127.0.0.1:8791"
    for wrong in ("http://sync.example.com", "sync.example.com", "https://u:p@sync.example.com", "https://x/?a=1"):
        with pytest.raises(ValidationError, match="bare address"):
            Settings(receiver_url=wrong)
