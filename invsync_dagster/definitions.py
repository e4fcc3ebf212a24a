"""The code location: loads the configuration and hands it to defs/, nothing else."""

from __future__ import annotations

import os
import warnings

import dagster as dg

from invsync_dagster.channels import load
from invsync_dagster.defs.build import build
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.environment import Environment
from invsync_dagster.settings import Home

# The one beta name in use, known and tested; Dagster would print a warning an asset at each start of a run.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy` of", category=dg.BetaWarning)


@dg.definitions
def definitions() -> dg.Definitions:
    """Never fails for what is in channels.yaml: a bad entry is a disabled channel with a red check."""
    home = Home.from_environment(os.environ)
    return build(home, load(home, Environment(os.environ)), Invsync())
