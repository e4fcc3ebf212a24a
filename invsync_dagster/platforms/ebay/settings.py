"""The `settings:` block of an eBay channel, and the limits of eBay's Inventory and Fulfillment APIs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.settings import VendorSettings, address_in, bare_address

# sell_inventory 1.18.0: bulkUpdatePriceQuantity and bulkGetInventoryItem take up to 25 items.
MOST_ROWS = 25

LIMITS = Limits(
    # The operation's own text speaks of one SKU a call, its schema of up to 25, and the answer is one row an item.
    # An account where only one goes through sets it to 1.
    write_batch=MOST_ROWS,
    read_batch=MOST_ROWS,
    # eBay counts calls an application and day; 2,000,000 is quoted for the Inventory API and not in its specification.
    # This is 432,000 a day, shared by all that the application does.
    rate=5.0,
    burst=30.0,
    # A reading asks besides for the offers of each SKU; what it took is told back.
    read_cost=MOST_ROWS + 1.0,
    # A page of listings asks for the offers of its items one by one; what it takes is told back.
    orders_cost=1.0,
    request_deadline=30.0,
    # Not published. A listing's revision was done within its answer wherever it was watched.
    write_linger=60.0,
    read_lag=0.0,
    webhook_delay=120.0,
    # bulkUpdatePriceQuantity: a listing can be revised 250 times a calendar day.
    writes_a_day=250,
    # The day's calls are counted for each API, and orders are another one's (Fulfillment).
    orders_apart=True,
)


HOSTS = {"production": "https://api.ebay.com", "sandbox": "https://api.sandbox.ebay.com"}


class EbaySettings(VendorSettings):
    """How one eBay seller's account is reached; secrets are named, never written here."""

    leads_nowhere: ClassVar[frozenset[str]] = frozenset({"webhook_url", "alert_email"})

    api_url: str = Field(
        default="",
        validate_default=True,
        description="Another address than eBay's own of the channel's environment: a stand-in, or a proxy of yours.",
    )
    client_id_env: str = Field(description="Environment variable with the application's App ID (client id).")
    client_secret_env: str = Field(description="Environment variable with the application's Cert ID (client secret).")
    refresh_token_env: str = Field(
        description="Environment variable with the refresh token of the seller's consent (sell.inventory, sell.fulfillment)."
    )
    verification_token_env: str = Field(
        description="Environment variable with the verification token of the notifications' destination."
    )
    webhook_url: str = Field(
        description="The address that eBay notifies, as it was given to eBay: https://…/webhooks/<channel>."
    )

    alert_email: str | None = Field(
        default=None,
        pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
        description="Where eBay is to write when the application's notifications fail: given to eBay with the destination.",
    )

    def listened_with(self) -> dict[str, str]:
        """Return what the door needs: eBay's public keys are asked for with the application's own token, which opens no
        seller's account."""
        application = {"client_id_env": self.client_id_env, "client_secret_env": self.client_secret_env}
        return {**super().listened_with(), **application}

    def accounts(self) -> frozenset[str]:
        """Return the grant, by its variable: nothing else tells the seller."""
        return frozenset({self.refresh_token_env})

    @field_validator("api_url")
    @classmethod
    def _is_an_api(cls, value: str, info: ValidationInfo) -> str:
        """Refuse what would send credentials in the clear, to a half-written address, or into the other environment."""
        return bare_address(
            address_in(info, value, "eBay", "ebay.com", HOSTS), "eBay's address, as https://api.ebay.com"
        )

    @field_validator("webhook_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        """Refuse an address that eBay couldn't call; it is a part of the challenge's answer, so it stays as it is."""
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not parts.path.strip("/"):
            raise ValueError(
                "must be the whole address that eBay notifies, as https://sync.example.com/webhooks/ebay_main"
            )
        return value

    def notified_at(self, receiver_url: str, channel: str) -> str:
        """Return the address as eBay was given it: it is a part of the challenge's answer."""
        return self.webhook_url if receiver_url else ""


def limits_with(overrides: Mapping[str, float]) -> Limits:
    """Return eBay's limits, each changed by the channel. Raises `ValueError` naming a limit that can't be."""
    limits = LIMITS.changed(overrides, most_rows=MOST_ROWS)
    return replace(limits, read_cost=overrides.get("read_cost", limits.read_batch + 1.0))
