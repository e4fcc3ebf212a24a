"""What is told, how often, and when it is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import Engine, select

from invsync_dagster.alerts import book
from invsync_dagster.alerts.book import CALM, OPENED, RECOVERED, Readers
from invsync_dagster.alerts.causes import Cause, Found, Kind, Severity
from invsync_dagster.inventory.tables import alert_notices
from invsync_dagster.settings import AlertTarget
from tests import databases

pytestmark = pytest.mark.usefixtures("each_database")

START = datetime(2026, 3, 1, 3, tzinfo=UTC)
ALL, ERRORS = AlertTarget(url_env="MAIL"), AlertTarget(url_env="SMS", severity="error")
DEAD = Cause(
    Kind.CREDENTIALS, "shop", Severity.ERROR, "shop refuses us", "no token.", "assets/push_results/shop", "shop"
)
OLD = Cause(Kind.OLD_CHANGES, "erp", Severity.WARNING, "erp: old changes", "3 levels wait.", channel="erp")


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


class Diary:
    """The book of one installation, looked into minute by minute."""

    def __init__(self, *targets: AlertTarget, ui_url: str = "") -> None:
        self.engine: Engine = databases.fresh_engine()
        self.readers = Readers(targets or (ALL,), ui_url)

    def look(self, minute: float, *causes: Cause, undecided: frozenset[str] = frozenset()) -> None:
        book.note(self.engine, Found(causes, undecided), self.readers, at(minute))

    def tell(self, minute: float, target: str = "MAIL", why: str = "") -> list[tuple[str, str]]:
        """Let a target take what is due, or refuse it; return kinds and titles."""
        notices = book.take_due(self.engine, target, at(minute), timedelta(minutes=1))
        if notices and why:
            book.not_told(self.engine, notices, why, at(minute))
        elif notices:
            book.told(self.engine, notices, at(minute))
        return [(notice.kind, notice.title) for notice in notices]

    def written(self) -> list[tuple[str, str, str]]:
        with self.engine.connect() as connection:
            query = select(alert_notices.c.target, alert_notices.c.kind, alert_notices.c.title)
            return [tuple(row) for row in connection.execute(query.order_by(alert_notices.c.id))]


def test_a_hundred_failures_of_one_cause_are_one_alert_and_one_recovery() -> None:
    diary = Diary()
    for minute in range(100):
        diary.look(minute, DEAD)
    diary.look(101)
    diary.look(102)
    assert diary.written() == [("MAIL", OPENED, "shop refuses us")]
    diary.look(103.1)
    diary.look(104)
    assert diary.written() == [("MAIL", OPENED, "shop refuses us"), ("MAIL", RECOVERED, "shop refuses us")]


def test_an_alert_says_where_to_look_and_a_recovery_how_long_it_took() -> None:
    diary = Diary(ui_url="https://stock.example.com")
    diary.look(0, DEAD)
    diary.look(30)
    diary.look(33)
    [opened, over] = book.take_due(diary.engine, "MAIL", at(33), timedelta(minutes=1))
    assert opened.message == "no token. https://stock.example.com/assets/push_results/shop"
    assert over.message == "It began at 2026-03-01 03:00:00 UTC and was over after 30 min."


def test_without_an_address_of_the_ui_an_alert_names_the_place() -> None:
    diary = Diary()
    diary.look(0, replace(DEAD, page="assets/imports?view=checks"))
    [opened] = book.take_due(diary.engine, "MAIL", at(0), timedelta(minutes=1))
    assert opened.message == "no token. In the UI: assets/imports"


def test_a_target_of_errors_hears_no_warning_until_it_is_an_error() -> None:
    diary = Diary(ALL, ERRORS)
    diary.look(0, OLD)
    diary.look(1, replace(OLD, severity=Severity.ERROR, title="worse"))
    assert diary.written() == [
        ("MAIL", OPENED, "erp: old changes"),
        ("MAIL", OPENED, "worse"),
        ("SMS", OPENED, "worse"),
    ]
    # A warning again, and an error again: nobody is told a second time, and both hear the end.
    for minute in range(2, 6):
        diary.look(minute, replace(OLD, severity=Severity.ERROR if minute % 2 else Severity.WARNING))
    diary.look(7)
    diary.look(10)
    over = [(target, RECOVERED, "erp: old changes") for target in ("MAIL", "SMS")]
    assert diary.written()[3:] == over


def test_a_target_that_is_named_twice_is_told_once() -> None:
    diary = Diary(ALL, AlertTarget(url_env="MAIL", severity="error"))
    diary.look(0, DEAD)
    assert len(diary.tell(0)) == 1


def test_a_channel_that_comes_and_goes_is_told_of_three_times_then_stays_open() -> None:
    diary = Diary()
    # Ten minutes dead, five minutes alive; a look every minute.
    for minute in range(2 * 60):
        diary.look(minute, *([DEAD] if minute % 15 < 10 else []))
    kinds = [kind for _, kind, _ in diary.written()]
    assert kinds == [OPENED, RECOVERED, OPENED, RECOVERED, OPENED]


def test_what_comes_back_after_a_quiet_day_is_over_as_soon_as_at_first() -> None:
    diary = Diary()
    for minute in range(0, 60):
        diary.look(minute, *([DEAD] if minute % 4 == 0 else []))
    diary.look(5 * 60)
    diary.look(9.5 * 60)
    later = 40 * 60
    diary.look(later, DEAD)
    diary.look(later + 1)
    diary.look(later + 1 + CALM.total_seconds() / 60)
    assert [kind for _, kind, _ in diary.written()][-2:] == [OPENED, RECOVERED]


def test_what_is_undecided_neither_opens_nor_ends() -> None:
    diary = Diary()
    diary.look(0, DEAD)
    for minute in range(1, 30):
        diary.look(minute, undecided=frozenset({DEAD.key, OLD.key}))
    assert diary.written() == [("MAIL", OPENED, "shop refuses us")]


def test_what_was_gone_before_it_was_undecided_ends() -> None:
    diary = Diary()
    diary.look(0, DEAD)
    diary.look(1)
    diary.look(2, undecided=frozenset({DEAD.key}))
    diary.look(3, undecided=frozenset({DEAD.key}))
    assert [kind for _, kind, _ in diary.written()] == [OPENED, RECOVERED]


def test_what_a_look_finds_goes_in_one_message_and_what_comes_later_in_the_next() -> None:
    diary = Diary()
    diary.look(0, DEAD, OLD)
    assert diary.tell(0) == [(OPENED, "shop refuses us"), (OPENED, "erp: old changes")]
    assert diary.tell(0.25) == []
    diary.look(0.5, DEAD, OLD, replace(OLD, subject="other", title="other: old changes"))
    assert diary.tell(0.5) == [(OPENED, "other: old changes")]


def test_after_ten_messages_in_an_hour_they_are_ten_minutes_apart() -> None:
    diary = Diary()
    causes = [replace(OLD, subject=str(number)) for number in range(40)]
    sent = []
    for minute in range(40):
        diary.look(minute, *causes[: minute + 1])
        if diary.tell(minute):
            sent.append(minute)
    assert sent == [*range(10), 19, 29, 39]


def test_a_target_that_fails_is_tried_again_with_growing_pauses_and_holds_up_no_other() -> None:
    diary = Diary(ALL, ERRORS)
    diary.look(0, DEAD)
    tried = [
        second for second in range(0, 2400, 15) if diary.tell(second / 60, why="it refused") and second is not None
    ]
    assert tried[:7] == [0, 15, 45, 105, 225, 465, 945]
    assert max(later - sooner for sooner, later in pairwise(tried)) <= 15 * 60
    assert diary.tell(40, "SMS") == [(OPENED, "shop refuses us")]
    with diary.engine.connect() as connection:
        assert book.untold(connection) == {"MAIL": (1, "it refused")}
    assert diary.tell(80) == [(OPENED, "shop refuses us")]
    with diary.engine.connect() as connection:
        assert book.untold(connection) == {}


def test_after_a_day_a_message_that_nobody_takes_is_given_up() -> None:
    diary = Diary()
    diary.look(0, DEAD)
    for minute in range(0, 26 * 60, 60):
        diary.tell(minute, why="it refused")
    assert diary.tell(27 * 60) == []
    with diary.engine.connect() as connection:
        assert connection.execute(select(alert_notices.c.state)).scalars().all() == ["given_up"]


def test_what_a_dead_process_took_is_told_again() -> None:
    diary = Diary()
    diary.look(0, DEAD)
    assert len(book.take_due(diary.engine, "MAIL", at(0), timedelta(minutes=1))) == 1
    assert diary.tell(0.5) == []
    assert diary.tell(1) == [(OPENED, "shop refuses us")]


def test_the_book_lists_what_is_open_first_and_what_was_over_lately() -> None:
    diary = Diary()
    diary.look(0, DEAD)
    diary.look(10, OLD)
    diary.look(13, OLD)
    with diary.engine.connect() as connection:
        assert [alert.title for alert in book.book(connection, None)] == ["erp: old changes"]
        assert [alert.title for alert in book.book(connection, at(0))] == ["erp: old changes", "shop refuses us"]
        assert book.open_keys(connection) == {OLD.key}


def test_old_notices_and_alerts_are_forgotten_and_open_ones_stay() -> None:
    diary = Diary()
    diary.look(0, DEAD, OLD)
    diary.look(10, OLD)
    diary.look(13, OLD)
    book.forget(diary.engine, at(60))
    assert diary.written() == []
    with diary.engine.connect() as connection:
        assert [alert.title for alert in book.book(connection, at(0))] == ["erp: old changes"]
