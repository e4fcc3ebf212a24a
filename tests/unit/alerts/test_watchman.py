"""What a look at the stock finds, in which words, and what leaves the house."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import insert, update

from invsync_dagster.alerts import conditions
from invsync_dagster.alerts.causes import Cause, Found, Kind, Severity, reason
from invsync_dagster.alerts.sending import Message, Tone
from invsync_dagster.alerts.watchman import Watchman
from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.inventory.channels import approve_first_push, set_status
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import alerts, channels, imports, inventory_levels
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import AlertTarget, Home, Settings
from tests.unit.inventory.stock import ERP, OTHER, SHOP, START, Stock

pytestmark = pytest.mark.usefixtures("each_database")

SECRETS = {
    "KEY": "planted-api-key-0815",
    "SIGNING": "planted-signing",
    "WEBHOOK": "planted-webhook",
    "MAIL": "mailtos://planted-user:planted-password@example.com",
}


class Disk(NamedTuple):
    total: int
    used: int
    free: int


class Post:
    """The stock with a watchman, and what he has sent."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stock = Stock({"A": 5, "B": 7})
        self.stock.in_step()
        self.sent: list[tuple[str, Message]] = []
        self.refuses = ""
        values = {"base_url": "http://127.0.0.1:9", "api_key_env": "KEY", "signing_secret_env": "SIGNING"}
        settings = VENDORS["erp"].settings.model_validate(values | {"webhook_secret_env": "WEBHOOK"})
        self.channels = [Channel(name, "erp", "production", settings) for name in (SHOP, OTHER, ERP)]
        home = Home.from_environment({"INVSYNC_ROOT": str(folder)})
        home.data.mkdir()
        monkeypatch.setattr("shutil.disk_usage", lambda path: Disk(1000, 500, 500))
        self.watchman = Watchman(
            home,
            Configuration(Settings(alerts=(AlertTarget(url_env="MAIL"),)), tuple(self.channels)),
            SECRETS,
            self.stock.engine,
            VirtualClock(START),
            self._send,
        )
        with write_transaction(self.stock.engine) as connection:
            for name in (SHOP, OTHER, ERP):
                approve_first_push(connection, name, actor="test", reason="test", now=START - timedelta(days=1))

    def _send(self, url: str, message: Message) -> str:
        self.sent.append((url, message))
        return self.refuses

    def channel(self, name: str, **values: Any) -> None:
        with write_transaction(self.stock.engine) as connection:
            connection.execute(update(channels).where(channels.c.name == name).values(values))

    def found(self) -> dict[str, Cause]:
        return {cause.key: cause for cause in self.watchman.look().causes}


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Post:
    return Post(tmp_path, monkeypatch)


def test_where_all_is_well_nothing_is_found_and_nothing_sent(post: Post) -> None:
    assert post.found() == {}
    assert post.watchman.tell(post.watchman.look()) == {}
    assert post.sent == []


def test_dead_credentials_are_an_error_with_the_platforms_words_and_the_mend(post: Post) -> None:
    post.channel(SHOP, stopped_reason="unauthorized: the key is refused [re-authenticate]", last_problem="the same")
    [cause] = post.found().values()
    assert (cause.kind, cause.severity, cause.title) == (Kind.CREDENTIALS, Severity.ERROR, "shop refuses us")
    assert cause.message == (
        "unauthorized: the key is refused [re-authenticate]. Nothing is written to shop until that is mended; each run asks "
        "once and goes on as soon as it is. If the keys have changed, put the new ones into KEY and SIGNING (in .env) and "
        "start Dagster again; else look at the account there (docs/errors/re-authenticate.md)."
    )
    assert cause.page == "assets/push_results/shop"


def test_a_channel_that_answers_for_another_shop_is_called_so(post: Post) -> None:
    post.channel(SHOP, stopped_reason="another_shop: 60 of 100 listings are unknown at shop [review]")
    assert post.found()["credentials:shop"].title == "shop looks like another shop"


def test_a_push_that_failed_as_a_whole_is_an_error_until_one_succeeds(post: Post) -> None:
    post.channel(SHOP, last_problem="not_reached: connection refused [retry]")
    cause = post.found()["push_failed:shop"]
    assert cause.message.startswith("not_reached: connection refused [retry]. What is left stays a change")
    assert cause.message.endswith("(docs/errors/retry.md).")
    post.channel(SHOP, last_problem="")
    assert post.found() == {}


@pytest.mark.parametrize("status", ["paused", "retired"])
def test_nobody_is_warned_of_channels_that_are_paused_retired_or_not_in_the_file(post: Post, status: str) -> None:
    for name in (SHOP, OTHER):
        post.channel(name, last_problem="not_reached: connection refused [retry]")
    with write_transaction(post.stock.engine) as connection:
        set_status(connection, SHOP, status, actor="test", reason="test", now=START)
    configuration = replace(post.watchman.configuration, channels=(post.channels[0], post.channels[2]))
    assert replace(post.watchman, configuration=configuration).look().causes == ()


