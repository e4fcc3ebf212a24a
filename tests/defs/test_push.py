import threading
from collections.abc import Callable

import dagster as dg
import pytest
from sqlalchemy import update

from invsync_dagster.defs.names import CAUSE, SCHEDULE, WEBHOOK, push_key
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import channels
from invsync_dagster.platforms.errors import PlatformError, Recovery
from tests.defs.conftest import SHOWN_BEFORE, Installation

STOCK = {"A": 5, "B": 0, "C": 70}


def checks(result: dg.ExecuteInProcessResult, name: str = "pushed") -> dict[str, bool]:
    return {
        one.asset_key.path[-1]: one.passed for one in result.get_asset_check_evaluations() if one.check_name == name
    }


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}


@pytest.mark.usefixtures("each_database")
def test_a_cycle_pushes_every_channel_and_says_so(install: Callable[..., Installation]) -> None:
    home = install("one", "two")
    home.stock(STOCK, ["one", "two"])
    result = home.run("incremental")
    assert result.success
    assert home.platforms["one"].shown == STOCK
    assert home.platforms["two"].shown == STOCK
    assert {"stock_ledger", "inventory_snapshot", "inventory_changes", "push_results/one", "push_results/two"} <= (
        materialized(result)
    )
    assert checks(result) == {"one": True, "two": True}
    [event] = [
        e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(["push_results", "one"])
    ]
    metadata = event.materialization.metadata
    assert metadata["left"].value == 0
    assert metadata["rejected"].value == 0
    assert home.tags(result)["invsync/cause"] == "by_hand"


def test_a_webhooks_run_applies_then_pushes_and_does_nothing_else(install: Callable[..., Installation]) -> None:
    home = install("one", "two")
    home.stock(STOCK, ["one", "two"])
    result = home.run("webhooks")
    assert result.success
    assert [event.step_key for event in result.all_events if event.is_step_success] == ["stock_ledger", "push_results"]
    assert "adds_up" not in {one.check_name for one in result.get_asset_check_evaluations()}
    assert home.platforms["one"].shown == home.platforms["two"].shown == STOCK


def test_a_webhooks_run_keeps_the_figures_that_are_not_zero(install: Callable[..., Installation]) -> None:
    home = install("shop")
    home.stock(STOCK, ["shop"])
    found = []
    for cause in (WEBHOOK, SCHEDULE):
        result = home.run("webhooks", tags={CAUSE: cause})
        [made] = result.asset_materializations_for_node("push_results")[:1]
        found.append({name: value.value for name, value in made.metadata.items()})
    by_webhook, by_schedule = found
    assert by_webhook["acknowledged"] == len(STOCK)
    assert "rejected" not in by_webhook
    assert 0 not in by_webhook.values()
    assert (by_schedule["acknowledged"], by_schedule["rejected"]) == (0, 0)


def test_one_failing_and_one_hanging_channel_leave_the_third_in_step(install: Callable[..., Installation]) -> None:
    home = install("good", "dead", "hung", settings="  push_deadline_seconds: 0.3\n")
    home.stock(STOCK, ["good", "dead", "hung"])
    release = threading.Event()
    home.platforms["dead"].error = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is refused")
    home.platforms["hung"].hangs = release
    home.grace_seconds = 1.0
    result = home.run("incremental")
    release.set()
    assert not result.success
    assert home.platforms["good"].shown == STOCK
    assert "push_results/good" in materialized(result)
    assert not {"push_results/dead", "push_results/hung"} & materialized(result)
    assert checks(result) == {"good": True, "dead": False, "hung": False}
    [said] = [one.description for one in result.get_asset_check_evaluations() if one.asset_key == push_key("dead")]
    assert said is not None and "unauthorized: the key is refused" in said
    assert "put the new ones into" in said
    assert "sync_status" in materialized(result)
    tags = home.tags(result)
    assert tags["invsync/failed_channel/dead"] == "true"
    assert tags["invsync/failed_channel/hung"] == "true"
    assert "invsync/failed_channel/good" not in tags
    reasons = {e.asset_key.path[-1]: e.description for e in result.get_asset_check_evaluations()}
    assert "the key is refused" in (reasons["dead"] or "")
    assert "no answer within" in (reasons["hung"] or "")


