"""The sensor that warns people: what Dagster knows of failed runs and red checks, beside what the stock's tables say.

A sensor and not a step of the runs: a run that dies, or never starts, is just what must be told.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.tags import WILL_RETRY_TAG

from invsync_dagster.alerts.book import Outage
from invsync_dagster.alerts.causes import DOWN, Cause, Found, Kind, Severity, reason
from invsync_dagster.alerts.sending import Message, Tone, send
from invsync_dagster.alerts.watchman import Watchman
from invsync_dagster.channels import Configuration
from invsync_dagster.clock import SystemClock
from invsync_dagster.defs import names
from invsync_dagster.defs.sensors import SensorFunction
from invsync_dagster.environment import Environment
from invsync_dagster.inventory.database import DatabaseGoneError, open_database
from invsync_dagster.settings import Home

# The daemon looks whose turn it is every 5 s: so this is 15 to 20 s, and a dead channel is told of within 30 s.
EVERY_SECONDS = 15

# How far back the first look goes, and how late a run's end may appear in Dagster's storage with an earlier time.
FIRST_LOOK = timedelta(hours=1)
OVERLAP = timedelta(seconds=30)
RUNS_A_LOOK = 500

# How often it is tried to tell that the database can't be used, a look apart, until somebody takes it.
TRIES_WITHOUT_DATABASE = 20

# What the stock's tables and the disk say at every look, and these checks with each run.
_SAID_ELSEWHERE = {
    dg.AssetCheckKey(names.CHANGES, "oldest_change"),
    dg.AssetCheckKey(names.CHANGES, "breaker"),
    dg.AssetCheckKey(names.IMPORTS, "nothing_held"),
    dg.AssetCheckKey(names.HOUSEKEEPING, "disk"),
}


@dataclass(frozen=True)
class Dagster:
    """What Dagster's storage is asked for; `checks` are all checks of the definitions."""

    instance: dg.DagsterInstance
    checks: Collection[dg.AssetCheckKey]
    secrets: Collection[str]

    def red_checks(self, outages: Mapping[str, Outage]) -> Found:
        """Return a cause for each check whose latest evaluation failed. One of a run under way is undecided, and so is one that
        a channel turned red while it was down: its next evaluation says whether it still is.
        """
        keys = [key for key in self.checks if key not in _SAID_ELSEWHERE and key.name != names.PUSHED]
        latest = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        found: list[Cause] = []
        undecided: set[str] = set()
        for key, record in latest.items():
            subject = f"{key.asset_key.to_user_string()}/{key.name}"
            if record.status is AssetCheckExecutionRecordStatus.PLANNED:
                undecided.add(f"{Kind.CHECK}:{subject}")
            elif record.evaluation is not None and not record.evaluation.passed:
                cause = self._red(key, subject, record.evaluation)
                outage = outages.get(cause.channel)
                if outage is not None and outage.explains(datetime.fromtimestamp(record.create_timestamp, UTC)):
                    undecided.add(cause.key)
                else:
                    found.append(cause)
        return Found(tuple(found), frozenset(undecided))

    def _red(self, key: dg.AssetCheckKey, subject: str, evaluation: dg.AssetCheckEvaluation) -> Cause:
        asset = key.asset_key.to_user_string()
        error = evaluation.severity is dg.AssetCheckSeverity.ERROR
        return Cause(
            Kind.CHECK,
            subject,
            Severity.ERROR if error else Severity.WARNING,
            f"{asset}: {key.name} {'is red' if error else 'warns'}",
            f"{reason(evaluation.description or 'no reason is given', self.secrets)}. The asset's description in the UI says "
            "what red means there, and what to do.",
            f"assets/{asset}?view=checks",
            key.asset_key.path[-1] if len(key.asset_key.path) > 1 else "",
        )

    def ended_runs(self, since: datetime) -> tuple[list[dg.RunRecord], datetime]:
        """Return the runs that ended well or badly since then, the earliest first, and until when they are known."""
        filters = dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE], updated_after=since - OVERLAP
        )
        records = list(
            self.instance.get_run_records(filters, limit=RUNS_A_LOOK, order_by="update_timestamp", ascending=True)
        )
        until = max((record.update_timestamp.replace(tzinfo=UTC) for record in records), default=since)
        return records, max(since, until)

    def failed_runs(
        self,
        records: Iterable[dg.RunRecord],
        down: Collection[str],
        outages: Mapping[str, Outage],
        open_causes: Collection[str],
        paused: Collection[str] = (),
    ) -> Found:
        """Return a cause for each job (of one asset, where it is of one) whose latest run failed; the jobs of `open_causes`
        that have no new run are undecided.

        A run that failed since channels did, all of which are known to be `down` or were when it ended, worked as it should; so
        did a full run of those that are `paused`.
        One that Dagster starts again is not the latest.
        """
        latest: dict[str, dg.RunRecord] = {}
        for record in records:
            if record.dagster_run.tags.get(WILL_RETRY_TAG) != "true":
                latest[_subject(record.dagster_run)] = record
        causes = []
        for subject, record in latest.items():
            run, ended = record.dagster_run, record.update_timestamp.replace(tzinfo=UTC)
            channels = {tag.rpartition("/")[2] for tag in run.tags if tag.startswith(names.failed_channel_tag(""))}
            were_down = {name for name, outage in outages.items() if outage.explains(ended)}
            explained = {*down, *were_down, *(paused if _is_full_run(run) else ())}
            worked = bool(channels) and channels <= explained
            if run.status is dg.DagsterRunStatus.FAILURE and not (worked or _channel_of(subject) in were_down):
                causes.append(self._failed(subject, run))
        judged = {f"{Kind.RUN}:{subject}" for subject in latest}
        return Found(tuple(causes), frozenset(key for key in open_causes if key.startswith(f"{Kind.RUN}:")) - judged)

    def _failed(self, subject: str, run: dg.DagsterRun) -> Cause:
        title = "The backup failed" if run.job_name == "backup" else f"A run of {subject} failed"
        return Cause(
            Kind.RUN,
            subject,
            Severity.ERROR,
            title,
            f"{reason(self._why(run.run_id), self.secrets)}. Look at the run; the next one of its kind that succeeds ends this.",
            f"runs/{run.run_id}",
            _channel_of(subject),
        )

    def _why(self, run_id: str) -> str:
        """Return what a run says of its failure. Only a sentence that was written for people: a stranger's error may hold
        rows of a table or an address."""
        failures = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
        event = failures[0].event_log_entry.dagster_event if failures else None
        if event is None:
            return "it ended without a step's own failure: its process died, or it never started"
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            return data.user_failure_data.description
        error = data.error.cause or data.error if data.error is not None else None
        return f"{error.cls_name if error else 'an error'} in the step {event.step_key}"


