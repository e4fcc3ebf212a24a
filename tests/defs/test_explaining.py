from collections.abc import Callable

import dagster as dg
import pytest

from tests.defs.conftest import SHOWN_BEFORE, Installation


def explained(home: Installation, **config: str) -> dg.ExecuteInProcessResult:
    return home.run("explain", run_config={"ops": {"walk_back": {"config": config}}})


def words(result: dg.ExecuteInProcessResult) -> str:
    (event,) = (one for one in result.all_events if one.is_successful_output)
    value = event.step_output_data.metadata["explanation"]
    assert isinstance(value, dg.MarkdownMetadataValue)
    return str(value.md_str)


def test_the_job_shows_the_walk_of_a_sku_in_its_run(install: Callable[..., Installation]) -> None:
    home = install("one", "two")
    home.stock({"S1": 7}, ["one", "two"])
    home.run("incremental")
    now = words(explained(home, sku="S1"))
    assert "one (sandbox): in step: shows 7, as it should" in now
    assert "two (sandbox): in step: shows 7, as it should" in now
    assert "two (sandbox)" not in words(explained(home, sku="S1", channel="one"))
    then = words(explained(home, sku="S1", channel="one", at=home.clock.now().isoformat()))
    assert "one: in step: it showed 7" in then
    assert "it had no listing then" in words(explained(home, sku="S1", at="2020-01-01T00:00:00Z"))
    assert f"read 0: ? -> {SHOWN_BEFORE} observed" in now


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"sku": "s1"}, "did you mean 'S1'"),
        ({"sku": "S1", "channel": "three"}, "no channel 'three'; known: one"),
        ({"sku": "S1", "at": "yesterday"}, "'yesterday' is no time"),
    ],
)
def test_what_is_unknown_fails_the_run_with_one_sentence(
    install: Callable[..., Installation], config: dict[str, str], reason: str
) -> None:
    home = install("one")
    home.stock({"S1": 7}, ["one"])
    result = explained(home, **config)
    assert not result.success
    (failed,) = (one for one in result.all_events if one.is_step_failure)
    assert failed.step_failure_data.user_failure_data is not None
    assert reason in str(failed.step_failure_data.user_failure_data.description)
