"""The bare floor of the latency: a code location with nothing but a waiting sensor and a run that does nothing."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

import os
from dataclasses import replace
from pathlib import Path

import dagster as dg


def floor_inbox(data: Path) -> Path:
    """Return the folder that the floor's sensor watches."""
    return data / "floor" / "inbox"


@dg.op
def nothing() -> None:
    """Take away what the run was requested for, which is how the measurement sees that it ran."""
    for path in floor_inbox(Path(os.environ["INVSYNC_DATA"])).iterdir():
        path.unlink()


@dg.job
def empty() -> None:
    """Do nothing."""
    nothing()


def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Wait as the inbox sensor does; imported here, so that a run of this location imports Dagster alone."""
    from invsync_dagster.clock import SystemClock
    from invsync_dagster.defs.sensors import inbox_sensor_function
    from invsync_dagster.settings import Home

    home = Home.from_environment(os.environ)
    return inbox_sensor_function(replace(home, data=floor_inbox(home.data).parent), SystemClock())(context)


definitions = dg.Definitions(
    jobs=[empty],
    sensors=[dg.SensorDefinition(name="floor_sensor", job=empty, evaluation_fn=evaluate, minimum_interval_seconds=1)],
    executor=dg.in_process_executor,
)
