"""The alerts' sensor over real runs and checks: what is told, what is not, and when it is over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._core.test_utils import create_run_for_test

from invsync_dagster.alerts.book import Outage
from invsync_dagster.alerts.sending import Message
from invsync_dagster.alerts.watchman import Watchman
from invsync_dagster.defs.alerting import EVERY_SECONDS, Dagster, Looked, alerts_sensor_function
from invsync_dagster.defs.names import failed_channel_tag
from invsync_dagster.inventory.catch_up import catch_up
from invsync_dagster.inventory.channels import set_status
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import AlertTarget
from tests.defs.conftest import SECRETS, Installation
from tests.defs.test_net import order_of, with_shop

SETTINGS = "  ui_url: https://stock.example.com\n  alerts:\n    - url_env: MAIL\n"
REFUSED = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is refused")


@dataclass
class Duty:
    """A watchman on duty over an installation, with a clock of his own; what he has sent is in `told`."""

    home: Installation
    refuses: str = ""
    told: list[Message] = field(default_factory=list)
    cursor: str | None = None
    checks: set[dg.AssetCheckKey] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.clock = VirtualClock(datetime.now(UTC))
        assets = self.home.definitions().resolve_asset_graph()
        self.checks = set(assets.asset_check_keys)
        home = self.home.home
        engine = open_database(home.database_url)
        self.watchman = Watchman(home, self.home.configuration, SECRETS, engine, self.clock, self._send)
        self._evaluate = alerts_sensor_function(lambda: self.watchman, self.checks)

    def _send(self, url: str, message: Message) -> str:
        if not self.refuses:
            self.told.append(message)
        return self.refuses

    def choose(self, channel: str, status: str) -> None:
        """Pause, retire or resume a channel."""
        engine, now = self.watchman.engine, self.home.clock.now()
        with write_transaction(engine) as connection:
            set_status(connection, channel, status, actor="ann", reason="stocktaking", now=now)
        catch_up(engine, now)

    def look(self, seconds: float = EVERY_SECONDS) -> list[str]:
        """Let some seconds pass and look; return the titles that were told."""
        self.clock.advance(seconds)
        before = len(self.told)
        result = self._evaluate(dg.build_sensor_context(self.home.instance, cursor=self.cursor))
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        self.said = result.skip_reason.skip_message if isinstance(result.skip_reason, dg.SkipReason) else ""
        return [message.title.removeprefix("invsync: ") for message in self.told[before:]]


@pytest.fixture
def duty(install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch) -> Duty:
    monkeypatch.setattr("invsync_dagster.alerts.watchman.disk_cause", lambda data: ())
    monkeypatch.setitem(SECRETS, "MAIL", "mailtos://planted")
    return Duty(install("one", "two", settings=SETTINGS))


def test_where_all_is_well_nobody_is_told_anything(duty: Duty) -> None:
    assert duty.home.run("incremental").success
    assert duty.look() == []
    assert duty.said == "nothing new to tell"


def test_a_dead_channel_is_told_once_however_many_runs_it_fails_and_once_when_it_is_back(duty: Duty) -> None:
    duty.home.platforms["one"].error = REFUSED
    for _ in range(3):
        assert not duty.home.run("incremental").success
        duty.look()
    duty.home.platforms["one"].error = None
    assert duty.home.run("incremental").success
    for _ in range(20):
        duty.look()
    assert [message.title for message in duty.told] == [
        "invsync: one (sandbox) refuses us",
        "invsync: Over: one (sandbox) refuses us",
    ]
    assert "unauthorized: the key is refused [re-authenticate]. " in duty.told[0].body
    assert duty.told[0].body.endswith(
        "(docs/errors/re-authenticate.md). https://stock.example.com/assets/push_results/one"
    )


def test_a_check_that_a_dead_channel_turned_red_is_judged_again_by_its_next_run(duty: Duty) -> None:
    listings = [dg.AssetKey(["listings", "one"])]
    duty.home.platforms["one"].error = REFUSED
    assert not duty.home.run("incremental").success
    assert not duty.home.run("discover", selection=listings).success
    assert duty.look() == ["one (sandbox) refuses us"]
    duty.home.platforms["one"].error = None
    assert duty.home.run("incremental").success
    assert [title for _ in range(20) for title in duty.look()] == ["Over: one (sandbox) refuses us"]


def test_a_full_run_that_found_its_channel_paused_is_no_reason_for_a_message_and_one_that_failed_is(duty: Duty) -> None:
    def full_run() -> bool:
        tags = {"dagster/asset_partition_range_start": "0", "dagster/asset_partition_range_end": "3"}
        return duty.home.run("full_sync", selection=[dg.AssetKey(["full_sync", "one"])], tags=tags).success

    duty.home.stock({"A": 5}, ["one"])
    duty.choose("one", "paused")
    assert not full_run()
    assert duty.home.run("audit").success  # its check of failed batches is red
    assert duty.look() == []
    duty.choose("one", "active")
    duty.home.platforms["one"].error_of_reading = PlatformError(Recovery.REJECT, "broken", "not so")
    assert not full_run()
    assert duty.look() == ["A run of full_sync full_sync/one failed"]


@pytest.mark.parametrize(
    ("job", "assets", "failed", "told"),
    [
        ("full_sync", [], ["one"], []),
        ("retry_failed_batches", [], ["one"], []),
        ("__ASSET_JOB", ["full_sync/one"], ["one"], []),
        ("__ASSET_JOB", ["full_sync/one", "full_sync/two"], ["one"], []),
        ("full_sync", [], ["one", "two"], ["A run of full_sync failed"]),
        ("full_sync", [], [], ["A run of full_sync failed"]),
        ("__ASSET_JOB", ["full_sync/one", "order_count/one"], ["one"], ["A run of Materialize failed"]),
        ("__ASSET_JOB", ["order_count/one"], ["one"], ["A run of Materialize order_count/one failed"]),
        ("__ASSET_JOB", [], ["one"], ["A run of Materialize failed"]),
    ],
)
def test_a_failed_run_is_silent_where_it_is_a_full_one_of_paused_channels_and_of_none_else(
    duty: Duty, job: str, assets: list[str], failed: list[str], told: list[str]
) -> None:
    duty.choose("one", "paused")
    create_run_for_test(
        duty.home.instance,
        job_name=job,
        status=dg.DagsterRunStatus.FAILURE,
        tags={failed_channel_tag(channel): "true" for channel in failed},
        asset_selection=frozenset(map(dg.AssetKey.from_user_string, assets)) or None,
    )
    assert duty.look() == told


@pytest.mark.parametrize(("status", "told"), [("paused", ["A run of incremental failed"]), ("retired", [])])
def test_a_paused_channel_whose_orders_cannot_be_asked_for_is_told_and_one_retired_since_is_not(
    duty: Duty, status: str, told: list[str]
) -> None:
    duty.choose("one", "paused")
    duty.home.platforms["one"].error = REFUSED
    assert not duty.home.run("incremental").success
    duty.choose("one", status)
    assert duty.look() == told


def test_orders_that_a_paused_channel_has_and_we_had_not_are_told(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invsync_dagster.alerts.watchman.disk_cause", lambda data: ())
    monkeypatch.setitem(SECRETS, "MAIL", "mailtos://planted")
    home, shop = with_shop(install, more=SETTINGS)
    duty = Duty(home)
    duty.choose("shop", "paused")
    shop.orders_of = [order_of("7", home.clock.now(), 3)]
    home.clock.advance(2 * 86_400)
    assert home.run("count_orders", run_config={"ops": {"order_count__shop": {"config": {"days": 3}}}}).success
    assert duty.look() == ["order_count/shop: orders_agree warns"]
    duty.choose("shop", "retired")
    assert [title for _ in range(20) for title in duty.look()] == ["Over: order_count/shop: orders_agree warns"]


def test_a_check_that_is_red_since_after_an_outage_is_a_cause(duty: Duty) -> None:
    duty.home.platforms["one"].error = REFUSED
    assert not duty.home.run("discover", selection=[dg.AssetKey(["listings", "one"])]).success
    dagster = Dagster(duty.home.instance, duty.checks, ())
    now = datetime.now(UTC)
    during, before = Outage(now, None), Outage(now - timedelta(hours=2), now - timedelta(hours=1))
    assert dagster.red_checks({"one": during}).undecided == {"check:listings/one/listings_mapped"}
    assert dagster.red_checks({"one": during}).causes == ()
    assert [cause.key for cause in dagster.red_checks({"one": before}).causes] == ["check:listings/one/listings_mapped"]


def test_a_red_check_is_told_with_its_words_and_a_link_and_ends_with_the_next_good_one(duty: Duty) -> None:
    quarantine = duty.home.home.inbox
    quarantine.mkdir(parents=True, exist_ok=True)
    good = duty.home.home.channels_file.read_text()
    duty.home.home.channels_file.write_text(good + "unheard_of: 1\n")
    duty.home.run("webhooks")
    assert duty.look() == ["stock_ledger: configuration is red"]
    [message] = duty.told
    assert "unknown key 'unheard_of'" in message.body
    assert message.body.endswith(" https://stock.example.com/assets/stock_ledger?view=checks")
    duty.home.home.channels_file.write_text(good)
    duty.home.run("webhooks")
    assert [duty.look(60) for _ in range(4)] == [[], [], ["Over: stock_ledger: configuration is red"], []]


def test_every_check_of_the_definitions_is_watched_and_the_targets_are_those_of_the_file(duty: Duty) -> None:
    names = {key.name for key in duty.checks}
    assert {"adds_up", "mappings_clear", "no_failed_batch", "shows_what_it_should", "understood"} <= names
    assert duty.watchman.configuration.settings.alerts == (AlertTarget(url_env="MAIL"),)
    assert duty.watchman.configuration.settings.ui_url == "https://stock.example.com"


def test_a_failed_backup_is_told_with_its_reason_until_one_succeeds(
    duty: Duty, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("invsync_dagster.defs.upkeep.take", _no_backup)
        run = duty.home.run("backup")
    assert duty.look() == ["The backup failed"]
    assert "no space for a backup" in duty.told[0].body
    assert duty.told[0].body.endswith(f" https://stock.example.com/runs/{run.run_id}")
    assert [duty.look(60) for _ in range(5)] == [[]] * 5
    assert duty.home.run("backup").success
    assert [duty.look(60) for _ in range(4)] == [[], [], ["Over: The backup failed"], []]


def _no_backup(*arguments: object) -> None:
    from invsync_dagster.inventory.copies import BackupError

    raise BackupError("no space for a backup")


def test_an_error_that_nobody_wrote_for_people_is_told_by_its_name_alone(
    duty: Duty, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("anna.buyer@example.org ordered 3")

    monkeypatch.setattr("invsync_dagster.defs.upkeep.take", broken)
    duty.home.run("backup")
    duty.look()
    assert duty.told[0].body.startswith("RuntimeError in the step database_backup. ")


def test_a_run_that_dagster_starts_again_is_no_news_and_one_that_died_is(duty: Duty) -> None:
    for tags in ({WILL_RETRY_TAG: "true"}, {}):
        create_run_for_test(duty.home.instance, job_name="audit", status=dg.DagsterRunStatus.FAILURE, tags=tags)
        told = duty.look(60)
        assert told == ([] if tags else ["A run of audit failed"])
    assert "its process died, or it never started" in duty.told[0].body


def test_a_channel_that_broke_without_a_word_in_the_stock_is_told_as_a_failed_run(
    duty: Duty, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise TypeError("our own mistake")

    monkeypatch.setattr("invsync_dagster.defs.push.push_channel", broken)
    assert not duty.home.run("incremental").success
    assert duty.look() == ["A run of incremental failed"]
    assert "2 of 2 channels failed: " in duty.told[0].body


def test_a_messenger_that_refuses_fails_no_look_and_is_told_later(duty: Duty) -> None:
    duty.home.platforms["one"].error = REFUSED
    duty.home.run("incremental")
    duty.refuses = "it refused"
    assert duty.look() == []
    assert duty.said == "MAIL: it refused"
    duty.refuses = ""
    assert duty.look() == ["one (sandbox) refuses us"]


def test_a_database_that_cannot_be_used_is_told_once_from_the_second_look_on_and_when_it_is_back(
    duty: Duty, tmp_path: Path
) -> None:
    there = duty.watchman
    gone = open_database(f"sqlite:///{tmp_path / 'no' / 'stock.db'}")
    duty.watchman = Watchman(there.home, there.configuration, there.environ, gone, there.clock, there.send)
    assert [duty.look() for _ in range(4)] == [[], ["the database can't be used"], [], []]
    assert f"there is no such file ({tmp_path}/no/stock.db)" in duty.told[0].body
    duty.watchman = there
    assert [duty.look() for _ in range(3)] == [["Over: the database"], [], []]


@pytest.mark.parametrize("cursor", [None, "", "no cursor", "[]", '{"until": 7}'])
def test_a_cursor_that_cannot_be_read_starts_an_hour_ago(cursor: str | None) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert Looked.parse(cursor, now) == Looked(now - timedelta(hours=1))
    assert Looked.parse(Looked(now, 3, True).store(), now) == Looked(now, 3, True)


def test_the_status_shows_the_open_alerts(duty: Duty) -> None:
    duty.home.platforms["one"].error = REFUSED
    duty.home.run("incremental")
    duty.look()
    result = duty.home.run("audit")
    [made] = result.asset_materializations_for_node("sync_status")
    assert made.metadata["open_alerts"].value == 1
    table = made.metadata["alerts"]
    assert isinstance(table, dg.TableMetadataValue)
    [row] = table.records
    assert row.data["alert"] == "one (sandbox) refuses us"