def test_a_dry_run_calls_no_channel_and_shows_what_is_due(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock(STOCK, ["one"])
    config = {"ops": {"push_results": {"config": {"dry_run": True, "skus": ["A"]}}}}
    result = home.run("incremental", run_config=config)
    assert result.success
    assert home.platforms["one"].written == []
    assert home.platforms["one"].shown == dict.fromkeys(STOCK, SHOWN_BEFORE)
    [observed] = result.get_asset_observation_events()
    assert observed.asset_observation_data.asset_observation.metadata["changes"].value == 1
    report = home.home.reports / result.run_id / "dry_run_one.csv"
    assert report.read_text().splitlines()[1].startswith("one,A,")


def test_given_skus_are_pushed_alone(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock(STOCK, ["one"])
    result = home.run("sync_skus", run_config={"ops": {"push_results": {"config": {"skus": ["C"], "reason": "asked"}}}})
    assert result.success
    assert home.platforms["one"].shown == {"A": SHOWN_BEFORE, "B": SHOWN_BEFORE, "C": 70}


def test_the_job_for_given_skus_wants_at_least_one(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock(STOCK, ["one"])
    tags = {"invsync/cause": "given_skus"}
    result = home.run("incremental", selection=[dg.AssetKey(["push_results", "one"])], tags=tags)
    assert not result.success
    assert home.platforms["one"].written == []


def test_nothing_is_written_before_the_first_push_is_approved(install: Callable[..., Installation]) -> None:
    home = install("one", approved=False)
    home.stock(STOCK, ["one"])
    first = home.run("incremental")
    assert first.success
    assert home.platforms["one"].written == []
    assert checks(first) == {"one": False}
    preview = home.run("preview_channel", run_config={"ops": {"read_and_compare": {"config": {"channel": "one"}}}})
    [observed] = preview.get_asset_observation_events()
    assert observed.asset_observation_data.asset_observation.metadata["raised"].value == 2
    assert home.platforms["one"].written == []
    decision = {"channel": "one", "actor": "Ada", "reason": "looked at it"}
    assert home.run("approve_first_push", run_config={"ops": {"approve": {"config": decision}}}).success
    second = home.run("incremental")
    assert checks(second) == {"one": True}
    assert home.platforms["one"].shown == STOCK


def test_another_shop_fails_its_preview_and_is_not_approved(install: Callable[..., Installation]) -> None:
    home = install("one", approved=False)
    stock = {f"S{number}": 5 for number in range(12)}
    home.stock(stock, ["one"])
    decision = {"channel": "one", "actor": "Ada", "reason": "looked at it"}
    jobs = {
        "preview_channel": {"ops": {"read_and_compare": {"config": {"channel": "one"}}}},
        "approve_first_push": {"ops": {"approve": {"config": decision}}},
    }
    home.platforms["one"].gone = set(stock)
    assert [home.run(job, run_config=config).success for job, config in jobs.items()] == [False, False]
    home.platforms["one"].gone = set()
    assert [home.run(job, run_config=config).success for job, config in jobs.items()] == [True, True]


@pytest.mark.parametrize("dry_run", [False, True])
def test_why_a_person_started_a_run_is_kept_also_where_the_channel_failed(
    install: Callable[..., Installation], dry_run: bool
) -> None:
    home = install("one")
    home.stock({"A": 5}, ["one"])
    home.platforms["one"].error = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is not right")
    given = {"skus": ["A"], "reason": "a customer called", "dry_run": dry_run}
    result = home.run("sync_skus", run_config={"ops": {"push_results": {"config": given}}})
    assert result.success is dry_run
    assert home.tags(result)["invsync/reason"] == "a customer called"
    assert "invsync/reason" not in home.tags(home.run("incremental"))
    if dry_run:
        (event,) = result.get_asset_observation_events()
        shown = event.asset_observation_data.asset_observation.metadata
        assert (shown["dry_run"].value, shown["reason"].value) == (True, "a customer called")


def test_a_reason_of_a_thousand_words_fits_into_the_tag(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock({"A": 5}, ["one"])
    given = {"skus": ["A"], "reason": "why " * 1000, "dry_run": True}
    result = home.run("sync_skus", run_config={"ops": {"push_results": {"config": given}}})
    assert len(home.tags(result)["invsync/reason"]) == 500


def test_a_clock_that_is_off_is_red_and_fails_no_push(install: Callable[..., Installation]) -> None:
    home = install("one", "two")
    home.stock(STOCK, ["one", "two"])
    ws = home.open()
    with write_transaction(ws.engine) as connection:
        connection.execute(update(channels).where(channels.c.name == "one").values(clock_ahead=-900.2))
    ws.close()
    result = home.run("incremental")
    assert result.success
    assert home.platforms["one"].shown == STOCK
    assert checks(result) == {"one": False, "two": True}
    [said] = [one.description for one in result.get_asset_check_evaluations() if one.asset_key == push_key("one")]
    assert said is not None
    assert said.startswith("the clock of this machine is 900 s ahead of one's; set it right (`timedatectl` says")
