"""The `settings:` block of an ERP channel, and the limits that our ERP contract sets (docs/erp-contract.md)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.transport import is_loopback

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


class ErpSettings(BaseModel):
    """How one own ERP is reached and how it signs; secrets are named, never written here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str = Field(description="Address before /invsync/v1 at the ERP, as https://erp.example.com.")
    api_key_env: str = Field(description="Environment variable with the key that names us to the ERP.")
    signing_secret_env: str = Field(description="Environment variable with the secret that signs our requests.")
    webhook_secret_env: str = Field(description="Environment variable with the secret that signs the ERP's webhooks.")
    webhook_previous_secret_env: str | None = Field(
        default=None,
        description="Environment variable with the webhook secret before its rotation, valid beside the new one.",
    )

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        """Refuse what would send the key in the clear or to a half-written address."""
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be the ERP's address, as https://erp.example.com")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("must begin with https:// (plain http:// is for loopback only)")
        if parts.query or parts.fragment or parts.username or parts.password:
            raise ValueError("must be a bare address, without a user name, '?' or '#'")
        return value.rstrip("/")


def limits_with(overrides: Mapping[str, float]) -> Limits:
    """Return the contract's limits, each changed by the channel. Raises `ValueError` naming a limit that can't be."""
    return LIMITS.changed(overrides, most_rows=LIMITS.write_batch)
