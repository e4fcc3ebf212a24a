"""channels.yaml: what it gives, and how each mistake in it is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from invsync_dagster.channels import Channel, Configuration, Rules, _Entry, load, load_for_webhooks
from invsync_dagster.platforms.amazon import AmazonSettings
from invsync_dagster.platforms.ebay import EbaySettings
from invsync_dagster.platforms.shopify import ShopifySettings
from invsync_dagster.settings import ChangeLimits, Home, Retention, Settings

ROOT = Path(__file__).parents[2]

GOOD = """\
settings:
  retries: 5
channels:
  - name: shop
    platform: shopify
    environment: production
    settings:
      shop_url: https://example.myshopify.com
      access_token_env: SHOP_TOKEN
      webhook_secret_env: SHOP_SECRET
    rules:
      buffer: 2
    limits:
      write_linger: 5
    cut_over_at: 2026-01-01T00:00:00Z
  - name: desk
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:8790/desk
      api_key_env: DESK_KEY
      signing_secret_env: DESK_SIGNING
      webhook_secret_env: DESK_SECRET
    contains_orders_of: [shop]
    inventory_webhook: true
"""
VARIABLES = ("SHOP_TOKEN", "SHOP_SECRET", "DESK_KEY", "DESK_SIGNING", "DESK_SECRET")
ENVIRON = {name: f"secret of {name}" for name in VARIABLES}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})


def loaded(home: Home, text: str, environ: dict[str, str] = ENVIRON) -> Configuration:
    home.channels_file.write_text(text, encoding="utf-8")
    return load(home, environ)


def by_name(configuration: Configuration) -> dict[str, Channel]:
    return {channel.name: channel for channel in configuration.channels}


def test_a_good_file_gives_its_settings_and_channels(home: Home) -> None:
    configuration = loaded(home, GOOD)
    assert configuration.problems == ()
    assert configuration.settings == Settings(retries=5)
    channels = by_name(configuration)
    assert list(channels) == ["shop", "desk"]
    assert channels["shop"].rules == Rules(buffer=2)
    assert channels["shop"].limits == {"write_linger": 5.0}
    assert channels["shop"].cut_over_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert channels["desk"].contains_orders_of == ("shop",)
    assert [channel.inventory_webhook for channel in configuration.channels] == [False, True]
    assert [channel.disabled_reason for channel in configuration.channels] == ["", ""]


def test_secrets_come_from_the_environment_by_the_fields_that_name_them(home: Home) -> None:
    shop = by_name(loaded(home, GOOD))["shop"]
    assert shop.secrets(ENVIRON) == {
        "access_token_env": "secret of SHOP_TOKEN",
        "webhook_secret_env": "secret of SHOP_SECRET",
    }
    assert "secret of" not in repr(shop)


@pytest.mark.parametrize("written", ["secrets/a.json", "/var/lib/a.json"])
def test_a_file_of_tokens_is_the_same_one_whatever_folder_a_process_works_in(home: Home, written: str) -> None:
    text = f"""\
channels:
  - name: ali
    platform: alibaba
    environment: production
    settings:
      app_key_env: SHOP_TOKEN
      app_secret_env: SHOP_SECRET
      refresh_token_env: DESK_KEY
      token_file: {written}
