"""The contract of platforms where notifications are subscribed to: each of them is a row of the tests here.

What goes out is judged by the stand-in's deliveries, through the real door; what stands there by its own answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from invsync_dagster.platforms.alibaba.client import AlibabaPlatform
from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.erp.client import ErpPlatform
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.subscribing import Subscriber, Subscription, SubscriptionState
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.amazon_harness import AmazonHarness
from tests.contract.ebay_harness import EbayHarness
from tests.contract.test_shopify import ShopifyHarness
from tests.contract.test_woocommerce import WEBHOOK, WooCommerceHarness

ADDRESS = "https://sync.example.com/webhooks/main"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/invsync"
ACTIVE, MISSING, OFF, WRONG, ELSEWHERE = SubscriptionState


@dataclass
class Case:
    """A platform before its stand-in, where nothing is subscribed to yet. `lose` makes the platform drop or switch off the
    notifications of a topic, and `lost` is how that is found; `dump` and `load` are the stand-in's."""

    harness: Any
    account: Any
    lose: Callable[[str], None]
    lost: SubscriptionState
    topics: tuple[str, ...]
    first: str
    address: str = ADDRESS

    @property
    def platform(self) -> Any:
        return self.harness.platform

    def look(self) -> dict[str, Subscription]:
        answer = self.platform.subscriptions(self.address)
        return {one.topic: one for one in answer.subscriptions}

    def states(self) -> dict[str, SubscriptionState]:
        return {topic: one.state for topic, one in self.look().items()}

    def subscribe_all(self) -> list[Subscription]:
        made = []
        for one in self.look().values():
            if one.state is not ACTIVE:
                (now,) = self.platform.subscribe(one, self.address).subscriptions
                made.append(now)
        return made

    def heard(self) -> list[str]:
        """Sell a piece, and return the topics of what goes out, each verified at our door."""
        self.harness.change(self.harness.make_level(5))
        door: WebhookDoor = self.harness.door
        now, topics = self.harness.clock.now(), []
        for headers, body in self.harness.deliveries():
            door.verify(headers, body, now)
            topics.append(door.topic(headers, body))
        return topics


def shopify() -> Case:
    harness = ShopifyHarness()
    shop = harness.shop
    shop.subscriptions.by_configuration = False
    topics = ("orders/create", "orders/updated", "orders/cancelled", "refunds/create")
    return Case(harness, shop, shop.subscriptions.drop, MISSING, topics, "orders/create")


def woocommerce() -> Case:
    harness = WooCommerceHarness("https://shop.example.com")
    store = harness.store
    store.webhooks.remove()
    topics = ("order.created", "order.updated", "order.deleted", "order.restored")
    return Case(harness, store, lambda topic: store.webhooks.switch(topic, "disabled"), OFF, topics, "order.created")


def ebay(**settings: Any) -> Case:
    harness = EbayHarness(settings=settings)
    harness.account.subscriptions.by_another_way = False
    topics = ("ORDER_CONFIRMATION", "ITEM_MARKED_SHIPPED")
    lose = harness.account.subscriptions.disable
    return Case(harness, harness.account, lose, OFF, topics, "ORDER_CONFIRMATION")


def amazon(**settings: Any) -> Case:
    harness = AmazonHarness(**(settings or {"webhook_event_bridge": "eu-west-1:123456789012"}))
    harness.account.subscriptions.by_another_way = False
    topics = ("ORDER_CHANGE", "FEED_PROCESSING_FINISHED")
    return Case(harness, harness.account, harness.account.subscriptions.drop, MISSING, topics, "ORDER_CHANGE")


@pytest.fixture(params=[shopify, woocommerce, ebay, amazon])
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param()
    return made


def test_what_is_needed_is_missing_at_first_and_nothing_goes_out(case: Case) -> None:
    assert isinstance(case.platform, Subscriber)
    assert case.states() == dict.fromkeys(case.topics, MISSING)
    assert case.heard() == []


def test_what_was_subscribed_to_is_active_and_its_deliveries_pass_our_door(case: Case) -> None:
    made = case.subscribe_all()
    assert [(one.topic, one.state) for one in made] == [(topic, ACTIVE) for topic in case.topics]
    assert all(one.handle for one in made)
    assert case.states() == dict.fromkeys(case.topics, ACTIVE)
    assert case.first in case.heard()


def test_what_the_platform_drops_or_switches_off_is_found_and_mended(case: Case) -> None:
    case.subscribe_all()
    case.lose(case.first)
    assert case.first not in case.heard()
    assert case.states() == dict.fromkeys(case.topics, ACTIVE) | {case.first: case.lost}
    (mended,) = case.subscribe_all()
    assert (mended.topic, mended.state) == (case.first, ACTIVE)
    assert case.states() == dict.fromkeys(case.topics, ACTIVE)
    assert case.first in case.heard()


