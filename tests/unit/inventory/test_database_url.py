"""Which URLs are taken and what they mean; what is said of one that can't be used, and that no password is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from invsync_dagster.inventory.database import DatabaseGoneError, open_database
from invsync_dagster.inventory.database_url import DatabaseUrlError, parse_url
from tests import databases
from tests.postgres_server import PASSWORD, shared_server


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_spelling_of_postgresql_means_psycopg(scheme: str) -> None:
    url = parse_url(f"{scheme}://stock:p%40ss@db.example.com:6432/stock?sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.host, url.port, url.database) == (
        "stock",
        "p@ss",
        "db.example.com",
        6432,
        "stock",
    )
    assert url.query == {"sslmode": "require"}


def test_a_sqlite_url_stays_as_it_is() -> None:
    assert parse_url("sqlite:////srv/stock.db").render_as_string() == "sqlite:////srv/stock.db"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "can't be read; write sqlite:///path or postgresql://"),
        ("/srv/hidden.db", "can't be read"),
        ("postgresql://stock:hidden@db:port/stock", "can't be read"),
        ("mysql://stock:hidden@db/stock", "names 'mysql'"),
        ("postgresql://stock:my@hidden@db/stock", "write %40 for each @"),
        ("postgresql://stock:my@hidden/@db/stock", "write %40 for each @"),
        ("postgresql://stock:my@hidden/part@db/stock", "write %40 for each @"),
        ("postgresql://stock:my@hidden?part@db/stock", "write %40 for each @"),
        ("postgresql://st/ock:hidden@db/stock", "write %40 for each @"),
        ("postgresql://stock:my@db#hidden/stock", "write %40 for each @"),
        ("oracle+nonsense://stock:hidden@db/stock", "names 'oracle'"),
    ],
)
def test_a_url_that_can_not_be_used_is_refused_without_being_shown(url: str, words: str) -> None:
    with pytest.raises(DatabaseUrlError, match=words) as caught:
        open_database(url)
    assert "hidden" not in str(caught.value)


def test_what_is_written_with_its_code_is_taken_in_every_part() -> None:
    url = parse_url("postgresql://st%40ock:%40a%2Fb%23c%3Fd@db/st%40ock?application_name=a%40b")
    assert (url.username, url.password, url.host, url.database) == ("st@ock", "@a/b#c?d", "db", "st@ock")
    assert url.query == {"application_name": "a@b"}
    assert parse_url(url.render_as_string(hide_password=False)) == url
    with pytest.raises(DatabaseUrlError, match=r"^INVSYNC_DAGSTER_DATABASE_URL has an @"):
        parse_url("postgresql://stock:my@hidden@db/stock", "INVSYNC_DAGSTER_DATABASE_URL")


@pytest.mark.parametrize("option", ["password", "sslpassword"])
def test_a_secret_among_the_options_which_are_shown_is_refused(option: str) -> None:
    with pytest.raises(DatabaseUrlError, match=f"has the option {option}, .* user:password@host") as caught:
        parse_url(f"postgresql://stock@db/stock?sslmode=require&{option}=hidden")
    assert "hidden" not in str(caught.value)


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invsync_dagster.inventory.database_url.find_spec", lambda name: None)
    with pytest.raises(DatabaseUrlError, match=r"\.\[postgres\]"):
        parse_url("postgresql://db/stock")
    assert parse_url("sqlite://").drivername == "sqlite"


def test_a_wrong_password_is_said_and_not_shown(tmp_path: Path, each_database: str) -> None:
    if each_database == "sqlite":
        (tmp_path / "folder").mkdir()
        url = f"sqlite:///{tmp_path / 'folder'}"
    else:
        url = shared_server().tcp_url("postgres").replace(PASSWORD, "hidden-but-wrong")
    engine = databases.opened(url)
    with pytest.raises(DatabaseGoneError, match="the stock's database can't be used: ") as caught, engine.connect():
        pass
    assert "hidden" not in f"{caught.value} {caught.value!r} {engine!r}"


@pytest.mark.parametrize("wrong", [(PASSWORD, "hidden-but-wrong"), ("/postgres", "/nowhere")])
def test_what_the_server_does_not_let_in_is_mended_in_the_url_and_not_by_waiting(wrong: tuple[str, str]) -> None:
    engine = databases.opened(shared_server().tcp_url("postgres").replace(*wrong))
    with pytest.raises(DatabaseGoneError) as caught, engine.connect():
        pass
    said = str(caught.value)
    assert said.endswith("; put the user, the password or the database's name in its URL right (INVSYNC_DATABASE_URL)")
    assert "hidden" not in said


def test_a_server_that_takes_no_writes_and_a_table_of_another_role_are_told_with_the_mend() -> None:
    writing = text("CREATE TABLE of_nobody (id integer)")
    copy = databases.opened(shared_server().tcp_url("postgres") + "?options=-c%20default_transaction_read_only%3Don")
    written_to = "let INVSYNC_DATABASE_URL name the server that is written to"
    with pytest.raises(DatabaseGoneError, match=written_to), copy.begin() as connection:
        connection.execute(writing)
    reader = databases.opened(shared_server().tcp_url("postgres") + "?options=-c%20role%3Dpg_monitor")
    own_role = "put the role that made its tables into its URL"
    with pytest.raises(DatabaseGoneError, match=own_role), reader.begin() as connection:
        connection.execute(text("SELECT rolpassword FROM pg_authid"))


def test_a_database_without_our_tables_is_told_with_where_ours_may_be(tmp_path: Path, each_database: str) -> None:
    engine = databases.opened(databases.fresh_url(tmp_path, migrated=False))
    with (
        pytest.raises(DatabaseGoneError, match="let INVSYNC_DATABASE_URL name the stock's own, or bring a backup back"),
        engine.connect() as connection,
    ):
        connection.execute(text("SELECT id FROM installation"))


def test_a_connection_speaks_utc_and_gives_up_waiting_for_a_lock_in_time() -> None:
    engine = databases.opened(shared_server().tcp_url("postgres") + "?options=-c%20lock_timeout%3D50ms")
    with engine.connect() as connection:
        shown = {
            name: connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("timezone", "lock_timeout", "application_name", "transaction_isolation")
        }
    assert shown == {
        "timezone": "UTC",
        "lock_timeout": "50ms",  # the URL's own word counts
        "application_name": "invsync",
        "transaction_isolation": "repeatable read",
    }
