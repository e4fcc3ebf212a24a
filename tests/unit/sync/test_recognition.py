"""A channel that leads to another shop: nothing is written at a new address before it is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.exc import ObjectNotExecutableError

from invsync_dagster.channels import Channel
from invsync_dagster.inventory.catch_up import catch_up
from invsync_dagster.inventory.channels import set_status as set_channel_status
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import set_status
from invsync_dagster.inventory.tables import channels, inventory_levels, platform_mapping, stock_ledger
from invsync_dagster.platforms.contract import LevelReference, ReadAnswer
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.settings import ENVIRONMENT
from invsync_dagster.platforms.transport import Request
from invsync_dagster.sandbox.faults import Fault, Kind
from invsync_dagster.sync import recognition
from invsync_dagster.sync.intake import IntakeReport, apply_deliveries
from invsync_dagster.sync.order_count import count_orders
from invsync_dagster.sync.preview import preview_channel
from invsync_dagster.sync.push import calls_of
from invsync_dagster.sync.recognition import ELSEWHERE, MOVING, address_of, require_our_shop, why_elsewhere
from invsync_dagster.sync.reconcile import full_sync
from invsync_dagster.sync.subscriptions import watch_subscriptions
from invsync_dagster.sync.workspace import Workspace
from tests.unit.sync.alibaba_stage import AlibabaStage
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.test_push import SKU, logged, rename, restock, reviewed, stopped
from tests.unit.sync.test_subscriptions import known_at

WOO = "woo_main"


def recognised(world: LittleWorld, name: str = WOO) -> str:
    with world.engine.connect() as connection:
        return str(connection.execute(select(channels.c.recognised).where(channels.c.name == name)).scalar_one())


def point_elsewhere(world: LittleWorld, name: str = WOO) -> None:
    """Write another address into channels.yaml; the transport leads to the same stand-in, which plays the other shop."""
    for ws in world.processes:
        point_one_elsewhere(ws, "http://127.0.0.1:9/other", name)


def point_one_elsewhere(ws: Workspace, url: str, name: str = WOO) -> None:
    """Let one process have read another address in channels.yaml."""
    channel = ws.channel(name)
    settings = channel.settings.model_copy(update={"store_url": url})
    others = tuple(one for one in ws.configuration.channels if one.name != name)
    ws.configuration = replace(ws.configuration, channels=(*others, replace(channel, settings=settings)))


def look(world: LittleWorld, process: int = 0) -> None:
    """Recognise the store at its address, and go no further."""
    ws = world.processes[process]
    channel = ws.channel(WOO)
    calls = calls_of(ws, channel, world.clock.now() + timedelta(minutes=1), background=False)
    require_our_shop(ws, channel, recognised(world), calls)


def fall(world: LittleWorld) -> list[str]:
    """Let all that the store lists fall by a sale elsewhere that it hasn't heard of: certain levels, to be written at once."""
    of_woo = inventory_levels.c.channel == WOO
    with write_transaction(world.engine) as connection:
        connection.execute(update(inventory_levels).where(of_woo).values(effective_quantity=77, expected=77))
        return list(
            connection.execute(
                select(inventory_levels.c.central_sku).where(of_woo).order_by(inventory_levels.c.id)
            ).scalars()
        )


def exclude(world: LittleWorld, skus: list[str]) -> None:
    of_listing = platform_mapping.c.central_sku.in_(skus) & (platform_mapping.c.platform_name == WOO)
    with write_transaction(world.engine) as connection:
        ids = connection.execute(select(platform_mapping.c.id).where(of_listing)).scalars().all()
        set_status(connection, ids, "excluded", actor="ann", reason="", now=world.clock.now())


def set_channel(world: LittleWorld, status: str) -> None:
    now = world.clock.now()
    with write_transaction(world.engine) as connection:
        set_channel_status(connection, WOO, status, actor="ann", reason="moving", now=now)
    catch_up(world.engine, now)


def numbers(world: LittleWorld) -> dict[Any, Any]:
    return {number: article.quantity for number, article in world.shops[WOO]._books.articles.items()}


