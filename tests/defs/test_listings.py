from collections.abc import Callable

import dagster as dg

from invsync_dagster.platforms.errors import PlatformError, Recovery
from tests.defs.conftest import Installation

KEY = dg.AssetKey(["listings", "one"])
STOCK = {f"S{number}": 10 + number for number in range(12)}


def stocked(install: Callable[..., Installation], *channels: str) -> Installation:
    home = install(*channels)
    home.stock(STOCK, list(channels))
    return home


def figures(result: dg.ExecuteInProcessResult, key: dg.AssetKey = KEY) -> dict[str, object]:
    (event,) = [one for one in result.get_asset_materialization_events() if one.asset_key == key]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_channel_that_is_mapped_as_it_lists_is_green(install: Callable[..., Installation]) -> None:
    home = stocked(install, "one", "two")
    result = home.run("discover")
    assert result.success
    found = figures(result)
    assert (found["listings"], found["mapped_levels"], found["unmapped"], found["vanished"]) == (12, 12, 0, 0)
    assert "mapping_file" not in found
    assert {(check.asset_key, check.passed) for check in result.get_asset_check_evaluations()} == {
        (KEY, True),
        (dg.AssetKey(["listings", "two"]), True),
    }


def test_cases_are_counted_shown_and_written_to_the_runs_mapping_file(install: Callable[..., Installation]) -> None:
    home = stocked(install, "one")
    shown = home.platforms["one"].shown
    del shown["S1"]
    home.platforms["one"].gone = {"S1"}
    shown |= {"s-2": 4, "NEW": 1}
    result = home.run("discover")
    assert result.success
    found = figures(result)
    assert (found["unmapped"], found["similar"], found["unmatched"], found["vanished"]) == (2, 1, 1, 1)
    assert found["sent_to_review"] == 1
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description == (
        "1 gone from the channel: retire them, or map what took their place; 2 not mapped: 0 of them need no more than the "
        "import"
    )
    assert {name: value.value for name, value in check.metadata.items()} == {
        "unmapped": 2,
        "vanished": 1,
        "doubly_mapped": 0,
        "renamed": 0,
        "moved": 0,
        "undrivable": 0,
        "returned": 0,
    }
    file = home.home.reports / result.run_id / "mapping_one.csv"
    assert found["mapping_file"] == str(file)
    assert len(file.read_text().splitlines()) == 4
    assert home.run("incremental").success
    assert "S1" not in home.platforms["one"].shown


def test_an_answer_that_can_not_be_true_fails_the_run_and_changes_nothing(install: Callable[..., Installation]) -> None:
    home = stocked(install, "one")
    home.platforms["one"].shown = {}
    result = home.run("discover")
    assert not result.success
    assert not result.get_asset_materialization_events()
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert str(check.description).startswith("nothing_listed: one lists nothing at all, and 12 levels are mapped")


def test_a_dead_channel_does_not_keep_another_from_being_listed(install: Callable[..., Installation]) -> None:
    home = stocked(install, "one", "two")
    home.platforms["one"].error = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is not right")
    result = home.run("discover")
    assert not result.success
    assert [event.asset_key for event in result.get_asset_materialization_events()] == [
        dg.AssetKey(["listings", "two"])
    ]
    checks = {check.asset_key.path[1]: check for check in result.get_asset_check_evaluations()}
    assert (checks["one"].passed, checks["two"].passed) == (False, True)
    assert checks["one"].description == "unauthorized: the key is not right [re-authenticate]"


def test_the_schedule_asks_for_a_run_a_channel(install: Callable[..., Installation]) -> None:
    home = install("one", "two")
    schedule = home.definitions().get_repository_def().get_schedule_def("listings_schedule")
    with dg.build_schedule_context(instance=home.instance) as context:
        requests = schedule.evaluate_tick(context).run_requests
    assert [request.asset_selection for request in requests or []] == [[KEY], [dg.AssetKey(["listings", "two"])]]
