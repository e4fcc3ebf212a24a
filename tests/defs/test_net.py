"""The safety net in Dagster: subscriptions that are mended, channels that fell silent, and the daily count of orders."""

import csv
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import dagster as dg

from invsync_dagster.events import Content, LineReference, OrderDocument, OrderLine
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.hearing import note_deliveries
from invsync_dagster.platforms.contract import OrdersPage
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.subscribing import Subscription, SubscriptionsAnswer, SubscriptionState
from invsync_dagster.sync.registration import register_channels
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.segments import Delivery
from tests.defs.conftest import FakePlatform, Installation

SUBSCRIPTIONS = dg.AssetKey(["subscriptions", "shop"])
COUNT = dg.AssetKey(["order_count", "shop"])

SHOP = """\
  - name: shop
    platform: shopify
    environment: sandbox
    settings:
      shop_url: http://127.0.0.1:9
      access_token_env: KEY
      webhook_secret_env: WEBHOOK
    cut_over_at: 2026-01-01T00:00:00Z
"""


@dataclass
class FakeShop(FakePlatform):
    """A shop with orders and subscriptions; it `refuses` to be subscribed to."""

    orders_of: list[OrderDocument] = field(default_factory=list)
    subscribed: dict[str, SubscriptionState] = field(default_factory=dict)
    refuses: bool = False

    def orders_changed(self, since: datetime, until: datetime, cursor: str = "") -> OrdersPage:
        self._called()
        return OrdersPage(Content(documents=tuple(one for one in self.orders_of if since <= one.updated_at < until)))

    def orders(self, order_ids: Sequence[str]) -> OrdersPage:
        return OrdersPage(Content(documents=tuple(one for one in self.orders_of if one.order_id in order_ids)))

    def subscriptions(self, address: str) -> SubscriptionsAnswer:
        self._called()
        found = tuple(Subscription(topic, state, "1") for topic, state in self.subscribed.items())
        return SubscriptionsAnswer(found if address else ())

    def subscribe(self, subscription: Subscription, address: str) -> SubscriptionsAnswer:
        if self.refuses:
            raise PlatformError(Recovery.REJECT, "not_subscribed", "no such right")
        self.subscribed[subscription.topic] = SubscriptionState.ACTIVE
        return SubscriptionsAnswer((Subscription(subscription.topic, SubscriptionState.ACTIVE, "1"),))


def with_shop(
    install: Callable[..., Installation], url: str = "https://sync.example.com", more: str = ""
) -> tuple[Installation, FakeShop]:
    """An installation with an ERP and a shop, whose receiver is known at `url`; `more` are settings."""
    home = install("one", settings=(f"  receiver_url: {url}\n" if url else "") + more)
    with home.home.channels_file.open("a") as file:
        file.write(SHOP)
    shop = FakeShop()
    home.platforms["shop"] = shop
    ws = home.open()
    register_channels(ws)
    ws.close()
    return home, shop


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {f"{one.asset_key.path[-1]}.{one.check_name}": one for one in result.get_asset_check_evaluations()}


