"""The status document: its figures are the stock's, what is wrong is in it with the mend, and the trend goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.inventory import listings
from invsync_dagster.inventory.channels import approve_first_push, set_status
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.holds import drop
from invsync_dagster.inventory.listings import send_to_review
from invsync_dagster.inventory.tables import (
    alerts,
    channels,
    imports,
    inventory_levels,
    platform_mapping,
    rate_limits,
    sync_logs,
    unclear_orders,
)
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home, Settings
from invsync_dagster.sync import standing
from invsync_dagster.sync.standing import Standing
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.segments import Delivery
from invsync_dagster.webhooks.status.document import Document, Verdict, seen
from tests.unit.inventory.stock import ERP, OTHER, SHOP, START, Stock, order

pytestmark = pytest.mark.usefixtures("each_database")

SECRETS = {"KEY": "planted-api-key-0815", "SIGNING": "planted-signing", "WEBHOOK": "planted-webhook"}


class Watch:
    """The stock of two shops and an ERP, all in step, and what is written of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stock = Stock({"A": 50, "B": 70})
        self.stock.in_step()
        monkeypatch.setattr(standing, "disk_cause", lambda data: ())
        values = {"base_url": "http://127.0.0.1:9", "api_key_env": "KEY", "signing_secret_env": "SIGNING"}
        settings = VENDORS["erp"].settings.model_validate(values | {"webhook_secret_env": "WEBHOOK"})
        configured = tuple(Channel(name, "erp", "production", settings) for name in (SHOP, OTHER, ERP))
        home = Home.from_environment({"INVSYNC_ROOT": str(folder)})
        home.data.mkdir()
        self.clock = VirtualClock(START)
        configuration = Configuration(Settings(ui_url="https://stock.example.com"), configured)
        self.standing = Standing(home, configuration, SECRETS, self.stock.engine, self.clock)
        with write_transaction(self.stock.engine) as connection:
            for name in (SHOP, OTHER, ERP):
                approve_first_push(connection, name, actor="test", reason="test", now=START - timedelta(days=1))

    def put(self, table: Any, **values: Any) -> None:
        with write_transaction(self.stock.engine) as connection:
            connection.execute(insert(table).values(values))

    def alert(self, cause: str, **values: Any) -> None:
        base = {"severity": "error", "title": "the title", "message": "the message", "since": START, "page": "runs/1"}
        self.put(alerts, cause=cause, **base | values)

    def change(self, table: Any, **values: Any) -> None:
        with write_transaction(self.stock.engine) as connection:
            connection.execute(update(table).values(values))

    def attempt(
        self, channel: str, seconds: float, *, sequence: int, status: str = "acknowledged", level: int = 1
    ) -> None:
        values = {"timestamp": START + timedelta(seconds=seconds), "platform": channel, "status": status}
        self.put(sync_logs, sku="A", action="push", level_id=level, ledger_sequence=sequence, **values)

    def told(self, before: Document | None = None, verified: bool | None = None) -> dict[str, Any]:
        return dict(json.loads(json.dumps(self.standing.document(before, backup_verified=verified))))

    def of(self, channel: str) -> dict[str, Any]:
        [found] = [one for one in self.told()["channels"] if one["channel"] == channel]
        return dict(found)

    def causes(self) -> list[str]:
        return [problem["cause"] for problem in self.told()["problems"]]


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(tmp_path, monkeypatch)


def test_where_all_is_well_nothing_is_wrong_and_the_figures_are_those_of_the_status(watch: Watch) -> None:
    told = watch.told()
    assert (told["version"], told["written_at"], told["problems"]) == (1, START.isoformat(), [])
    assert (told["skus"], told["units"], told["reserved"], told["open_cases"]) == (2, 120, 0, 0)
    assert [(one["channel"], one["active"], one["in_step"]) for one in told["channels"]] == [
        (ERP, 2, 2),
        (OTHER, 2, 2),
        (SHOP, 2, 2),
    ]
    assert (told["oldest_delivery_seconds"], told["backup"]) == (None, None)
    assert seen(told, START).verdict is Verdict.WELL


