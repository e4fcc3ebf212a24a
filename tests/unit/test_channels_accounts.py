"""One account under two names in channels.yaml: each of its orders would count twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from invsync_dagster.channels import Configuration, load
from invsync_dagster.settings import Home

WOO = {
    "store_url": "https://shop.example.com",
    "consumer_key_env": "A",
    "consumer_secret_env": "B",
    "webhook_secret_env": "C",
}
ERP = {
    "base_url": "https://erp.example.com",
    "api_key_env": "A",
    "signing_secret_env": "B",
    "webhook_secret_env": "C",
}
AMAZON = {
    "region": "eu",
    "seller_id": "A2SELLER0001",
    "marketplaces": "[DE, FR]",
    "client_id_env": "A",
    "client_secret_env": "B",
    "refresh_token_env": "C",
}
EBAY = {
    "client_id_env": "A",
    "client_secret_env": "B",
    "refresh_token_env": "C",
    "verification_token_env": "A",
    "webhook_url": "https://sync.example.com/webhooks/one",
}
ALIBABA = {"app_key_env": "A", "app_secret_env": "B", "refresh_token_env": "C", "token_file": "tokens.json"}
SHOPIFY = {"shop_url": "https://x.myshopify.com", "access_token_env": "A", "webhook_secret_env": "B"}


def two(platform: str, first: dict[str, str], changed: dict[str, str], environments: tuple[str, str]) -> str:
    """Return a file with two channels of a platform, the second one with some settings changed."""
    text = "channels:\n"
    for name, environment, settings in zip(("one", "two"), environments, (first, first | changed), strict=True):
        text += f"  - name: {name}\n    platform: {platform}\n    environment: {environment}\n    settings:\n"
        text += "".join(f"      {key}: {value}\n" for key, value in settings.items())
    return text


def loaded(root: Path, text: str) -> Configuration:
    home = Home.from_environment({"INVSYNC_ROOT": str(root)})
    home.channels_file.write_text(text)
    return load(home, dict.fromkeys("ABCD", "value"))


LIVE = ("production", "production")


@pytest.mark.parametrize(
    ("platform", "settings", "changed"),
    [
        ("woocommerce", WOO, {}),
        ("woocommerce", WOO, {"store_url": "https://Shop.Example.com:443/"}),
        ("woocommerce", WOO | {"store_url": "https://x.example.com/a"}, {"store_url": "https://x.example.com/a/"}),
        ("erp", ERP, {"signing_secret_env": "D"}),
        ("amazon", AMAZON, {"marketplaces": "[FR, IT]"}),
        ("ebay", EBAY, {"webhook_url": "https://sync.example.com/webhooks/two"}),
        ("alibaba", ALIBABA, {"token_file": "others.json"}),
    ],
)
def test_an_account_that_two_channels_have_disables_the_second_and_names_both_lines(
    tmp_path: Path, platform: str, settings: dict[str, str], changed: dict[str, str]
) -> None:
    text = two(platform, settings, changed, LIVE)
    configuration = loaded(tmp_path, text)
    line = text.splitlines().index("  - name: two") + 4
    told = f"channels.yaml line {line}: channel 'two': is the account of channel 'one' in line 2, so that each order counts twice"
    assert [(one.name, one.disabled_reason) for one in configuration.channels] == [
        ("one", ""),
        ("two", f"{told} — remove one of the two"),
    ]


def test_a_channel_that_is_disabled_for_something_else_holds_no_account(tmp_path: Path) -> None:
    text = two("erp", ERP, {}, LIVE).replace("    settings:\n", "    contains_orders_of: [nowhere]\n    settings:\n", 1)
    first, second = loaded(tmp_path, text).channels
    assert "nowhere" in first.disabled_reason
    assert second.disabled_reason == ""


@pytest.mark.parametrize(
    ("platform", "settings", "changed", "environments"),
    [
        ("woocommerce", WOO, {"store_url": "https://other.example.com"}, LIVE),
        ("woocommerce", WOO, {"store_url": "https://shop.example.com:8443"}, LIVE),
        ("woocommerce", WOO, {"store_url": "https://shop.example.com/second"}, LIVE),
        ("woocommerce", WOO, {}, ("sandbox", "production")),
        ("erp", ERP, {"api_key_env": "B"}, LIVE),
        ("erp", ERP | {"base_url": "http://127.0.0.1:8790"}, {}, ("sandbox", "sandbox")),
        ("amazon", AMAZON, {"marketplaces": "[IT]"}, LIVE),
        ("amazon", AMAZON, {"seller_id": "A2SELLER0002"}, LIVE),
        ("ebay", EBAY, {"refresh_token_env": "D"}, LIVE),
        ("alibaba", ALIBABA, {"refresh_token_env": "D"}, LIVE),
        ("shopify", SHOPIFY, {}, LIVE),
    ],
)
def test_accounts_that_may_be_two_are_both_used(
    tmp_path: Path, platform: str, settings: dict[str, str], changed: dict[str, str], environments: tuple[str, str]
) -> None:
    configuration = loaded(tmp_path, two(platform, settings, changed, environments))
    assert (configuration.problems, [one.name for one in configuration.channels]) == ((), ["one", "two"])