def test_a_second_look_makes_nothing_twice(case: Case) -> None:
    case.subscribe_all()
    known = {one.handle for one in case.look().values()}
    assert case.subscribe_all() == []
    assert {one.handle for one in case.look().values()} == known


def test_refused_credentials_are_told_as_such(case: Case) -> None:
    case.harness.revoke_credentials()
    with pytest.raises(PlatformError) as refused:
        # A token that was given before may still be good once.
        for _ in range(3):
            case.harness.clock.advance(10_000)
            case.look()
    assert refused.value.recovery is Recovery.REAUTHENTICATE


def test_a_lost_answer_and_nonsense_are_failures_of_the_call(case: Case) -> None:
    case.look()
    case.harness.wire.refuse_next()
    with pytest.raises(PlatformError) as unreachable:
        case.look()
    assert unreachable.value.recovery is Recovery.RETRY
    for nonsense in (
        b"<html>",
        b"{}",
        b"[1]",
        b'{"payload": 3}',
        b'{"data": {"webhookSubscriptions": {"nodes": [1]}}}',
    ):
        case.harness.wire.answer_next(Response(200, {}, nonsense))
        try:
            found = case.look()
        except PlatformError as error:
            assert error.recovery is Recovery.RETRY
        else:
            assert {one.state for one in found.values()} == {MISSING}


def test_what_is_subscribed_to_outlives_the_stand_in(case: Case) -> None:
    case.subscribe_all()
    state = json.loads(json.dumps(case.account.dump()))
    case.lose(case.first)
    case.account.load(state)
    assert case.states() == dict.fromkeys(case.topics, ACTIVE)


def test_no_message_or_representation_holds_a_secret(case: Case) -> None:
    case.subscribe_all()
    secrets = (*case.harness.secrets, "verification_0123456789")
    case.harness.wire.answer_next(Response(400, {}, (" ".join(secrets)).encode()))
    with pytest.raises(PlatformError) as refused:
        case.platform.subscribe(Subscription(case.first, MISSING), case.address)
    for text in (str(refused.value), repr(case.platform), repr(case.look())):
        assert not any(secret in text for secret in secrets)


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "ebay"])
def test_without_an_address_there_is_nothing_to_look_at(platform: str) -> None:
    case = {"shopify": shopify, "woocommerce": woocommerce, "ebay": ebay}[platform]()
    case.harness.wire.requests.clear()
    assert case.platform.subscriptions("").subscriptions == ()
    assert case.harness.wire.requests == []


@pytest.mark.parametrize("platform", [AlibabaPlatform, ErpPlatform])
def test_platforms_without_subscriptions_are_no_subscribers(platform: type) -> None:
    assert not issubclass(platform, Subscriber)


# --- one platform's own ----------------------------------------------------------------------------------------------


def test_shopify_brings_a_subscription_of_another_form_into_ours() -> None:
    case = shopify()
    case.subscribe_all()
    case.harness.shop.subscriptions.change(
        "orders/create", format="XML", filter="total_price:>100", includeFields=["id"]
    )
    found = case.look()["orders/create"]
    assert (found.state, found.note) == (
        WRONG,
        "it sends XML in the place of JSON, it sends a part of the fields, a filter keeps some back",
    )
    case.subscribe_all()
    assert case.states() == dict.fromkeys(case.topics, ACTIVE)


def test_shopifys_own_words_say_why_a_topic_can_not_be_subscribed_to() -> None:
    case = shopify()
    case.subscribe_all()
    with pytest.raises(PlatformError) as refused:
        case.platform.subscribe(Subscription("orders/create", MISSING), ADDRESS)
    assert (refused.value.code, refused.value.message) == (
        "not_subscribed",
        "Address for this topic has already been taken",
    )


def test_subscriptions_to_other_addresses_are_left_alone() -> None:
    case = shopify()
    case.subscribe_all()
    other = Case(**{**vars(case), "address": "https://staging.example.com/webhooks/main"})
    assert other.states() == dict.fromkeys(case.topics, MISSING)
    other.subscribe_all()
    assert case.states() == other.states() == dict.fromkeys(case.topics, ACTIVE)


def test_a_stores_webhook_is_made_and_mended_with_our_secret() -> None:
    case = woocommerce()
    case.subscribe_all()
    assert case.harness.store.webhooks.secrets_of("order.created") == [WEBHOOK]
    case.harness.store.webhooks.switch("order.created", "paused")
    assert case.look()["order.created"].note == "the store says paused"
    case.harness.store.webhooks.forget_secrets()
    case.subscribe_all()
    assert case.harness.store.webhooks.secrets_of("order.created") == [WEBHOOK]


def test_a_stores_webhooks_are_found_behind_those_of_others() -> None:
    case = woocommerce()
    for number in range(130):
        other = f"https://other{number}.example.com/hook"
        case.platform.subscribe(Subscription("order.updated", MISSING), other)
    case.subscribe_all()
    assert case.states() == dict.fromkeys(case.topics, ACTIVE)


