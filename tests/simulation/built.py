"""What a simulated world is built of: its shops with their rules, the ERP, and the channels that reach them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from invsync_dagster.channels import Channel, Configuration, Rules
from invsync_dagster.clock import Clock
from invsync_dagster.platforms.alibaba import AlibabaSettings
from invsync_dagster.platforms.amazon import AmazonSettings
from invsync_dagster.platforms.ebay import EbaySettings
from invsync_dagster.platforms.erp import ErpSettings
from invsync_dagster.platforms.erp.sandbox import ErpSandbox
from invsync_dagster.platforms.settings import VendorSettings
from invsync_dagster.platforms.shopify import ShopifySettings
from invsync_dagster.platforms.woocommerce import WooCommerceSettings
from invsync_dagster.sandbox.faults import Kind
from invsync_dagster.settings import Settings
from tests.simulation.books import ShopRules
from tests.simulation.markets import AlibabaShop, AmazonShop, EbayShop
from tests.simulation.shops import Shop, ShopifyShop, WooCommerceShop
from tests.simulation.stock import ALIBABA, AMAZON, EBAY, PLATFORMS, WOO

START = datetime(2026, 3, 2, tzinfo=UTC)
SHOPS = {
    "shop_main": ShopRules(),
    "shop_eu": ShopRules(percent=80, minimum=2),
    WOO: ShopRules(),
}
MARKETPLACES = {EBAY: ShopRules(), ALIBABA: ShopRules(buffer=1), AMAZON: ShopRules()}
ERP = "erp_main"
DEADLINE = 30.0
LINGER = 60.0
SECRETS = {"TOKEN": "a-token-of-the-simulation", "SIGN": "a-signing-secret", "HOOK": "a-webhook-secret"}
SECRETS |= {"VERIFY": "a-verification-token-of-the-simulation"}

BAD_NETWORK = {
    Kind.REFUSE: 0.02,
    Kind.TIMEOUT_BEFORE: 0.01,
    Kind.TIMEOUT_AFTER: 0.02,
    Kind.LATE: 0.02,
    Kind.CUT_BEFORE: 0.01,
    Kind.CUT_AFTER: 0.02,
    Kind.THROTTLE: 0.02,
    Kind.THROTTLE_SILENT: 0.01,
    Kind.ERROR_500: 0.01,
    Kind.ERROR_502: 0.01,
    Kind.ERROR_503: 0.01,
    Kind.ERROR_504: 0.01,
    Kind.MALFORMED: 0.01,
}


def configuration_of(rules_by_shop: Mapping[str, ShopRules], token_folder: str) -> Configuration:
    """Return the channels of the shops and the ERP, whose counts contain the orders of all."""
    settings = Settings(claim_seconds=120, push_deadline_seconds=240)
    limits = {"write_linger": LINGER, "request_deadline": DEADLINE}
    channels = [
        Channel(
            name=name,
            platform=PLATFORMS[name],
            environment="sandbox",
            settings=_settings_of(name, token_folder),
            rules=Rules(**vars(rules)),
            # Amazon works on a patch after it has landed: its own, longer time covers both.
            limits={"request_deadline": DEADLINE} if name == AMAZON else limits,
        )
        for name, rules in rules_by_shop.items()
    ]
    erp = Channel(
        name=ERP,
        platform="erp",
        environment="sandbox",
        settings=ErpSettings(
            base_url="https://erp.example.com",
            api_key_env="TOKEN",
            signing_secret_env="SIGN",
            webhook_secret_env="HOOK",
        ),
        limits=limits,
        contains_orders_of=(*rules_by_shop, ERP),
    )
    return Configuration(settings=settings, channels=(*channels, erp))


def _settings_of(name: str, token_folder: str) -> VendorSettings:
    oauth: Any = {"client_id_env": "TOKEN", "client_secret_env": "SIGN"}
    if name == EBAY:
        return EbaySettings(
            **oauth,
            refresh_token_env="HOOK",
            verification_token_env="VERIFY",
            webhook_url="https://sync.example.com/webhooks/ebay_main",
        )
    if name == ALIBABA:
        return AlibabaSettings(
            app_key_env="TOKEN",
            app_secret_env="SIGN",
            refresh_token_env="HOOK",
            token_file=f"{token_folder}/tokens.json",
        )
    if name == AMAZON:
        return AmazonSettings(
            **oauth,
            region="eu",
            seller_id="A2SELLER0WORLD",
            marketplaces=("DE",),
            refresh_token_env="TOKEN",
            webhook_secret_env="HOOK",
        )
    if name == WOO:
        return WooCommerceSettings(
            store_url="https://woo.example.com",
            consumer_key_env="TOKEN",
            consumer_secret_env="SIGN",
            webhook_secret_env="HOOK",
        )
    return ShopifySettings(
        shop_url=f"https://{name.replace('_', '-')}.myshopify.com",
        access_token_env="TOKEN",
        webhook_secret_env="HOOK",
    )


def shop_of(name: str, shown: Mapping[str, int], clock: Clock, rng: random.Random) -> Shop:
    """Return a shop that shows numbers by SKU."""
    if name == WOO:
        return WooCommerceShop(SECRETS, shown, clock, failed_gives_back=rng.random() < 0.5)
    if name == EBAY:
        return EbayShop(SECRETS, shown, clock, random.Random(rng.random()))
    if name == ALIBABA:
        return AlibabaShop(SECRETS, shown, clock)
    if name == AMAZON:
        return AmazonShop(SECRETS, shown, clock)
    return ShopifyShop(name, SECRETS, shown, clock, random.Random(rng.random()))


def erp_of(stock: Mapping[str, int], clock: Clock, rng: random.Random) -> ErpSandbox:
    """Return the ERP with its stock by SKU."""
    erp = ErpSandbox(
        clock,
        random.Random(rng.random()),
        api_key=SECRETS["TOKEN"],
        signing_secret=SECRETS["SIGN"],
        webhook_secret=SECRETS["HOOK"],
    )
    for sku, quantity in stock.items():
        erp.add(sku, quantity)
    return erp
