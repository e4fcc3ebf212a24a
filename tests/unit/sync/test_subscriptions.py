"""The watchdog of subscriptions, over real clients and stand-ins: what it finds, what it mends, what it leaves to a person."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from invsync_dagster.channels import NoSettings
from invsync_dagster.inventory.tables import channels
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.subscribing import SubscriptionState
from invsync_dagster.sync.subscriptions import NOT_TOLD, TOO_LATE, Topic, Watch, watch_subscriptions
from invsync_dagster.sync.workspace import Workspace
from tests.unit.sync.conftest import LittleWorld, quiet_world

URL = "https://sync.example.com"
TOPICS = ["orders/create", "orders/updated", "orders/cancelled", "refunds/create"]


@pytest.fixture
def world() -> LittleWorld:
    """The little world on one kind of database: nothing here is stored but the budget."""
    return quiet_world()


def known_at(world: LittleWorld, url: str = URL) -> Workspace:
    """Return a workspace whose receiver is known at `url`; the shops send only what is subscribed to."""
    for name in ("shop_main", "shop_eu"):
        world.shops[name].subscriptions.by_configuration = False
    ws = world.processes[0]
    settings = ws.configuration.settings.model_copy(update={"receiver_url": url})
    return replace(ws, configuration=replace(ws.configuration, settings=settings))


def states(watch: Watch) -> list[tuple[str, str]]:
    return [(one.found, one.done) for one in watch.topics]


def test_what_is_missing_is_made_once_and_its_webhooks_come(world: LittleWorld) -> None:
    ws = known_at(world)
    watch = watch_subscriptions(ws, "shop_main", mend=True)
    assert (watch.address, watch.problems) == (f"{URL}/webhooks/shop_main", [])
    assert [one.topic for one in watch.topics] == TOPICS
    assert states(watch) == [("missing", "made")] * 4
    assert (watch.active, watch.api_calls) == (4, 5)
    again = watch_subscriptions(ws, "shop_main", mend=True)
    assert (states(again), again.api_calls) == ([("active", "")] * 4, 1)
    world.sell("shop_main", "SKU-0001")
    assert world.deliver("shop_main") == 2


def test_a_list_says_what_is_missing_and_changes_nothing(world: LittleWorld) -> None:
    ws = known_at(world)
    for _ in range(2):
        watch = watch_subscriptions(ws, "shop_main", mend=False)
        assert watch.problems == [f"{topic}: missing" for topic in TOPICS]
    assert watch.active == 0


def test_what_the_platform_switched_off_is_mended_and_the_rest_left_alone(world: LittleWorld) -> None:
    ws = known_at(world)
    watch_subscriptions(ws, "woo_main", mend=True)
    world.shops["woo_main"].webhooks.switch("order.updated", "disabled")
    listed = watch_subscriptions(ws, "woo_main", mend=False)
    assert listed.problems == ["order.updated: off (the store says disabled)"]
    mended = watch_subscriptions(ws, "woo_main", mend=True)
    assert (mended.problems, [one.done for one in mended.topics]) == ([], ["", "mended", "", ""])


def test_what_is_deleted_again_within_a_day_is_left_to_a_person_for_a_day(world: LittleWorld) -> None:
    ws = known_at(world)
    for round_ in range(3):
        watch = watch_subscriptions(ws, "shop_main", mend=True)
        assert (len(watch.problems), states(watch)[0]) == (int(round_ == 2), ("missing", "made"))
        world.shops["shop_main"].subscriptions.drop("orders/create")
        world.clock.advance(3600)
    (problem,) = watch.problems
    assert problem.startswith("orders/create was mended twice within a day, last at ")
    assert list(watch_subscriptions(ws, "shop_main", mend=False).again) == ["orders/create"]
    assert watch_subscriptions(ws, "shop_eu", mend=True).problems == []
    world.clock.advance(86_400)
    assert watch_subscriptions(ws, "shop_main", mend=True).problems == []


def test_one_that_can_not_be_made_is_named_in_the_platforms_words_and_the_others_are_made(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = known_at(world)
    platform = ws.platform(ws.channel("shop_main"))
    real = platform.subscribe  # type: ignore[attr-defined]

    def subscribe(one, address):
        if one.topic == "orders/create":
            raise PlatformError(Recovery.REJECT, "not_subscribed", "You cannot create a webhook with this topic")
        return real(one, address)

    monkeypatch.setattr(platform, "subscribe", subscribe)
    watch = watch_subscriptions(ws, "shop_main", mend=True)
    assert watch.problems == [
        "orders/create: missing; not_subscribed: You cannot create a webhook with this topic [reject]",
    ]
    assert watch.active == 3


def test_one_that_is_off_again_after_it_was_asked_for_is_a_problem(
    world: LittleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = known_at(world)
    platform = ws.platform(ws.channel("woo_main"))
    found = platform.subscriptions(f"{URL}/webhooks/woo_main")  # type: ignore[attr-defined]
    off = [replace(one, state=SubscriptionState.OFF, note="the store says paused") for one in found.subscriptions]
    monkeypatch.setattr(platform, "subscribe", lambda one, address: replace(found, subscriptions=tuple(off[:1])))
    watch = watch_subscriptions(ws, "woo_main", mend=True)
    assert watch.problems[0] == "order.created: off (the store says paused), after we asked for it"


def test_a_lost_answer_makes_nothing_twice(world: LittleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = known_at(world)
    platform = ws.platform(ws.channel("woo_main"))
    real = platform.subscribe  # type: ignore[attr-defined]

    def lost(one, address):
        real(one, address)
        raise PlatformError(Recovery.SETTLE, "answer_lost", "timed out")

    monkeypatch.setattr(platform, "subscribe", lost)
    watch = watch_subscriptions(ws, "woo_main", mend=True)
    assert [one.problem for one in watch.topics] == ["missing; answer_lost: timed out [settle]"] * 4
    monkeypatch.setattr(platform, "subscribe", real)
    assert states(watch_subscriptions(ws, "woo_main", mend=True)) == [("active", "")] * 4
    made = world.shops["woo_main"].webhooks.dump()["all"]
    assert sum(each["delivery_url"].startswith(URL) for each in made) == 4


def test_a_channel_whose_receiver_has_no_address_is_not_watched(world: LittleWorld) -> None:
    watch = watch_subscriptions(known_at(world, ""), "shop_main", mend=True)
    assert (watch.unwatched, watch.topics, watch.problems) == (NOT_TOLD, [], [])


@pytest.mark.parametrize("name", ["shop_main", "woo_main"])
def test_a_real_shop_is_not_told_of_a_receiver_that_only_this_machine_reaches(world: LittleWorld, name: str) -> None:
    ws = known_at(world, "http://127.0.0.1:8791")
    real = [replace(each, environment="production") for each in ws.configuration.channels]
    ws = replace(ws, configuration=replace(ws.configuration, channels=tuple(real)))
    with ws.engine.begin() as connection:
        connection.execute(update(channels).values(recognised=""))
    watch = watch_subscriptions(ws, name, mend=True)
    assert (watch.unwatched, watch.topics, watch.problems) == (NOT_TOLD, [], [])


def test_a_platform_without_subscriptions_is_not_watched(world: LittleWorld) -> None:
    watch = watch_subscriptions(known_at(world), "erp_main", mend=True)
    assert (watch.unwatched, watch.problems) == ("erp has nothing to subscribe to", [])


def test_dead_credentials_are_the_channels_problem_and_stop_nothing(world: LittleWorld) -> None:
    ws = known_at(world)
    world.shops["shop_main"].access_token = "another"
    watch = watch_subscriptions(ws, "shop_main", mend=True)
    assert watch.problems == [
        "unauthorized: the access token is not valid (HTTP 401: [API] Invalid API key or access token "
        "(unrecognized login or wrong password)) [re-authenticate]"
    ]
    assert watch_subscriptions(ws, "shop_eu", mend=True).active == 4
    world.shops["shop_main"].access_token = "a-token-of-the-simulation"
    assert not world.push("shop_main").problem


def test_a_spent_budget_leaves_it_to_the_next_time(world: LittleWorld) -> None:
    ws = known_at(world)
    ws.limiter(ws.channel("shop_main")).block((world.clock.now()).timestamp() + 600, "")
    watch = watch_subscriptions(ws, "shop_main", mend=True)
    assert watch.problems == [TOO_LATE]


def test_a_disabled_channel_is_not_asked(world: LittleWorld) -> None:
    ws = known_at(world)
    disabled = replace(ws.channel("shop_main"), disabled_reason="line 3: mend it", settings=NoSettings())
    others = [each for each in ws.configuration.channels if each.name != "shop_main"]
    ws = replace(ws, configuration=replace(ws.configuration, channels=(disabled, *others)))
    assert watch_subscriptions(ws, "shop_main", mend=True).problems == ["configuration: line 3: mend it"]


def test_what_goes_elsewhere_is_left_to_a_person(world: LittleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = known_at(world)
    platform = ws.platform(ws.channel("shop_main"))
    found = platform.subscriptions(URL)  # type: ignore[attr-defined]
    elsewhere = replace(found.subscriptions[0], state=SubscriptionState.ELSEWHERE, note="it goes to another")
    monkeypatch.setattr(platform, "subscriptions", lambda address: replace(found, subscriptions=(elsewhere,)))
    watch = watch_subscriptions(ws, "shop_main", mend=True)
    words = "it goes to another; delete it there if this installation is to have it"
    assert watch.topics == [Topic("orders/create", "elsewhere", problem=words)]