"""
    configuration = loaded(home, text)
    assert configuration.problems == ()
    (channel,) = configuration.channels
    assert channel.settings.model_dump()["token_file"] == str(home.data / written)
    assert loaded(home, text.replace(written, "''")).problems[0].startswith("channels.yaml line 5: channel 'ali': ")


def settings_of(model: type[BaseModel]) -> Iterator[str]:
    """Every setting that a model takes, with those of the models within it."""
    for name, field in model.model_fields.items():
        yield name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from settings_of(inner)


def with_what_is_commented_out(text: str) -> str:
    """The file with the settings that stand in it as comments: `# name: value`, or `# - name: value`."""
    return re.sub(r"^( *)# ( *(?:- )?[a-z_]+:(?: .*)?)$", r"\1\2", text, flags=re.MULTILINE)


def test_every_setting_stands_in_the_projects_own_file_and_can_be_used_as_it_stands_there(home: Home) -> None:
    text = with_what_is_commented_out((ROOT / "channels.yaml").read_text(encoding="utf-8"))
    named = set(re.findall(r"\b([a-z_]+):", text))
    assert {*settings_of(Settings), *settings_of(_Entry)} - named == set()
    variables = [line.partition("=")[0] for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()]
    configuration = loaded(home, text, dict.fromkeys([*variables, "ALERTS_MAIL"], "x"))
    assert configuration.problems == ()
    settings = configuration.settings
    assert (settings.change_limits, settings.retention) == (ChangeLimits(), Retention())
    assert settings.imports["supplier"].columns == {"sku": "Artikel", "quantity": "Bestand"}
    assert (settings.ui_url, [target.url_env for target in settings.alerts]) == (
        "https://stock.example.com",
        ["ALERTS_MAIL"],
    )
    channels = by_name(configuration)
    assert channels["shopify_main"].rules.dead_band == 3
    assert channels["shopify_main"].cut_over_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert channels["erp_main"].contains_orders_of == ("shopify_main",)


@pytest.mark.parametrize(
    ("environment", "given", "title"),
    [
        ("production", "", "shop"),
        ("production", "title: Main  shop", "Main shop (shop)"),
        ("sandbox", "title: Main shop", "Main shop (shop, sandbox)"),
        ("sandbox", "", "shop (sandbox)"),
    ],
)
def test_a_channel_is_called_by_its_title_and_keeps_its_name(
    home: Home, environment: str, given: str, title: str
) -> None:
    text = GOOD.replace("environment: production", f"environment: {environment}\n    {given}", 1)
    channel = loaded(home, text).channels[0]
    assert (channel.disabled_reason, channel.name, channel.title) == ("", "shop", title)


def test_the_projects_own_file_describes_eight_usable_channels(home: Home) -> None:
    text = (ROOT / "channels.yaml").read_text(encoding="utf-8")
    variables = [line.partition("=")[0] for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()]
    assert all(
        name in text
        for name in variables
        if name.endswith(("_TOKEN", "_SECRET", "_KEY")) and not name.startswith("INVSYNC_")
    )
    configuration = loaded(home, text, dict.fromkeys(variables, "x"))
    assert configuration.problems == ()
    names = [channel.name for channel in configuration.channels]
    assert names[:4] == ["shopify_main", "shopify_outlet", "shopify_eu", "woo_main"]
    assert names[4:] == ["amazon_eu", "ebay_main", "alibaba_main", "erp_main"]
    assert configuration.settings == Settings(receiver_url="http://127.0.0.1:8791")
    assert len({channel.rules for channel in configuration.channels}) == 8


@pytest.mark.parametrize(
    ("good", "bad", "problem"),
    [
        ("buffer: 2", "bufer: 2", "line 12: channel 'shop': unknown key 'rules.bufer' (did you mean 'buffer'?)"),
        ("buffer: 2", "buffer: -2", "line 12: channel 'shop': rules.buffer should be greater than or equal to 0"),
        ("buffer: 2", "buffer: 2\n      buffer: 3", "line 13: channel 'shop': buffer stands twice"),
        (
            "platform: shopify",
            "platform: shopfy",
            "line 5: channel 'shop': unknown platform 'shopfy' — use one of: alibaba, amazon, ebay, erp,",
        ),
        ("    platform: shopify\n", "", "line 4: channel 'shop': platform is missing — add it"),
        ("environment: production", "environment: live", "line 6: channel 'shop': environment should be 'sandbox' or"),
        ("shop_url: https", "shop_urls: https", "line 8: channel 'shop': unknown setting 'shop_urls' (did you mean"),
        ("https://example", "http://example", "line 8: channel 'shop': shop_url must begin with https://"),
        ("SHOP_TOKEN", "OTHER_TOKEN", "line 9: channel 'shop': the environment variable OTHER_TOKEN is not set"),
        ("write_linger: 5", "write_lingr: 5", "line 14: channel 'shop': unknown limit 'write_lingr' (did you mean"),
        ("write_linger: 5", "write_linger: -5", "line 14: channel 'shop': limit write_linger is negative"),
        ("write_linger: 5", "rate: 0", "line 14: channel 'shop': limit rate must be more than 0"),
        ("write_linger: 5", "write_batch: 2.5", "line 14: channel 'shop': limit write_batch counts rows"),
        ("write_linger: 5", "write_batch: 251", "line 13: channel 'shop': limits: write_batch must be from 1 to 250"),
        ("write_linger: 5", "write_linger: .inf", "line 14: channel 'shop': limits.write_linger should be a finite"),
        ("00:00:00Z", "00:00:00Z\n    restock: maybe", "line 16: channel 'shop': restock should be 'as_told', 'never'"),
        ("00:00:00Z", "00:00:00", "line 15: channel 'shop': cut_over_at should have timezone info"),
        ("2026-01-01T", "2026-13-01T", "line 15: channel 'shop': 2026-13-01T00:00:00Z is no value"),
    ],
)
def test_a_bad_entry_is_disabled_with_its_line_and_the_others_load(
    home: Home, good: str, bad: str, problem: str
) -> None:
    assert GOOD.count(good) == 1
    configuration = loaded(home, GOOD.replace(good, bad))
    assert any(sentence.startswith(f"channels.yaml {problem}") for sentence in configuration.problems), (
        configuration.problems
    )
    channels = by_name(configuration)
    assert problem in channels["shop"].disabled_reason
    assert channels["desk"].disabled_reason == ""


def test_every_problem_names_a_mend(home: Home) -> None:
    text = GOOD.replace("buffer: 2", "bufer: 2").replace("retries", "retrys").replace("desk\n    pl", "shop\n    pl")
    problems = loaded(home, text).problems
    assert len(problems) == 3
    assert all(" — " in problem for problem in problems)


EBAY = """\
    settings:
      client_id_env: SHOP_TOKEN
      client_secret_env: SHOP_TOKEN
      refresh_token_env: SHOP_TOKEN
      verification_token_env: SHOP_TOKEN
      webhook_url: https://sync.example.com/webhooks/it