def test_every_way_in_which_a_listing_stands_is_counted(watch: Watch) -> None:
    shop, other, erp = (watch.stock.level(name).id for name in (SHOP, OTHER, ERP))
    with write_transaction(watch.stock.engine) as connection:
        of_shop = select(platform_mapping.c.id).where(platform_mapping.c.level_id == shop)
        paused = list(connection.execute(of_shop).scalars())
        listings.set_status(connection, paused, "paused", actor="test", reason="a stocktaking", now=START)
        send_to_review(connection, other, reason="not_found: there is none [review]", actor="test", now=START)
    watch.stock.change_levels(inventory_levels.c.id == erp, effective_quantity=49, out_of_step_since=START)
    counted = {
        name: {key: watch.of(name)[key] for key in ("active", "in_step", "out_of_step", "paused", "review")}
        for name in (SHOP, OTHER, ERP)
    }
    rest = {"in_step": 1, "out_of_step": 0, "paused": 0, "review": 0}
    assert counted == {
        SHOP: {"active": 1, **rest, "paused": 1},
        OTHER: {"active": 1, **rest, "review": 1},
        ERP: {"active": 2, **rest, "out_of_step": 1},
    }
    assert watch.of(OTHER)["in_review"] == [
        {
            "sku": "A",
            "platform_sku": "A@other",
            "reason": "not_found: there is none [review]",
            "since": START.isoformat(),
        }
    ]


def test_latency_is_from_the_receipt_of_a_sale_elsewhere_to_its_acknowledgement(watch: Watch) -> None:
    watch.stock.apply(order("1"), channel=SHOP)
    sale = watch.told()["ledger_sequence"]
    watch.clock.advance(60)
    for seconds, level in ((2, 10), (3, 11), (40, 12)):
        watch.attempt(OTHER, seconds, sequence=sale, level=level)
    watch.attempt(OTHER, 55, sequence=sale, level=10)  # for another reason: it has told of the sale already
    watch.attempt(OTHER, 56, sequence=sale, level=13, status="unknown")
    watch.attempt(ERP, 5, sequence=sale + 7, status="accepted", level=14)
    watch.attempt(SHOP, 6, sequence=sale, level=15)  # its own sale: the shop knew
    watch.attempt(ERP, 7, sequence=sale - 1, level=16)  # computed before it
    assert watch.of(OTHER)["latency"] == {"p50": 3.0, "p95": 40.0, "changes": 3}
    assert watch.of(ERP)["latency"] == {"p50": 5.0, "p95": 5.0, "changes": 1}
    assert watch.of(SHOP)["latency"] is None
    watch.clock.advance(3600)
    assert watch.of(OTHER)["latency"] is None


def test_the_budget_is_what_the_rate_has_left(watch: Watch) -> None:
    limits = VENDORS["erp"].limits({})
    assert watch.of(SHOP)["budget"] == {"points": limits.burst, "burst": limits.burst, "blocked_seconds": 0.0}
    now = START.timestamp()
    watch.put(rate_limits, channel=SHOP, ready_at=now + 0.5 * limits.burst / limits.rate, blocked_until=now - 1)
    watch.put(rate_limits, channel=OTHER, ready_at=now + 2 * limits.burst / limits.rate, blocked_until=now + 30)
    assert watch.of(SHOP)["budget"]["points"] == pytest.approx(0.5 * limits.burst)
    other = watch.of(OTHER)["budget"]
    assert (other["points"], other["blocked_seconds"]) == (0.0, pytest.approx(30.0))


def test_what_is_held_is_told_with_its_reason_and_the_farthest_of_it(watch: Watch) -> None:
    values = {"held_quantity": 40, "desired": 40, "effective_quantity": 40}
    level = inventory_levels.c
    for name, wanted, why in ((SHOP, 0, "one rule"), (OTHER, 90, "another rule")):
        watch.stock.change_levels(level.channel == name, **values, held_desired=wanted, held_reason=why)
    watch.stock.change_levels(level.id == watch.stock.level(SHOP, "B").id, held_desired=200)
    shop = watch.of(SHOP)
    assert (shop["held"], shop["held_why"]) == (2, [{"reason": "one rule", "levels": 2}])
    assert shop["held_levels"] == [
        {"sku": "B", "shows": 40, "wanted": 200},
        {"sku": "A", "shows": 40, "wanted": 0},
    ]
    assert set(watch.causes()) == {"held_listings:shop", "held_listings:other"}


