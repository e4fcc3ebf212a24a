"""The `settings:` block of a WooCommerce channel, and the limits that a WooCommerce store sets."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.settings import VendorSettings, bare_address, store_at

# A store refuses more than 100 items a call, and gives at most 100 rows a page (class-wc-rest-controller.php).
MOST_ROWS = 100

LIMITS = Limits(
    # A store works on the items one after another: 100 of them took 1.2 to 2.3 s on a small host. See `pace`.
    write_batch=50,
    read_batch=MOST_ROWS,
    # WooCommerce counts no calls, its host does: two a second keep one worker of a small one busy.
    rate=2.0,
    burst=4.0,
    # Products and variations are listed apart, so a reading of both takes two calls; what it takes is told back.
    read_cost=2.0,
    # Orders and those in the trash are listed apart.
    orders_cost=2.0,
    # The longest; calls begin with half of it.
    request_deadline=90.0,
    # PHP works on after its caller has gone, at the longest for its max_execution_time: 30 s as it comes, and up to
    # 300 s with hosts.
    write_linger=300.0,
    read_lag=0.0,
    # Webhooks leave with the store's cron, which runs when somebody visits.
    webhook_delay=300.0,
    # Variations are written under their product's address.
    one_location_a_write=True,
)


class WooCommerceSettings(VendorSettings):
    """How one WooCommerce store is reached; secrets are named, never written here."""

    store_url: str = Field(description="The store's WordPress address, https://shop.example.com, before /wp-json.")
    consumer_key_env: str = Field(
        description="Environment variable with the REST API key ck_… (permissions: Read/Write)."
    )
    consumer_secret_env: str = Field(description="Environment variable with the secret cs_… of that key.")
    webhook_secret_env: str = Field(
        description="Environment variable with the secret of the store's webhooks (the same in each of them)."
    )
    webhook_previous_secret_env: str | None = Field(
        default=None,
        description="Environment variable with the webhooks' secret before its change, valid beside the new one while it is set.",
    )

    @field_validator("store_url")
    @classmethod
    def _is_a_store(cls, value: str) -> str:
        """Refuse what would send the key in the clear or to a half-written address."""
        address = bare_address(value, "the store's address, as https://shop.example.com")
        if "/wp-json" in address:
            raise ValueError("must end before /wp-json, which is added to it")
        return address

    def accounts(self) -> frozenset[str]:
        """Return the store, by its address."""
        return store_at(self.store_url)


def limits_with(overrides: Mapping[str, float]) -> Limits:
    """Return WooCommerce's limits, each changed by the channel. Raises `ValueError` naming a limit that can't be."""
    return LIMITS.changed(overrides, most_rows=MOST_ROWS)
