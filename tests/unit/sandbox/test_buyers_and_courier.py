"""The buyers' baskets, and what the courier does with webhooks that nobody takes."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.clock import SystemClock
from invsync_dagster.sandbox.buyers import Buyers
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.sandbox.courier import Courier, WebhookFaults
from invsync_dagster.sandbox.server import loopback_socket

# --- buyers -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.dictionaries(st.text(min_size=1), st.integers(0, 9), max_size=20))
def test_a_basket_holds_only_what_is_shown(seed: int, offers: dict[str, int]) -> None:
    basket = Buyers(Random(seed)).basket(offers)
    assert all(1 <= units <= offers[article] for article, units in basket.items())
    assert bool(basket) == any(units > 0 for units in offers.values())


def test_a_few_articles_sell_most_and_the_same_ones_in_every_shop() -> None:
    offers = {f"SKU-{number}": 1000 for number in range(500)}
    best: list[set[str]] = []
    for seed in (1, 2):
        buyers, sold = Buyers(Random(seed)), Counter[str]()
        for _ in range(2000):
            sold.update(buyers.basket(offers))
        top = sold.most_common(100)
        assert sum(units for _, units in top) > 0.6 * sold.total()
        best.append({article for article, _ in sold.most_common(10)})
    assert len(best[0] & best[1]) >= 5


def test_a_seed_buys_the_same_again() -> None:
    offers = {"a": 5, "b": 5, "c": 5}
    first, second = Buyers(Random(4)), Buyers(Random(4))
    assert [first.basket(offers) for _ in range(20)] == [second.basket(offers) for _ in range(20)]


def test_buyers_come_as_often_as_told() -> None:
    buyers = Buyers(Random(1))
    gaps = [buyers.gap(30) for _ in range(4000)]
    assert 1.9 < sum(gaps) / len(gaps) < 2.1


# --- the courier ------------------------------------------------------------------------------------------------------


def test_each_webhook_is_lost_doubled_or_late_at_its_rate_and_by_its_seed() -> None:
    faults = WebhookFaults(drop=0.1, duplicate=0.2, delay=0.5, delay_seconds=8)
    first, second = Random(1), Random(1)
    planned = [faults.waits(first) for _ in range(4000)]
    assert planned == [faults.waits(second) for _ in range(4000)]
    copies = Counter(len(waits) for waits in planned)
    assert abs(copies[0] - 400) < 80
    assert abs(copies[2] - 720) < 100
    late = [wait for waits in planned for wait in waits if wait > 0]
    assert max(late) <= 8
    assert abs(len(late) / (copies[1] + 2 * copies[2]) - 0.5) < 0.05


@pytest.mark.parametrize("wrong", [{"drop": 1.1}, {"duplicate": -0.1}, {"delay_seconds": -1}])
def test_webhook_faults_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="shares"):
        WebhookFaults(**wrong)


def test_a_webhook_that_nobody_takes_is_given_up_after_its_retries() -> None:
    signed: list[str] = []
    given_up = threading.Event()

    def sign(channel: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
        signed.append(channel)
        if len(signed) == 3:
            given_up.set()
        return headers

    closed = loopback_socket(0)
    port = closed.getsockname()[1]
    closed.close()
    courier = Courier(f"http://127.0.0.1:{port}", SystemClock(), Random(1), sign, first_retry_seconds=0.0)
    courier.start()
    courier.take("shop", {}, b"{}", retries=2)
    assert given_up.wait(20)
    courier.stop()
    assert courier.figures() == {"pending": 0, "taken": 1, "doubled": 0, "attempts": 3, "given_up": 1}
    assert signed == ["shop"] * 3


def test_what_is_on_its_way_is_kept_over_a_restart() -> None:
    clock = VirtualClock(datetime(2026, 11, 21, 8, 0, tzinfo=UTC))
    first = Courier("http://127.0.0.1:1", clock, Random(1), lambda channel, headers, body: headers)
    first.set_faults({"duplicate": 1.0})
    first.take("shop", {"X-Id": "1"}, "größe".encode(), retries=8)
    second = Courier("http://127.0.0.1:1", clock, Random(1), lambda channel, headers, body: headers)
    second.restore(first.state())
    assert second.state() == first.state()
    assert second.figures()["pending"] == 2