def test_a_channel_that_is_pointed_at_another_store_writes_nothing_there_and_books_none_of_its_orders(
    world: LittleWorld,
) -> None:
    before = recognised(world)
    assert before == address_of(world.processes[0].channel(WOO))
    skus = fall(world)
    names = {number: article.sku for number, article in world.shops[WOO]._books.articles.items()}
    rename(world, skus)
    point_elsewhere(world)
    shown = numbers(world)
    entries = len(world_entries(world))
    world.clock.advance(60)
    report = world.push(WOO)
    assert report.problem.startswith(f"another_shop: 14 of 16 listings are unknown at {WOO}")  # two have no SKU there
    assert (report.pushed, report.orders, reviewed(world), numbers(world)) == (0, 0, 0, shown)
    assert stopped(world, WOO) == report.problem
    assert recognised(world) == before
    assert world.push(WOO).stopped
    assert (numbers(world), len(world_entries(world))) == (shown, entries)
    # It is the right one after all, under a new address.
    for number, sku in names.items():
        world.shops[WOO]._books.articles[number].sku = sku
    assert world.push(WOO).pushed == len(skus)
    assert (stopped(world, WOO), world.changes(WOO)) == ("", 0)
    assert recognised(world) not in ("", before)


def test_the_same_shop_under_a_new_address_is_looked_at_once_and_goes_on(world: LittleWorld) -> None:
    restock(world)
    point_elsewhere(world)
    first = world.push(WOO)
    assert (first.problem, first.read, first.pushed, world.changes(WOO)) == ("", 16, 1, 0)
    restock(world)
    second = world.push(WOO)
    assert (second.problem, second.read, second.pushed) == ("", 0, 1)
    # The look, and one reading of all 16 with the orders known past it.
    assert first.api_calls == second.api_calls + 3


def test_a_copy_of_the_shop_is_in_step_once_its_own_numbers_are_read_and_mended(world: LittleWorld) -> None:
    right = numbers(world)
    for article in world.shops[WOO]._books.articles.values():
        article.quantity = None if article.quantity is None else 3
    assert world.push(WOO).read == 0  # at the same address nothing is in doubt
    point_elsewhere(world)
    look(world)
    assert recognised(world) == address_of(world.processes[0].channel(WOO))
    assert (world.changes(WOO), world.level(WOO, SKU).uncertain) == (16, "new_address")
    assert world.push(WOO).problem == ""
    assert (numbers(world), world.changes(WOO)) == (right, 0)


