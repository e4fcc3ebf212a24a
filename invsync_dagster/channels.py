"""Loads channels.yaml: the settings and the channels, each entry checked, each problem a sentence with its mend."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from invsync_dagster.environment import EmptySecretFileError, SecretFileError
from invsync_dagster.form_errors import filled, meant, sentences
from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.registry import VENDORS, Vendor
from invsync_dagster.platforms.settings import DATA_FOLDER, ENVIRONMENT, PREVIOUS_SECRET, VendorSettings
from invsync_dagster.settings import VARIABLE, Home, Settings
from invsync_dagster.yaml_lines import Document, Place, UnreadableError, read_yaml

# A channel's name is a URL segment, an asset key and a file name: lower case, as some file systems fold two into one.
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Rules(BaseModel):
    """A channel's rules between available and desired, in units; a listing may set its own over them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    buffer: int = Field(default=0, ge=0, description="Units kept back from the channel.")
    percent: int = Field(default=100, ge=0, le=100, description="Share of what is left that is shown, rounded down.")
    minimum: int = Field(default=0, ge=0, description="Below this the channel shows 0.")
    maximum: int | None = Field(default=None, ge=0, description="The channel never shows more.")
    dead_band: int = Field(
        default=0, ge=0, description="Changes up to this many units aren't sent, unless stock is low."
    )


class NoSettings(VendorSettings):
    """What a disabled channel has in the place of settings that could not be read."""


