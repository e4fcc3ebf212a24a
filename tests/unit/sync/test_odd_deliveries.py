"""Deliveries that passed a door and say what no platform would: each is applied or in quarantine, and stops no other."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.tables import deliveries as receipts
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.webhooks.segments import Delivery
from tests.unit.sync.conftest import LittleWorld
from tests.unit.webhooks.changing import changed
from tests.unit.webhooks.test_parsers import EXAMPLES

CHANNELS = ("shop_main", "woo_main", "erp_main")
NUMBERS = itertools.count()


def test_whatever_a_delivery_says_it_is_applied_or_put_aside_and_the_books_add_up(world: LittleWorld) -> None:
    ws = world.processes[0]
    told: list[tuple[str, dict[str, str], Any]] = []
    for channel in CHANNELS:
        standin: Any = world.erp if channel == "erp_main" else world.shops[channel]
        sku = next(iter(world.shops["shop_main"].shows()))
        if channel == "erp_main":
            world.erp.sell(sku, 1)
        else:
            world.sell(channel, sku)
        for sent in standin.take_outgoing():
            headers = {name.lower(): value for name, value in sent.headers.items()}
            told.append((channel, headers, json.loads(sent.body)))
    assert {channel for channel, _, _ in told} == set(CHANNELS)

    @st.composite
    def odd(draw: st.DrawFn) -> Delivery:
        channel, headers, document = draw(st.sampled_from(told))
        body = draw(changed(document))
        return Delivery(channel, "a topic", ws.clock.now(), headers, body, f"segment:{next(NUMBERS)}")

    @given(st.lists(odd(), min_size=1, max_size=5))
    @settings(max_examples=EXAMPLES // 2, suppress_health_check=[HealthCheck.too_slow])
    def applies(batch: list[Delivery]) -> None:
        report = IntakeReport()
        refused = apply_deliveries(ws, batch, report, run_id="odd")
        ids = [delivery.receipt_id for delivery in batch]
        with ws.engine.connect() as connection:
            entered = connection.execute(
                select(receipts.c.receipt_id, receipts.c.state).where(receipts.c.receipt_id.in_(ids))
            ).all()
            assert audit(connection) == []
        assert {row.receipt_id for row in entered} == set(ids)
        put_aside = {delivery.receipt_id for delivery, _ in refused}
        assert {row.receipt_id for row in entered if row.state == "quarantined"} == put_aside
        assert all(reason and reason.isprintable() for _, reason in refused)

    applies()
