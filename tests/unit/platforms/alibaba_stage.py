"""An Alibaba.com client before its stand-in account, by either gateway, with short names for what the tests do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from invsync_dagster.events import OrderDocument
from invsync_dagster.platforms.alibaba import AlibabaPlatform, AlibabaSettings, connect
from invsync_dagster.platforms.alibaba.sandbox import WAREHOUSE, AlibabaSandbox
from invsync_dagster.platforms.contract import LevelReference, Outcome, Reading, WriteRow
from invsync_dagster.platforms.transport import Request, Response
from tests.contract.wire import ManualClock, Wire

KEY, SECRET, REFRESH, SESSION = "50012345", "s3cr3t-0123456789abcdef", "5000-refresh-71c0fe", "6100-session-93ab11"
GOP: dict[str, Any] = {"app_key_env": "K", "app_secret_env": "S", "refresh_token_env": "R"}
TOP: dict[str, Any] = {"app_key_env": "K", "app_secret_env": "S", "session_env": "T", "gateway": "top"}
DELTA: dict[str, Any] = {"write": "delta", "warehouse_code": WAREHOUSE}
SECRETS = {"app_key_env": KEY, "app_secret_env": SECRET, "refresh_token_env": REFRESH, "session_env": SESSION}


class AlibabaStage:
    """The client `platform` before the stand-in `account`."""

    def __init__(self, file: Path, *, limits: Mapping[str, float] | None = None, **settings: Any) -> None:
        self.clock = ManualClock()
        top = settings.get("gateway") == "top"
        self.account = AlibabaSandbox(
            app_key=KEY,
            app_secret=SECRET,
            refresh_token=REFRESH,
            session=SESSION if top else "",
            clock=self.clock,
            rate=1e6,
            burst=1e6,
        )
        self.wire = Wire(self.account.handle)
        self.settings = AlibabaSettings(**{**({} if top else GOP | {"token_file": str(file)}), **settings})
        self.limits = limits or {}
        self.platform = self.another()

    def another(self) -> AlibabaPlatform:
        """Connect as another process would."""
        return connect(self.settings, SECRETS, self.limits, self.wire, self.clock)

    def write(self, *rows: tuple[LevelReference, int] | tuple[LevelReference, int, int | None]) -> list[Outcome]:
        return list(self.platform.write([WriteRow(*row) for row in rows], key="key").outcomes)

    def read(self, level: LevelReference) -> Reading:
        (reading,) = self.platform.read([level]).readings
        return reading

    def document(self, order_id: str) -> OrderDocument:
        (document,) = self.platform.orders([order_id]).content.documents
        return document

    def sent(self) -> list[tuple[str, dict[str, str]]]:
        """The calls that were made, without those for tokens: the last part of the path, or the method, and the fields."""
        calls = []
        for request in self.wire.requests:
            fields = asked(request)
            path = request.url.partition("/rest")[2]
            if "/auth/" not in path:
                calls.append((fields.get("method") or path, fields))
        return calls

    def answer(self, document: Any) -> None:
        """Let the next call be answered so, with a token at hand."""
        self.platform.check_credentials()
        self.wire.requests.clear()
        self.wire.answer_next(Response(200, {}, json.dumps(document).encode()))


def asked(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))