@dataclass(frozen=True)
class Channel:
    """One connected account or store. Usable only while `disabled_reason` is ""."""

    name: str
    platform: str
    environment: Literal["sandbox", "production"]
    settings: VendorSettings = field(default_factory=NoSettings)
    rules: Rules = field(default_factory=lambda: Rules())
    limits: Mapping[str, float] = field(default_factory=dict)
    contains_orders_of: tuple[str, ...] = ()
    count_lag_seconds: float = 0.0
    cut_over_at: datetime | None = None
    inventory_webhook: bool = False
    differences: Literal["repair", "report", "adopt"] = "repair"
    restock: Literal["as_told", "never", "always"] = "as_told"
    disabled_reason: str = ""
    given_title: str = ""

    @property
    def title(self) -> str:
        """What people read: the title that the file gives it, its name, and that it is a sandbox if it is one."""
        notes = [self.name] if self.given_title else []
        notes += ["sandbox"] if self.environment == "sandbox" else []
        return f"{self.given_title or self.name} ({', '.join(notes)})" if notes else self.name

    def credential_variables(self) -> list[str]:
        """Return the names of the environment variables whose values the platform checks when we call it."""
        return sorted(self.settings.credentials().values())

    def secrets(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the secrets by the field that names their variable: `webhook_secret_env: X` gives
        `{"webhook_secret_env": environ["X"]}`. A field that is None gives none, nor does a previous secret that isn't
        set. Raises KeyError with the variable's name, and `SecretFileError`."""
        return _values(self.settings.variables(), environ)

    def door_secrets(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the secrets that the webhook door needs, as `secrets` does. Raises KeyError with the variable's name."""
        return _values(self.settings.listened_with(), environ)


def _values(variables: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    return {key: environ[name] for key, name in variables.items() if key != PREVIOUS_SECRET or _has(environ, name)}


def _has(environ: Mapping[str, str], name: str) -> bool:
    try:
        return bool(environ.get(name))
    except EmptySecretFileError:  # as a variable that is empty: no secret is being changed
        return False


@dataclass(frozen=True)
class Configuration:
    """What channels.yaml says; `problems` are sentences for a red check, empty when all is well."""

    settings: Settings = field(default_factory=lambda: Settings())
    channels: tuple[Channel, ...] = ()
    problems: tuple[str, ...] = ()


def load(home: Home, environ: Mapping[str, str] = os.environ) -> Configuration:
    """Load channels.yaml; never raises for what is in it.

    A bad entry becomes a disabled channel and a problem, and the others load. A file that can't be read at all leaves
    the last one in force that could (its copy is in the data folder), with a problem; without a copy there are no
    channels.
    """
    configuration, content = _read(home, environ, VendorSettings.variables)
    if content is None:
        return configuration
    try:
        _keep_copy(home.last_good_channels_file, content)
    except OSError as error:
        name = home.channels_file.name
        problem = f"{name}: no copy of it can be kept ({error.strerror}) — make the data folder writable"
        return Configuration(configuration.settings, configuration.channels, (*configuration.problems, problem))
    return configuration


def load_for_webhooks(home: Home, environ: Mapping[str, str]) -> Configuration:
    """Load channels.yaml as `load` does, for a process that only takes webhooks: a channel needs its door's secrets and no
    others, and no copy of the file is kept, so that such a process needs no right to write there."""
    return _read(home, environ, VendorSettings.listened_with)[0]


# Which of the variables that a channel's settings name must be set.
_Needed = Callable[[VendorSettings], Mapping[str, str]]


def _read(home: Home, environ: Mapping[str, str], needed: _Needed) -> tuple[Configuration, bytes | None]:
    """Return the configuration, and the content of the file that it is from; None if that could not be read."""
    name = home.channels_file.name
    try:
        content = home.channels_file.read_bytes()
        return _Loader(name, environ, home.data, needed).load(content), content
    except (OSError, UnreadableError) as error:
        problem = _unreadable(name, error)
    copy = home.last_good_channels_file
    try:
        last_good = _Loader(copy.name, environ, home.data, needed).load(copy.read_bytes())
    except (OSError, UnreadableError):
        return Configuration(problems=(f"{problem}; there is no earlier copy, so no channel is loaded",)), None
    problems = (f"{problem}; the last readable one stays in force", *last_good.problems)
    return Configuration(last_good.settings, last_good.channels, problems), None


def _unreadable(name: str, error: OSError | UnreadableError) -> str:
    if isinstance(error, UnreadableError):
        return f"{name} line {error.line}: can't be read: {error} — mend the line and reload"
    return f"{name}: can't be opened: {error.strerror} — put the file there, or name it in INVSYNC_CHANNELS"


def _keep_copy(path: Path, content: bytes) -> None:
    """Replace the last good copy at once or not at all, and only where it differs. It is for the owner only: a secret that
    was put in the place of its variable's name is in it."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.touch(mode=0o600)
    temporary.write_bytes(content)
    temporary.replace(path)


class _Entry(BaseModel):
    """The form of one channel in the file."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    title: str = Field(default="", max_length=80)
    platform: str
    environment: Literal["sandbox", "production"]
    settings: dict[str, Any] = Field(default_factory=dict)
    rules: Rules = Rules()
    limits: dict[str, float] = Field(default_factory=dict)
    contains_orders_of: tuple[str, ...] = ()
    count_lag_seconds: float = Field(default=0.0, ge=0)
    cut_over_at: AwareDatetime | None = None
    inventory_webhook: bool = False
    differences: Literal["repair", "report", "adopt"] = "repair"
    restock: Literal["as_told", "never", "always"] = "as_told"


class _Loader:
    """Turns the content of one file into a configuration, collecting problems."""

    def __init__(self, file_name: str, environ: Mapping[str, str], data: Path, needed: _Needed) -> None:
        self._needed = needed
        self._file = file_name
        self._environ = environ
        self._data = data
        self._problems: list[str] = []
        self._document = Document()

    def load(self, content: bytes) -> Configuration:
        """Raises UnreadableError if the file as a whole can't be used."""
        self._document = read_yaml(content)
        document = self._document.value
        if not isinstance(document, dict) or not isinstance(document.get("channels"), list):
            raise UnreadableError("it must hold `channels:` with a list of channels", self._document.line(()))
        for place, sentence in self._document.faults.items():
            if place[:1] != ("channels",):
                self._problem(place, sentence)
        for key in sorted(document.keys() - {"settings", "channels"}, key=str):
            self._problem((key,), f"unknown key {key!r}{meant(key, ('settings', 'channels'))} — remove it")
        settings = self._settings(document.get("settings") or {})
        channels = self._channels(document["channels"])
        return Configuration(settings, channels, tuple(self._problems))

    def _problem(self, path: Place, sentence: str) -> None:
        self._problems.append(f"{self._file} line {self._document.line(path)}: {sentence}")

    def _settings(self, values: Any) -> Settings:
        """Return the settings as far as they are right."""
        if not isinstance(values, dict):
            self._problem(("settings",), "settings must be `name: value` lines — the defaults hold until it is mended")
            return Settings()
        settings, faults = filled(Settings, values)
        for path, sentence in faults:
            self._problem(("settings", *path), f"settings: {sentence}")
        left_out = {path[:2] for path, _ in faults}
        numbers = (number for number in count() if ("alerts", number) not in left_out)
        for number, target in zip(numbers, settings.alerts, strict=False):
            if sentence := self._unset(target.url_env):
                self._problem(
                    ("settings", "alerts", number, "url_env"),
                    f"settings: {sentence}; nobody is alerted there until then",
                )
        return settings

    def _channels(self, entries: list[Any]) -> tuple[Channel, ...]:
        channels: dict[str, Channel] = {}
        places: dict[str, int] = {}
        for index, raw in enumerate(entries):
            name = raw.get("name") if isinstance(raw, dict) else None
            if not isinstance(name, str) or not NAME.fullmatch(name):
                self._problem(
                    ("channels", index, "name"),
                    "a channel without a usable name — give it a `name:` of lower-case letters, digits and _",
                )
            elif name in channels:
                first = self._document.line(("channels", places[name]))
                reason = (
                    f"channel {name!r}: the name is used already in line {first} — rename one of the two; "
                    "neither is used until then"
                )
                self._problem(("channels", index, "name"), reason)
                channels[name] = _disabled(raw, self._problems[-1])
            else:
                places[name] = index
                channels[name] = self._channel(raw, index)
        return tuple(self._across(channels, places).values())

    def _channel(self, raw: dict[Any, Any], index: int) -> Channel:
        before = len(self._problems)
        channel = self._checked(raw, index)
        if channel is None or len(self._problems) > before:
            return _disabled(raw, "; ".join(self._problems[before:]))
        return channel

    def _checked(self, raw: dict[Any, Any], index: int) -> Channel | None:
        """Return the channel of an entry, or None; either way every problem found is noted."""
        here: Place = ("channels", index)
        label = f"channel {raw['name']!r}"
        for place, sentence in self._document.faults.items():
            if place[:2] == here:
                self._problem(place, f"{label}: {sentence}")
        try:
            entry = _Entry.model_validate({key: value for key, value in raw.items() if value is not None})
        except ValidationError as error:
            for path, sentence in sentences(error, _Entry):
                self._problem((*here, *path), f"{label}: {sentence}")
            return None
        vendor = VENDORS.get(entry.platform)
        if vendor is None:
            known = ", ".join(sorted(VENDORS))
            self._problem((*here, "platform"), f"{label}: unknown platform {entry.platform!r} — use one of: {known}")
            return None
        for key in sorted(entry.settings.keys() - vendor.settings.model_fields.keys()):
            hint = meant(key, vendor.settings.model_fields)
            self._problem((*here, "settings", key), f"{label}: unknown setting {key!r}{hint} — remove or rename it")
        known_settings = {key: value for key, value in entry.settings.items() if key in vendor.settings.model_fields}
        try:
            context = {DATA_FOLDER: self._data, ENVIRONMENT: entry.environment}
            settings = vendor.settings.model_validate(known_settings, context=context)
        except ValidationError as error:
            for path, sentence in sentences(error, vendor.settings):
                self._problem((*here, "settings", *path), f"{label}: {sentence}")
            return None
        self._check_variables(settings, here, label)
        self._check_limits(vendor, entry.limits, here, label)
        return Channel(
            name=entry.name,
            platform=entry.platform,
            environment=entry.environment,
            settings=settings,
            rules=entry.rules,
            limits=entry.limits,
            contains_orders_of=entry.contains_orders_of,
            count_lag_seconds=entry.count_lag_seconds,
            cut_over_at=entry.cut_over_at,
            inventory_webhook=entry.inventory_webhook,
            differences=entry.differences,
            restock=entry.restock,
            given_title=" ".join(entry.title.split()),
        )

    def _check_limits(self, vendor: Vendor, limits: Mapping[str, float], here: Place, label: str) -> None:
        known = {limit.name: limit.type for limit in fields(Limits) if limit.type != "bool"}
        waits = {"write_linger", "read_lag", "webhook_delay"}
        before = len(self._problems)
        for key, value in limits.items():
            sentence = ""
            if key not in known:
                sentence = f"unknown limit {key!r}{meant(key, known)} — use one of: {', '.join(known)}"
            elif key in waits and value < 0:
                sentence = f"limit {key} is negative — give 0 or more seconds"
            elif key not in waits and value <= 0:
                sentence = f"limit {key} must be more than 0 — raise it, or remove it for the platform's own"
            elif known[key] == "int" and value != int(value):
                sentence = f"limit {key} counts rows — give a whole number"
            if sentence:
                self._problem((*here, "limits", key), f"{label}: {sentence}")
        if len(self._problems) == before:
            try:
                vendor.limits(limits)
            except ValueError as error:
                self._problem((*here, "limits"), f"{label}: limits: {error} — mend the limit")

    def _check_variables(self, settings: VendorSettings, here: Place, label: str) -> None:
        """Check that what the settings name as variables are names, and are set."""
        needed = self._needed(settings)
        for key, value in settings.variables().items():
            place = (*here, "settings", key)
            if not VARIABLE.fullmatch(value):
                self._problem(
                    place,
                    f"{label}: {key} must be the name of an environment variable (capitals, digits, _), "
                    "never the secret itself — name the variable, and set it in .env",
                )
            elif key in needed and key != PREVIOUS_SECRET and (sentence := self._unset(value)):
                self._problem(place, f"{label}: {sentence}")

    def _unset(self, variable: str) -> str:
        """Return why a variable has no value, with the mend; "" where it has one."""
        try:
            value = self._environ.get(variable)
        except SecretFileError as error:
            return str(error)
        return "" if value else f"the environment variable {variable} is not set — set it in .env"

    def _across(self, channels: dict[str, Channel], places: dict[str, int]) -> dict[str, Channel]:
        """Check what concerns more than one channel."""
        plain = ""
        accounts: dict[tuple[str, str, str], str] = {}
        for name, channel in channels.items():
            if channel.disabled_reason:
                continue
            here = ("channels", places[name])
            before = len(self._problems)
            for other in channel.contains_orders_of:
                if other not in channels or other == name:
                    self._problem(
                        (*here, "contains_orders_of"),
                        f"channel {name!r}: contains_orders_of names {other!r}, which is no other channel"
                        f"{meant(other, channels)} — name channels of this file",
                    )
            if channel.inventory_webhook and plain:
                self._problem(
                    (*here, "inventory_webhook"),
                    f"channel {name!r}: channel {plain!r} takes /inventory-webhook already — let one channel have it",
                )
            elif channel.inventory_webhook:
                plain = name
            own = [(channel.platform, channel.environment, account) for account in channel.settings.accounts()]
            for first in sorted({accounts[one] for one in own if one in accounts}):
                line = self._document.line(("channels", places[first]))
                again = f"channel {name!r}: is the account of channel {first!r} in line {line}, so that each order counts twice"
                self._problem((*here, "settings"), f"{again} — remove one of the two")
            if len(self._problems) > before:
                channels[name] = _disabled(
                    {"name": name, "platform": channel.platform, "environment": channel.environment},
                    "; ".join(self._problems[before:]),
                )
            else:
                accounts |= dict.fromkeys(own, name)
        return channels


def _disabled(raw: Mapping[Any, Any], reason: str) -> Channel:
    """Return the disabled channel of a bad entry; where its environment can't be read, the stricter one."""
    environment: Literal["sandbox", "production"] = "sandbox" if raw.get("environment") == "sandbox" else "production"
    return Channel(str(raw["name"]), str(raw.get("platform", "")), environment, disabled_reason=reason)
