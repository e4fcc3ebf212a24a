"""The `settings:` block of an Alibaba.com channel, and the limits that its gateways set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.settings import DATA_FOLDER, VendorSettings, bare_address

# Where the two gateways are: GOP for apps of openapi.alibaba.com, TOP for older ones of open.taobao.com. The keys of
# one are refused by the other.
GATEWAYS = {"gop": "https://openapi-api.alibaba.com/rest", "top": "https://eco.taobao.com/router/rest"}

# Alibaba.com names no most; a product with more SKUs than this is written in several calls.
MOST_ROWS = 100

LIMITS = Limits(
    write_batch=50,
    # A reading is a call for each product among its levels, which tells all of its SKUs.
    read_batch=MOST_ROWS,
    read_locations=4,
    # No rate is published for a seller's own apps, only a daily quota in the app's console: UNCERTAIN.
    rate=5.0,
    burst=5.0,
    # What a reading of products takes at the most; what it took is told back, and so is what documents of orders take beyond
    # this. Less than the burst: who waits until all of it is there, and uses it, is refused for a call that came a tick late.
    read_cost=4.0,
    orders_cost=4.0,
    request_deadline=30.0,
    # Nobody says how long the gateway works on after its caller has gone: UNCERTAIN.
    write_linger=60.0,
    # A change by the older calls was seen to take over ten seconds to be shown: UNCERTAIN.
    read_lag=20.0,
    # There are no webhooks: a sale is heard of by asking.
    webhook_delay=60.0,
    one_location_a_write=True,
)
# Seen with the changes by differences: some took minutes to be shown.
DELTA_READ_LAG = 160.0
DELTA_LINGER = 300.0


class AlibabaSettings(VendorSettings):
    """How one Alibaba.com seller's account is reached; secrets are named, never written here."""

    leads_nowhere: ClassVar[frozenset[str]] = frozenset({"token_file", "token_parameter", "sku_inventory"})

    gateway: Literal["gop", "top"] = Field(
        default="gop",
        description="Which gateway the app belongs to: gop (openapi.alibaba.com) or top (open.taobao.com).",
    )
    gateway_url: str | None = Field(
        default=None, description="Another address of the gateway than Alibaba's own: a stand-in, or a proxy of yours."
    )
    app_key_env: str = Field(description="Environment variable with the app's key.")
    app_secret_env: str = Field(description="Environment variable with the app's secret; it signs every call.")
    refresh_token_env: str | None = Field(
        default=None, description="Environment variable with the refresh token of the seller's grant (gop)."
    )
    token_file: str | None = Field(
        default=None,
        description="The file that keeps the tokens which replace that grant's (gop); outside of version control. A relative"
        " path counts from the data folder.",
    )
    session_env: str | None = Field(
        default=None, description="Environment variable with the session key of the seller's grant (top)."
    )
    write: Literal["absolute", "delta"] = Field(
        default="absolute",
        description="absolute: edit-inventory sets numbers. delta: only for an account that has nothing but differences.",
    )
    warehouse_code: str | None = Field(
        default=None, description="The inventory_code whose number is read and changed (delta)."
    )
    token_parameter: Literal["access_token", "session"] = Field(
        default="access_token",
        description="What the token is called in a call of the gop gateway (UNCERTAIN: SDKs differ).",
    )
    sku_inventory: Literal["list", "map"] = Field(
        default="list", description="The form in which edit-inventory takes its SKUs (UNCERTAIN: the documents differ)."
    )

    @field_validator("token_file")
    @classmethod
    def _lies_in_the_data(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Take a relative path from the data folder: two working directories would be two files, and renew one grant."""
        folder = (info.context or {}).get(DATA_FOLDER)
        return str(folder / value) if value and folder is not None else value

    @field_validator("gateway_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        """Refuse what would send the keys in the clear or to a half-written address."""
        if value is None:
            return None
        return bare_address(value, "an address, as https://openapi-api.alibaba.com/rest")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """Refuse a channel that lacks what its gateway, or its way to write, needs."""
        if self.gateway == "gop" and not (self.refresh_token_env and self.token_file):
            raise ValueError("gateway gop needs refresh_token_env and token_file")
        if self.gateway == "top" and not self.session_env:
            raise ValueError("gateway top needs session_env")
        if self.gateway == "top" and self.write != "delta":
            raise ValueError("gateway top has no call that sets a number: it needs write: delta")
        if self.write == "delta" and not self.warehouse_code:
            raise ValueError("write: delta needs warehouse_code, the inventory_code of the warehouse that sells")
        return self

    def accounts(self) -> frozenset[str]:
        """Return the grant, by its variable: nothing else tells the seller."""
        return frozenset({grant} if (grant := self.session_env or self.refresh_token_env) else ())

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self.gateway_url or GATEWAYS[self.gateway]


def limits_with(overrides: Mapping[str, float]) -> Limits:
    """Return Alibaba.com's limits, each changed by the channel. Raises `ValueError` naming a limit that can't be."""
    limits = LIMITS.changed(overrides, most_rows=MOST_ROWS)
    return replace(limits, read_cost=overrides.get("read_cost", float(min(limits.read_batch, limits.read_locations))))


def limits_of(settings: AlibabaSettings, overrides: Mapping[str, float]) -> Limits:
    """Return the limits of one channel: with differences a level is read before it is written again, and later."""
    limits = limits_with(overrides)
    if settings.write == "absolute":
        return limits
    return replace(
        limits,
        settles_first=True,
        read_lag=overrides.get("read_lag", DELTA_READ_LAG),
        write_linger=overrides.get("write_linger", DELTA_LINGER),
    )
