"""Which database Dagster's own storage uses, and what is refused."""

import pytest

from invsync_dagster.defs.storage_url import VARIABLE, dagster_database_url
from invsync_dagster.inventory.database_url import DatabaseUrlError


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_spelling_becomes_the_driver_that_dagster_speaks(scheme: str) -> None:
    url = dagster_database_url({VARIABLE: f"{scheme}://me:p%40ss@db:6432/dagster?sslmode=require"})
    assert url == "postgresql+psycopg2://me:p%40ss@db:6432/dagster?sslmode=require"


@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}])
def test_without_the_variable_it_is_sqlite(environ: dict[str, str]) -> None:
    assert dagster_database_url(environ) is None


def test_the_stocks_own_database_is_refused_and_a_neighbour_is_not() -> None:
    stock = {"INVSYNC_DATABASE_URL": "postgresql://me@db/stock"}
    with pytest.raises(DatabaseUrlError, match="one of its own"):
        dagster_database_url({**stock, VARIABLE: "postgres://other@db/stock"})
    assert dagster_database_url({**stock, VARIABLE: "postgres://me@db/dagster"}) is not None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:5432"])
def test_this_machine_is_one_host_however_it_is_called(host: str) -> None:
    for here in ("localhost", "127.0.0.1", "[::1]"):
        stock = {"INVSYNC_DATABASE_URL": f"postgresql://me@{here}/stock"}
        with pytest.raises(DatabaseUrlError, match="one of its own"):
            dagster_database_url({**stock, VARIABLE: f"postgresql://me@{host}/stock"})
        assert dagster_database_url({**stock, VARIABLE: f"postgresql://me@{host}/dagster"}) is not None
        assert dagster_database_url({**stock, VARIABLE: "postgresql://me@10.0.0.2/stock"}) is not None


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(DatabaseUrlError, match="must name a PostgreSQL database"):
        dagster_database_url({VARIABLE: "sqlite:///dagster.db"})
