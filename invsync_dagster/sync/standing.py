"""The status document: how all stands, what is wrong and since when, in plain values under keys that stay (docs/status.md)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from invsync_dagster.alerts.book import Alert, book
from invsync_dagster.alerts.causes import Cause, Found, Kind, Severity, reason, secrets_of
from invsync_dagster.alerts.conditions import disk_cause, stock_causes
from invsync_dagster.channels import Configuration
from invsync_dagster.clock import Clock, age_in_words
from invsync_dagster.inventory import cases
from invsync_dagster.inventory.status import ChannelStatus, Status, status
from invsync_dagster.platforms.contract import Limits
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.settings import Home
from invsync_dagster.sync import day_limit, limiter
from invsync_dagster.sync.hearing import LONGEST_WAIT, oldest_waiting
from invsync_dagster.webhooks.inbox import Inbox
from invsync_dagster.webhooks.status.document import VERSION, Document

# The trend: the most levels out of step at once in each such time, for a day.
STEP = timedelta(minutes=5)
KEPT_STEPS = 288

# Checks whose alert says what the document says by itself, and sooner.
SAID_HERE = ("stock_ledger/configuration", "webhook_files/applied_in_time")

_BACKUP_NAME = re.compile(r".+-(\d{8}T\d{6}Z)")


@dataclass(frozen=True)
class Standing:
    """What the document is made of."""

    home: Home
    configuration: Configuration
    environ: Mapping[str, str]
    engine: Engine
    clock: Clock

    def document(self, before: Document | None, *, backup_verified: bool | None) -> Document:
        """Return how all stands now. `before` is the document until now, whose trend goes on; `backup_verified` whether
        the last backup passed its check, None where none has judged one. Raises DatabaseGoneError."""
        now = self.clock.now()
        secrets = secrets_of(self.configuration, self.environ)
        quarantined, _ = Inbox(self.home.inbox).quarantine.standing(0)
        with self.engine.connect() as connection:
            found = status(connection, now, quarantined)
            causes = stock_causes(connection, self.configuration, now, secrets)
            alerts = book(connection, None)
            plain = found.to_dict()
            channels = self._channels(connection, found, plain["channels"], secrets)
        waiting = oldest_waiting(self.home.inbox, now)
        causes += disk_cause(self.home.data)
        return {
            "version": VERSION,
            "written_at": now.isoformat(),
            "at": plain.pop("at"),
            "ui_url": self.configuration.settings.ui_url,
            "time_zone": self.configuration.settings.time_zone,
            "problems": _sorted([*self._to_be_mended(), *_not_applied(waiting), *_problems(causes, alerts)]),
            "notes": [f"{reason(note, secrets)}." for note in found.notes()],
            **plain,
            # An unclear order is asked for again by itself, with the next push.
            "waits_for_people": found.open_cases - sum(one.unclear_orders for one in found.channels),
            "channels": channels,
            "held_imports": [
                one | {"file_name": reason(one["file_name"], secrets), "reason": reason(one["reason"], secrets)}
                for one in plain["held_imports"]
            ],
            "oldest_delivery_seconds": waiting.total_seconds() if waiting is not None else None,
            "backup": _backup(self.home.data / "backups", backup_verified),
            "trend": _trend(before, found, now),
        }

    def without_database(self, before: Document, why: str) -> Document:
        """Return the document of before, as of then, with the one problem that nothing newer can be read."""
        now = self.clock.now().isoformat()
        problem = _error("database", "The database can't be used", f"{why}. The figures below are of before.")
        known = next((one["since"] for one in before["problems"] if one["cause"] == problem["cause"]), now)
        return {**before, "written_at": now, "problems": [problem | {"since": known}]}

    def _channels(
        self, connection: Connection, found: Status, plain: Sequence[Mapping[str, Any]], secrets: Collection[str]
    ) -> list[dict[str, Any]]:
        now = found.at
        limits = self._limits()
        budgets = limiter.left(connection, limits, now.timestamp())
        latencies = cases.latencies(connection, now)
        told = []
        for one, values in zip(found.channels, plain, strict=True):
            limit, latency = limits.get(one.channel), latencies.get(one.channel)
            waits = day_limit.now_waiting(connection, one.channel, now) if limit and limit.writes_a_day else 0
            told.append(
                {
                    **values,
                    "reason": reason(one.reason, secrets),
                    "latency": asdict(latency) if latency else None,
                    "budget": asdict(budgets[one.channel]) if limit else None,
                    "writes_a_day": limit.writes_a_day if limit else 0,
                    "waiting_for_day_limit": waits,
                    **_of_people(connection, one, secrets),
                }
            )
        return told

    def _limits(self) -> dict[str, Limits]:
        return {
            channel.name: VENDORS[channel.platform].limits(channel.limits)
            for channel in self.configuration.channels
            if not channel.disabled_reason
        }

    def _to_be_mended(self) -> Iterator[dict[str, Any]]:
        if problems := self.configuration.problems:
            more = f" {len(problems) - 1} more: `invsync channels list`." if len(problems) > 1 else ""
            yield _error("configuration", "channels.yaml is to be mended", f"{problems[0]}.{more}")


def _of_people(connection: Connection, one: ChannelStatus, secrets: Collection[str]) -> dict[str, Any]:
    """Return what waits for a person on a channel; nothing is asked for where nothing does."""
    waits = one.held > one.held_decided
    why = cases.held_why(connection, one.channel) if waits else []
    held = cases.held_levels(connection, one.channel) if waits else []
    review = cases.in_review(connection, one.channel) if one.review else []
    return {
        "held_why": [asdict(each) | {"reason": reason(each.reason, secrets)} for each in why],
        "held_levels": [asdict(each) for each in held],
        "in_review": [
            asdict(each) | {"reason": reason(each.reason, secrets), "since": each.since.isoformat()} for each in review
        ],
    }


def _not_applied(waiting: timedelta | None) -> Iterator[dict[str, Any]]:
    if waiting is not None and waiting > LONGEST_WAIT:
        yield _error(
            "inbox",
            "Deliveries are not applied",
            f"The oldest has waited in the inbox for {age_in_words(waiting.total_seconds())}. Nothing is lost: see that the "
            "daemon and the runner run, that `inbox_sensor` is on (Automation page), and why runs of the job `webhooks` fail.",
        )


def _problems(causes: tuple[Cause, ...], alerts: Collection[Alert]) -> list[dict[str, Any]]:
    """Return what is wrong: what shows at this look, and what the book of alerts has from Dagster, its checks and runs. What
    the book has of the stock itself is older than this look."""
    since = {alert.cause: alert.since for alert in alerts}
    said_here = {f"{Kind.CHECK}:{check}" for check in SAID_HERE}
    elsewhere = tuple(
        Cause(Kind(kind), subject, Severity(one.severity), one.title, one.message, one.page, one.channel)
        for one in alerts
        for kind, _, subject in [one.cause.partition(":")]
        if kind in (Kind.CHECK, Kind.RUN) and one.cause not in said_here
    )
    return [_problem(cause, since.get(cause.key)) for cause in Found(causes).and_also(Found(elsewhere)).causes]


def _sorted(problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return errors first, and of each the one that lasts longest."""
    return sorted(
        problems, key=lambda one: (one["severity"] != Severity.ERROR, one["since"] is None, one["since"] or "")
    )


