"""Where Dagster keeps its own runs and events: SQLite in the state folder, or PostgreSQL if the environment names one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dagster import StringSource
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.base_storage import DagsterStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from invsync_dagster.environment import Environment
from invsync_dagster.inventory.database import DatabaseUrlError, parse_url

VARIABLE = "INVSYNC_DAGSTER_DATABASE_URL"


class ChosenStorage(DagsterStorage, ConfigurableClass):
    """What `dagster.yaml` names as the storage: it becomes Dagster's own class for the database that is chosen.

    The URL comes from the environment alone, so that no page of the UI shows it.
    """

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return what dagster.yaml says: the folder of SQLite's files."""
        return {"base_dir": StringSource}

    @classmethod
    def from_config_value(  # type: ignore[override]  # what is chosen, not this class
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, str]
    ) -> DagsterStorage:
        """Return the storage. Raises `DatabaseUrlError` for a URL that can't be used, `SecretFileError` for its file."""
        url = dagster_database_url(Environment(os.environ))
        if url is None:
            from invsync_dagster.defs.sqlite_storage import KeptSqliteStorage

            return KeptSqliteStorage.from_local(config_value["base_dir"], inst_data=inst_data)
        from dagster_postgres import DagsterPostgresStorage

        return DagsterPostgresStorage(url, inst_data=inst_data)


def dagster_database_url(environ: Mapping[str, str]) -> str | None:
    """Return the URL of Dagster's own database, None for SQLite.

    dagster-postgres speaks psycopg2 only, and SQLAlchemy reads a plain `postgresql://` as psycopg 3, with which every
    event fails: so the driver is set here. Raises `DatabaseUrlError`, also for the stock's own database: both sides
    would keep their migrations in the same table there.
    """
    asked = environ.get(VARIABLE)
    if not asked:
        return None
    url = parse_url(asked)
    if url.get_backend_name() != "postgresql":
        raise DatabaseUrlError(f"{VARIABLE} must name a PostgreSQL database; unset it for SQLite")
    if stock := environ.get("INVSYNC_DATABASE_URL"):
        other = parse_url(stock)
        # However it is written: 5432 is the port that a URL without one means, and options make no other database.
        if (url.host, url.port or 5432, url.database) == (other.host, other.port or 5432, other.database):
            raise DatabaseUrlError(
                f"{VARIABLE} names the database of the stock; Dagster needs one of its own beside it"
            )
    return url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
