"""What all tests share: properties are judged by their outcome, never by how fast the machine is."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import databases

settings.register_profile(
    "project",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("project")

# A shell starts what it puts into the background with SIGINT ignored, and Dagster gives SIGTERM what SIGINT has
# (`dagster._utils.interrupts`): after a run in the tests' process, what it starts would not end by SIGTERM.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=databases.KINDS)
def each_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on each kind of database; `tests.databases` hands them out."""
    databases.use(request.param)
    yield request.param
    databases.use("sqlite")


@pytest.fixture(autouse=True)
def _databases_are_taken_back() -> Iterator[None]:
    yield
    databases.recycle()
