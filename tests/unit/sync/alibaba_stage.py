"""An Alibaba.com account with a few SKUs, and our real code between it and the stock, on a virtual clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invsync_dagster.platforms.alibaba.sandbox import AlibabaSandbox
from invsync_dagster.platforms.contract import LevelReference
from tests.contract.wire import Wire
from tests.unit.platforms.alibaba_stage import GOP, KEY, REFRESH, SECRET
from tests.unit.sync.stage import Stage

NAME = "alibaba_main"
ENVIRON = {"K": KEY, "S": SECRET, "R": REFRESH}


class AlibabaStage(Stage):
    """`account` is the stand-in, `push` one incremental push of ours; every SKU is mapped and the first push approved.

    SKUs are of the product that `products` says, else all of one. `lag`: how late the account shows a changed number.
    """

    def __init__(
        self,
        folder: Path,
        stock: Mapping[str, int],
        *,
        lag: float = 0.0,
        products: Mapping[str, int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.account = AlibabaSandbox(
            app_key=KEY, app_secret=SECRET, refresh_token=REFRESH, clock=self.clock, lag=lag, rate=6.0, burst=15.0
        )
        self.levels: dict[str, LevelReference] = {}
        for sku, quantity in stock.items():
            self.levels[sku] = self.account.add_sku(sku, quantity, product=(products or {}).get(sku, 77))
        self.wire = Wire(self.account.handle)
        given = {**GOP, "token_file": str(folder / "tokens.json"), **settings}
        self.connect(NAME, stock, self.levels, lambda: self.wire, given, ENVIRON, retries=0)
        self.settle(every=30, times=60)
        self.clock.advance(3600)

    def count(self, sku: str, quantity: int) -> None:
        """Count the stock anew: `quantity` are on hand now, open orders included."""
        self.state({sku: quantity})

    def shown(self, sku: str) -> int:
        return self.account.shown(self.levels[sku])

    def products_read(self) -> int:
        """How many products were asked for so far."""
        return sum("product/get" in each.url for each in self.wire.requests)

    def writes(self) -> int:
        """How many writes were sent so far."""
        return sum("inventory/update" in each.url or "edit-inventory" in each.url for each in self.wire.requests)
