"""What one process learned of a slow host is where the next one begins."""

from __future__ import annotations

import pytest
from sqlalchemy import event, select

from invsync_dagster.inventory.tables import rate_limits
from invsync_dagster.platforms.contract import Paced
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from tests.unit.sync.conftest import LittleWorld

WOO = "woo_main"


def pace_of(world: LittleWorld, process: int) -> str:
    ws = world.processes[process]
    platform = ws.platform(ws.channel(WOO))
    assert isinstance(platform, Paced)
    return platform.pace


def kept(world: LittleWorld) -> str:
    query = select(rate_limits.c.pace).where(rate_limits.c.channel == WOO)
    with world.engine.connect() as connection:
        return str(connection.execute(query).scalar_one())


def lose_an_answer(world: LittleWorld, process: int) -> None:
    world.sell("shop_eu", "SKU-0001")
    world.deliver("shop_eu")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="in")
    world.inbox.clear()
    world.faults[WOO].script([None, None, Fault(Kind.TIMEOUT_AFTER)])  # the list of orders first
    assert world.push(WOO, process).unknown == 1


def test_a_process_goes_on_at_the_pace_that_another_one_has_come_to(world: LittleWorld) -> None:
    first = pace_of(world, 1)
    lose_an_answer(world, 0)
    assert kept(world) == pace_of(world, 0) != first
    world.push(WOO, 1)
    assert pace_of(world, 1) == kept(world) != first


def test_a_pace_is_written_only_when_it_has_changed(world: LittleWorld) -> None:
    lose_an_answer(world, 0)
    written: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "SET pace" in statement:
            written.append(statement)

    event.listen(world.engine, "before_cursor_execute", note)
    for process in (0, 1, 0):
        before = kept(world)
        world.push(WOO, process)
        assert len(written) == (kept(world) != before)
        written.clear()


@pytest.mark.parametrize("channel", ["shop_main", "erp_main"])
def test_platforms_that_learn_nothing_keep_nothing(world: LittleWorld, channel: str) -> None:
    world.push(channel)
    query = select(rate_limits.c.pace).where(rate_limits.c.channel == channel)
    with world.engine.connect() as connection:
        assert connection.execute(query).scalar_one() == ""
