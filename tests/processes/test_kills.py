"""Processes that are killed at random points lose nothing that was answered, apply nothing twice, and leave no wrong number."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import databases
from tests.processes.kills import MODULES, live_through

KILLS = 20


@pytest.mark.usefixtures("each_database")
def test_what_was_answered_is_applied_exactly_once_whoever_is_killed_when(tmp_path: Path) -> None:
    told = live_through(tmp_path, databases.fresh_url(tmp_path), KILLS, seed=5)
    assert told.faults == []
    assert told.kills.total() >= KILLS
    assert set(told.kills) == set(MODULES)
    assert told.answered > KILLS
    assert told.written > 0
    assert told.orders >= told.answered
