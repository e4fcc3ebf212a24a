"""What a marketplace refuses as a whole: one sentence with words and mend, nothing marked done, and mended it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.tables import channels
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.report import PushReport
from tests.unit.sync.alibaba_stage import AlibabaStage
from tests.unit.sync.amazon_stage import AmazonStage
from tests.unit.sync.ebay_stage import EbayStage
from tests.unit.sync.stage import Stage


def ebay(_folder: Path) -> Stage:
    return EbayStage({"A": 9})


def amazon(_folder: Path) -> Stage:
    return AmazonStage({"A": 9}, {"A": 9})


def alibaba(folder: Path) -> Stage:
    return AlibabaStage(folder, {"A": 9})


@dataclass
class Refusal:
    """Environment variables that are wrong, and what is said of it in the platform's words and as the mend."""

    stage: Callable[[Path], Stage]
    wrong: Mapping[str, str]
    words: str
    mend: str


REFUSALS = {
    "eBay, wrong Cert ID": Refusal(
        ebay, {"S": "PRD-wrong"}, "invalid_client: client authentication failed", "check client id and secret"
    ),
    "eBay, consent of another application": Refusal(
        ebay, {"R": "v^1.1#another"}, "is invalid or was issued to another client", "let the seller consent again"
    ),
    "Amazon, wrong client secret": Refusal(
        amazon, {"C": "wrong"}, "invalid_client", "the app's client id or secret is wrong"
    ),
    "Amazon, revoked grant": Refusal(amazon, {"R": "Atzr|another"}, "invalid_grant", "authorize the app again"),
    "Alibaba.com, wrong secret": Refusal(
        alibaba, {"S": "wrong"}, "does not conform to platform standards", "the app's secret is wrong"
    ),
    "Alibaba.com, key of the other gateway": Refusal(
        alibaba, {"K": "12345"}, "The specified App Key is invalid", "gop and top have keys of their own"
    ),
}


def pushed(stage: Stage, wrong: Mapping[str, str]) -> PushReport:
    """Push as a process of its own, which connects with these variables."""
    ws = replace(stage.ws, environ={**stage.ws.environ, **wrong}, _platforms={}, _lines={})
    return push_channel(ws, stage.name, run_id="run", deadline=stage.clock.now() + timedelta(seconds=20))


@pytest.mark.parametrize("name", REFUSALS)
def test_credentials_that_are_refused_stop_the_channel_with_words_and_mend_and_mark_nothing_done(
    name: str, tmp_path: Path
) -> None:
    refusal = REFUSALS[name]
    stage = refusal.stage(tmp_path)
    stage.settle(times=60)
    stage.clock.advance(86_400)
    stage.state({"A": 4})
    before = stage.level("A")
    report = pushed(stage, refusal.wrong)
    assert report.stopped
    assert refusal.words in report.problem
    assert refusal.mend in report.problem
    with stage.engine.connect() as connection:
        assert connection.execute(select(channels.c.stopped_reason)).scalar_one() == report.problem
    after = stage.level("A")
    assert (after.desired, after.acknowledged_quantity, after.acknowledged_at) == (4, 9, before.acknowledged_at)
    assert stage.changes() == ["A"]
    stage.clock.advance(60)
    assert not pushed(stage, {}).stopped
    stage.settle(times=60)
    assert stage.level("A").acknowledged_quantity == 4
