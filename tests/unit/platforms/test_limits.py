"""What a channel may change of its platform's limits: checked in one place for all platforms."""

from __future__ import annotations

import pytest

from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.registry import VENDORS

LIMITS = Limits(write_batch=50, read_batch=100, rate=2.0, burst=4.0, writes_a_day=250)


def test_a_channel_changes_what_it_names_and_nothing_else() -> None:
    changed = LIMITS.changed({"write_batch": 20.0, "writes_a_day": 96.0, "read_lag": 2.5}, most_rows=100)
    assert changed == Limits(write_batch=20, read_batch=100, rate=2.0, burst=4.0, writes_a_day=96, read_lag=2.5)
    assert [type(changed.write_batch), type(changed.writes_a_day)] == [int, int]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("write_batch", 101, "write_batch must be from 1 to 100"),
        ("read_batch", 0, "read_batch must be from 1 to 100"),
        ("read_batch", 1.5, "read_batch must be a whole number, not 1.5"),
        ("writes_a_day", 2.5, "writes_a_day must be a whole number, not 2.5"),
        ("rate", 0, "rate must be more than 0, not 0"),
        ("write_linger", -1, "write_linger must be 0 or more, not -1"),
        ("colour", 1, "unknown limit 'colour'; there are burst, orders_cost,"),
        ("burst", 1, "unknown limit 'burst'; there are orders_cost,"),
    ],
)
def test_a_limit_that_can_not_be_is_named_with_what_it_may_be(name: str, value: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LIMITS.changed({name: value}, most_rows=100, fixed={"burst"} if name == "burst" else ())


@pytest.mark.parametrize("platform", sorted(VENDORS))
@pytest.mark.parametrize("name", ["one_location_a_write", "settles_first"])
def test_how_a_platform_works_is_no_channels_to_change(platform: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown limit '{name}'"):
        VENDORS[platform].limits({name: 1.0})


@pytest.mark.parametrize("platform", sorted(VENDORS))
def test_no_platform_takes_a_rate_below_0(platform: str) -> None:
    with pytest.raises(ValueError, match="rate must be more than 0"):
        VENDORS[platform].limits({"rate": -1.0})
