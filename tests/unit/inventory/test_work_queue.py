"""The work queue holds what is a change, claimed or in a submission, as its level is, whatever changed the level."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, case, delete, event, insert, select, text, update

from invsync_dagster.alerts import conditions
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.changes import changes_by_channel, oldest_changes
from invsync_dagster.inventory.database import migrate, write_transaction
from invsync_dagster.inventory.status import status as status_of
from invsync_dagster.inventory.tables import channels, inventory_levels, work_queue
from invsync_dagster.sync import claims, day_limit
from invsync_dagster.sync.left_behind import ONE_CLAIMED
from tests import databases
from tests.unit.inventory.stock import Stock
from tests.unit.inventory.test_revisions import bare, to_revision

pytestmark = pytest.mark.usefixtures("each_database")

START = datetime(2026, 3, 1, tzinfo=UTC)
COPIED = ("channel", "location_id", "desired", "effective_quantity", "expected", "uncertain", "due_at")

numbers = st.integers(0, 2)
maybe_numbers = st.none() | numbers
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "pushable": st.booleans(),
    "desired": numbers,
    "effective_quantity": numbers,
    "expected": maybe_numbers,
    "uncertain": st.sampled_from([None, "own_sale"]),
    "due_at": st.builds(lambda hours: START + timedelta(hours=hours), numbers),
    "claim": st.sampled_from([None, "token", "other"]),
    "bulk_handle": st.sampled_from([None, "feed"]),
    "central_sku": st.sampled_from(["A", "B"]),
    "last_error": st.sampled_from(["", "refused"]),
}
ids = st.integers(1, 5)
# In one statement each level gets a value of its own, so that some come, some stay and some go at once.
updates = st.sampled_from(sorted(CHANGES)).flatmap(
    lambda name: st.tuples(st.just(name), st.dictionaries(ids, CHANGES[name], min_size=1))
)
inserts = st.tuples(st.just("insert"), st.fixed_dictionaries({"id": ids, **CHANGES}))
deletes = st.tuples(st.just("delete"), st.sets(ids, min_size=1))


def level(number: int, **values: Any) -> dict[str, Any]:
    return {"channel": "shop", "item_id": f"item-{number}", "location_id": str(number % 2)} | values | {"id": number}


def do(connection: Connection, there: dict[int, dict[str, Any]], what: str, given: Any) -> None:
    """Do one thing to the levels, by one statement, and to what is expected of them."""
    column = inventory_levels.c
    if what == "insert":
        number = given["id"]
        if number not in there:
            there[number] = level(number, **{name: value for name, value in given.items() if name != "id"})
            connection.execute(insert(inventory_levels).values(there[number]))
    elif what == "delete":
        connection.execute(delete(inventory_levels).where(column.id.in_(given)))
        for number in given:
            there.pop(number, None)
    else:
        each = case(given, value=column.id, else_=column[what])
        connection.execute(update(inventory_levels).where(column.id.in_(given)).values({what: each}))
        for number in given.keys() & there.keys():
            there[number][what] = given[number]


def expected_queue(there: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    queue = {}
    for number, one in there.items():
        moves = one["desired"] != one["effective_quantity"] or one["uncertain"] is not None
        is_change = one["pushable"] and moves
        if is_change or one["claim"] is not None or one["bulk_handle"] is not None:
            own = {"level_id": number, "is_change": is_change, "claim": one["claim"], "bulk_handle": one["bulk_handle"]}
            queue[number] = {name: one[name] for name in COPIED} | own
    return queue


def queue_of(engine: Engine) -> dict[int, dict[str, Any]]:
    with engine.connect() as connection:
        return {row["level_id"]: dict(row) for row in connection.execute(select(work_queue)).mappings()}


@given(st.lists(inserts | updates | deletes, max_size=12))
def test_the_queue_is_what_the_levels_say_after_every_statement(steps: list[tuple[str, Any]]) -> None:
    engine = databases.fresh_engine()
    there: dict[int, dict[str, Any]] = {}
    for what, given_to_it in steps:
        with write_transaction(engine) as connection:
            do(connection, there, what, given_to_it)
        assert queue_of(engine) == expected_queue(there)
        with engine.connect() as connection:
            assert [one for one in audit(connection) if "queue" in one.what] == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("pushable", False),
        ("desired", 7),
        ("effective_quantity", 7),
        ("expected", 7),
        ("uncertain", "own_sale"),
        ("due_at", START + timedelta(days=1)),
        ("claim", "token"),
        ("bulk_handle", "feed"),
    ],
)
def test_a_change_of_one_column_alone_is_in_the_queue(column: str, value: Any) -> None:
    engine = databases.fresh_engine()
    waits = dict.fromkeys(("expected", "uncertain", "claim", "bulk_handle")) | {"desired": 5, "effective_quantity": 4}
    waits |= {"pushable": True, "due_at": START, "central_sku": "A"}
    with write_transaction(engine) as connection:
        connection.execute(insert(inventory_levels), [level(number, **waits) for number in (1, 2)])
        connection.execute(update(inventory_levels).where(inventory_levels.c.id == 1).values({column: value}))
    assert queue_of(engine) == expected_queue({1: level(1, **waits | {column: value}), 2: level(2, **waits)})


def test_what_is_taken_back_leaves_the_queue_as_it_was() -> None:
    engine = Stock({"A": 5}).engine
    before = queue_of(engine)
    assert before
    with pytest.raises(RuntimeError, match="taken back"), write_transaction(engine) as connection:
        connection.execute(update(inventory_levels).values(pushable=False, claim=None))
        raise RuntimeError("taken back")
    assert queue_of(engine) == before


def test_an_upgrade_takes_in_what_waits_already(tmp_path: Path) -> None:
    engine = bare(tmp_path)
    to_revision(engine, "0003")
    defaults = {
        "shared": False,
        "stopped_reason": "",
        "desired_sequence": 0,
        "rules_revision": 0,
        "attempt": 0,
        "touched": 0,
    }
    defaults |= {"failures": 0, "last_error": "", "held_reason": "", "due_at": START, "effective_quantity": 4}
    waits = {"desired": 5, "pushable": True, "central_sku": "A"} | defaults
    levels = [
        level(1, **waits),
        level(2, **waits | {"desired": 4}),
        level(3, **waits | {"pushable": False}),
        level(4, **waits | {"desired": 4, "claim": "token"}),
        level(5, **waits | {"desired": 4, "uncertain": "own_sale"}),
        level(6, **waits | {"desired": 4, "bulk_handle": "feed"}),
    ]
    with write_transaction(engine) as connection:
        for one in levels:
            connection.execute(insert(inventory_levels).values(one))
    migrate(engine)
    there = {one["id"]: dict.fromkeys(("expected", "uncertain", "claim", "bulk_handle")) | one for one in levels}
    assert queue_of(engine) == expected_queue(there)
    assert sorted(queue_of(engine)) == [1, 4, 5, 6]


def test_the_audit_names_a_level_that_the_queue_has_lost_one_that_it_keeps_one_as_it_was_and_one_of_nobodys() -> None:
    stock = Stock({"A": 5, "B": 5})
    engine, column, queued = stock.engine, inventory_levels.c, work_queue.c.level_id
    lost, changed = (stock.level("shop", sku).id for sku in ("A", "B"))
    kept = queue_of(engine)[stock.level("other", "A").id]
    with write_transaction(engine) as connection:
        connection.execute(delete(work_queue).where(queued == lost))
        connection.execute(update(work_queue).where(queued == changed).values(desired=99))
        in_step = {"effective_quantity": column.desired, "uncertain": None}
        connection.execute(update(inventory_levels).where(column.id == kept["level_id"]).values(in_step))
        assert [one for one in audit(connection) if one.subject.startswith("other")] == []
        connection.execute(insert(work_queue).values(kept))
        connection.execute(insert(work_queue).values(kept | {"level_id": 9999}))
    with engine.connect() as connection:
        found = audit(connection)
    assert [(one.sku, one.what, one.subject, one.stored, one.proven) for one in found] == [
        ("A", "work queue", "other level other-A", 1, 0),
        ("A", "work queue", "shop level shop-A", 0, 1),
        ("B", "work queue", "shop level shop-B", 1, 1),
        ("", "work queue", "other level 9999", 1, 0),
    ]


def test_the_audit_names_a_trigger_that_keeps_the_queue_no_more() -> None:
    engine = Stock({"A": 5}).engine
    on = " ON inventory_levels" if engine.dialect.name == "postgresql" else ""
    with engine.connect() as connection:
        connection.execute(text(f"DROP TRIGGER work_queue_update{on}"))
        found = [(one.what, one.subject) for one in audit(connection)]
        connection.rollback()
    assert found == [("keeping of the work queue", "work_queue_update")]


def test_who_reads_the_changes_looks_no_other_level_up() -> None:
    stock = Stock({"A": 5})
    if stock.engine.dialect.name != "sqlite":
        return
    asked: list[tuple[str, Any]] = []

    @event.listens_for(stock.engine, "before_cursor_execute")
    def hear(_connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "work_queue" in statement and not statement.startswith("EXPLAIN"):
            asked.append((statement, parameters))

    with stock.engine.connect() as connection:
        changes_by_channel(connection, START)
        oldest_changes(connection, 5)
        oldest_changes(connection, 5, channel="shop")
        status_of(connection, START, quarantined=0)
        list(conditions._change_causes(connection, {}, START, ()))
        day_limit.now_waiting(connection, "shop", START)
        for skus in (None, ("A",)):
            for settles_first in (False, True):
                claims.next_due(connection, claims.Due("shop", START, skus, settles_first))
        claims.count_changes(connection, "shop", START)
        assert len(asked) == 11
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            steps = [str(row[-1]) for row in plan if "inventory_levels" in row[-1]]
            assert [step for step in steps if "rowid=?" not in step and "central_sku=?" not in step] == [], statement


def test_a_channel_is_told_of_its_own_claims_alone() -> None:
    stock = Stock({"A": 5})
    claimed = stock.level("shop", "A").id
    with write_transaction(stock.engine) as connection:
        connection.execute(update(inventory_levels).where(inventory_levels.c.id == claimed).values(claim="token"))
        told = dict(connection.execute(select(channels.c.name, ONE_CLAIMED)).all())
    assert told == {"shop": claimed, "other": None, "erp": None}
