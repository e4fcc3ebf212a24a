"""Where things are (`Home`, from the environment) and how they run (`Settings`, in channels.yaml)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from invsync_dagster.environment import Environment

# What an environment variable is called. A pasted secret nearly never looks like this, so messages repeat only these.
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass(frozen=True)
class Home:
    """The folders and files of one installation; all paths are absolute.

    `database_url` may hold a password and is left out of `repr`.
    """

    root: Path
    data: Path
    database_url: str = field(repr=False)
    channels_file: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read INVSYNC_ROOT (default: the working directory), INVSYNC_DATA (default: data/ in the root),
        INVSYNC_DATABASE_URL (default: SQLite in the data folder) and INVSYNC_CHANNELS (default: channels.yaml in the
        root). A relative path counts from the root; an empty variable is an unset one. The URL may stand in a file that
        INVSYNC_DATABASE_URL_FILE names. Raises `SecretFileError`."""
        root = Path(environ.get("INVSYNC_ROOT") or ".").absolute()
        data = root / (environ.get("INVSYNC_DATA") or "data")
        return cls(
            root=root,
            data=data,
            database_url=Environment(environ).get("INVSYNC_DATABASE_URL") or f"sqlite:///{data / 'invsync.db'}",
            channels_file=root / (environ.get("INVSYNC_CHANNELS") or "channels.yaml"),
        )

    @property
    def inbox(self) -> Path:
        """Segments of webhook deliveries, durable before they are answered."""
        return self.data / "inbox"

    @property
    def imports(self) -> Path:
        """The watched folder of import files."""
        return self.data / "imports"

    @property
    def reports(self) -> Path:
        """One folder a run with the whole of what its metadata shows the worst rows of."""
        return self.data / "reports"

    @property
    def work_left(self) -> Path:
        """The mark of a push that its time ended with more to do; who requests the next run takes it away."""
        return self.data / "work_left"

    @property
    def status(self) -> Path:
        """What the receiver may read of all else: the status document, and the last good channels file."""
        return self.data / "status"

    @property
    def locks(self) -> Path:
        """One lock file a living worker."""
        return self.data / "locks"

    @property
    def last_good_channels_file(self) -> Path:
        """The copy of the last channels file that could be read, in force while the file itself can't be.

        In a folder that the receiver sees as a whole: of a file alone it would keep the one that was there when it started.
        """
        return self.status / "channels.last-good.yaml"


def _cron(value: str) -> str:
    if len(value.split()) != 5:
        raise ValueError("must have the five fields of cron: minute, hour, day, month, weekday")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be a name of the time zone database, such as Europe/Berlin") from None
    return value


def _variable(value: str) -> str:
    if not VARIABLE.fullmatch(value):
        raise ValueError(
            "must be the name of an environment variable (capitals, digits, _), never the address itself, which holds"
            " a secret: name the variable, and set it in .env"
        )
    return value


def _page_root(value: str) -> str:
    if not re.fullmatch(r"(https?://[^\s/@?#]+(/[^\s@?#]*)?)?", value):
        raise ValueError(
            "must be an address such as https://stock.example.com, without user, password and question mark"
        )
    return value.rstrip("/")


def _address(value: str) -> str:
    parts = urlsplit(value)
    local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    bare = not (parts.query or parts.fragment or parts.username or parts.password)
    if value and not (bare and parts.hostname and (parts.scheme == "https" or local)):
        raise ValueError("must be a bare address that begins with https://, as https://sync.example.com")
    return value.rstrip("/")


Address = Annotated[str, AfterValidator(_address)]
Cron = Annotated[str, AfterValidator(_cron)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]


class ImportLimits(BaseModel):
    """The breaker before the ledger: an import or a batch of counts beyond one of these is held for a person."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    zeroed_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share that one source may set to zero: of the SKUs that a file names and that can be sold; of all"
        " stocked SKUs for counts that a channel sends.",
    )
    zeroed_minimum: int = Field(
        default=20, ge=0, description="SKUs that a source may always set to zero, however large their share is."
    )
    moved_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share by which one source may move units: of those on hand of the SKUs that a file names; of all in"
        " stock for counts that a channel sends.",
    )
    moved_minimum_units: int = Field(
        default=1000,
        ge=0,
        description="Units by which a source may always move the stock, however large their share is.",
    )
    window_minutes: int = Field(
        default=60,
        ge=1,
        le=10_080,
        description="Minutes in which what all sources zero and move adds up, against the whole stock.",
    )


class ImportSource(BaseModel):
    """A kind of inventory files of the seller's own, as a supplier's price list: which of its columns says what."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    columns: dict[Literal["sku", "quantity", "product_name", "reserved_quantity", "status"], str] = Field(
        description="For each of our columns the name of the file's; sku and quantity must be there."
    )
    basis: Literal["on_hand", "available"] = Field(
        default="on_hand", description="Units on the shelf, or those left after the open orders of `contains`."
    )
    contains: tuple[str, ...] = Field(default=(), description="The channels whose orders the file has already booked.")
    lag_seconds: float = Field(default=0, ge=0, description="Seconds by which it books them late.")
    decimal_mark: Literal["", ".", ","] = Field(default="", description="Where numbers have marks: the decimal one.")
    encoding: Literal["", "utf-8", "windows-1252", "gb18030", "gbk", "shift_jis"] = Field(
        default="", description="The encoding of its text, where it isn't UTF-8."
    )

    @field_validator("columns")
    @classmethod
    def _named(cls, value: dict[str, str]) -> dict[str, str]:
        missing = [name for name in ("sku", "quantity") if not value.get(name, "").strip()]
        if missing:
            raise ValueError(f"must name the columns of sku and quantity ({missing[0]} is missing)")
        return value


