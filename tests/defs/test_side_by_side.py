"""What one channel sold is often heard only within the run that pushes all: the others show it in that run, or in one at once."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from invsync_dagster.events import Content, LineReference, OrderDocument, OrderLine
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.tables import channels, inventory_levels
from invsync_dagster.platforms.contract import LevelReference, OrdersPage, ReadAnswer
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sync.side_by_side import SideBySide
from tests.defs.conftest import FakePlatform, Installation

STOCK = {"A": 5, "B": 0, "C": 70}


@dataclass
class Late(FakePlatform):
    """Waits until the push of `one` has ended, or as long; then lists an order of two A, once, if it `sells`. The list `breaks`
    off behind that page; the order may come with a reading instead."""

    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    wait_seconds: float = 0.5
    sells: bool = True
    breaks: bool = False
    by_reading: bool = False
    meanwhile: Callable[[], object] = lambda: None
    was_read: bool = False

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        if cursor:
            raise PlatformError(Recovery.RETRY, "server_error", "the second page fails")
        if self.by_reading and not self.was_read:
            return OrdersPage(Content())
        if not self.by_reading:
            self._wait()
        if not self.sells:
            return OrdersPage(Content())
        self.sells = False
        line = OrderLine("1", LineReference("A", "A", ""), 2)
        order = OrderDocument("7", 1, self.at, self.at, (line,))
        return OrdersPage(Content((order,)), cursor="2" if self.breaks else "")

    def read(self, levels: Sequence[LevelReference]) -> ReadAnswer:
        if self.by_reading:
            self._wait()
            self.was_read = True
        return super().read(levels)

    def _wait(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "push one":
                thread.join(self.wait_seconds)
        self.meanwhile()


@pytest.fixture
def home(install: Callable[..., Installation]) -> Installation:
    """Two channels in step, of which `two` hears late."""
    made = install("one", "two", "three", settings="  push_deadline_seconds: 2\n")
    made.stock(STOCK, ["one", "two"])
    assert made.run("incremental").success
    made.home.work_left.unlink(missing_ok=True)
    late(made)
    return made


def late(home: Installation, name: str = "two") -> Late:
    made = Late(shown=home.platforms[name].shown, at=home.clock.now())
    home.platforms[name] = made
    return made


def shown(home: Installation) -> tuple[int, int]:
    return home.platforms["one"].shown["A"], home.platforms["two"].shown["A"]


@pytest.mark.usefixtures("each_database")
def test_what_a_channel_hears_when_the_others_have_nothing_left_is_shown_in_the_same_run(home: Installation) -> None:
    assert home.run("webhooks").success
    assert shown(home) == (3, 3)
    assert home.platforms["one"].written[3:] == [("A", 3)]
    assert not home.home.work_left.exists()


def test_a_third_channel_that_hears_even_later_holds_none_of_it_up(home: Installation) -> None:
    third, seen = late(home, "three"), threading.Event()

    def until_it_is_shown() -> None:
        for _ in range(100):
            if home.platforms["one"].shown["A"] == 3:
                seen.set()
                return
            threading.Event().wait(0.05)

    third.sells, third.wait_seconds, third.meanwhile = False, 0.0, until_it_is_shown
    assert home.run("webhooks").success
    assert seen.is_set()


def test_what_is_heard_after_the_others_time_is_left_to_a_run_at_once(home: Installation) -> None:
    two = late(home)
    two.wait_seconds = 20
    assert home.run("webhooks").success
    assert (shown(home), home.home.work_left.exists()) == ((5, 3), True)
    home.home.work_left.unlink()
    assert home.run("webhooks").success
    assert (shown(home), home.home.work_left.exists()) == ((3, 3), False)


def test_a_list_that_breaks_off_has_told_what_it_booked_before(home: Installation) -> None:
    two = late(home)
    two.breaks = True
    assert not home.run("webhooks").success
    assert shown(home) == (3, 3)


def test_what_comes_with_a_reading_after_the_others_have_ended_is_left_to_a_run_at_once(home: Installation) -> None:
    two = late(home)
    two.by_reading, two.wait_seconds = True, 20
    two.shown["C"] = 1
    with write_transaction(open_database(home.home.database_url)) as connection:
        levels = inventory_levels
        connection.execute(
            update(levels)
            .where(levels.c.channel == "two", levels.c.item_id == "C")
            .values(uncertain="test", due_at=home.clock.now())
        )
    assert home.run("webhooks").success
    assert two.was_read
    assert (shown(home), home.home.work_left.exists()) == ((5, 3), True)


def test_a_channel_that_hears_nothing_in_time_leaves_nothing_to_a_run_at_once(home: Installation) -> None:
    two = late(home)
    two.sells, two.wait_seconds = False, 20
    assert home.run("webhooks").success
    assert not home.home.work_left.exists()


def test_what_another_run_learnt_of_a_channel_meanwhile_stays(home: Installation) -> None:
    two = late(home)
    two.sells = False

    def dies() -> None:
        found = {"unanswered": 3, "last_problem": "no answer", "unreachable_until": home.clock.now()}
        with write_transaction(open_database(home.home.database_url)) as connection:
            connection.execute(update(channels).where(channels.c.name == "one").values(found))

    two.meanwhile = dies
    assert home.run("webhooks").success
    with open_database(home.home.database_url).connect() as connection:
        row = connection.execute(select(channels).where(channels.c.name == "one")).one()
    assert (row.unanswered, row.last_problem) == (3, "no answer")


def test_a_channel_that_another_run_cut_out_meanwhile_is_not_called_again(home: Installation) -> None:
    two = late(home)

    def cut_out() -> None:
        found = {
            "unanswered": 3,
            "last_problem": "no answer",
            "unreachable_until": home.clock.now() + timedelta(minutes=5),
        }
        with write_transaction(open_database(home.home.database_url)) as connection:
            connection.execute(update(channels).where(channels.c.name == "one").values(found))

    two.meanwhile = cut_out
    assert home.run("webhooks").success
    assert (shown(home), home.home.work_left.exists()) == ((5, 3), False)
    with open_database(home.home.database_url).connect() as connection:
        row = connection.execute(select(channels).where(channels.c.name == "one")).one()
    assert (row.unanswered, row.last_problem) == (3, "no answer")


def test_a_channel_that_has_to_wait_for_its_platform_leaves_nothing_to_a_run_at_once(home: Installation) -> None:
    one, two = home.platforms["one"], late(home)
    one.shown["A"] = 0
    with open_database(home.home.database_url).begin() as connection:
        connection.execute(
            update(inventory_levels)
            .where(inventory_levels.c.channel == "one", inventory_levels.c.item_id == "A")
            .values(uncertain="test", due_at=home.clock.now())
        )
    one.error_of_reading = PlatformError(Recovery.WAIT, "throttled", "in an hour", retry_after=3600.0)
    home.run("webhooks")
    assert two.shown["A"] == 3
    assert not home.home.work_left.exists()


def test_news_are_missed_until_each_channel_that_writes_has_looked_or_left() -> None:
    clock, others = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC)), SideBySide(["one", "two"])
    others.looks("one")
    others.heard("one")
    others.tell(0)
    assert others.wait(0, clock, clock.now())[0] is False
    others.tell(1)
    assert (others.wait(0, clock, clock.now())[0], others.missed) == (True, True)
    others.looks("one", others.news)
    assert others.missed is False
    others.tell(2)
    others.leaves("one")
    assert others.missed is False
