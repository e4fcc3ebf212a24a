"""The `settings:` block of an Amazon channel, its region and marketplaces, and the limits that the Selling Partner API sets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from invsync_dagster.platforms.contract import BulkLimits, BulkReadLimits, Limits
from invsync_dagster.platforms.settings import VendorSettings, address_in, bare_address
from invsync_dagster.platforms.transport import Response, is_loopback

# searchListingsItems finds at most 20 SKUs a call, and gives at most 20 items a page (listingsItems 2021-08-01).
MOST_SKUS = 20

LIMITS = Limits(
    # patchListingsItem takes one SKU.
    write_batch=1,
    read_batch=MOST_SKUS,
    # patchListingsItem and searchListingsItems: five a second each, bursts of five (listingsItems 2021-08-01).
    rate=5.0,
    burst=5.0,
    request_deadline=30.0,
    # How long a patch whose answer was lost, or that was accepted and isn't seen yet, may still land. Amazon tells no
    # bound; most are through within minutes.
    write_linger=900.0,
    # A patch needs minutes to show: a reading sooner than this after it says nothing.
    read_lag=120.0,
    webhook_delay=120.0,
    # searchOrders: 0.0056 calls a second, which is one in three minutes, and the last two are never listed (orders
    # 2026-01-01).
    orders_every=300.0,
    # Each operation has its own rate; the orders' is the one that runs out.
    orders_apart=True,
)

# JSON_LISTINGS_FEED: 25,000 messages a feed, five feeds in five minutes. The window is a minute longer: createFeed is the last
# of a submission's calls, and may come so much later than its turn. Below the single lane's pushes of a minute a feed gains
# nothing. Amazon reports on most within minutes; one that is open after a day is not waited for.
BULK = BulkLimits(rows=25_000, least=300, submissions=5, window=360.0, check_every=60.0, patience=86_400.0)

# The merchant listings report, which often takes some minutes; one that isn't there after an hour is given up. Asking for
# its document is allowed once a minute. 20,000 listings are 1,000 readings, or 200 s of the whole rate: with fewer the run
# is through before the report is there.
BULK_READ = BulkReadLimits(least=20_000, check_every=60.0, patience=3_600.0, cost=1.0)

_TOKEN_HOST = "https://api.amazon.com"  # noqa: S105 - an address
# The marketplaces that are named by their country; others by their id.
MARKETPLACES = {
    "US": ("na", "ATVPDKIKX0DER"),
    "CA": ("na", "A2EUQ1WTGCTBG2"),
    "MX": ("na", "A1AM78C64UM0Y8"),
    "UK": ("eu", "A1F83G8C2ARO7P"),
    "DE": ("eu", "A1PA6795UKMFR9"),
    "FR": ("eu", "A13V1IB3VIYZZH"),
    "IT": ("eu", "APJ6JRA9NG5V4"),
    "ES": ("eu", "A1RKKUPIHCS9HS"),
    "JP": ("fe", "A1VC38T7YXB528"),
}
# An SQS queue's URL names its region, its AWS account and the queue.
QUEUE = re.compile(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/\d{12}/[A-Za-z0-9_-]{1,80}")
_REGION_OF = {number: region for region, number in MARKETPLACES.values()}


def _hosts(region: str) -> dict[str, str]:
    """Return the address of a region per environment."""
    host = f"sellingpartnerapi-{region}.amazon.com"
    return {"production": f"https://{host}", "sandbox": f"https://sandbox.{host}"}


class AmazonSettings(VendorSettings):
    """How one seller's account in one region is reached; secrets are named, never written here.

    All marketplaces of the list share the seller's SKUs and one number a SKU; the first one is written through.
    """

    leads_nowhere: ClassVar[frozenset[str]] = frozenset(
        {"webhook_queue", "webhook_event_bridge", "product_type", "bulk_read_from"}
    )

    region: Literal["na", "eu", "fe"] = Field(description="na (Americas), eu (Europe, India, Arabia) or fe (Far East).")
    seller_id: str = Field(pattern=r"^[A-Z0-9]{8,20}$", description="The merchant token, as A2XYZ1234567.")
    marketplaces: tuple[str, ...] = Field(
        min_length=1,
        max_length=25,
        description="Countries (DE, FR …) or marketplace ids; the first is written through.",
    )
    client_id_env: str = Field(description="Environment variable with the app's LWA client id amzn1.application-….")
    client_secret_env: str = Field(description="Environment variable with the app's LWA client secret.")
    refresh_token_env: str = Field(description="Environment variable with the seller's refresh token Atzr|….")
    webhook_secret_env: str | None = Field(
        default=None,
        description="Environment variable with the API key that EventBridge sends in the header X-Invsync-Key.",
    )
    webhook_previous_secret_env: str | None = Field(
        default=None,
        description="Environment variable with the key before its change, valid beside the new one while it is set.",
    )
    webhook_queue: str | None = Field(
        default=None,
        description="The SQS queue that notifications come by: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME.",
    )
    webhook_queue_key_id_env: str | None = Field(
        default=None,
        description="Environment variable with the AWS access key id for the queue; without it AWS's own ways are tried.",
    )
    webhook_queue_key_env: str | None = Field(
        default=None, description="Environment variable with the AWS secret access key for the queue."
    )
    webhook_event_bridge: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]{4,30}:[0-9]{12}$",
        description="Region and AWS account whose EventBridge Amazon is to notify: eu-west-1:123456789012.",
    )
    product_type: str = Field(
        default="PRODUCT",
        pattern=r"^[A-Z0-9_]{1,80}$",
        # Common practice for quantities, not in Amazon's model: hence a setting.
        description="The product type that a patch names; PRODUCT serves for all.",
    )
    bulk_read_from: int = Field(
        default=BULK_READ.least,
        ge=0,
        description="A full run over so many levels and more asks for the merchant listings report; 0: never.",
    )
    api_url: str = Field(
        default="",
        validate_default=True,
        description="Another address than Amazon's own of the region and the channel's environment: a stand-in on loopback.",
    )

    def accounts(self) -> frozenset[str]:
        """Return the seller's marketplaces: channels of one seller may share them out."""
        return frozenset(f"{self.seller_id} {number}" for number in self.marketplaces)

    @field_validator("marketplaces")
    @classmethod
    def _are_marketplaces(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Turn countries into marketplace ids."""
        ids = []
        for name in value:
            known = MARKETPLACES.get(name.upper().replace("GB", "UK"))
            number = name if known is None else known[1]
            if known is None and not (10 <= len(name) <= 16 and name.isascii() and name.isalnum() and name.isupper()):
                countries = ", ".join(MARKETPLACES)
                raise ValueError(f"{name!r} is neither a marketplace id nor one of {countries}")
            ids.append(number)
        if len(set(ids)) < len(ids):
            raise ValueError("a marketplace is named twice")
        return tuple(ids)

    @field_validator("api_url")
    @classmethod
    def _is_amazon(cls, value: str, info: ValidationInfo) -> str:
        """Refuse to send tokens to anybody but Amazon and this machine, or into the other environment."""
        value = address_in(info, value, "Amazon", "amazon.com", _hosts(info.data.get("region", "no")))
        wanted = "an https:// address of amazon.com, or on loopback"
        parts = urlsplit(value)
        host = parts.hostname or ""
        if not (is_loopback(host) or (parts.scheme == "https" and host.endswith(".amazon.com"))):
            raise ValueError(f"must be {wanted}")
        return bare_address(value, wanted)

    @field_validator("webhook_queue")
    @classmethod
    def _is_queue(cls, value: str | None) -> str | None:
        """Refuse to fetch from anybody but AWS and this machine."""
        if value is None or QUEUE.fullmatch(value) or is_loopback(urlsplit(value).hostname or ""):
            return value
        raise ValueError("must be the queue's URL, as https://sqs.eu-west-1.amazonaws.com/123456789012/invsync")

    @model_validator(mode="after")
    def _with_both_keys(self) -> AmazonSettings:
        if (self.webhook_queue_key_id_env is None) != (self.webhook_queue_key_env is None):
            raise ValueError("webhook_queue_key_id_env and webhook_queue_key_env must be given together")
        if self.webhook_queue is not None and self.webhook_event_bridge is not None:
            raise ValueError("webhook_queue and webhook_event_bridge are two ways for the same: name one")
        if self.webhook_queue is None and self.webhook_queue_key_env is not None:
            raise ValueError("webhook_queue_key_env is of no use without a webhook_queue")
        if self.webhook_secret_env is None and self.webhook_previous_secret_env is not None:
            raise ValueError("webhook_previous_secret_env is of no use without a webhook_secret_env")
        return self

    @model_validator(mode="after")
    def _of_one_region(self) -> AmazonSettings:
        for number in self.marketplaces:
            region = _REGION_OF.get(number, self.region)
            if region != self.region:
                raise ValueError(
                    f"marketplace {number} is in region {region}, not {self.region}: make it another channel"
                )
        return self

    @property
    def token_url(self) -> str:
        """Where tokens are renewed: one host for all regions, and a stand-in's own."""
        local = is_loopback(urlsplit(self.api_url).hostname or "")
        return f"{self.api_url if local else _TOKEN_HOST}/auth/o2/token"


def limits_with(overrides: Mapping[str, float]) -> Limits:
    """Return Amazon's limits, each changed by the channel. Raises `ValueError` naming a limit that can't be."""
    return LIMITS.changed(overrides, most_rows=MOST_SKUS, fixed={"write_batch"})


def limits_as_told(limits: Limits, response: Response, *, writes: bool, reads: bool) -> Limits:
    """Return limits with the cost of the operation that an answer is of, so that it takes the rate that the answer tells.

    Amazon tells the account's own rate of an operation with 200, 400 and 404 (`x-amzn-RateLimit-Limit`). A rate that the
    channel has of its own is never exceeded: it may be there to leave something for other programs of the account.
    """
    try:
        told = float(response.headers.get("x-amzn-ratelimit-limit", ""))
    except ValueError:
        return limits
    if not (math.isfinite(told) and told > 0) or not (writes or reads):
        return limits
    cost = limits.rate / (told if limits.rate == LIMITS.rate else min(told, limits.rate))
    return replace(limits, write_cost=cost) if writes else replace(limits, read_cost=cost)
