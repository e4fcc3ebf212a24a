"""The book of alerts: which causes are open, and what is still to be told to whom. One cause is told once, and once over.

A cause is over when it has stayed away for a while: two minutes at first, and each time that it comes back within a day
twice as long, up to four hours. So a channel that comes and goes is told of a few times, then stays open.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, and_, delete, func, insert, or_, select, update

from invsync_dagster.alerts.causes import DOWN, Cause, Found, Severity
from invsync_dagster.clock import age_in_words
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.tables import alert_notices, alerts
from invsync_dagster.settings import AlertTarget

CALM = timedelta(minutes=2)
LONGEST_CALM = timedelta(hours=4)
COMES_BACK_WITHIN = timedelta(days=1)

# A look sends one message to a target at the most. After ten in an hour they are ten minutes apart, and what comes meanwhile goes
# with the next.
A_LOT = 10
GAP = timedelta(minutes=10)

# A message that a target doesn't take: again after 15 s, 30 s … at most a quarter of an hour, for a day.
FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(minutes=15)
GIVE_UP_AFTER = timedelta(days=1)

# What fails because a channel is down may fail before that is noted: a cycle pushes to all channels before it says so.
NOTED_LATE = timedelta(minutes=2)

OPENED = "opened"
RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Notice:
    """What one target is to be told of one cause."""

    id: int
    kind: str
    severity: str
    title: str
    message: str
    created_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class Alert:
    """A cause that is open, or was; times are aware UTC."""

    cause: str
    channel: str
    severity: str
    title: str
    message: str
    page: str
    since: datetime
    recovered_at: datetime | None
    returns: int


@dataclass(frozen=True, slots=True)
class Outage:
    """When a channel was down last; `until` is None while it is."""

    since: datetime
    until: datetime | None

    def explains(self, moment: datetime) -> bool:
        """Say whether what failed then may have failed for it."""
        return self.since - NOTED_LATE <= moment and (self.until is None or moment <= self.until)


@dataclass(frozen=True)
class Readers:
    """Who is told, and where they reach the UI ("": nobody knows)."""

    targets: Sequence[AlertTarget]
    ui_url: str


def note(engine: Engine, found: Found, readers: Readers, now: datetime) -> None:
    """Bring the book in line with what was found, and write down what the readers are to be told. Nothing new: nothing is
    written."""
    with engine.connect() as connection:
        known = _known(connection)
    if not _news(known, found, now):
        return
    with write_transaction(engine) as connection:
        for cause, row in _news(_known(connection), found, now):
            if isinstance(cause, Cause):
                _open(connection, cause, row, readers, now)
            elif row is not None:
                _miss(connection, row, readers, now)


def _known(connection: Connection) -> dict[str, Row[Any]]:
    return {row.cause: row for row in connection.execute(select(alerts).order_by(alerts.c.since))}


def _news(
    known: Mapping[str, Row[Any]], found: Found, now: datetime
) -> list[tuple[Cause, Row[Any] | None] | tuple[None, Row[Any]]]:
    """Return the causes that change the book, each with its row; None for one that is no longer there."""
    news: list[tuple[Cause, Row[Any] | None] | tuple[None, Row[Any]]] = []
    present = {cause.key: cause for cause in found.causes}
    for key, cause in present.items():
        row = known.get(key)
        if row is None or row.recovered_at is not None or row.gone_since is not None or _said(row) != _says(cause, row):
            news.append((cause, row))
    for key, row in known.items():
        if key in present or row.recovered_at is not None:
            continue
        # What is undecided stays as it was: there, or gone.
        missed = row.gone_since is None and key not in found.undecided
        if missed or (row.gone_since is not None and now - row.gone_since >= _calm(row.returns)):
            news.append((None, row))
    return news


def _says(cause: Cause, row: Row[Any] | None) -> tuple[str, ...]:
    return (str(_worst(cause, row)), cause.title, cause.message, cause.page)


def _worst(cause: Cause, row: Row[Any] | None) -> Severity:
    """Return the worst that a cause was since it is open: whoever was told of an error hears that it is over."""
    was_error = row is not None and row.recovered_at is None and row.severity == Severity.ERROR
    return Severity.ERROR if was_error else cause.severity


def _said(row: Row[Any]) -> tuple[str, ...]:
    return (row.severity, row.title, row.message, row.page)


def _calm(returns: int) -> timedelta:
    return min(CALM * 2.0 ** min(returns, 10), LONGEST_CALM)


def _open(connection: Connection, cause: Cause, row: Row[Any] | None, readers: Readers, now: datetime) -> None:
    values: dict[str, Any] = {
        "channel": cause.channel,
        "severity": str(_worst(cause, row)),
        "title": cause.title,
        "message": cause.message,
        "page": cause.page,
        "gone_since": None,
        "recovered_at": None,
    }
    if row is None:
        connection.execute(insert(alerts).values(values | {"cause": cause.key, "since": now}))
    else:
        if row.recovered_at is not None:
            again = now - row.recovered_at < COMES_BACK_WITHIN
            values |= {"since": now, "returns": row.returns + 1 if again else 0}
        elif row.gone_since is not None:
            values["returns"] = row.returns + 1
        connection.execute(update(alerts).where(alerts.c.cause == cause.key).values(values))
    worse = row is not None and row.severity == Severity.WARNING and cause.severity is Severity.ERROR
    if row is None or row.recovered_at is not None or worse:
        message = f"{cause.message}{_place(cause.page, readers.ui_url)}"
        _tell(connection, OPENED, cause.key, cause.severity, cause.title, message, readers, now)


def _miss(connection: Connection, row: Row[Any], readers: Readers, now: datetime) -> None:
    it = alerts.c.cause == row.cause
    if row.gone_since is None:
        connection.execute(update(alerts).where(it).values(gone_since=now))
        return
    connection.execute(update(alerts).where(it).values(recovered_at=now))
    lasted = age_in_words((row.gone_since - row.since).total_seconds())
    message = f"It began at {in_utc(row.since)} and was over after {lasted}."
    _tell(connection, RECOVERED, row.cause, Severity(row.severity), row.title, message, readers, now)


def _place(page: str, ui_url: str) -> str:
    if not page:
        return ""
    return f" {ui_url}/{page}" if ui_url else f" In the UI: {page.partition('?')[0]}"


def _tell(
    connection: Connection,
    kind: str,
    cause: str,
    severity: Severity,
    title: str,
    message: str,
    readers: Readers,
    now: datetime,
) -> None:
    told_at = dict.fromkeys(target.url_env for target in readers.targets if severity.reaches(target.severity))
    rows = [
        {"cause": cause, "target": target, "kind": kind, "severity": str(severity)}
        | {"title": title, "message": message, "created_at": now, "due_at": now}
        for target in told_at
    ]
    if rows:
        connection.execute(insert(alert_notices), rows)


def take_due(engine: Engine, target: str, now: datetime, holds_for: timedelta) -> list[Notice]:
    """Return what `target` is to be told now, all that waits in one message; [] where nothing is due or it was told a
    lot of late.

    Nobody else takes it within `holds_for`: should this process die before it says what became of it, it is told again.
    """
    mine = and_(alert_notices.c.target == target, alert_notices.c.state == "waiting")
    with engine.connect() as connection:
        if connection.execute(select(alert_notices.c.id).where(mine, alert_notices.c.due_at <= now)).first() is None:
            return []
        if _told_a_lot(connection, target, now):
            return []
    with write_transaction(engine) as connection:
        rows = connection.execute(select(alert_notices).where(mine).order_by(alert_notices.c.id)).all()
        if not any(row.due_at <= now for row in rows):
            return []
        connection.execute(update(alert_notices).where(mine).values(due_at=now + holds_for))
    return [
        Notice(row.id, row.kind, row.severity, row.title, row.message, row.created_at, row.attempts) for row in rows
    ]


def _told_a_lot(connection: Connection, target: str, now: datetime) -> bool:
    sent = alert_notices.c.sent_at
    lately, last = connection.execute(
        select(func.count(sent.distinct()), func.max(sent)).where(
            alert_notices.c.target == target, alert_notices.c.state == "sent", sent > now - timedelta(hours=1)
        )
    ).one()
    return lately >= A_LOT and bool(now - last < GAP)


def told(engine: Engine, notices: Sequence[Notice], now: datetime) -> None:
    """Note that a target took these."""
    values = {"state": "sent", "sent_at": now, "last_error": ""}
    _update(engine, [notice.id for notice in notices], values | {"attempts": alert_notices.c.attempts + 1})


def not_told(engine: Engine, notices: Sequence[Notice], why: str, now: datetime) -> None:
    """Note that a target did not take these, and why: they go again later, or are given up after a day."""
    wait = min(FIRST_WAIT * 2.0 ** min(max(notice.attempts for notice in notices), 10), LONGEST_WAIT)
    old = [notice.id for notice in notices if now - notice.created_at >= GIVE_UP_AFTER]
    again = [notice.id for notice in notices if notice.id not in old]
    values = {"last_error": why, "attempts": alert_notices.c.attempts + 1}
    _update(engine, old, values | {"state": "given_up"})
    _update(engine, again, values | {"due_at": now + wait})


def _update(engine: Engine, ids: Collection[int], values: Mapping[str, Any]) -> None:
    if ids:
        with write_transaction(engine) as connection:
            connection.execute(update(alert_notices).where(alert_notices.c.id.in_(ids)).values(**values))


def open_keys(connection: Connection) -> frozenset[str]:
    """Return the keys of the open causes."""
    return frozenset(connection.execute(select(alerts.c.cause).where(alerts.c.recovered_at.is_(None))).scalars())


def outages(connection: Connection) -> dict[str, Outage]:
    """Return by channel when it was down last."""
    query = select(alerts.c.channel, alerts.c.since, alerts.c.gone_since).where(
        or_(*(alerts.c.cause.startswith(f"{kind}:") for kind in DOWN))
    )
    return {row[0]: Outage(*row[1:]) for row in connection.execute(query.order_by(alerts.c.since))}


def book(connection: Connection, since: datetime | None) -> list[Alert]:
    """Return the open alerts, and those that were over at or after `since` if it is given; the latest first."""
    ended = alerts.c.recovered_at
    wanted = ended.is_(None) if since is None else or_(ended.is_(None), ended >= since)
    columns = [alerts.c[name] for name in Alert.__dataclass_fields__]
    query = select(*columns).where(wanted).order_by(ended.is_not(None), alerts.c.since.desc(), alerts.c.cause)
    return [Alert(*row) for row in connection.execute(query)]


def untold(connection: Connection) -> dict[str, tuple[int, str]]:
    """Return by target how many notices it hasn't taken yet, and why not ("" where none was tried)."""
    query = (
        select(alert_notices.c.target, func.count(), func.max(alert_notices.c.last_error))
        .where(alert_notices.c.state == "waiting")
        .group_by(alert_notices.c.target)
    )
    return {row[0]: (row[1], row[2]) for row in connection.execute(query)}


def forget(engine: Engine, before: datetime) -> None:
    """Remove notices of before `before`, and the alerts that were over then."""
    with write_transaction(engine) as connection:
        connection.execute(delete(alert_notices).where(alert_notices.c.created_at < before))
        connection.execute(delete(alerts).where(alerts.c.recovered_at < before))
