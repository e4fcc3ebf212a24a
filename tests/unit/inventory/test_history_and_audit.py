"""Any past moment is rebuilt from the ledger, days close once, and the self-audit sees what doesn't add up."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text, update

from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.history import DayNotOverError, balances_at, close_day, daily_balances
from invsync_dagster.inventory.tables import central_inventory, order_lines, stock_ledger
from tests.unit.inventory.stock import OTHER, START, Stock, order

pytestmark = pytest.mark.usefixtures("each_database")

DAY = date(2026, 3, 1)


def close(stock: Stock, day: date, after: timedelta, zone: str = "UTC") -> int:
    with write_transaction(stock.engine) as connection:
        return close_day(connection, day, zone, START + after)


def test_the_balance_of_any_past_sequence_is_what_it_was():
    stock = Stock({"A": 10, "B": 5})
    then = []
    for number in range(1, 6):
        stock.apply(order(str(number), ordered=number))
        then.append((stock.entries()[-1].sequence, *stock.balance()))
    with stock.engine.connect() as connection:
        for sequence, quantity, reserved in then:
            found = balances_at(connection, sequence, ["A", "B", "C"])
            assert (found["A"].quantity, found["A"].reserved_quantity, found["A"].sequence) == (
                quantity,
                reserved,
                sequence,
            )
            assert (found["B"].quantity, set(found)) == (5, {"A", "B"})
        assert balances_at(connection, 0, ["A"]) == {}


def test_a_day_closes_once_and_gives_the_same_rows_for_ever():
    stock = Stock({"A": 10, "B": 5})
    stock.apply(order(ordered=2))
    closing = close(stock, DAY, timedelta(hours=13))
    with stock.engine.connect() as connection:
        first = daily_balances(connection, closing)
    stock.now = START + timedelta(hours=11)  # a clock set back doesn't change a day that is closed
    stock.apply(order("2", ordered=3))
    stock.count({"A": 99}, as_of=1)
    assert close(stock, DAY, timedelta(days=9)) == closing
    with stock.engine.connect() as connection:
        assert daily_balances(connection, closing) == first
    assert [(row.sku, row.quantity, row.reserved_quantity) for row in first] == [("A", 10, 2), ("B", 5, 0)]


def test_a_day_ends_in_the_configured_time_zone():
    stock = Stock({"A": 10})
    with pytest.raises(DayNotOverError, match="2026-03-01 ends at 2026-03-02T00:00:00-05:00"):
        close(stock, DAY, timedelta(hours=13), "America/New_York")
    stock.now = START + timedelta(hours=13)
    stock.apply(order(ordered=2))
    late = stock.entries()[-1].sequence
    assert close(stock, DAY, timedelta(hours=30), "America/New_York") == late
    assert close(Stock({"A": 1}), DAY, timedelta(hours=12), "Europe/Berlin") == 1


def test_days_closed_out_of_order_never_cross():
    stock = Stock({"A": 10})
    stock.now = START + timedelta(days=1)
    stock.apply(order(ordered=2))
    second = close(stock, DAY + timedelta(days=1), timedelta(days=3))
    stock.now = START  # entries with the time of the first day, applied after the second was closed
    stock.apply(order("2", ordered=2))
    assert close(stock, DAY, timedelta(days=3)) == 1 < second
    assert close(stock, DAY + timedelta(days=2), timedelta(days=3)) >= second


def test_a_day_before_the_first_entry_is_empty():
    stock = Stock({"A": 10})
    closing = close(stock, DAY - timedelta(days=5), timedelta(0))
    with stock.engine.connect() as connection:
        assert (closing, daily_balances(connection, closing)) == (0, [])


def test_books_that_add_up_pass_the_audit():
    stock = Stock({"A": 10, "B": 5})
    stock.apply(order(ordered=3, shipped=[(1, 1)]))
    stock.apply(order("2", item="nobody", ordered=3))
    stock.apply(order("3", item="other-A", ordered=3, created=-99), channel=OTHER)
    with stock.engine.connect() as connection:
        assert audit(connection) == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            update(central_inventory).where(central_inventory.c.sku == "A").values(quantity=11),
            {("A", "on hand", 11, 10)},
        ),
        (
            update(central_inventory).where(central_inventory.c.sku == "A").values(reserved_quantity=1),
            {("A", "reserved", 1, 3), ("A", "promised", 1, 3)},
        ),
        (
            update(central_inventory).where(central_inventory.c.sku == "B").values(version=0),
            {("B", "version", 0, 2)},
        ),
        (update(order_lines).values(ordered=5), {("A", "booked as reserved", 3, 5)}),
        (update(order_lines).values(shipped=1, ordered=4), {("A", "booked as shipped", 0, 1)}),
        (
            insert(stock_ledger).values(
                sequence=99,
                event_id="x",
                sku="C",
                kind="adjustment",
                quantity_delta=4,
                reserved_delta=0,
                quantity_after=4,
                reserved_after=0,
                occurred_at=START,
                received_at=START,
                applied_at=START,
            ),
            {("C", "entries of an unknown SKU", 0, 4), ("", "entries of the ledger", 4, 99)},
        ),
    ],
)
def test_the_audit_names_what_does_not_add_up(statement, found):
    stock = Stock({"A": 10, "B": 5})
    stock.apply(order(ordered=3))
    with write_transaction(stock.engine) as connection:
        connection.execute(statement)
    with stock.engine.connect() as connection:
        assert {(one.sku, one.what, one.stored, one.proven) for one in audit(connection)} == found


def entered(stock: Stock, **values: object) -> set[tuple[str, str, str, int, int]]:
    """Append an entry after the last one, and return what the audit finds."""
    latest = stock.rows(stock_ledger)[-1]
    row = {column.name: value for column, value in zip(stock_ledger.c, latest, strict=True)}
    row |= {"sequence": latest.sequence + 1, "event_id": "forged"} | values
    with write_transaction(stock.engine) as connection:
        connection.execute(insert(stock_ledger).values(row))
        changed = {"version": row["sequence"]}
        connection.execute(update(central_inventory).where(central_inventory.c.sku == row["sku"]).values(changed))
    with stock.engine.connect() as connection:
        return {(one.sku, one.what, one.subject, one.stored, one.proven) for one in audit(connection)}


def test_an_entry_that_states_another_balance_is_named():
    stock = Stock({"A": 10})
    found = entered(stock, quantity_delta=0, reserved_delta=0, quantity_after=12, reserved_after=0)
    assert found == {("A", "on hand, by the last entry", "", 12, 10)}


def test_an_entry_without_its_source_is_named():
    stock = Stock({"A": 10})
    nothing = {"quantity_delta": 0, "reserved_delta": 0, "moved_delta": 0}
    orphan = entered(stock, **nothing, kind="reserve", channel=OTHER, order_id="9", line_id="1")
    assert orphan == {("A", "entry of an unknown order line", "entry 2", 0, 0)}
    stock = Stock({"A": 10})
    assert entered(stock, **nothing, kind="undo", reference="no-import") == {
        ("A", "entry of an unknown import", "entry 2", 0, 0)
    }


def test_a_log_that_the_database_would_let_be_changed_is_named():
    stock = Stock({"A": 10})
    on_postgresql = stock.engine.dialect.name == "postgresql"
    name = "sync_logs_append_only" if on_postgresql else "sync_logs_no_delete"
    with pytest.raises(InterruptedError), write_transaction(stock.engine) as connection:
        connection.execute(
            text(f"ALTER TABLE sync_logs DISABLE TRIGGER {name}" if on_postgresql else f"DROP TRIGGER {name}")
        )
        assert [(one.what, one.subject) for one in audit(connection)] == [("refusal of changes", name)]
        raise InterruptedError  # the transaction is taken back, and the trigger is there again
    stock.prove()


def test_no_part_of_the_audit_looks_a_whole_table_through_for_each_row():
    # PostgreSQL joins what NOT EXISTS asks for. Of NOT IN it makes a list: read from its start for each row if it is long.
    stock = Stock({"A": 5})
    if stock.engine.dialect.name != "postgresql":
        return
    asked: list[tuple[str, Any]] = []

    @event.listens_for(stock.engine, "before_cursor_execute")
    def hear(_connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    with stock.engine.connect() as connection:
        assert audit(connection) == []
        for statement, parameters in asked.copy():
            plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
            assert "SubPlan" not in plan, plan
    assert len(asked) > 20
