"""A few seeds of the small world: no stale write, no final difference. `python -m tests.simulation` runs as many as asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests import databases
from tests.simulation.day import live_day
from tests.simulation.restored import RestoredWorld
from tests.simulation.seeds import Verdict, live


@pytest.mark.parametrize(("seed", "marketplaces"), [(1, False), (2, False), (3, True)])
def test_a_world_with_a_bad_network_and_deaths_ends_in_step_without_a_stale_write(
    seed: int, marketplaces: bool
) -> None:
    verdict = live(seed, marketplaces=marketplaces)
    assert verdict.tally.orders >= 300
    judge(verdict)


# A statement costs a server's round trip: the large world takes half a minute there.
SMALL: dict[str, Any] = {"skus": 40, "orders": 100}


def test_so_it_does_on_postgresql_and_the_same_happens_there() -> None:
    # Not the first seed: there a process dies while it keeps a pace, which PostgreSQL has then and SQLite hasn't
    # (`side_transaction`), so that other calls follow.
    databases.use("postgresql")
    try:
        verdict = live(2, **SMALL)
    finally:
        databases.use("sqlite")
    judge(verdict)
    assert verdict.tally == live(2, **SMALL).tally


def judge(verdict: Verdict) -> None:
    assert not verdict.faults, verdict.render()
    tally = verdict.tally
    happened = {
        "cancels": tally.cancels,
        "shipments": tally.shipments,
        "refunds": tally.refunds,
        "foreign edits": tally.edits,
        "webhooks lost": tally.webhooks_lost,
        "webhooks doubled": tally.webhooks_doubled,
        "webhooks late": tally.webhooks_late,
        "deaths": tally.deaths,
        "two processes at once": tally.side_by_side,
    }
    assert all(happened.values()), happened


# What a day must have had, where a platform has it at all.
MIXED = {
    *(f"{platform}: ship a part" for platform in ("shopify", "amazon", "ebay")),
    *(f"{platform}: cancel a part" for platform in ("shopify", "woocommerce", "amazon")),
    *(f"{platform}: edit {way}" for platform in ("shopify", "woocommerce") for way in ("up", "down")),
    *(f"{platform}: {back}" for platform in ("shopify", "woocommerce") for back in ("return", "refund")),
    *(f"{platform}: refund unshipped" for platform in ("shopify", "woocommerce")),
    *(f"woocommerce: {again}" for again in ("re-open", "re-open shipped", "cancel shipped", "restore", "unpay")),
    *(f"woocommerce: {step}" for step in ("fail", "pay again", "trash shipped")),
    *("shopify: unship", "alibaba: draft anew", "alibaba: freeze", "alibaba: release", "ebay: refund"),
    *(f"{platform}: ship" for platform in ("shopify", "woocommerce", "amazon", "ebay", "alibaba")),
}


def test_after_a_day_of_mixed_orders_the_ledger_is_the_stand_ins_books_line_by_line() -> None:
    verdict = live_day(1)
    assert not verdict.faults, verdict.render()
    tally = verdict.tally
    assert tally.orders >= 140
    assert all((tally.webhooks_lost, tally.webhooks_doubled, tally.webhooks_late))
    assert verdict.done.keys() >= MIXED, MIXED - verdict.done.keys()


def test_a_seed_replays_exactly() -> None:
    assert live(3, **SMALL, marketplaces=True).tally == live(3, **SMALL, marketplaces=True).tally


def test_a_restore_amid_a_world_raises_nothing_stale_and_everything_gets_in_step_again() -> None:
    verdict = live(2, kind=RestoredWorld, **SMALL)
    assert not verdict.faults, verdict.render()
    assert verdict.tally.restores == 1
