"""The `settings:` block of a Shopify channel, and the limits that Shopify sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.settings import VendorSettings, bare_address

LIMITS = Limits(
    # Input arrays of more than 250 entries are refused by every API, `nodes(ids:)` too (shopify.dev, API usage limits).
    write_batch=250,
    # One level read costs about 4 points (item, variant, level, quantity) and one query at most 1,000.
    read_batch=100,
    # The Standard plan restores 100 points a second into a bucket of 2,000 (shopify.dev, rate limits); each answer
    # states the shop's own figures.
    rate=100.0,
    burst=2000.0,
    write_cost=10.0,
    read_cost=400.0,
    # Three orders, or eleven listings, with the parts that `documents` asks for, at a point an object. So many must be there for
    # Shopify to take the call, whatever it costs in the end: larger pages wait for longer beside a push, and cost no less.
    orders_cost=363.0,
    request_deadline=30.0,
    # Not documented: the longest time that a request cut off by us may still be worked on. Lower it only for a sandbox.
    write_linger=60.0,
    read_lag=0.0,
    webhook_delay=60.0,
)


class ShopifySettings(VendorSettings):
    """How one Shopify store is reached; secrets are named, never written here."""

    leads_nowhere: ClassVar[frozenset[str]] = frozenset({"api_version", "unstocked", "bulk_read_from"})

    shop_url: str = Field(description="The store's own address, https://<store>.myshopify.com.")
    api_version: str = Field(
        default="2026-07",
        pattern=r"^\d{4}-\d{2}$",
        description="Version of the Admin API; 2026-04, 2026-07 and 2026-10 are tested.",
    )
    access_token_env: str | None = Field(
        default=None,
        description="Environment variable with the static Admin API access token of an older custom app "
        "(scopes read_products, read_inventory, write_inventory, read_locations, read_orders, "
        "read_merchant_managed_fulfillment_orders, read_third_party_fulfillment_orders).",
    )
    client_id_env: str | None = Field(
        default=None,
        description="Environment variable with the client id of an app of the Dev Dashboard, in its place: tokens are then "
        "asked for with it and the app's client secret (webhook_secret_env).",
    )
    webhook_secret_env: str = Field(
        description="Environment variable with the app's client secret, which signs webhooks."
    )
    webhook_previous_secret_env: str | None = Field(
        default=None,
        description="Environment variable with the client secret before its change, valid beside the new one while it is set.",
    )
    unstocked: Literal["review", "activate"] = Field(
        default="review",
        description="What becomes of a mapped item that its location doesn't stock: review leaves it to a person, activate "
        "stocks it there with what the level should show.",
    )

    bulk_read_from: int = Field(
        default=2_000,
        ge=0,
        description="A full run over so many levels and more asks for all of them in a bulk operation; 0: never.",
    )

    @field_validator("shop_url")
    @classmethod
    def _is_a_store(cls, value: str) -> str:
        """Refuse what would send the token in the clear or to a half-written address."""
        return bare_address(value, "the store's address, as https://example.myshopify.com")

    # No `accounts`: two channels of one store may have its locations each, and a line counts where its location is mapped.

    @model_validator(mode="after")
    def _has_one_way_in(self) -> Self:
        """Refuse a channel without a token, and one that doesn't say which."""
        if (self.access_token_env is None) == (self.client_id_env is None):
            raise ValueError("name one of access_token_env (a static token) and client_id_env (an app's client id)")
        return self

    def credentials(self) -> dict[str, str]:
        """Return what Shopify checks: with a client id that is the client secret too, which signs webhooks besides."""
        secret = {"webhook_secret_env": self.webhook_secret_env} if self.client_id_env else {}
        return {**super().credentials(), **secret}


def limits_with(overrides: Mapping[str, float]) -> Limits:
    """Return Shopify's limits, each changed by the channel. Raises `ValueError` naming a limit that can't be."""
    return LIMITS.changed(overrides, most_rows=LIMITS.write_batch)
