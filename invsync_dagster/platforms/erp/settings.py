"""The `settings:` block of an ERP channel, and the limits that our ERP contract sets (docs/erp-contract.md)."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.settings import VendorSettings, bare_address, store_at

# Contract 4 (batch), 8 (rate), 9 (times). A call costs 1 whatever it does.
LIMITS = Limits(
    write_batch=100,
    read_batch=100,
    rate=10.0,
    burst=20.0,
    request_deadline=20.0,
    write_linger=60.0,
    read_lag=0.0,
    webhook_delay=60.0,
)


class ErpSettings(VendorSettings):
    """How one own ERP is reached and how it signs; secrets are named, never written here."""

    base_url: str = Field(description="Address before /invsync/v1 at the ERP, as https://erp.example.com.")
    api_key_env: str = Field(description="Environment variable with the key that names us to the ERP.")
    signing_secret_env: str = Field(description="Environment variable with the secret that signs our requests.")
    webhook_secret_env: str = Field(description="Environment variable with the secret that signs the ERP's webhooks.")
    webhook_previous_secret_env: str | None = Field(
        default=None,
        description="Environment variable with the webhook secret before its change, valid beside the new one while it is set.",
    )

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        """Refuse what would send the key in the clear or to a half-written address."""
        return bare_address(value, "the ERP's address, as https://erp.example.com")

    def accounts(self) -> frozenset[str]:
        """Return the company, by its ERP's address and its key's variable: one address may serve several."""
        return frozenset(f"{address} {self.api_key_env}" for address in store_at(self.base_url))


def limits_with(overrides: Mapping[str, float]) -> Limits:
    """Return the contract's limits, each changed by the channel. Raises `ValueError` naming a limit that can't be."""
    return LIMITS.changed(overrides, most_rows=LIMITS.write_batch)