def test_old_changes_and_refused_rows_of_a_channel_are_one_warning_each(post: Post) -> None:
    level = post.stock.level(SHOP, "A")
    long_ago, lately = START - timedelta(minutes=16), START - timedelta(minutes=14)
    values = {"effective_quantity": level.desired + 1}
    post.stock.change_levels(out_of_step_since=lately, **values)
    assert post.found() == {}
    post.stock.change_levels(out_of_step_since=long_ago)
    refused = {"failures": conditions.REFUSALS, "last_error": "too_high: not that many [reject]"}
    post.stock.change_levels(inventory_levels.c.id == level.id, **refused)
    found = post.found()
    assert set(found) == {"old_changes:shop", "old_changes:other", "old_changes:erp", "refused_rows:shop"}
    assert found["old_changes:shop"].message.startswith("1 levels of shop are out of step")
    assert found["old_changes:other"].message.startswith("2 levels of other are out of step")
    assert "the oldest since 2026-03-01 11:44:00 UTC" in found["old_changes:other"].message
    assert "one of them: too_high: not that many [reject]. " in found["refused_rows:shop"].message
    assert {one.severity for one in found.values()} == {Severity.WARNING}


def test_changes_that_waited_for_an_approval_are_not_late(post: Post) -> None:
    post.channel(SHOP, push_approved_at=None)
    post.channel(OTHER, push_approved_at=START - timedelta(minutes=14))
    post.stock.change_levels(out_of_step_since=START - timedelta(hours=1), effective_quantity=99)
    assert set(post.found()) == {"old_changes:erp"}


def test_what_the_breaker_holds_is_a_warning_with_the_way_to_decide(post: Post) -> None:
    values = {"held_quantity": 3, "held_reason": "a new rule would set 80 % of the listings to 0"}
    post.stock.change_levels(inventory_levels.c.channel == OTHER, **values)
    cause = post.found()["held_listings:other"]
    assert cause.message.startswith(
        "The breaker holds 2 levels of other: a new rule would set 80 % of the listings to 0. "
    )
    assert "`invsync held approve other`" in cause.message


def test_held_imports_are_one_warning_however_many_they_are(post: Post) -> None:
    row = {"kind": "inventory", "sha256": "0", "path": "", "state": "held", "rows": 2, "summary": {}}
    with write_transaction(post.stock.engine) as connection:
        for number in range(3):
            more = {"id": f"i{number}", "file_name": f"stock-{number}.csv", "reason": "it would set all to 0"}
            connection.execute(insert(imports).values(row | more | {"created_at": START + timedelta(hours=number)}))
    [cause] = post.found().values()
    assert cause.message.startswith(
        "inventory stock-0.csv is held since 2026-03-01 12:00:00 UTC: it would set all to 0. 2 more wait besides."
    )
    assert "approve or drop it (id i0)" in cause.message


def test_a_disk_that_is_nearly_full_is_an_error(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Disk(100 * 10**9, 95 * 10**9, 5 * 10**9))
    assert post.found()["disk:data"].message.startswith("5.0 GB of 100 GB are free")


def test_what_follows_from_a_channel_that_is_down_is_not_told_besides(post: Post) -> None:
    post.channel(SHOP, last_problem="not_reached: connection refused [retry]")
    post.stock.change_levels(out_of_step_since=START - timedelta(hours=1), effective_quantity=99)
    red = Cause(Kind.CHECK, "full_sync/shop/x", Severity.WARNING, "red", "red", channel=SHOP)
    other = Cause(Kind.CHECK, "stock_ledger/x", Severity.WARNING, "red", "red")
    found = post.watchman.look().and_also(Found((red, other)))
    assert {one.key for one in found.causes} == {
        "push_failed:shop",
        "old_changes:other",
        "old_changes:erp",
        "check:stock_ledger/x",
    }
    assert found.undecided == {"old_changes:shop", "check:full_sync/shop/x"}


def test_a_host_that_does_not_answer_is_one_alert_from_its_first_failed_push_to_its_recovery(post: Post) -> None:
    clock = post.watchman.clock
    assert isinstance(clock, VirtualClock)
    post.channel(SHOP, last_problem="not_reached: connection refused [retry]")
    post.watchman.tell(post.watchman.look())
    for minute in range(3):
        words = f"no answer since 2026-03-01 11:44:00 UTC: not_reached: connection refused {minute} [retry]"
        post.channel(SHOP, last_problem=words, unreachable_since=START)
        clock.advance(60)
        post.watchman.tell(post.watchman.look())
    assert len(post.sent) == 1
    cause = post.found()["push_failed:shop"]
    assert cause.title == "shop does not answer"
    assert cause.message.startswith(
        "no answer since 2026-03-01 11:44:00 UTC: not_reached: connection refused 2 [retry]"
    )
    post.channel(SHOP, last_problem="", unreachable_since=None)
    for _ in range(2):
        clock.advance(600)
        post.watchman.tell(post.watchman.look())
    assert [message.title for _, message in post.sent][1:] == ["invsync: Over: shop does not answer"]