def figures(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> dict[str, object]:
    (event,) = [one for one in result.get_asset_materialization_events() if one.asset_key == key]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_what_is_off_is_mended_and_said_and_then_all_is_green(install: Callable[..., Installation]) -> None:
    home, shop = with_shop(install)
    shop.subscribed = {"orders/create": SubscriptionState.OFF, "orders/updated": SubscriptionState.ACTIVE}
    result = home.run("subscriptions")
    assert result.success
    found = figures(result, SUBSCRIPTIONS)
    assert (found["needed"], found["active"], found["made"], found["mended"]) == (2, 2, 0, 1)
    check = checks(result)["shop.subscribed"]
    assert (check.passed, check.description) == (True, "orders/create was off: mended")
    assert checks(home.run("subscriptions"))["shop.subscribed"].description == "All 2 are active."
    assert checks(result)["one.subscribed"].description == "erp has nothing to subscribe to"


def test_what_the_platform_drops_again_and_again_is_red_for_a_day(install: Callable[..., Installation]) -> None:
    home, shop = with_shop(install)
    shop.subscribed = {"orders/create": SubscriptionState.OFF, "orders/updated": SubscriptionState.ACTIVE}
    assert checks(home.run("subscriptions"))["shop.subscribed"].passed
    home.clock.advance(3600)
    shop.subscribed["orders/create"] = SubscriptionState.OFF
    check = checks(home.run("subscriptions"))["shop.subscribed"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description is not None
    assert check.description.startswith("orders/create was mended twice within a day, last at ")
    assert "see whether the receiver can be reached" in check.description
    home.clock.advance(3600)
    assert not checks(home.run("subscriptions"))["shop.subscribed"].passed
    home.clock.advance(86_400)
    check = checks(home.run("subscriptions"))["shop.subscribed"]
    assert (check.passed, check.description) == (True, "All 2 are active.")
    shop.subscribed["orders/create"] = SubscriptionState.OFF
    assert checks(home.run("subscriptions"))["shop.subscribed"].passed


def test_from_the_first_subscription_on_a_delivery_is_expected(install: Callable[..., Installation]) -> None:
    home, shop = with_shop(install)
    shop.subscribed = {"orders/create": SubscriptionState.MISSING}
    check = checks(home.run("subscriptions"))["shop.heard"]
    assert (check.passed, check.description) == (True, "No delivery has come since all was subscribed to, 0 s ago.")
    shop.orders_of = [order_of("1", home.clock.now() + timedelta(minutes=30))]
    home.clock.advance(3600)
    assert home.run("incremental").success
    home.clock.advance(3600)
    check = checks(home.run("subscriptions"))["shop.heard"]
    assert (check.passed, check.metadata["changes_unheard"].value) == (False, 1)
    assert "last_delivery_age_s" not in check.metadata
    ws = home.open()
    with write_transaction(ws.engine) as connection:
        note_deliveries(connection, [("shop", home.clock.now())])
    ws.close()
    home.clock.advance(60)
    check = checks(home.run("subscriptions"))["shop.heard"]
    assert (check.passed, check.metadata["last_delivery_age_s"].value) == (True, 60.0)


def test_what_can_not_be_mended_is_red_with_the_platforms_words(install: Callable[..., Installation]) -> None:
    home, shop = with_shop(install)
    shop.subscribed, shop.refuses = {"orders/create": SubscriptionState.OFF}, True
    result = home.run("subscriptions")
    check = checks(result)["shop.subscribed"]
    assert (result.success, check.passed, check.severity) == (True, False, dg.AssetCheckSeverity.WARN)
    assert check.description == "orders/create: off; not_subscribed: no such right [reject]"
    assert figures(result, SUBSCRIPTIONS)["active"] == 0


def test_a_dead_channel_is_red_and_the_other_is_looked_at(install: Callable[..., Installation]) -> None:
    home, shop = with_shop(install)
    shop.error = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is not right")
    found = checks(home.run("subscriptions"))
    assert (found["shop.subscribed"].passed, found["one.subscribed"].passed) == (False, True)
    assert found["shop.subscribed"].description == "unauthorized: the key is not right [re-authenticate]"


def test_without_an_address_nothing_is_watched_and_nothing_is_red(install: Callable[..., Installation]) -> None:
    home, shop = with_shop(install, url="")
    shop.subscribed = {"orders/create": SubscriptionState.OFF}
    check = checks(home.run("subscriptions"))["shop.subscribed"]
    assert check.passed
    assert "set receiver_url in channels.yaml" in str(check.description)
    assert shop.subscribed == {"orders/create": SubscriptionState.OFF}


def order_of(number: str, at: datetime, units: int = 1) -> OrderDocument:
    return OrderDocument(number, 1, at, at, (OrderLine("1", LineReference(platform_sku="A"), units),))


def test_a_channel_that_fell_silent_is_red_until_it_is_heard_again(install: Callable[..., Installation]) -> None:
    home, shop = with_shop(install)
    last = home.clock.now()
    ws = home.open()
    with write_transaction(ws.engine) as connection:
        note_deliveries(connection, [("shop", last)])
    shop.orders_of = [order_of("1", last + timedelta(minutes=30)), order_of("2", last + timedelta(minutes=40))]
    home.clock.advance(3600)
    assert home.run("incremental").success
    home.clock.advance(3600)
    check = checks(home.run("subscriptions"))["shop.heard"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description == (
        "The last delivery came 2 h ago. Since then lists alone told of 2 orders or counts, the first one of 90 min ago."
    )
    with write_transaction(ws.engine) as connection:
        note_deliveries(connection, [("shop", home.clock.now())])
    ws.close()
    check = checks(home.run("subscriptions"))["shop.heard"]
    assert (check.passed, check.description) == (True, "The last delivery came 0 s ago.")


def test_an_order_that_was_missing_is_booked_named_in_a_report_and_green_the_next_time(
    install: Callable[..., Installation],
) -> None:
    home, shop = with_shop(install)
    shop.orders_of = [order_of("7", home.clock.now(), 3)]
    home.clock.advance(2 * 86_400)
    result = home.run("count_orders", run_config={"ops": {"order_count__shop": {"config": {"days": 3}}}})
    assert result.success
    found = figures(result, COUNT)
    assert (found["orders_there"], found["orders_here"], found["units_there"], found["lines_different"]) == (1, 0, 3, 1)
    check = checks(result)["shop.orders_agree"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "1 orders of 3 units there, 0 of 0 here" in str(check.description)
    assert "1 lines missing here, and booked now (the first: order 7)" in str(check.description)
    with (home.home.reports / result.run_id / "orders_shop.csv").open(encoding="utf-8-sig") as file:
        (row,) = csv.DictReader(file)
    assert (row["order_id"], row["kind"], row["ordered_there"], row["ordered_here"]) == ("7", "missing_here", "3", "")
    again = home.run("count_orders", run_config={"ops": {"order_count__shop": {"config": {"days": 3}}}})
    assert checks(again)["shop.orders_agree"].passed
    assert "report" not in figures(again, COUNT)


def test_a_channel_that_can_not_be_counted_fails_its_run(install: Callable[..., Installation]) -> None:
    home, shop = with_shop(install)
    shop.error = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is not right")
    result = home.run("count_orders")
    assert not result.success
    check = checks(result)["shop.orders_agree"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.description == "unauthorized: the key is not right [re-authenticate]"


def test_the_count_is_of_channels_that_take_orders_and_is_asked_for_one_by_one(
    install: Callable[..., Installation],
) -> None:
    home, _ = with_shop(install)
    repository = home.definitions().get_repository_def()
    schedules = {one.name: one.cron_schedule for one in repository.schedule_defs}
    assert schedules["order_count_schedule"] == "30 5 * * *"
    with dg.build_schedule_context(instance=home.instance) as context:
        requests = repository.get_schedule_def("order_count_schedule").evaluate_tick(context).run_requests
    assert [request.asset_selection for request in requests or []] == [[COUNT]]


def test_a_delivery_that_nobody_applies_is_red_in_the_audit(install: Callable[..., Installation]) -> None:
    home, _ = with_shop(install)
    inbox = Inbox(home.home.inbox)
    inbox.prepare(home.clock.now())
    assert checks(home.run("audit"))["webhook_files.applied_in_time"].passed
    writer = SegmentWriter(home.home.inbox, home.clock, random.Random(1))
    writer.write([Delivery("shop", "orders/create", home.clock.now(), {}, b"{}")])
    home.clock.advance(600)
    check = checks(home.run("audit"))["webhook_files.applied_in_time"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.description == "The oldest delivery has waited for 10 min."