def test_at_a_new_address_what_falls_is_written_at_once_and_the_rest_once_it_is_read(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = world.shown(WOO, SKU)
    point_elsewhere(world)
    world.sell("shop_main", SKU)
    world.deliver("shop_main")
    apply_deliveries(world.processes[0], world.inbox, IntakeReport(), run_id="intake")
    ws = world.processes[0]
    platform = ws.platform(ws.channel(WOO))
    read, before = platform.read, len(logged(world, WOO, "read"))

    def look_only(asked: Sequence[LevelReference]) -> ReadAnswer:
        monkeypatch.setattr(platform, "read", refused)
        return read(asked)

    def refused(asked: Sequence[LevelReference]) -> ReadAnswer:
        raise PlatformError(Recovery.REJECT, "not_now", "no reading now")

    monkeypatch.setattr(platform, "read", look_only)
    report = world.push(WOO)
    assert report.problem == "not_now: no reading now [reject]"
    assert (report.acknowledged, world.shown(WOO, SKU)) == (1, listed - 1)
    assert (len(logged(world, WOO, "read")), world.changes(WOO)) == (before, 15)
    monkeypatch.setattr(platform, "read", read)
    assert world.push(WOO).problem == ""
    assert (len(logged(world, WOO, "read")), world.changes(WOO)) == (before + 15, 0)


def test_a_push_that_is_under_way_at_the_address_before_settles_nothing_at_the_new_one(world: LittleWorld) -> None:
    restock(world)
    readings = len(logged(world, WOO, "read"))

    def move(when: str, request: Request) -> None:
        if when == "before" and request.url.endswith("/batch"):
            world.transports[WOO]._on_send = None
            point_elsewhere(world)
            look(world, process=1)

    world.transports[WOO]._on_send = move
    sent = world.push(WOO)
    # Its answer counts as what it is, and leaves even that level in doubt; it reads none of the others.
    assert (sent.acknowledged, sent.read, world.changes(WOO)) == (1, 0, 16)
    assert world.level(WOO, SKU).uncertain == "new_address"
    assert world.push(WOO, process=1).problem == ""
    assert (len(logged(world, WOO, "read")), world.changes(WOO)) == (readings + 16, 0)


def test_a_look_that_dies_while_it_puts_the_levels_in_doubt_is_made_anew(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_elsewhere(world)
    monkeypatch.setattr(recognition, "IDS_AT_ONCE", 1)
    with monkeypatch.context() as dying:
        dying.setattr(recognition, "_DOUBT", None)
        with pytest.raises(ObjectNotExecutableError):
            look(world)
    assert (recognised(world), world.changes(WOO)) == (MOVING, 0)
    with world.engine.connect() as connection:
        assert why_elsewhere(connection, world.processes[0].channel(WOO)) == ELSEWHERE
    look(world)
    assert (recognised(world), world.changes(WOO)) == (address_of(world.processes[0].channel(WOO)), 16)


@pytest.mark.parametrize("other", ["http://127.0.0.1:9/third", "http://127.0.0.1:9/other"])
def test_where_another_run_takes_the_channel_to_an_address_meanwhile_orders_are_booked_there_alone(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    point_elsewhere(world)
    point_one_elsewhere(world.processes[1], other)
    world.clock.advance(60)
    world.sell(WOO, SKU)
    entries, transactions = len(world_entries(world)), []

    def then_the_other_run(engine: Engine, channel: str | None = None) -> AbstractContextManager[Connection]:
        transactions.append(channel)
        if len(transactions) == 2:  # the address before is in force no more, and no level is in doubt yet
            monkeypatch.setattr(recognition, "write_transaction", write_transaction)
            look(world, process=1)
        return write_transaction(engine, channel)

    monkeypatch.setattr(recognition, "write_transaction", then_the_other_run)
    report = world.push(WOO)
    is_ours = other.endswith("other")
    assert (report.problem, report.orders, len(world_entries(world)) - entries) == ("", is_ours, is_ours)
    assert recognised(world) == address_of(world.processes[1].channel(WOO))
    assert world.changes(WOO) == (0 if is_ours else 16)
    world.push(WOO, process=1)
    assert (len(world_entries(world)) - entries, world.changes(WOO)) == (1, 0)


def test_at_a_new_address_nothing_is_subscribed_to_before_a_push_has_recognised_the_shop(world: LittleWorld) -> None:
    point_elsewhere(world)
    ws = known_at(world, "http://127.0.0.1:8791")
    refused = watch_subscriptions(ws, WOO, mend=True)
    assert (refused.api_calls, refused.topics) == (0, [])
    assert refused.problem == ELSEWHERE
    world.push(WOO)
    watched = watch_subscriptions(ws, WOO, mend=True)
    assert (watched.problem, {topic.done for topic in watched.topics}) == ("", {"made"})


@pytest.mark.parametrize("error", [Kind.ERROR_500, Kind.REFUSE])
def test_a_new_address_that_does_not_answer_is_not_written_to(world: LittleWorld, error: Kind) -> None:
    skus = fall(world)
    point_elsewhere(world)
    attempts = len(logged(world, WOO))
    world.faults[WOO].script([Fault(error)] * 50)
    report = world.push(WOO)
    assert (report.problem != "", report.pushed, len(logged(world, WOO))) == (True, 0, attempts)
    world.faults[WOO].clear()
    world.clock.advance(3600)
    assert world.push(WOO).pushed == len(skus)


def test_at_the_first_contact_small_calls_write_nothing_either_before_the_shop_is_known(world: LittleWorld) -> None:
    world.erp._articles.clear()
    ws = world.processes[0]
    platform = ws.platform(ws.channel("erp_main"))
    platform._limits = replace(platform.limits, read_batch=3)  # type: ignore[attr-defined]
    with write_transaction(world.engine) as connection:
        connection.execute(update(channels).values(recognised=""))
        of_erp = inventory_levels.c.channel == "erp_main"
        connection.execute(update(inventory_levels).where(of_erp).values(uncertain="never_read", expected=None))
    report = world.push("erp_main")
    assert report.problem.startswith("another_shop: 10 of 10 listings are unknown at erp_main")
    assert (reviewed(world), recognised(world, "erp_main")) == (0, "")


def test_a_shop_whose_products_are_a_call_each_is_recognised_by_few_of_them_within_a_short_push(tmp_path: Path) -> None:
    stage = AlibabaStage(tmp_path, {f"S{at}": 5 for at in range(40)}, products={f"S{at}": 100 + at for at in range(40)})
    before = stage.products_read()
    with write_transaction(stage.engine) as connection:
        connection.execute(update(channels).values(recognised=""))
    assert stage.push(seconds=5).problem == ""
    assert stage.products_read() - before == 10


def test_at_a_new_address_no_order_is_counted_and_no_full_run_concludes_anything_before_the_shop_is_recognised(
    world: LittleWorld,
) -> None:
    ws = world.processes[0]
    rename(world, [SKU])
    point_elsewhere(world)
    world.sell(WOO, SKU)
    world.clock.advance(86_400)
    entries = len(world_entries(world))
    count = count_orders(ws, WOO, days=2, run_id="count")
    full = [full_sync(ws, WOO, batch, run_id="full") for batch in range(ws.configuration.settings.sku_batches)]
    assert (count.problem, count.api_calls) == (ELSEWHERE, 0)
    assert {(report.problem, report.api_calls) for report in full} == {(ELSEWHERE, 0)}
    assert (len(world_entries(world)), reviewed(world)) == (entries, 0)
    world.push(WOO)
    assert count_orders(ws, WOO, days=2, run_id="count").problem == ""


def test_of_few_listings_most_must_be_there_under_a_new_address(world: LittleWorld) -> None:
    skus = fall(world)
    exclude(world, skus[3:])
    rename(world, skus[:2])
    point_elsewhere(world)
    shown = numbers(world)
    for _ in range(4):  # that the channel is asked again whether it goes on recognises nothing
        report = world.push(WOO)
        assert report.problem.startswith(f"another_shop: 2 of 3 listings are unknown at {WOO}")
        assert (report.pushed, numbers(world)) == (0, shown)
        world.clock.advance(60)


def test_where_nothing_is_listed_any_more_a_new_address_is_taken_as_it_is(world: LittleWorld) -> None:
    exclude(world, fall(world))
    point_elsewhere(world)
    assert world.push(WOO).problem == ""
    assert recognised(world) == address_of(world.processes[0].channel(WOO))
    assert count_orders(world.processes[0], WOO, days=1, run_id="count").problem == ""


def test_a_paused_channel_that_is_pointed_at_another_store_books_none_of_its_orders(world: LittleWorld) -> None:
    set_channel(world, "paused")
    skus = fall(world)
    names = {number: article.sku for number, article in world.shops[WOO]._books.articles.items()}
    rename(world, skus)
    point_elsewhere(world)
    entries = len(world_entries(world))
    world.clock.advance(60)
    world.sell(WOO, skus[0])
    world.clock.advance(60)
    report = world.push(WOO)
    assert report.problem.startswith(f"another_shop: 14 of 16 listings are unknown at {WOO}")
    assert (report.orders, len(world_entries(world))) == (0, entries)
    for number, sku in names.items():
        world.shops[WOO]._books.articles[number].sku = sku
    assert world.push(WOO).orders == 1
    assert recognised(world) == address_of(world.processes[0].channel(WOO))


def test_the_preview_of_another_store_stops_the_channel_and_keeps_no_number_of_it(world: LittleWorld) -> None:
    ws, names = world.processes[0], {n: article.sku for n, article in world.shops[WOO]._books.articles.items()}
    seen = world.level(WOO, SKU).observed_at
    rename(world, list(names.values()))
    point_elsewhere(world)
    with pytest.raises(PlatformError, match=f"another_shop: 14 of 16 listings are unknown at {WOO}"):
        preview_channel(ws, WOO)
    assert stopped(world, WOO).startswith("another_shop: ")
    assert world.level(WOO, SKU).observed_at == seen
    for number, sku in names.items():
        world.shops[WOO]._books.articles[number].sku = sku
    assert preview_channel(ws, WOO).totals()["equal"] == 16
    assert (stopped(world, WOO), recognised(world)) == ("", address_of(ws.channel(WOO)))


def test_a_preview_shows_no_number_of_an_article_that_goes_by_another_name(world: LittleWorld) -> None:
    rename(world, [SKU])
    preview = preview_channel(world.processes[0], WOO)
    [other] = preview.unreadable
    assert (other.sku, other.shown, other.problem.startswith("another_article: ")) == (SKU, None, True)
    assert preview.totals()["equal"] == 15


def world_entries(world: LittleWorld) -> list[Any]:
    with world.engine.connect() as connection:
        return list(connection.execute(select(stock_ledger.c.sequence)).scalars())


# What the settings of each platform need, those that lead to a shop and nothing else, and what stands for that shop.
SHOPS: dict[str, tuple[dict[str, Any], str]] = {
    "shopify": (
        {"shop_url": "https://a.myshopify.com", "access_token_env": "TOKEN", "webhook_secret_env": "HOOK"},
        "a71be50114efa41d",
    ),
    "woocommerce": (
        {
            "store_url": "https://a.example",
            "consumer_key_env": "KEY",
            "consumer_secret_env": "S",
            "webhook_secret_env": "H",
        },
        "42b83d5ed78293cf",
    ),
    "amazon": (
        {"region": "eu", "seller_id": "A2XYZ1234567", "marketplaces": ["DE", "FR"]}
        | {"client_id_env": "ID", "client_secret_env": "S", "refresh_token_env": "GRANT"},
        "a8077a63a2312112",
    ),
    "ebay": (
        {"client_id_env": "ID", "client_secret_env": "S", "refresh_token_env": "GRANT", "verification_token_env": "V"}
        | {"webhook_url": "https://sync.example/webhooks/ebay"},
        "e05f4526ab847a7c",
    ),
    "alibaba": (
        {"app_key_env": "KEY", "app_secret_env": "S", "refresh_token_env": "GRANT", "token_file": "/data/tokens.json"},
        "522f00d9a63abf17",
    ),
    "erp": (
        {"base_url": "https://erp.example", "api_key_env": "KEY", "signing_secret_env": "S", "webhook_secret_env": "H"},
        "38674f0d9b0209a2",
    ),
}


def address_with(platform: str, **settings: Any) -> str:
    values = {**SHOPS[platform][0], **settings}
    form = VENDORS[platform].settings
    return address_of(
        Channel("it", platform, "production", form.model_validate(values, context={ENVIRONMENT: "production"}))
    )


@pytest.mark.parametrize("platform", SHOPS)
def test_another_version_of_invsync_is_no_other_address(platform: str) -> None:
    assert set(SHOPS) == set(VENDORS)
    # Other digests than these would put every level of every installation in doubt: mend `place`, and not this test.
    assert address_with(platform) == SHOPS[platform][1]


@pytest.mark.parametrize(
    ("platform", "settings"),
    [
        ("shopify", {"webhook_secret_env": "OTHER", "webhook_previous_secret_env": "BEFORE", "api_version": "2026-10"}),
        ("shopify", {"unstocked": "activate", "bulk_read_from": 0}),
        ("amazon", {"webhook_queue": "https://sqs.eu-west-1.amazonaws.com/123456789012/q", "product_type": "SHOES"}),
        ("ebay", {"webhook_url": "https://else.example/webhooks/ebay", "alert_email": "a@b.example"}),
        ("alibaba", {"gateway": "gop", "token_file": "/moved/tokens.json", "sku_inventory": "map"}),
    ],
)
def test_how_a_shop_is_talked_to_is_no_part_of_its_address(platform: str, settings: dict[str, Any]) -> None:
    assert address_with(platform, **settings) == address_with(platform)


@pytest.mark.parametrize(
    ("platform", "settings"),
    [
        ("shopify", {"shop_url": "https://b.myshopify.com"}),
        ("shopify", {"access_token_env": "OTHER"}),
        ("woocommerce", {"consumer_key_env": "OTHER"}),
        ("amazon", {"marketplaces": ["DE"]}),
        ("amazon", {"seller_id": "A2OTHER12345"}),
        ("ebay", {"refresh_token_env": "OTHER"}),
        ("alibaba", {"write": "delta", "warehouse_code": "CN1"}),
        ("erp", {"base_url": "https://erp2.example"}),
    ],
)
def test_what_says_which_shop_it_is_is(platform: str, settings: dict[str, Any]) -> None:
    assert address_with(platform, **settings) != address_with(platform)