"""
AMAZON = """\
    settings:
      region: fe
      seller_id: A2XYZ1234567
      marketplaces: [JP]
      client_id_env: SHOP_TOKEN
      client_secret_env: SHOP_TOKEN
      refresh_token_env: SHOP_TOKEN
"""


def entry(platform: str, environment: str, settings: str, api_url: str = "") -> str:
    address = f"      api_url: {api_url}\n" if api_url else ""
    return f"channels:\n  - name: it\n    platform: {platform}\n    environment: {environment}\n{settings}{address}"


@pytest.mark.parametrize(
    ("platform", "settings", "environment", "host"),
    [
        ("ebay", EBAY, "production", "https://api.ebay.com"),
        ("ebay", EBAY, "sandbox", "https://api.sandbox.ebay.com"),
        ("amazon", AMAZON, "production", "https://sellingpartnerapi-fe.amazon.com"),
        ("amazon", AMAZON, "sandbox", "https://sandbox.sellingpartnerapi-fe.amazon.com"),
    ],
)
def test_the_environment_says_which_of_the_vendors_hosts_is_called(
    home: Home, platform: str, settings: str, environment: str, host: str
) -> None:
    for given in ("", host, "http://127.0.0.1:8790/it"):
        (channel,) = loaded(home, entry(platform, environment, settings, given)).channels
        assert channel.disabled_reason == ""
        assert isinstance(channel.settings, EbaySettings | AmazonSettings)
        assert channel.settings.api_url == (given or host)


@pytest.mark.parametrize(
    ("platform", "settings", "environment", "other"),
    [
        ("ebay", EBAY, "production", "https://api.sandbox.ebay.com"),
        ("ebay", EBAY, "sandbox", "https://api.ebay.com"),
        ("amazon", AMAZON, "production", "https://sandbox.sellingpartnerapi-fe.amazon.com"),
        ("amazon", AMAZON, "sandbox", "https://sellingpartnerapi-fe.amazon.com"),
    ],
)
def test_the_other_environments_host_is_refused_with_its_line_and_the_mend(
    home: Home, platform: str, settings: str, environment: str, other: str
) -> None:
    text = entry(platform, environment, settings, other)
    configuration = loaded(home, text)
    (problem,) = configuration.problems
    line = text.splitlines().index(f"      api_url: {other}") + 1
    assert problem.startswith(f"channels.yaml line {line}: channel 'it': api_url is ")
    assert f"the channel says `environment: {environment}`: leave the address out" in problem
    assert configuration.channels[0].disabled_reason == problem


def test_a_name_used_twice_disables_both_since_nobody_can_say_which_is_meant(home: Home) -> None:
    configuration = loaded(home, GOOD.replace("name: desk", "name: shop"))
    assert [channel.name for channel in configuration.channels] == ["shop"]
    assert "used already in line 4" in configuration.channels[0].disabled_reason


def test_a_channel_without_a_usable_name_is_told_and_left_out(home: Home) -> None:
    configuration = loaded(home, GOOD.replace("name: shop", "name: Shop/1"))
    assert list(by_name(configuration)) == ["desk"]
    assert configuration.problems[0].startswith("channels.yaml line 4: a channel without a usable name")


def test_contained_orders_of_an_unknown_channel_disable_the_entry(home: Home) -> None:
    configuration = loaded(home, GOOD.replace("[shop]", "[shopp]"))
    assert "contains_orders_of names 'shopp', which is no other channel (did you mean 'shop'?)" in (
        by_name(configuration)["desk"].disabled_reason
    )


def test_only_one_channel_has_the_plain_webhook_address(home: Home) -> None:
    second = GOOD[GOOD.index("  - name: desk") :].replace("desk", "desk_two", 1)
    configuration = loaded(home, GOOD + second)
    channels = by_name(configuration)
    assert channels["desk"].disabled_reason == ""
    assert "'desk' takes /inventory-webhook already" in channels["desk_two"].disabled_reason


def test_a_secret_pasted_instead_of_a_name_is_never_repeated(home: Home) -> None:
    configuration = loaded(home, GOOD.replace("SHOP_TOKEN", "shpat_0123456789abcdef"))
    assert "never the secret itself" in configuration.problems[0]
    assert "shpat_0123456789abcdef" not in repr(configuration.problems)


def test_a_missing_variable_of_one_channel_leaves_the_others(home: Home) -> None:
    configuration = loaded(home, GOOD, {**ENVIRON, "DESK_KEY": ""})
    channels = by_name(configuration)
    assert channels["shop"].disabled_reason == ""
    assert channels["desk"].disabled_reason.endswith("the environment variable DESK_KEY is not set — set it in .env")


def test_a_bad_setting_keeps_its_default_and_the_good_ones_hold(home: Home) -> None:
    configuration = loaded(home, GOOD.replace("  retries: 5", "  retries: many\n  low_stock: 9"))
    assert configuration.settings == Settings(low_stock=9)
    assert configuration.problems[0].startswith("channels.yaml line 2: settings: retries should be a valid integer")
    assert all(channel.disabled_reason == "" for channel in configuration.channels)


KINDS = """\
  imports:
    acme:
      columns: {sku: Art, quantity: Bestand}
    cn:
      columns: {sku: 货号, quantty: 库存}
      basis: availible
    late: {columns: {sku: A, quantity: B}, basis: available}
