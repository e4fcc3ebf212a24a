"""The Alibaba.com stand-in over real loopback sockets: its face on the server, and the real client before it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from invsync_dagster.channels import Channel
from invsync_dagster.clock import SystemClock
from invsync_dagster.platforms.alibaba import AlibabaSettings, connect
from invsync_dagster.platforms.contract import LevelReference, Result, WriteRow
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import RequestsTransport
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.standins import stand_in
from tests.unit.sandbox.served import served

ENVIRON = {"K": "50012345", "S": "s3cr3t", "R": "5000-refresh"}
ARTICLES = [
    Article("CUP-RED", 9, item_id="10561301815800001", location_id="16000000000000001"),
    Article("CUP-BLUE", 4, item_id="10561301815800002", location_id="16000000000000001", shown=3),
    Article("BOWL", 7, item_id="16000000000000002", location_id="16000000000000002"),
]
RED, BLUE, BOWL = (LevelReference(article.item_id, article.location_id) for article in ARTICLES)


def test_the_real_client_and_the_people_of_the_stand_in_agree(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "app_key_env": "K",
        "app_secret_env": "S",
        "refresh_token_env": "R",
        "token_file": str(tmp_path / "t.json"),
    }
    channel = Channel("alibaba_main", "alibaba", "sandbox", settings=AlibabaSettings(**given))
    shop = stand_in(channel, ENVIRON, ARTICLES, SystemClock(), Random(3))
    with served(shop.handle) as url:
        settings = AlibabaSettings(**given, gateway_url=f"{url}/alibaba_main")
        secrets = {"app_key_env": "50012345", "app_secret_env": "s3cr3t", "refresh_token_env": "5000-refresh"}
        platform = connect(settings, secrets, {}, RequestsTransport(), SystemClock())
        platform.check_credentials()
        rows = [WriteRow(RED, 5), WriteRow(BLUE, 2)]
        assert {outcome.result for outcome in platform.write(rows, key="k").outcomes} == {Result.ACKNOWLEDGED}
        assert [reading.quantity for reading in platform.read([RED, BLUE, BOWL]).readings] == [5, 2, 7]
        basket = [{"sku": "CUP-RED", "quantity": 2}, {"sku": "BOWL", "quantity": 1}]
        first = shop.actions["buy"]({"lines": basket})["order"]
        second = shop.actions["buy"]({})["order"]
        assert shop.actions["open_orders"]({}) == [first, second]
        assert shop.actions["unshipped"]({"order": first}) == basket
        assert {line["sku"] for line in shop.actions["promised"]({})} >= {"CUP-RED", "BOWL"}
        shop.actions["fulfil"]({"order": first})
        shop.actions["cancel"]({"order": second})
        shop.actions["edit"]({"sku": "CUP-BLUE", "quantity": 8})
        shipped, cancelled = platform.orders([first, second]).content.documents
        assert [(line.ordered, line.shipped) for line in shipped.lines] == [(2, 2), (1, 1)]
        assert [line.ordered - line.cancelled for line in cancelled.lines] == [0] * len(cancelled.lines)
        assert {shown.sku: shown.quantity for shown in shop.books()} == {"CUP-RED": 3, "CUP-BLUE": 8, "BOWL": 6}
        assert list(shop.take_outgoing()) == []
        state = shop.dump()
        shop.actions["revoke"]({})
        with pytest.raises(PlatformError) as raised:
            platform.check_credentials()
        assert raised.value.recovery is Recovery.REAUTHENTICATE
        shop.load(state)
        platform.check_credentials()
