"""What the breaker holds is seen at its check and decided by a job, with a name and a reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.defs.conftest import Installation

SKUS = [f"S{number:02}" for number in range(30)]


def decided(home: Installation, tags: dict[str, str] | None = None, **config: Any) -> dg.ExecuteInProcessResult:
    return home.run("decide_held", run_config={"ops": {"decide": {"config": config}}}, tags=tags or {})


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = (one for one in result.all_events if one.is_step_failure)
    error = event.step_failure_data.error
    return str(event.step_failure_data.user_failure_data or error)


def breaker(home: Installation) -> dg.AssetCheckEvaluation:
    result = home.run("incremental")
    return next(one for one in result.get_asset_check_evaluations() if one.check_name == "breaker")


def nothing_held(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    return next(one for one in result.get_asset_check_evaluations() if one.check_name == "nothing_held")


@pytest.fixture
def home(install: Callable[..., Installation]) -> Installation:
    """An installation in step, whose rules would set everything to 0."""
    made = install("one")
    made.stock(dict.fromkeys(SKUS, 7), ["one"])
    assert made.run("incremental").success
    text = made.home.channels_file.read_text()
    made.home.channels_file.write_text(text + "    rules: { buffer: 100 }\n")
    return made


def test_the_check_shows_what_is_held_and_the_job_approves_it(home: Installation) -> None:
    check = breaker(home)
    assert not check.passed
    assert "would set to 0 30 of 30 listings on one; 20 may pass unseen" in str(check.description)
    assert "invsync rules undo" in str(check.description)
    table = check.metadata["worst"]
    assert isinstance(table, dg.TableMetadataValue)
    row = table.records[0].data
    assert (row["channel"], row["sku"], row["shown"], row["wanted"]) == ("one", "S00", 7, 0)
    looked = decided(home, what="one", decision="look")
    assert looked.success
    assert set(home.platforms["one"].shown.values()) == {7}
    assert decided(
        home, what="one", decision="approve", actor="ann", reason="clearance", seen=check.metadata["seen"].value
    ).success
    assert breaker(home).passed
    assert set(home.platforms["one"].shown.values()) == {0}


def test_what_is_dropped_is_decided_and_stays(home: Installation) -> None:
    breaker(home)
    assert decided(home, what="one", decision="drop", actor="ann", reason="a slip").success
    check = breaker(home)
    assert check.passed
    assert check.metadata["kept_as_decided"].value == 30
    assert set(home.platforms["one"].shown.values()) == {7}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"what": "one", "decision": "approve", "reason": "yes"}, "say who decides"),
        ({"what": "one", "decision": "approve", "actor": "ann"}, "say why"),
        ({"what": "two", "decision": "approve", "actor": "ann", "reason": "yes"}, "nothing is held on 'two'"),
        ({"what": "20260101T000000-nope", "decision": "drop", "actor": "a", "reason": "b"}, "there is no import"),
    ],
)
def test_a_decision_that_can_not_be_made_fails_with_one_sentence(
    home: Installation, config: dict[str, Any], words: str
) -> None:
    breaker(home)
    result = decided(home, **config)
    assert not result.success
    assert words in failure(result)


def test_the_user_of_the_proxy_decides_where_no_actor_is_given(home: Installation) -> None:
    breaker(home)
    assert decided(home, {"user": "bea"}, what="one", decision="approve", reason="clearance").success
    late = decided(home, what="one", decision="approve", actor="ann", reason="yes")
    assert "bea decided at" in failure(late)


def test_a_held_import_is_decided_by_the_same_job(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock(dict.fromkeys(SKUS, 7), ["one"])
    home.clock.advance(60)
    rows = "".join(f"{sku},0\n" for sku in SKUS)
    (home.home.imports / "zero.csv").write_text(f"sku,quantity\n{rows}")
    check = nothing_held(home.run("import_files"))
    assert not check.passed
    table = check.metadata["worst"]
    assert isinstance(table, dg.TableMetadataValue)
    (source,) = table.records
    assert "30 of 30 SKUs that can be sold would go to 0 (limit 20%)" in str(source.data["reason"])
    number = str(source.data["import_id"])
    assert decided(home, what=number, decision="look").success
    assert decided(home, what=number, decision="drop", actor="ann", reason="wrong export").success
    assert nothing_held(home.run("import_files")).passed


def test_the_report_of_what_is_held_is_never_of_before_the_last_hold_or_decision(home: Installation) -> None:
    def reported() -> list[str]:
        return Path(str(breaker(home).metadata["report"].value)).read_text().splitlines()[1:]

    assert len(reported()) == 30
    home.clock.advance(60)
    assert decided(home, what="one", decision="drop", skus=SKUS[:10], actor="ann", reason="a slip").success
    home.clock.advance(60)
    assert sum(",True," in line for line in reported()) == 10
    assert decided(home, what="one", decision="approve", skus=SKUS[10:15], actor="ann", reason="clearance").success
    home.clock.advance(60)
    assert len(reported()) == 25
