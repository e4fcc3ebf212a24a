"""What the `settings:` blocks of all vendors have alike: their form, their addresses, and which secrets are credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationInfo

from invsync_dagster.platforms.transport import is_loopback

# In the context of a validation: the installation's data folder, from which paths count.
DATA_FOLDER = "data_folder"

# In the context of a validation: the channel's environment; where nobody says it, addresses are those of production.
ENVIRONMENT = "environment"

# Only while a secret is being changed does its variable hold one; unset or empty, there is none.
PREVIOUS_SECRET = "webhook_previous_secret_env"  # noqa: S105 - the name of a field

# What webhooks are verified with or fetched with: it opens nothing at the platform.
_LISTENED_WITH = frozenset(
    {
        "webhook_secret_env",
        PREVIOUS_SECRET,
        "webhook_queue_key_id_env",
        "webhook_queue_key_env",
        "verification_token_env",
    }
)


class VendorSettings(BaseModel):
    """How one channel is reached; secrets are named (in fields that end in `_env`), never written here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # The fields that say how a shop is talked to, and not which one it is; what it is listened to with isn't named again.
    leads_nowhere: ClassVar[frozenset[str]] = frozenset()

    def place(self) -> dict[str, Any]:
        """Return what says which shop it is: address, account, marketplaces, the names of the credentials' variables.

        Without what is as it comes: a field that a later version adds is no other shop.
        """
        return self.model_dump(mode="json", exclude_defaults=True, exclude={*_LISTENED_WITH, *self.leads_nowhere})

    def variables(self) -> dict[str, str]:
        """Return all environment variables that are named, by their fields."""
        return {name: value for name, value in self if name.endswith("_env") and value is not None}

    def credentials(self) -> dict[str, str]:
        """Return the environment variables whose values the platform checks when we call it, by their fields."""
        return {name: value for name, value in self.variables().items() if name not in _LISTENED_WITH}

    def listened_with(self) -> dict[str, str]:
        """Return the environment variables that the webhook door needs, by their fields: the receiver gets no others."""
        return {name: value for name, value in self.variables().items() if name in _LISTENED_WITH}

    def accounts(self) -> frozenset[str]:
        """Return names for the account, or for its parts: channels that share one count each order of it twice. Empty where the
        settings don't tell."""
        return frozenset()

    def notified_at(self, receiver_url: str, channel: str) -> str:
        """Return where the platform is to send a channel's webhooks, "" where the receiver has no public address."""
        return f"{receiver_url}/webhooks/{channel}" if receiver_url else ""


def valid_secrets(secrets: Mapping[str, str]) -> list[str]:
    """Return the webhook secrets that are valid now, the newest first: while one is changed, the previous one is as good.
    Raises `KeyError` without the first."""
    return [secrets["webhook_secret_env"], *([secrets[PREVIOUS_SECRET]] if PREVIOUS_SECRET in secrets else [])]


def store_at(address: str) -> frozenset[str]:
    """Return the name of the one store at an address, however it is written. An address on this machine has none: stand-ins
    share it."""
    parts = urlsplit(address)
    if is_loopback(parts.hostname or ""):
        return frozenset()
    # Not `port`, which raises for what is none.
    host = parts.netloc.lower().removesuffix(":443" if parts.scheme == "https" else ":80")
    return frozenset({host + parts.path.rstrip("/")})


def bare_address(value: str, wanted: str) -> str:
    """Return an address without the slash at its end; `wanted` says whose it must be, with an example.

    Raises `ValueError` for what would send credentials in the clear or to a half-written address.
    """
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"must be {wanted}")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must begin with https:// (plain http:// is for loopback only)")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must be a bare address, without a user name, '?' or '#'")
    return value.rstrip("/")


def address_in(info: ValidationInfo, value: str, vendor: str, domain: str, hosts: Mapping[str, str]) -> str:
    """Return the bare address of a vendor that has a host for each environment: `value`, "" for the one in `hosts` that the
    channel's environment has. Any other address (a stand-in, a proxy) is taken as it is.

    Raises `ValueError` for the vendor's host of the other environment: a trial would be done on the live listings.
    """
    environment = (info.context or {}).get(ENVIRONMENT)
    if not value:
        return hosts[environment or "production"]
    names = (urlsplit(value).hostname or "").split(".")
    its = "sandbox" if "sandbox" in names else "production"
    if environment not in (None, its) and ".".join(names).endswith(f".{domain}"):
        raise ValueError(
            f"is {vendor}'s {its}, and the channel says `environment: {environment}`: leave the address out for {vendor}'s own "
            f"{environment}, or change the environment"
        )
    return value
