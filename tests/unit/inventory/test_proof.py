"""The proof of totals: whatever webhooks, polls and whole orders have told in whatever order, the truth is never contradicted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from invsync_dagster.events import Content
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.inventory.polled import polled_between
from invsync_dagster.inventory.proof import Proof, Proven
from invsync_dagster.inventory.tables import order_lines
from tests.unit.inventory.stock import SHOP, START, Stock, order

pytestmark = pytest.mark.usefixtures("each_database")

SOURCES = ("webhook", "poll", "order")
# (source, revision, units ordered, cancelled and shipped)
TOLD = st.tuples(
    st.sampled_from(SOURCES), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2)
).filter(lambda told: told[3] + told[4] <= told[2])


def prove(stock: Stock, webhooks: Sequence[Inbound]) -> Proven:
    proof, until = Proof(), stock.now + timedelta(days=1)
    with stock.engine.connect() as connection:
        proof.take(connection, webhooks)
        for rows in polled_between(connection, START, until, ""):
            proof.take_polled(connection, rows)
        return proof.result(connection, START, until, "")


# The fixture only says which database the examples are on; each has one of its own.
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TOLD, min_size=1, max_size=6), st.booleans())
# The whole order takes the poll's word back, and then grows at its revision.
@example([("poll", 3, 3, 2, 1), ("order", 3, 1, 0, 0), ("webhook", 3, 2, 1, 0)], False)
# The poll contradicts the webhook, takes more, and so holds.
@example([("webhook", 1, 1, 1, 0), ("poll", 1, 1, 0, 1)], False)
# The webhook may be from before an edit that the poll saw, or after one: it takes more.
@example([("poll", 1, 1, 1, 0), ("webhook", 1, 1, 0, 0)], True)
def test_what_was_told_proves_what_is_booked_and_names_what_is_not(
    history: list[tuple[str, int, int, int, int]], revision_may_stay: bool
) -> None:
    stock = Stock({"A": 50})
    webhooks = []
    for number, (source, revision, ordered, cancelled, shipped) in enumerate(history):
        stock.now += timedelta(minutes=1)
        document = order(
            revision=revision, ordered=ordered, cancelled=cancelled, shipped=[(shipped, 0)] if shipped else ()
        )._replace(revision_may_stay=revision_may_stay)
        receipt = f"{number}-a:0" if source == "webhook" else ""
        inbound = Inbound(SHOP, Content((document,)), stock.now, receipt, source=source)  # type: ignore[arg-type]
        stock.apply_batch([inbound])
        webhooks += [inbound] if receipt else []
    proven = prove(stock, webhooks)
    assert (proven.proven, proven.moved_on, proven.contradicted) == (1, 0, 0)
    with write_transaction(stock.engine) as connection:
        connection.execute(update(order_lines).values(ordered=order_lines.c.ordered + 7))
    wrong = prove(stock, webhooks)
    assert (wrong.proven, wrong.contradicted, len(wrong.contradictions)) == (0, 1, 1)
    stock.close()


@pytest.mark.parametrize("lost", [{"shipped": 0, "shipments": []}, {"cancelled": 0}])
def test_units_that_a_poll_told_and_the_books_have_lost_are_named(lost: dict[str, object]) -> None:
    stock = Stock({"A": 50})
    webhook = Inbound(SHOP, Content((order(revision=5, ordered=3),)), stock.now, "0-a:0")
    stock.apply_batch([webhook])
    stock.now += timedelta(minutes=1)
    stock.apply(order(revision=5, ordered=3, cancelled=1, shipped=[(2, 0)]), source="poll")
    assert prove(stock, [webhook]).contradicted == 0
    with write_transaction(stock.engine) as connection:
        connection.execute(update(order_lines).values(**lost))
    assert prove(stock, [webhook]).contradicted == 1
    stock.close()


def test_a_whole_order_takes_back_what_was_told_before_it_and_not_what_came_after() -> None:
    stock = Stock({"A": 50})
    before = Inbound(SHOP, Content((order(revision=3, ordered=3),)), stock.now, "0-a:0")
    stock.apply_batch([before])
    stock.now += timedelta(minutes=1)
    stock.apply(order(revision=3, ordered=1), source="order")
    assert prove(stock, [before]).contradicted == 0
    stock.now += timedelta(minutes=1)
    lost = Inbound(SHOP, Content((order(revision=3, ordered=2),)), stock.now, "1-a:0")
    (found,) = prove(stock, [before, lost]).contradictions
    assert (found.what, found.booked) == ("what the delivery says is not booked", "ordered 1 at revision 3")
    stock.apply_batch([lost])
    assert prove(stock, [before, lost]).contradicted == 0
    stock.close()
