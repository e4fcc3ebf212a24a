"""A served world for each test, or one for a module whose cases don't meet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from invsync_dagster.sandbox.server import SandboxServer
from tests.unit.sandbox.stage import Receiver, Stage, a_world


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def stage(tmp_path: Path, receiver: Receiver) -> Iterator[Stage]:
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        yield Stage(server)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One server for the tests whose cases don't meet."""
    receiver = Receiver()
    with SandboxServer(a_world(tmp_path_factory.mktemp("standing"), receiver)) as server:
        yield Stage(server)
    receiver.close()