def test_what_was_decided_to_stay_held_waits_for_nobody_any_more(watch: Watch) -> None:
    level = inventory_levels.c
    values = {"held_quantity": 40, "desired": 40, "effective_quantity": 40}
    watch.stock.change_levels(level.channel == SHOP, **values, held_desired=0, held_reason="one rule", held_revision=1)
    ids = [watch.stock.level(SHOP, sku).id for sku in ("A", "B")]

    def waits() -> tuple[Any, ...]:
        told = watch.told()
        [shop] = [one for one in told["channels"] if one["channel"] == SHOP]
        named = [row["sku"] for row in shop["held_levels"]]
        return (told["waits_for_people"], shop["held"], shop["held_decided"], named, seen(told, START).verdict)

    assert waits() == (2, 2, 0, ["A", "B"], Verdict.ATTENTION)
    for number, level_id in enumerate(ids, start=1):
        with write_transaction(watch.stock.engine) as connection:
            assert drop(connection, [level_id], reason="it stays", actor="ann", now=START) == 1
        if number == 1:
            assert waits() == (1, 2, 1, ["B"], Verdict.ATTENTION)
    assert waits() == (0, 2, 2, [], Verdict.WELL)


def test_what_is_wrong_is_told_even_if_nobody_looks_for_alerts(watch: Watch) -> None:
    watch.change(channels, last_problem=f"not_reached: {SECRETS['KEY']} at ann@example.com was refused [retry]")
    with write_transaction(watch.stock.engine) as connection:
        set_status(connection, OTHER, "paused", actor="test", reason="stocktaking", now=START)
    told = watch.told()
    assert [problem["cause"] for problem in told["problems"]] == ["push_failed:erp", "push_failed:shop"]
    [erp, _] = told["problems"]
    assert erp["message"].startswith("not_reached: [secret] at [mail] was refused [retry]. What is left stays a change")
    assert (erp["page"], erp["since"], erp["channel"]) == ("assets/push_results/erp", None, "erp")
    assert "other: paused, stocktaking." in told["notes"]
    assert seen(told, START).verdict is Verdict.TROUBLE
    watch.alert("push_failed:erp", channel="erp", since=START - timedelta(minutes=9))
    assert watch.told()["problems"][0]["since"] == (START - timedelta(minutes=9)).isoformat()


def test_red_checks_and_failed_runs_come_from_the_book_and_the_rest_of_it_is_older_than_this_look(watch: Watch) -> None:
    watch.alert("check:full_sync/shop/drift", severity="warning", channel="shop")
    watch.alert("run:backup", since=START - timedelta(hours=1))
    watch.alert("push_failed:shop", channel="shop")  # it is over, and stays open until it has stayed away for a while
    for check in standing.SAID_HERE:
        watch.alert(f"check:{check}")
    watch.alert("run:full_sync", recovered_at=START)
    assert watch.causes() == ["run:backup", "check:full_sync/shop/drift"]
    # What may follow from a channel that is down isn't told besides.
    watch.change(channels, stopped_reason="unauthorized: the key is refused [re-authenticate]")
    assert watch.causes() == ["run:backup", "credentials:erp", "credentials:other", "credentials:shop"]


def test_deliveries_that_nobody_applies_and_a_file_to_be_mended_are_errors(watch: Watch) -> None:
    inbox = watch.standing.home.inbox
    Inbox(inbox).prepare(START)
    SegmentWriter(inbox, watch.clock, Random(1)).write([Delivery(SHOP, "orders/create", START, {}, b"{}")])
    watch.clock.advance(300)
    assert (watch.told()["oldest_delivery_seconds"], watch.causes()) == (300.0, [])
    watch.clock.advance(1)
    watch.standing = replace(
        watch.standing, configuration=replace(watch.standing.configuration, problems=("line 3: no", "line 4: no"))
    )
    [first, second] = watch.told()["problems"]
    assert (first["title"], first["message"]) == (
        "channels.yaml is to be mended",
        "line 3: no. 1 more: `invsync channels list`.",
    )
    assert second["title"] == "Deliveries are not applied"
    assert second["message"].startswith("The oldest has waited in the inbox for 5 min.")


