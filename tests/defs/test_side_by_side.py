"""What one channel sold is often heard only within the run that pushes all: the others show it in that run, or in one at once."""

import threading
from collections.abc import Callable
from datetime import datetime

import pytest

from invsync_dagster.events import Content, LineReference, OrderDocument, OrderLine
from invsync_dagster.platforms.contract import OrdersPage
from tests.defs.conftest import FakePlatform, Installation

STOCK = {"A": 5, "B": 0, "C": 70}


class SellsLate(FakePlatform):
    """Lists an order of two A, once, when the push of the channel `one` has ended, or waits for this channel."""

    at: datetime
    wait_seconds: float
    sold = False

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        for thread in threading.enumerate():
            if thread.name == "push one":
                thread.join(self.wait_seconds)
        if self.sold:
            return OrdersPage(Content())
        self.sold = True
        line = OrderLine("1", LineReference("A", "A", ""), 2)
        return OrdersPage(Content((OrderDocument("7", 1, self.at, self.at, (line,)),)))


def selling_late(home: Installation, wait_seconds: float) -> SellsLate:
    made = SellsLate(shown=home.platforms["two"].shown)
    made.at, made.wait_seconds = home.clock.now(), wait_seconds
    home.platforms["two"] = made
    return made


@pytest.mark.usefixtures("each_database")
def test_what_a_channel_hears_when_the_others_have_nothing_left_is_shown_in_the_same_run(
    install: Callable[..., Installation],
) -> None:
    home = install("one", "two")
    home.stock(STOCK, ["one", "two"])
    assert home.run("incremental").success
    selling_late(home, wait_seconds=0.5)
    result = home.run("webhooks")
    assert result.success
    assert home.platforms["one"].shown == home.platforms["two"].shown == {"A": 3, "B": 0, "C": 70}
    assert not home.home.work_left.exists()
    assert home.platforms["one"].written[3:] == [("A", 3)]


def test_what_is_heard_after_the_others_time_is_left_to_a_run_at_once(install: Callable[..., Installation]) -> None:
    home = install("one", "two", settings="  push_deadline_seconds: 0.3\n")
    home.stock(STOCK, ["one", "two"])
    assert home.run("incremental").success
    assert not home.home.work_left.exists()
    selling_late(home, wait_seconds=10)
    assert home.run("webhooks").success
    assert home.platforms["one"].shown == STOCK
    assert home.home.work_left.exists()
    assert home.run("webhooks").success
    assert home.platforms["one"].shown["A"] == 3


def test_a_channel_that_hears_nothing_in_time_leaves_nothing_to_a_run_at_once(
    install: Callable[..., Installation],
) -> None:
    home = install("one", "two", settings="  push_deadline_seconds: 0.3\n")
    home.stock(STOCK, ["one", "two"])
    assert home.run("incremental").success
    selling_late(home, wait_seconds=10).sold = True
    assert home.run("webhooks").success
    assert not home.home.work_left.exists()