def test_ebay_is_given_the_destination_first_and_a_marked_down_one_is_enabled() -> None:
    case = ebay()
    case.subscribe_all()
    case.harness.account.subscriptions.mark_down()
    assert case.heard() == []
    assert {one.note for one in case.look().values()} == {"its destination is MARKED_DOWN"}
    case.subscribe_all()
    assert case.states() == dict.fromkeys(case.topics, ACTIVE)
    assert "ORDER_CONFIRMATION" in case.heard()


def test_ebays_refusals_name_what_is_missing() -> None:
    case = ebay()
    case.harness.account.subscriptions.alert_email = ""
    with pytest.raises(PlatformError) as refused:
        case.subscribe_all()
    assert (refused.value.code, "`alert_email`" in refused.value.message) == ("ebay_195003", True)
    case.harness.account.subscriptions.alert_email = "owner@example.com"
    case.harness.account.subscriptions.answers_challenge = False
    with pytest.raises(PlatformError) as refused:
        case.subscribe_all()
    assert (refused.value.code, refused.value.recovery) == ("ebay_195020", Recovery.REJECT)


def test_ebay_is_given_the_address_for_its_alerts_with_the_destination() -> None:
    case = ebay(alert_email="seller@example.com")
    account = case.harness.account.subscriptions
    account.alert_email = ""
    case.subscribe_all()
    assert (account.alert_email, case.states()) == ("seller@example.com", dict.fromkeys(case.topics, ACTIVE))
    account.alert_email = "another@example.com"
    case.subscribe_all()
    assert account.alert_email == "another@example.com"


def test_ebays_topic_that_goes_elsewhere_is_not_taken_away() -> None:
    case = ebay()
    case.subscribe_all()
    other = Case(**{**vars(case), "address": "https://staging.example.com/webhooks/main"})
    found = other.look()["ORDER_CONFIRMATION"]
    assert (found.state, found.note) == (ELSEWHERE, "it goes to sync.example.com")
    # It is another installation's, also while that is away.
    case.harness.account.subscriptions.mark_down()
    assert other.look()["ORDER_CONFIRMATION"].state is ELSEWHERE


def test_ebays_topic_whose_destination_is_gone_is_taken_over() -> None:
    case = ebay()
    case.subscribe_all()
    case.harness.account.subscriptions.remove_destinations()
    found = case.look()["ORDER_CONFIRMATION"]
    assert (found.state, found.note) == (WRONG, "its destination is gone")
    case.subscribe_all()
    assert case.states() == dict.fromkeys(case.topics, ACTIVE)


def test_amazons_queue_is_named_by_its_arn_and_given_once() -> None:
    case = amazon(webhook_queue=QUEUE, webhook_secret_env=..., webhook_previous_secret_env=...)
    case.subscribe_all()
    assert case.states() == dict.fromkeys(case.topics, ACTIVE)
    made = [request for request in posts(case) if request.url.endswith("/destinations")]
    assert [b"arn:aws:sqs:eu-west-1:123456789012:invsync" in request.body for request in made] == [True]


def test_amazons_subscription_that_goes_elsewhere_is_not_taken_away() -> None:
    case = amazon()
    case.harness.account.subscriptions.send_elsewhere("ORDER_CHANGE")
    found = case.look()["ORDER_CHANGE"]
    assert (found.state, found.note) == (ELSEWHERE, "it goes to a destination that isn't this channel's")


def test_amazon_must_be_told_where_to_and_a_channel_without_any_way_needs_nothing() -> None:
    only_key = amazon(webhook_previous_secret_env="P")
    assert only_key.states() == dict.fromkeys(only_key.topics, MISSING)
    with pytest.raises(PlatformError) as refused:
        only_key.subscribe_all()
    assert (refused.value.recovery, refused.value.code) == (Recovery.REVIEW, "no_destination")
    only_key.harness.account.subscriptions.send_elsewhere("ORDER_CHANGE")
    assert only_key.states()["ORDER_CHANGE"] is ACTIVE
    none = amazon(webhook_secret_env=..., webhook_previous_secret_env=...)
    assert none.look() == {}


def posts(case: Case) -> list[Request]:
    return [request for request in case.harness.wire.requests if request.method == "POST"]


def headers_of(request: Request) -> Mapping[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def test_amazons_destinations_take_the_apps_own_token_and_subscriptions_the_sellers() -> None:
    case = amazon()
    case.subscribe_all()
    asked = [request for request in case.harness.wire.requests if "/notifications/v1/" in request.url]
    by_kind = {
        kind: {headers_of(each)["x-amz-access-token"] for each in asked if f"/{kind}" in each.url}
        for kind in ("destinations", "subscriptions")
    }
    assert by_kind["destinations"].isdisjoint(by_kind["subscriptions"])
    assert all(len(tokens) == 1 for tokens in by_kind.values())
