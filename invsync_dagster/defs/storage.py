"""Where Dagster keeps its own runs and events: SQLite in the state folder, or PostgreSQL if the environment names one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dagster import StringSource
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.base_storage import DagsterStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from invsync_dagster.defs.storage_url import dagster_database_url
from invsync_dagster.environment import Environment


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
