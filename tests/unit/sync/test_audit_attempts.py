"""The audit of what was sent: every attempt is logged with its number, and every acknowledged number is in the log."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from invsync_dagster.inventory import retention
from invsync_dagster.inventory.actions import record_action
from invsync_dagster.inventory.audit_attempts import RESTORED, audit_attempts
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.retention import archive_logs
from invsync_dagster.inventory.tables import inventory_levels, sync_logs
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from tests.simulation.processes import SimulatedDeathError
from tests.unit.sync.conftest import LittleWorld

SKU = "SKU-0001"


def found(world: LittleWorld) -> set[tuple[str, str, int, int]]:
    with world.engine.connect() as connection:
        return {(one.sku, one.what, one.stored, one.proven) for one in audit_attempts(connection)}


def restocked(world: LittleWorld, units: int = 5) -> None:
    world.erp.restock(SKU, units)
    world.deliver("erp_main")
    world.run_process(0)


def logged(world: LittleWorld, channel: str) -> list[Any]:
    level = world.level(channel, SKU)
    query = select(sync_logs).where(sync_logs.c.level_id == level.id).order_by(sync_logs.c.id)
    with world.engine.connect() as connection:
        return list(connection.execute(query))


def forge(world: LittleWorld, condition: Any) -> None:
    with write_transaction(world.engine) as connection, retention._deletable(connection, sync_logs):
        connection.execute(delete(sync_logs).where(condition))


def test_what_was_pushed_and_read_is_proven_by_the_log(world: LittleWorld) -> None:
    assert found(world) == set()
    for _ in range(3):
        restocked(world)
    assert world.level("shop_main", SKU).attempt >= 3
    assert found(world) == set()


def test_an_attempt_that_is_missing_is_named_with_its_sku_and_level(world: LittleWorld) -> None:
    for _ in range(3):
        restocked(world)
    attempts = world.level("shop_main", SKU).attempt
    rows = [row for row in logged(world, "shop_main") if row.action == "push"]
    forge(world, sync_logs.c.id == rows[-2].id)
    assert found(world) == {(SKU, "logged attempts", attempts - 1, attempts)}
    forge(world, sync_logs.c.id == rows[-1].id)
    shown = world.shown("shop_main", SKU)
    assert found(world) == {
        (SKU, "logged attempts", attempts - 2, attempts),
        (SKU, "acknowledged, by the log", shown, shown - 10),
    }


def test_a_number_that_no_channel_acknowledged_is_named(world: LittleWorld) -> None:
    shown = world.shown("woo_main", SKU)
    level = inventory_levels.c
    with write_transaction(world.engine) as connection:
        forged = update(inventory_levels).where(level.channel == "woo_main", level.central_sku == SKU)
        connection.execute(forged.values(acknowledged_quantity=shown + 1))
    assert found(world) == {(SKU, "acknowledged, by the log", shown + 1, shown)}


def test_an_attempt_under_way_is_no_gap_and_that_of_a_dead_worker_is_logged_by_who_takes_over(
    world: LittleWorld,
) -> None:
    world.erp.restock(SKU, 5)
    world.deliver("erp_main")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    world.inbox.clear()

    def die(when: str, request: Request) -> None:
        if when == "before" and request.url.endswith("/stock"):
            raise SimulatedDeathError

    world.transports["erp_main"]._on_send = die
    with pytest.raises(SimulatedDeathError):
        world.push("erp_main")
    world.transports["erp_main"]._on_send = None
    attempt, sent = world.level("erp_main", SKU).attempt, world.level("erp_main", SKU).sent_quantity
    assert world.level("erp_main", SKU).claim is not None
    assert found(world) == set()
    world.alive.discard(world.processes[0].worker.name)
    world.push("erp_main", process=1)
    [row] = [row for row in logged(world, "erp_main") if row.action == "take_over"]
    assert (row.attempt, row.new_quantity, row.status, row.code) == (attempt, sent, "unknown", "claim_taken_over")
    assert found(world) == set()
    world.clock.advance(200)
    world.push("erp_main", process=1)
    assert world.level("erp_main", SKU).acknowledged_quantity == world.shown("erp_main", SKU)
    assert found(world) == set()


def test_the_numbers_that_a_restore_leaves_out_are_no_gap_and_those_behind_them_are(world: LittleWorld) -> None:
    level = inventory_levels.c
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).values(attempt=level.attempt + RESTORED))
    assert found(world) == set()
    for _ in range(3):
        restocked(world)
    assert found(world) == set()
    attempts = [row for row in logged(world, "shop_main") if row.attempt > RESTORED]
    forge(world, sync_logs.c.id == attempts[1].id)
    assert found(world) == {(SKU, "logged attempts", len(attempts) - 1, len(attempts))}


def claimed(world: LittleWorld, claim: str, attempts: int) -> None:
    """Let every level be under way: its attempt numbered and committed, or its number being read."""
    level = inventory_levels.c
    values: dict[str, Any] = {"claim": claim, "attempt": level.attempt + attempts}
    if attempts:
        values["sent_at"] = world.clock.now()
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).values(values))


@pytest.mark.parametrize(("claim", "attempts"), [("a1b2", 1), ("read:a1b2", 0)])
def test_the_first_that_is_done_to_a_level_after_a_restore_is_no_gap_while_it_is_under_way(
    world: LittleWorld, claim: str, attempts: int
) -> None:
    level = inventory_levels.c
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).values(attempt=level.attempt + RESTORED))
    claimed(world, claim, attempts)
    assert found(world) == set()


@pytest.mark.parametrize(("claim", "attempts"), [("a1b2", 1), ("read:a1b2", 0)])
def test_the_first_that_is_done_to_a_level_after_its_log_was_archived_is_no_gap_while_it_is_under_way(
    world: LittleWorld, tmp_path: Path, claim: str, attempts: int
) -> None:
    restocked(world)
    world.clock.advance(86_400)
    now = world.clock.now()
    assert archive_logs(world.engine, tmp_path, now - timedelta(hours=1), now).rows > 0
    claimed(world, claim, attempts)
    assert found(world) == set()


def test_what_was_pushed_between_the_archiving_and_the_backup_is_not_missing_after_its_restore(
    world: LittleWorld, tmp_path: Path
) -> None:
    restocked(world)
    world.clock.advance(86_400)
    now = world.clock.now()
    assert archive_logs(world.engine, tmp_path, now - timedelta(hours=1), now).rows > 0
    restocked(world)
    level = inventory_levels.c
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).values(attempt=level.attempt + RESTORED))
    assert found(world) == set()
    restocked(world)
    restocked(world)
    assert found(world) == set()
    attempts = [row for row in logged(world, "shop_main") if row.attempt > RESTORED]
    forge(world, sync_logs.c.id == attempts[-1].id)
    assert (SKU, "logged attempts", len(attempts) - 1, len(attempts)) in found(world)


def test_logs_that_are_kept_longer_from_now_on_do_not_make_what_was_archived_missing(
    world: LittleWorld, tmp_path: Path
) -> None:
    for _ in range(4):
        restocked(world)
    pushes = [row for row in logged(world, "shop_main") if row.action == "push"]
    # As a lost answer: kept are a level's latest row and its latest that was acknowledged, and what is between goes.
    forge(world, sync_logs.c.id == pushes[-2].id)
    now = world.clock.now()
    with write_transaction(world.engine) as connection:
        for older_than in (now, now - timedelta(days=60)):
            record_action(
                connection,
                at=now,
                actor="housekeeping",
                action=retention.ARCHIVED,
                subject=sync_logs.name,
                before=None,
                after={"older_than": older_than.isoformat()},
                reason="",
            )
    assert found(world) == set()


def test_what_was_archived_is_not_missing_and_what_came_since_is_proven(world: LittleWorld, tmp_path: Path) -> None:
    restocked(world)
    world.clock.advance(86_400)
    now = world.clock.now()
    assert archive_logs(world.engine, tmp_path, now - timedelta(hours=1), now).rows > 0
    assert found(world) == set()
    for _ in range(2):
        restocked(world)
    assert found(world) == set()
    attempts = [row for row in logged(world, "shop_main") if row.action == "push" and row.timestamp >= now]
    forge(world, sync_logs.c.id == attempts[-1].id)
    assert {what for _, what, *_ in found(world)} == {"logged attempts", "acknowledged, by the log"}