def test_a_held_import_is_told_with_its_reason(watch: Watch) -> None:
    times = {"created_at": START - timedelta(minutes=3), "path": "held/1", "summary": {}, "sha256": ""}
    watch.put(imports, id="1", kind="inventory", file_name="a.csv", state="held", rows=9, reason="all zero", **times)
    told = watch.told()
    values = {"import_id": "1", "kind": "inventory", "file_name": "a.csv", "rows": 9, "reason": "all zero"}
    assert told["held_imports"] == [values | {"held_seconds": 180.0}]
    assert (told["open_cases"], told["waits_for_people"], watch.causes()) == (1, 1, ["held_imports:"])


def test_an_order_that_is_asked_for_again_waits_for_nobody(watch: Watch) -> None:
    watch.put(unclear_orders, channel=SHOP, order_id="1001", reason="a refund came first", since=START)
    told = watch.told()
    assert (told["open_cases"], told["waits_for_people"]) == (1, 0)
    assert seen(told, START).verdict is Verdict.WELL


def test_the_trend_has_the_most_of_each_five_minutes_of_a_day(watch: Watch) -> None:
    told = watch.told()
    assert (told["trend"]["at"], told["trend"]["out_of_step"]) == ([START.isoformat()], [0])
    watch.stock.change_levels(
        inventory_levels.c.channel == SHOP, effective_quantity=1, out_of_step_since=START - timedelta(seconds=5)
    )
    watch.clock.advance(60)
    told = watch.told(told)
    watch.stock.in_step()
    watch.clock.advance(60)
    told = watch.told(told)
    assert told["trend"]["out_of_step"] == [2]
    assert told["trend"]["channels"] == {SHOP: [2], OTHER: [0], ERP: [0]}
    watch.clock.advance(180)
    told = watch.told(told)
    assert told["trend"]["at"] == [START.isoformat(), (START + timedelta(minutes=5)).isoformat()]
    assert told["trend"]["out_of_step"] == [2, 0]
    # Nobody wrote for two hours; and what is older than a day goes.
    watch.clock.advance(7200)
    told = watch.told(told)
    assert len(told["trend"]["at"]) == 3
    watch.clock.advance(86_400 - 7200 - 300)
    told = watch.told(told)
    assert told["trend"]["at"][0] == (START + timedelta(minutes=5)).isoformat()
    assert told["trend"]["channels"] == {SHOP: [0, 0, 0], OTHER: [0, 0, 0], ERP: [0, 0, 0]}


def test_the_last_backup_is_the_latest_whole_one(watch: Watch) -> None:
    folder = watch.standing.home.data / "backups"
    for name in ("20260301T100000Z", "20260301T110000Z", "20260301T110000Z.scratch", "20260301T115900Z.part"):
        (folder / f"invsync-{name}").mkdir(parents=True)
    assert watch.told(verified=True)["backup"] == {"at": "2026-03-01T11:00:00+00:00", "kept": 2, "verified": True}


def test_while_the_database_is_away_the_figures_of_before_stay_with_that_as_the_problem(watch: Watch) -> None:
    before = watch.told()
    watch.clock.advance(60)
    told = watch.standing.without_database(before, "the stock's database can't be used: refused")
    assert (told["at"], told["written_at"]) == (START.isoformat(), watch.clock.now().isoformat())
    assert seen(told, watch.clock.now()).verdict is Verdict.TROUBLE
    assert [problem["title"] for problem in told["problems"]] == ["The database can't be used"]
    [since] = [problem["since"] for problem in told["problems"]]
    watch.clock.advance(60)
    [later] = watch.standing.without_database(told, "the stock's database can't be used: refused")["problems"]
    assert since == later["since"] == (START + timedelta(minutes=1)).isoformat()