def _is_full_run(run: dg.DagsterRun) -> bool:
    """Say whether a run compares channels' numbers and nothing else: by its job, or by what was materialized by hand."""
    assets = run.asset_selection or ()
    return run.job_name in (names.FULL_SYNC, names.RETRY_FAILED_BATCHES) or (
        bool(assets) and all(_is_of_full_runs(key.to_user_string()) for key in assets)
    )


def _is_of_full_runs(subject: str) -> bool:
    return subject.startswith(names.full_sync_key("").to_user_string())


def _subject(run: dg.DagsterRun) -> str:
    selected = sorted(run.asset_selection or ())
    job = "Materialize" if run.job_name.startswith("__") else run.job_name
    return f"{job} {selected[0].to_user_string()}" if len(selected) == 1 else job


def _channel_of(subject: str) -> str:
    return subject.rpartition("/")[2] if "/" in subject else ""


@dataclass(frozen=True, slots=True)
class Looked:
    """The sensor's cursor: until when the ends of runs are known, in how many looks in a row the stock's database could not be
    used, and whether people were told of that."""

    until: datetime
    without_database: int = 0
    told_of_it: bool = False

    @classmethod
    def parse(cls, cursor: str | None, now: datetime) -> Looked:
        """Read a cursor; one that can't be read looks back as far as the first does."""
        try:
            values = json.loads(cursor or "{}")
            until = datetime.fromisoformat(values["until"])
            return cls(until, int(values["without_database"]), bool(values["told_of_it"]))
        except (ValueError, KeyError, TypeError):
            return cls(now - FIRST_LOOK)

    def store(self) -> str:
        """Return the text that `parse` reads."""
        return json.dumps({**asdict(self), "until": self.until.isoformat()})


