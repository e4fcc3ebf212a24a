"""The code location: loads the configuration and hands it to defs/, nothing else."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress

import dagster as dg
from sqlalchemy.exc import DBAPIError

from invsync_dagster.channels import load
from invsync_dagster.defs.build import build
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.environment import Environment
from invsync_dagster.inventory.copies import is_bare
from invsync_dagster.inventory.database_url import DatabaseUrlError
from invsync_dagster.inventory.schema import require_schema
from invsync_dagster.settings import Home

# The one beta name in use, known and tested; Dagster would print a warning an asset at each start of a run.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy` of", category=dg.BetaWarning)


@dg.definitions
def definitions() -> dg.Definitions:
    """Never fails for what is in channels.yaml: a bad entry is a disabled channel with a red check.

    Raises `SchemaError` for a database of another version: each step would fail in its midst, and differently.
    """
    home = Home.from_environment(os.environ)
    _require_schema(home)
    return build(home, load(home, Environment(os.environ)), Invsync())


def _require_schema(home: Home) -> None:
    with suppress(DBAPIError, DatabaseUrlError):  # a run says it, once one needs the database
        if not is_bare(home.database_url):
            require_schema(home.database_url)