class ChangeLimits(BaseModel):
    """The breaker before the wire: what changes of rules, mapping or status move beyond these is held per listing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    zeroed_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of a channel's listings that changes may set to 0 within the window.",
    )
    raised_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of a channel's listings that changes may raise within the window."
    )
    minimum: int = Field(
        default=20, ge=0, description="Listings that changes may always move so, however large their share is."
    )
    window_minutes: int = Field(
        default=60, ge=1, le=10_080, description="Minutes in which what several changes move adds up."
    )


class Retention(BaseModel):
    """How long records are kept. The ledger, orders and decisions stay for good."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs_days: int = Field(
        default=14, ge=1, description="Days of Dagster runs; one that made the latest of anything stays longer."
    )
    routine_hours: int = Field(
        default=6,
        ge=1,
        description="Hours of what schedules and webhooks started of cycles and pushes, if all went well and newer runs "
        "have superseded it.",
    )
    logs_days: int = Field(
        default=90, ge=1, description="Days of attempts and readings in the database; older ones go to data/archive/."
    )
    deliveries_days: int = Field(
        default=90, ge=1, description="Days of raw webhooks, applied already, for a replay, and of imported files."
    )
    buyers_days: int = Field(
        default=30,
        ge=1,
        description="Days after which raw webhooks lose all that isn't needed to replay them: names, addresses, notes.",
    )
    reports_days: int = Field(default=30, ge=1, description="Days of the reports of runs under data/reports/.")


class AlertTarget(BaseModel):
    """A messenger that is told what goes wrong: mail, Slack, SMS, DingTalk, WeCom, Feishu … (docs/alerts.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url_env: Annotated[str, AfterValidator(_variable)] = Field(
        description="The environment variable with its Apprise URL, as mailtos://user:password@example.com."
    )
    severity: Literal["warning", "error"] = Field(
        default="warning", description="The least that it is told: warnings and errors, or errors alone."
    )


class Settings(BaseModel):
    """The settings of an installation, each with the default that sellers expect."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    incremental_every_minutes: int = Field(
        default=5, ge=1, le=60, description="Minutes between incremental cycles (they also run at once after webhooks)."
    )
    full_sync_cron: Cron = Field(default="0 3 * * *", description="When every level is read back and compared.")
    listings_cron: Cron = Field(
        default="0 2 * * *", description="When each channel's listings are compared with the mapping."
    )
    backup_cron: Cron = Field(default="0 * * * *", description="When the database is backed up.")
    receiver_url: Address = Field(
        default="",
        description="The receiver's public address, as https://sync.example.com: platforms are told to send webhooks there."
        " Empty: they are told nothing.",
    )
    subscriptions_cron: Cron = Field(
        default="20 * * * *", description="When the platforms' subscriptions are looked at, and mended."
    )
    order_count_cron: Cron = Field(
        default="30 5 * * *", description="When each channel's orders of the day before are counted and compared."
    )
    time_zone: TimeZone = Field(
        default="UTC", description="The zone of the crons above, and in which a day of stock ends."
    )
    batch_size: int = Field(default=50, ge=1, le=1000, description="Rows a call, where the platform says nothing.")
    retries: int = Field(
        default=3, ge=0, le=10, description="Attempts again after a failure that is worth it; waits use none."
    )
    snapshots_from: date = Field(
        default=date(2026, 1, 1), description="The first day of the daily snapshots; earlier ones can't be asked for."
    )
    sku_batches: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Batches of levels, the partitions of a full sync; the first number used stays in force until "
        "`invsync channels batches` changes it.",
    )
    full_sync_at_once: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Batches of one channel's full run at once: they share its rate limit, behind the pushes.",
    )
    push_deadline_seconds: float = Field(
        default=20,
        gt=0,
        description="Seconds after which a channel takes no new work in a run; the rest stays a change.",
    )
    claim_seconds: float = Field(
        default=120,
        gt=0,
        description="Seconds a claim holds: every request ends before, a dead worker's work waits so long.",
    )
    low_stock: int = Field(default=5, ge=0, description="Desired quantities up to this are pushed before all others.")
    order_overlap_seconds: float = Field(
        default=120, ge=0, description="Seconds by which the windows of order polls overlap, against late entries."
    )
    import_limits: ImportLimits = Field(
        default=ImportLimits(), description="What a source may change without a person's approval."
    )
    imports: dict[str, ImportSource] = Field(
        default={}, description="Kinds of inventory files of your own, by a name that you choose."
    )
    change_limits: ChangeLimits = Field(
        default=ChangeLimits(), description="What a change of rules, mapping or status may move without approval."
    )
    retention: Retention = Field(default=Retention(), description="How long records are kept.")
    alerts: tuple[AlertTarget, ...] = Field(default=(), description="Who is told what goes wrong, and that it is over.")
    ui_url: Annotated[str, AfterValidator(_page_root)] = Field(
        default="",
        description="Where people reach Dagster's UI: alerts link into it. Empty: they name the place in words.",
    )
    max_webhook_bytes: int = Field(
        default=1_048_576,
        ge=1024,
        le=67_108_864,
        description="Largest webhook body in bytes; a larger one is answered 413.",
    )
