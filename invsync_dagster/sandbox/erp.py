"""The stand-in ERP on the server: what its desks do, and its pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.erp.sandbox import ErpSandbox
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.buyers import Buyers
from invsync_dagster.sandbox.faces import Action, Article, Shown


class ErpStandIn:
    """The ERP on the server."""

    # Contract 3.4: an ERP goes on for 24 hours; with gaps that double up to 15 minutes that is 106 attempts.
    webhook_retries = 106

    def __init__(self, secrets: Mapping[str, str], articles: Sequence[Article], clock: Clock, random: Random) -> None:
        self._erp = ErpSandbox(
            clock,
            random,
            api_key=secrets["api_key_env"],
            signing_secret=secrets["signing_secret_env"],
            webhook_secret=secrets["webhook_secret_env"],
            # The contract asks for at least 10 calls a second and 20 at once. Calls sent exactly so arrive on a socket
            # some milliseconds apart from that, and an ERP that counts strictly would throttle them.
            rate=12.0,
            burst=40.0,
        )
        for article in articles:
            self._erp.add(article.sku, article.quantity, article.shown)
        self._buyers = Buyers(random)
        self.actions: Mapping[str, Action] = {
            "buy": self._buy,
            "restock": lambda given: self._erp.restock(faces.text(given, "sku"), faces.units(given)),
            "adjust": lambda given: self._erp.adjust(faces.text(given, "sku"), faces.units(given)),
            "ship": lambda given: self._erp.ship(faces.text(given, "sku"), faces.units(given)),
            "edit": lambda given: self._erp.edit_available(faces.text(given, "sku"), faces.units(given)),
            "credentials": lambda given: self._erp.change_credentials(faces.text(given, "key")),
        }
        self.handle = self._erp.handle
        self.take_outgoing = self._erp.take_outgoing
        self.signed = self._erp.signed
        self.dump = self._erp.dump
        self.load = self._erp.load

    def books(self) -> Sequence[Shown]:
        books = self._erp.books().items()
        return [Shown(sku, "", sku, book["available_quantity"], book["on_hand"]) for sku, book in books]

    def _buy(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Sell at a desk what is asked for, or else a basket of the buyers' own choice; what isn't there is left."""
        offers = {shown.sku: min(shown.quantity, shown.on_hand or 0) for shown in self.books()}
        basket = faces.wanted(given) or self._buyers.basket(offers)
        sold = {sku: units for sku, units in basket.items() if self._erp.sell(sku, units) is not None}
        return {"order": "", "lines": faces.lines(sold)}
