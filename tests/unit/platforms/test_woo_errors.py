"""WooCommerce's error object where an answer is promised: plugins that close the API send it with a 200."""

from __future__ import annotations

from typing import Any

import pytest

from invsync_dagster.platforms.contract import LevelReference, Result
from invsync_dagster.platforms.errors import PlatformError, Recovery
from tests.unit.platforms.woo_stage import SECRETS, WooStage, body


def test_an_error_that_comes_with_a_200_is_told_in_the_stores_words_without_a_secret() -> None:
    stage = WooStage()
    closed = {
        "code": "rest_disabled",
        "message": f"<p>API disabled for {SECRETS['consumer_secret_env']}</p>",
        "data": {"status": 403},
    }
    stage.wire.answer_next(body(closed, b"<br />\n", b""))
    with pytest.raises(PlatformError) as raised:
        stage.read(LevelReference("5"))
    words = "rest_disabled: the store answered with an error: API disabled for [secret]"
    assert (raised.value.recovery, str(raised.value)) == (Recovery.RETRY, f"{words} [retry]")
    stage.wire.answer_next(body(closed))
    outcome = stage.write(LevelReference("5"), 7)
    assert (outcome.result, outcome.recovery, outcome.words) == (Result.UNKNOWN, Recovery.SETTLE, f"{words} [settle]")


@pytest.mark.parametrize(
    "wrong", [{"code": 7, "message": "old"}, {"code": "old"}, {"message": "old"}, {"code": "", "message": ""}]
)
def test_another_object_than_an_error_is_a_malformed_answer(wrong: dict[str, Any]) -> None:
    stage = WooStage()
    stage.wire.answer_next(body(wrong))
    with pytest.raises(PlatformError) as raised:
        stage.read(LevelReference("5"))
    assert raised.value.code == "malformed_answer"