def _error(subject: str, title: str, message: str) -> dict[str, Any]:
    values = {"cause": f"status:{subject}", "severity": str(Severity.ERROR), "channel": "", "title": title}
    return values | {"message": message, "since": None, "page": ""}


def _problem(cause: Cause, since: datetime | None) -> dict[str, Any]:
    return {
        "cause": cause.key,
        "severity": str(cause.severity),
        "channel": cause.channel,
        "title": cause.title,
        "message": cause.message,
        "since": since.isoformat() if since else None,
        "page": cause.page,
    }


def _backup(folder: Path, verified: bool | None) -> dict[str, Any] | None:
    """Return the latest finished backup, by the time in its name; None if there is none."""
    stamps = [match[1] for path in folder.glob("*") if (match := _BACKUP_NAME.fullmatch(path.name))]
    if not stamps:
        return None
    at = datetime.strptime(max(stamps), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return {"at": at.isoformat(), "kept": len(stamps), "verified": verified}


def _trend(before: Document | None, found: Status, now: datetime) -> dict[str, Any]:
    """Return the trend until now: the steps with their beginning, the most levels out of step in all and by channel. A step in
    which nobody wrote is missing."""
    trend = before["trend"] if before else {"at": [], "out_of_step": [], "channels": {}}
    begin = datetime.fromtimestamp(now.timestamp() // STEP.total_seconds() * STEP.total_seconds(), UTC)
    times: list[str] = list(trend["at"])
    totals: list[int] = list(trend["out_of_step"])
    names = {one.channel: one.out_of_step for one in found.channels}
    lines = {name: list(trend["channels"].get(name, [0] * len(times))) for name in names}
    if not times or times[-1] != begin.isoformat():
        times.append(begin.isoformat())
        totals.append(0)
        for line in lines.values():
            line.append(0)
    totals[-1] = max(totals[-1], found.out_of_step)
    for name, line in lines.items():
        line[-1] = max(line[-1], names[name])
    oldest = (begin - STEP * (KEPT_STEPS - 1)).isoformat()
    first = next(index for index, at in enumerate(times) if at >= oldest)
    return {
        "step_seconds": int(STEP.total_seconds()),
        "at": times[first:],
        "out_of_step": totals[first:],
        "channels": {name: line[first:] for name, line in lines.items()},
    }