def test_a_clock_that_is_off_is_one_cause_for_all_channels_and_no_failed_push(post: Post) -> None:
    for name in (SHOP, OTHER):
        post.channel(name, clock_ahead=-900.4)
    found = post.found()
    assert set(found) == {"clock:clock"}
    message = found["clock:clock"].message
    assert message.startswith("the clock of this machine is 900 s ahead of other's; set it right (`timedatectl` says")
    assert message.endswith("and none is lost. Channels that say so: other, shop.")


def test_six_dead_channels_are_one_message_the_worst_first(post: Post) -> None:
    for name in (SHOP, OTHER):
        post.channel(name, last_problem="not_reached: connection refused [retry]")
    warning = Cause(Kind.CHECK, "x", Severity.WARNING, "stock_ledger: understood is red", "1 delivery.")
    assert post.watchman.tell(post.watchman.look().and_also(Found((warning,)))) == {"MAIL": ""}
    [(url, message)] = post.sent
    assert url == SECRETS["MAIL"]
    assert message.title == "invsync: 3 new"
    assert [part.partition(".")[0] for part in message.body.split("\n\n")] == [
        "other: the push failed",
        "shop: the push failed",
        "stock_ledger: understood is red",
    ]
    assert message.tone is Tone.FAILURE


def test_more_causes_than_a_message_bears_are_counted(post: Post) -> None:
    many = [Cause(Kind.CHECK, str(number), Severity.WARNING, f"check {number}", "red.") for number in range(30)]
    post.watchman.tell(Found(tuple(many)))
    [(_, message)] = post.sent
    assert message.body.endswith("And 22 more: `invsync alerts list`.")
    assert post.watchman.tell(Found(tuple(many))) == {}


def test_a_refused_message_stays_and_the_recovery_goes_with_it(post: Post) -> None:
    clock = post.watchman.clock
    assert isinstance(clock, VirtualClock)
    post.refuses = "it refused"
    post.channel(SHOP, last_problem="not_reached: connection refused [retry]")
    assert post.watchman.tell(post.watchman.look()) == {"MAIL": "it refused"}
    post.channel(SHOP, last_problem="")
    post.watchman.tell(post.watchman.look())
    clock.advance(300)
    post.refuses = ""
    assert post.watchman.tell(post.watchman.look()) == {"MAIL": ""}
    assert post.sent[-1][1].title == "invsync: 1 new and 1 over"


def test_nothing_secret_and_nothing_of_buyers_leaves_the_house(post: Post) -> None:
    planted = [*SECRETS.values(), "anna.buyer@example.org", "+49 170 1234567", "0170 555 12 34"]
    words = f"refused: {' and '.join(planted)} [re-authenticate]"
    post.channel(SHOP, stopped_reason=words)
    post.channel(OTHER, last_problem=words)
    post.stock.change_levels(inventory_levels.c.channel == ERP, held_quantity=1, held_reason=words)
    post.stock.change_levels(
        inventory_levels.c.item_id == "B", held_quantity=None, failures=9, last_error=words, uncertain="x"
    )
    post.watchman.tell(post.watchman.look())
    [(_, message)] = post.sent
    assert message.body.count("[re-authenticate]") == 4
    for secret in planted:
        assert secret not in message.title + message.body
    for row in post.stock.rows(alerts):
        assert not any(secret in row.message for secret in planted)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("item 7312312312345 of order 1001-22-3 is gone", "item 7312312312345 of order 1001-22-3 is gone"),
        ("since 2026-03-01 11:44:00 UTC", "since 2026-03-01 11:44:00 UTC"),
        (
            "gid://shopify/InventoryItem/43729076 at 10.20.30.40:8080",
            "gid://shopify/InventoryItem/43729076 at 10.20.30.40:8080",
        ),
        ("Amazon's order 302-1234567-7654321", "Amazon's order 302-1234567-7654321"),
        ("call (030) 123 456 78 or 555-123-4567", "call [telephone] or [telephone]"),
        ("a\n\n  b.", "a b"),
        ("the buyer jane.doe@exam…", "the buyer [mail]"),
    ],
)
def test_ids_and_times_stay_readable(words: str, said: str) -> None:
    assert reason(words, ()) == said


def test_a_long_reason_is_cut_and_keeps_its_class(post: Post) -> None:
    said = reason("x" * 1000 + " [settle]", ())
    assert len(said) < 420
    assert said.endswith("… [settle]")


@pytest.mark.parametrize("personal", ["jane.doe@example.com", "555-123-4567"])
def test_what_is_personal_does_not_stay_where_a_reason_is_cut(personal: str) -> None:
    for before in range(370, 400):
        said = reason("x" * before + f" {personal} and more", ())
        assert not any(part in said for part in ("jane", "555"))


def test_a_target_whose_variable_is_not_set_is_left_out(post: Post) -> None:
    targets = (AlertTarget(url_env="UNSET"), AlertTarget(url_env="MAIL"))
    configuration = replace(post.watchman.configuration, settings=Settings(alerts=targets))
    watchman = replace(post.watchman, configuration=configuration)
    post.channel(SHOP, last_problem="x")
    assert watchman.tell(watchman.look()) == {"MAIL": ""}
