"""One face for all stand-ins on the server: door, books, webhooks, and what people do in their shops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any
from urllib.parse import urlsplit

from invsync_dagster.channels import Channel
from invsync_dagster.clock import Clock
from invsync_dagster.platforms.alibaba import AlibabaSettings
from invsync_dagster.platforms.amazon import AmazonSettings
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.ebay import EbaySettings
from invsync_dagster.platforms.erp import ErpSettings
from invsync_dagster.platforms.erp.sandbox import ErpSandbox
from invsync_dagster.platforms.shopify import ShopifySettings
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.platforms.woocommerce import WooCommerceSettings
from invsync_dagster.platforms.woocommerce.sandbox import WooCommerceSandbox
from invsync_dagster.sandbox import faces
from invsync_dagster.sandbox.alibaba import AlibabaStandIn
from invsync_dagster.sandbox.amazon import AmazonStandIn
from invsync_dagster.sandbox.buyers import Buyers
from invsync_dagster.sandbox.ebay import EbayStandIn
from invsync_dagster.sandbox.faces import Action, ActionError, Article, Shown, StandIn


def stand_in(
    channel: Channel, environ: Mapping[str, str], articles: Sequence[Article], clock: Clock, random: Random
) -> StandIn:
    """Return a fresh stand-in for a usable channel, stocked with its articles.

    Raises `ValueError` for a platform without a stand-in here.
    """
    secrets = channel.secrets(environ)
    if isinstance(channel.settings, AlibabaSettings):
        return AlibabaStandIn(channel.limits, secrets, articles, clock, random)
    if isinstance(channel.settings, AmazonSettings):
        return AmazonStandIn(channel.settings, secrets, articles, clock, random)
    if isinstance(channel.settings, EbaySettings):
        return EbayStandIn(channel.limits, secrets, articles, clock, random)
    if isinstance(channel.settings, ErpSettings):
        return ErpStandIn(secrets, articles, clock, random)
    if isinstance(channel.settings, ShopifySettings):
        return ShopifyStandIn(channel.settings, channel.limits, secrets, articles, clock, random)
    if isinstance(channel.settings, WooCommerceSettings):
        return WooCommerceStandIn(channel.limits, secrets, articles, clock, random)
    raise ValueError(f"channel {channel.name!r}: there is no stand-in for platform {channel.platform!r}")


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


class ShopifyStandIn:
    """A Shopify shop on the server."""

    # Eight retries, then the delivery is given up (webhooks, retry mechanism, 2024-09).
    webhook_retries = 8

    def __init__(
        self,
        settings: ShopifySettings,
        limits: Mapping[str, float],
        secrets: Mapping[str, str],
        articles: Sequence[Article],
        clock: Clock,
        random: Random,
    ) -> None:
        self._shop = ShopifySandbox(
            access_token=secrets.get("access_token_env", ""),
            client_id=secrets.get("client_id_env", ""),
            webhook_secret=secrets["webhook_secret_env"],
            clock=clock,
            random=random,
            api_version=settings.api_version,
            domain=urlsplit(settings.shop_url).hostname or "",
            # The shop is on the plan that the channel says it has, else on the Standard one.
            restore_rate=limits.get("rate", 100.0),
            burst=limits.get("burst", 2000.0),
        )
        self._levels: dict[str, LevelReference] = {}
        for article in articles:
            self._levels[article.sku] = self._shop.add_article(
                article.sku,
                article.quantity if article.shown is None else article.shown,
                item_id=article.item_id,
                variant_id=article.variant_id,
                location_id=article.location_id,
            )
        self._skus = {level: sku for sku, level in self._levels.items()}
        self._buyers = Buyers(random)
        self.actions: Mapping[str, Action] = {
            "buy": self._buy,
            "cancel": self._cancel,
            "fulfil": self._fulfil,
            "refund": self._refund,
            "edit": self._edit,
            "open_orders": lambda given: self._shop.open_orders(),
            "unshipped": self._unshipped,
            "credentials": self._credentials,
            "promised": lambda given: faces.lines({self._skus[level]: n for level, n in self._shop.promised().items()}),
        }
        self.handle = self._shop.handle
        self.take_outgoing = self._shop.take_outgoing
        self.dump = self._shop.dump
        self.load = self._shop.load

    def _credentials(self, given: Mapping[str, Any]) -> None:
        self._shop.access_token = faces.text(given, "key")

    def books(self) -> Sequence[Shown]:
        return [
            Shown(level.item_id, level.location_id, self._skus[level], quantity)
            for level, quantity in self._shop.books().items()
        ]

    def signed(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers as they are: Shopify repeats a delivery as it was."""
        return dict(headers)

    def _buy(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take an order for what is asked for, or else for a basket of the buyers' own choice."""
        basket = faces.wanted(given)
        if not basket:
            offers = {self._skus[level]: quantity for level, quantity in self._shop.books().items()}
            basket = self._buyers.basket(offers)
        if not basket:
            return {"order": "", "lines": []}
        order = self._shop.buy({self._levels[sku]: units for sku, units in basket.items()})
        return {"order": order, "lines": faces.lines(basket)}

    def _cancel(self, given: Mapping[str, Any]) -> dict[str, Any]:
        order, restock = faces.text(given, "order"), given.get("restock", True)
        if not isinstance(restock, bool):
            raise ActionError("restock must be true or false")
        self._shop.cancel(order, restock=restock)
        return {"order": order}

    def _fulfil(self, given: Mapping[str, Any]) -> dict[str, Any]:
        order = faces.text(given, "order")
        self._shop.fulfil(order)
        return {"order": order}

    def _refund(self, given: Mapping[str, Any]) -> dict[str, Any]:
        order, restock_type = faces.text(given, "order"), faces.text(given, "restock_type")
        self._shop.refund(order, self._shop.lines(order), restock_type)
        return {"order": order}

    def _unshipped(self, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        units = self._shop.promised(faces.text(given, "order"))
        return faces.lines({self._skus[level]: quantity for level, quantity in units.items()})

    def _edit(self, given: Mapping[str, Any]) -> dict[str, Any]:
        sku = faces.text(given, "sku")
        self._shop.edit_stock(self._levels[sku], faces.units(given))
        return {"sku": sku}


class WooCommerceStandIn:
    """A WooCommerce store on the server."""

    # A delivery that fails is lost; after seven in a row the webhook is switched off (class-wc-webhook.php).
    webhook_retries = 0

    def __init__(
        self,
        limits: Mapping[str, float],
        secrets: Mapping[str, str],
        articles: Sequence[Article],
        clock: Clock,
        random: Random,
    ) -> None:
        rate = limits.get("rate", 2.0)
        self._store = WooCommerceSandbox(
            consumer_key=secrets["consumer_key_env"],
            consumer_secret=secrets["consumer_secret_env"],
            webhook_secret=secrets["webhook_secret_env"],
            clock=clock,
            # Calls arrive on a socket some milliseconds apart from when they were sent: the host allows for that.
            rate=2 * rate,
            burst=2 * limits.get("burst", 4.0) + rate,
        )
        self._levels: dict[str, LevelReference] = {}
        self._offers: dict[str, LevelReference] = {}
        for article in articles:
            self._add(article)
        self._skus = {level: sku for sku, level in self._offers.items()}
        self._buyers = Buyers(random)
        self.actions: Mapping[str, Action] = {
            "buy": self._buy,
            "cancel": lambda given: self._bring(given, "cancelled"),
            "fulfil": lambda given: self._bring(given, "completed"),
            "refund": self._refund,
            "edit": self._edit,
            "open_orders": lambda given: self._store.open_orders(),
            "unshipped": lambda given: self._promised(faces.text(given, "order")),
            "promised": lambda given: self._promised(""),
        }
        self.handle = self._store.handle
        self.take_outgoing = self._store.take_outgoing
        self.dump = self._store.dump
        self.load = self._store.load

    def _add(self, article: Article) -> None:
        """Add a product, a variation (its product is the location), or a variation whose product keeps its stock."""
        shown = article.quantity if article.shown is None else article.shown
        number, product = int(article.item_id), int(article.location_id or 0)
        if product:
            if product not in self._store:
                self._store.add_product("", None, number=product, kind="variable", managed=False)
            level = offer = self._store.add_variation(
                LevelReference(article.location_id), article.sku, shown, number=number
            )
        elif article.variant_id:
            level = LevelReference(article.item_id)
            if number not in self._store:
                self._store.add_product("", shown, number=number, kind="variable")
            offer = self._store.add_variation(level, article.sku, None, number=int(article.variant_id), managed=False)
        else:
            level = offer = self._store.add_product(article.sku, shown, number=number)
        self._levels[article.sku], self._offers[article.sku] = level, offer

    def books(self) -> Sequence[Shown]:
        shown = self._store.books()
        skus = {level: sku for sku, level in self._levels.items()}
        return [
            Shown(level.item_id, level.location_id, skus[level], quantity)
            for level, quantity in shown.items()
            if level in skus
        ]

    def signed(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers as they are: nothing is sent twice."""
        return dict(headers)

    def _buy(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take an order for what is asked for, or else for a basket of the buyers' own choice."""
        basket = faces.wanted(given)
        if not basket:
            basket = self._buyers.basket({sku: self._store.shown(offer) or 0 for sku, offer in self._offers.items()})
        if not basket:
            return {"order": "", "lines": []}
        order = self._store.buy({self._offers[sku]: units for sku, units in basket.items()})
        return {"order": order, "lines": faces.lines(basket)}

    def _bring(self, given: Mapping[str, Any], status: str) -> dict[str, Any]:
        order = faces.text(given, "order")
        self._store.set_status(order, status)
        return {"order": order}

    def _refund(self, given: Mapping[str, Any]) -> dict[str, Any]:
        order, restock = faces.text(given, "order"), faces.text(given, "restock_type") != "no_restock"
        units = {str(line.line): line.quantity for line in self._store.order(order).lines.values()}
        self._store.refund(order, units, restock=restock)
        return {"order": order}

    def _promised(self, order: str) -> list[dict[str, Any]]:
        return faces.lines({self._skus[offer]: units for offer, units in self._store.promised(order).items()})

    def _edit(self, given: Mapping[str, Any]) -> dict[str, Any]:
        sku = faces.text(given, "sku")
        self._store.edit_stock(self._levels[sku], faces.units(given))
        return {"sku": sku}
