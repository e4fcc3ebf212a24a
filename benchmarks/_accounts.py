"""What `rate` works on: of each platform a channel, a stand-in that counts as strictly as the channel, and articles in it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from invsync_dagster.channels import Channel
from invsync_dagster.clock import Clock
from invsync_dagster.platforms.alibaba.sandbox import AlibabaSandbox
from invsync_dagster.platforms.amazon.sandbox import AmazonSandbox
from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.ebay.sandbox import EbaySandbox
from invsync_dagster.platforms.erp.sandbox import ErpSandbox
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.platforms.shopify.sandbox import ShopifySandbox
from invsync_dagster.platforms.woocommerce.sandbox import WooCommerceSandbox

SECRETS = {"TOKEN": "a-token", "SIGN": "a-signing-secret", "HOOK": "a-webhook-secret", "GRANT": "a-refresh-token"}
DOMAIN = "sandbox"
SELLER = "A2SELLER0RATE"
SHOPIFY, ERP, WOO, EBAY, ALIBABA, AMAZON = "shop_main", "erp_main", "woo_main", "ebay_main", "alibaba_main", "amazon_eu"
PLATFORMS = {
    SHOPIFY: "shopify", ERP: "erp", WOO: "woocommerce", EBAY: "ebay", ALIBABA: "alibaba", AMAZON: "amazon",
}  # fmt: skip
# Amazon is done with a patch after so many seconds, half of the read lag that its channel reckons with.
PROCESSING_SECONDS = 60.0
SKUS_A_PRODUCT = 10


def place_of(name: str, number: int) -> LevelReference:
    """Return where the stock of the article `number` is kept.

    Of ten WooCommerce articles three are variations of one product, of ten eBay items one has an offer with a quantity of
    its own, and each Alibaba.com product has ten SKUs.
    """
    if name == SHOPIFY:
        return LevelReference(f"gid://shopify/InventoryItem/{1_000_000 + number}", "gid://shopify/Location/1")
    if name == WOO:
        product = str(5_000_000 + number // 10) if number % 10 in (3, 4, 6) else ""
        return LevelReference(str(1_000_000 + number), product)
    if name == ALIBABA:
        return LevelReference(str(105_000_000_000 + number), str(1_600_000_000_000 + number // SKUS_A_PRODUCT))
    if name == EBAY and number % 10 == 3:
        return LevelReference(f"SKU-{number:06d}", str(8_209_815_010 + number))
    return LevelReference(f"SKU-{number:06d}")


def stand_in(name: str, places: dict[str, LevelReference], shown: int, clock: Clock) -> Any:
    """Return a stand-in that lists the SKUs of `places`, each with `shown` on show."""
    token, sign, hook, grant = SECRETS.values()
    shop: Any
    if name == WOO:
        shop = WooCommerceSandbox(consumer_key=token, consumer_secret=sign, webhook_secret=hook, clock=clock)
        for product in {int(place.location_id) for place in places.values() if place.location_id}:
            shop.add_product("", None, number=product, kind="variable", managed=False)
        for sku, place in places.items():
            if place.location_id:
                shop.add_variation(LevelReference(place.location_id), sku, shown, number=int(place.item_id))
            else:
                shop.add_product(sku, shown, number=int(place.item_id))
    elif name == SHOPIFY:
        shop = ShopifySandbox(
            access_token=token,
            webhook_secret=hook,
            clock=clock,
            random=random.Random(1),
            domain=f"{DOMAIN}.myshopify.com",
        )
        for sku, place in places.items():
            shop.add_article(sku, shown, item_id=place.item_id, location_id=place.location_id)
    elif name == EBAY:
        shop = EbaySandbox(
            client_id=token, client_secret=sign, refresh_token=grant, clock=clock, random=random.Random(1),
            rate=5.0, burst=30.0,
        )  # fmt: skip
        for sku, place in places.items():
            shop.add_item(sku, shown, own=bool(place.location_id), offer=place.location_id)
    elif name == ALIBABA:
        shop = AlibabaSandbox(
            app_key=token, app_secret=sign, refresh_token=grant, clock=clock, rate=5.0, burst=5.0, lag=10.0
        )
        for sku, place in places.items():
            shop.add_sku(sku, shown, product=int(place.location_id), sku=int(place.item_id))
    elif name == AMAZON:
        shop = AmazonSandbox(
            seller_id=SELLER, client_id=token, client_secret=sign, refresh_token=grant, notification_key=hook,
            clock=clock, processing_seconds=PROCESSING_SECONDS,
        )  # fmt: skip
        for sku in places:
            shop.add_item(sku, shown)
    else:
        shop = ErpSandbox(clock, random.Random(1), api_key=token, signing_secret=sign, webhook_secret=hook)
        for sku in places:
            shop.add(sku, shown)
    return shop


def shown_by(name: str, shop: Any) -> set[int | None]:
    """Return the different numbers that a stand-in shows."""
    books = shop.books().values()
    return {book["available_quantity"] for book in books} if name == ERP else set(books)


def channel_of(name: str, folder: Path) -> Channel:
    """Return the channel's configuration, with files in `folder`; the stand-in store bears the same 10 calls a second as
    the ERP, the others have the limits that the platforms come with."""
    oauth = {"client_id_env": "TOKEN", "client_secret_env": "SIGN", "refresh_token_env": "GRANT"}
    hook = {"webhook_secret_env": "HOOK"}
    fields: dict[str, dict[str, Any]] = {
        ERP: {"base_url": "https://erp.example.com", "api_key_env": "TOKEN", "signing_secret_env": "SIGN", **hook},
        WOO: {
            "store_url": "https://woo.example.com", "consumer_key_env": "TOKEN", "consumer_secret_env": "SIGN", **hook,
        },
        SHOPIFY: {"shop_url": f"https://{DOMAIN}.myshopify.com", "access_token_env": "TOKEN", **hook},
        EBAY: {**oauth, "verification_token_env": "HOOK", "webhook_url": "https://invsync.example.com/webhooks/ebay"},
        ALIBABA: {
            "app_key_env": "TOKEN", "app_secret_env": "SIGN", "refresh_token_env": "GRANT",
            "token_file": str(folder / "alibaba.json"),
        },
        AMAZON: {**oauth, **hook, "region": "eu", "seller_id": SELLER, "marketplaces": ["DE"]},
    }  # fmt: skip
    settings = VENDORS[PLATFORMS[name]].settings.model_validate(fields[name])
    limits = {"rate": 10.0, "burst": 20.0} if name == WOO else {}
    return Channel(name=name, platform=PLATFORMS[name], environment="sandbox", settings=settings, limits=limits)