"""


def test_of_the_kinds_of_files_only_the_one_that_is_wrong_is_left_out(home: Home) -> None:
    configuration = loaded(home, GOOD.replace("settings:\n", f"settings:\n{KINDS}", 1))
    assert {name: kind.basis for name, kind in configuration.settings.imports.items()} == {
        "acme": "on_hand",
        "late": "available",
    }
    assert configuration.settings.retries == 5
    assert configuration.problems == (
        "channels.yaml line 6: settings: imports.cn.columns.quantty should be 'sku', 'quantity', 'product_name', "
        "'reserved_quantity' or 'status' — mend the key; it is left out until then",
        "channels.yaml line 7: settings: imports.cn.basis should be 'on_hand' or 'available' — mend the value; it is left "
        "out until then",
    )


@pytest.mark.parametrize(
    ("wrong", "line"),
    [("alerts: yes", 2), ("alerts: 5", 2), ("alerts: {}", 2), ("imports: [1]", 2), ("~: 1", 1), ("2026-01-01: 1", 1)],
)
def test_whatever_stands_in_the_settings_the_others_hold(home: Home, wrong: str, line: int) -> None:
    configuration = loaded(home, GOOD.replace("settings:\n", f"settings:\n  {wrong}\n", 1))
    assert (configuration.settings, len(configuration.problems)) == (Settings(retries=5), 1)
    assert configuration.problems[0].startswith(f"channels.yaml line {line}: settings: ")


@pytest.mark.parametrize("key", ["~", "2026-01-01", "1.5", "5", "yes"])
def test_a_kind_of_files_may_be_named_by_what_yaml_takes_for_no_word(home: Home, key: str) -> None:
    kinds = f"  imports:\n    {key}: {{columns: {{sku: A, quantity: B}}}}\n    x: {{columns: 1}}\n"
    configuration = loaded(home, GOOD.replace("settings:\n", f"settings:\n{kinds}", 1))
    assert [kind.columns["sku"] for kind in configuration.settings.imports.values()] == ["A"]
    assert "imports.x.columns should be a valid dictionary" in configuration.problems[0]


def test_of_the_messengers_only_the_one_that_is_wrong_is_left_out_and_the_others_name_their_lines(home: Home) -> None:
    targets = "  alerts:\n    - {url_env: PAGER, severity: loud}\n    - {url_env: NOT_SET, severity: error}\n"
    configuration = loaded(home, GOOD.replace("settings:\n", f"settings:\n{targets}", 1))
    assert [target.url_env for target in configuration.settings.alerts] == ["NOT_SET"]
    first, second = configuration.problems
    assert first.startswith("channels.yaml line 3: settings: alerts.0.severity should be ")
    assert first.endswith("; it is left out until then")
    assert second.startswith("channels.yaml line 4: settings: the environment variable NOT_SET is not set")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("channels:\n  - name: shop\n   platform: x\n", 3),
        ("", 1),
        ("settings: {}\n", 1),
        ("channels: &all [*all]\n", 1),
        ("channels: [\n", 2),
    ],
)
def test_an_unreadable_file_leaves_the_last_readable_one_in_force(home: Home, text: str, line: int) -> None:
    before = loaded(home, GOOD)
    after = loaded(home, text)
    assert after.channels == before.channels
    assert after.settings == before.settings
    assert len(after.problems) == 1
    assert after.problems[0].startswith(f"channels.yaml line {line}: can't be read: ")
    assert after.problems[0].endswith("the last readable one stays in force")
    assert loaded(home, GOOD).problems == ()


def test_bytes_that_are_no_text_leave_the_last_readable_one_in_force(home: Home) -> None:
    before = loaded(home, GOOD)
    home.channels_file.write_bytes(b"channels:\xff\xfe")
    assert load(home, ENVIRON).channels == before.channels


def test_a_file_that_is_gone_leaves_the_last_readable_one_in_force(home: Home) -> None:
    before = loaded(home, GOOD)
    home.channels_file.unlink()
    after = load(home, ENVIRON)
    assert after.channels == before.channels
    assert after.problems[0].startswith("channels.yaml: can't be opened: No such file or directory")


def test_without_any_readable_file_there_is_no_channel_and_a_problem(home: Home) -> None:
    configuration = load(home, ENVIRON)
    assert configuration.channels == ()
    assert configuration.settings == Settings()
    assert configuration.problems[0].endswith("there is no earlier copy, so no channel is loaded")


def test_the_credentials_are_what_the_platform_checks_when_it_is_called() -> None:
    hooks = {"webhook_secret_env": "HOOK", "webhook_previous_secret_env": "OLD_HOOK"}
    address = {"shop_url": "https://x.myshopify.com"}
    ebay = {
        f"{name}_env": name.upper() for name in ("client_id", "client_secret", "refresh_token", "verification_token")
    }
    settings = {
        ("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN"): EbaySettings(
            **ebay, webhook_url="https://sync.example.com/ebay"
        ),
        ("TOKEN",): ShopifySettings.model_validate(address | hooks | {"access_token_env": "TOKEN"}),
        # The client secret that signs webhooks is what tokens are asked for with.
        ("CLIENT", "HOOK"): ShopifySettings.model_validate(address | hooks | {"client_id_env": "CLIENT"}),
    }
    for variables, each in settings.items():
        channel = Channel(name="shop", platform="any", environment="sandbox", settings=each)
        assert channel.credential_variables() == list(variables)


HOOKS = {name: ENVIRON[name] for name in ("SHOP_SECRET", "DESK_SECRET")}


def test_who_only_takes_webhooks_needs_their_secrets_alone_and_writes_nothing(home: Home) -> None:
    home.channels_file.write_text(GOOD, encoding="utf-8")
    configuration = load_for_webhooks(home, HOOKS)
    assert configuration.problems == ()
    assert {name: channel.door_secrets(HOOKS) for name, channel in by_name(configuration).items()} == {
        "shop": {"webhook_secret_env": "secret of SHOP_SECRET"},
        "desk": {"webhook_secret_env": "secret of DESK_SECRET"},
    }
    assert not home.data.exists()
    (problem,) = load_for_webhooks(home, {"SHOP_SECRET": "x"}).problems
    assert "DESK_SECRET is not set" in problem


def test_a_file_that_cant_be_read_leaves_the_last_good_one_in_force_for_webhooks_too(home: Home) -> None:
    loaded(home, GOOD)
    home.channels_file.write_text("channels: [", encoding="utf-8")
    assert set(by_name(load_for_webhooks(home, HOOKS))) == {"shop", "desk"}
    home.last_good_channels_file.unlink()
    assert load_for_webhooks(home, HOOKS).channels == ()


def test_a_door_is_made_with_what_the_receiver_is_given_and_nothing_else() -> None:
    ebay = {
        f"{name}_env": name.upper() for name in ("client_id", "client_secret", "refresh_token", "verification_token")
    }
    settings = EbaySettings(**ebay, webhook_url="https://sync.example.com/ebay")
    assert sorted(settings.listened_with().values()) == ["CLIENT_ID", "CLIENT_SECRET", "VERIFICATION_TOKEN"]


@pytest.mark.parametrize("value", [None, ""])
def test_a_previous_secret_may_stay_named_while_there_is_none(home: Home, value: str | None) -> None:
    text = GOOD.replace("      webhook_secret_env: SHOP_SECRET\n", TWO_SECRETS)
    environ = ENVIRON if value is None else ENVIRON | {"SHOP_PREVIOUS": value}
    configuration = loaded(home, text, environ)
    assert configuration.problems == ()
    shop = by_name(configuration)["shop"]
    assert "webhook_previous_secret_env" not in shop.secrets(environ)
    changing = environ | {"SHOP_PREVIOUS": "old"}
    assert shop.door_secrets(changing)["webhook_previous_secret_env"] == "old"


TWO_SECRETS = "      webhook_secret_env: SHOP_SECRET\n      webhook_previous_secret_env: SHOP_PREVIOUS\n"