def alerts_sensor_function(watchman: Callable[[], Watchman], checks: Collection[dg.AssetCheckKey]) -> SensorFunction:
    """Return what the alerts' sensor evaluates; `watchman` gives the one of this process, opened with the first look."""

    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        on_duty = watchman()
        looked = Looked.parse(context.cursor, on_duty.clock.now())
        dagster = Dagster(context.instance, checks, on_duty.secrets)
        records, until = dagster.ended_runs(looked.until)
        try:
            stock = on_duty.look()
            open_causes = on_duty.open_causes()
            outages = on_duty.outages()
            at_rest = on_duty.at_rest()
            retired = {name for name, status in at_rest.items() if status == "retired"}
            down = _down(on_duty.configuration, stock, open_causes) | retired
            runs = dagster.failed_runs(records, down, outages, open_causes, at_rest)
            red = dagster.red_checks(outages)
            news = tuple(cause for cause in red.causes if not _rests(cause, at_rest))
            answers = on_duty.tell(stock.and_also(Found(news, red.undecided)).and_also(runs))
        except DatabaseGoneError as error:
            return _without_database(on_duty, looked, error)
        if looked.told_of_it:
            answers |= on_duty.tell_at_once(_DATABASE_IS_BACK)
        said = [f"{target}: {why or 'told'}" for target, why in sorted(answers.items())]
        return dg.SensorResult(skip_reason="; ".join(said) or "nothing new to tell", cursor=Looked(until).store())

    return evaluate


def _rests(cause: Cause, at_rest: Mapping[str, str]) -> bool:
    """Say whether a red check is of what a person has put to rest: all of a retired channel. A paused one still sells: that its
    numbers aren't compared is no news, that its orders aren't heard is."""
    status = at_rest.get(cause.channel)
    return status == "retired" or (status == "paused" and _is_of_full_runs(cause.subject))


_DATABASE_IS_BACK = Message("invsync: Over: the database", "The stock's database can be used again.", Tone.SUCCESS)


def _without_database(watchman: Watchman, looked: Looked, error: DatabaseGoneError) -> dg.SensorResult:
    """Tell of what no book can keep: from the second look on, as a server that starts again is back by then."""
    looks, told_of_it = looked.without_database + 1, looked.told_of_it
    if not told_of_it and 2 <= looks < 2 + TRIES_WITHOUT_DATABASE:
        message = Message("invsync: the database can't be used", f"{error}.", Tone.FAILURE)
        told_of_it = "" in watchman.tell_at_once(message).values()
    # Runs are not judged meanwhile: they are asked for again from where they were known.
    cursor = Looked(looked.until, looks, told_of_it).store()
    return dg.SensorResult(skip_reason=str(error), cursor=cursor)


def _down(configuration: Configuration, stock: Found, open_causes: Collection[str]) -> set[str]:
    """Return the channels whose failures are no news: told of now or a moment ago, or disabled by a check's red line."""
    lately = {key.partition(":")[2] for key in open_causes if key.partition(":")[0] in DOWN}
    disabled = {channel.name for channel in configuration.channels if channel.disabled_reason}
    return lately | disabled | {cause.channel for cause in stock.causes if cause.kind in DOWN}


def build_alerts_sensor(
    home: Home, configuration: Configuration, checks: Collection[dg.AssetCheckKey]
) -> dg.SensorDefinition:
    """Return the sensor, stopped until somebody switches it on."""

    @cache
    def watchman() -> Watchman:
        environ = Environment(os.environ)
        return Watchman(home, configuration, environ, open_database(home.database_url), SystemClock(), send)

    return dg.SensorDefinition(
        name="alerts_sensor",
        evaluation_fn=alerts_sensor_function(watchman, checks),
        minimum_interval_seconds=EVERY_SECONDS,
        description="Looks at channels, changes, what is held, the disk, runs and checks, and tells the targets of `alerts` in "
        "channels.yaml what is wrong, once, and when it is over. Off: nobody is told anything.",
    )
