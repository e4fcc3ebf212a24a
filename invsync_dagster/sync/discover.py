"""Discovery: walk through all that a channel lists, believe it only if it is plausible, and say what its mapping lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from invsync_dagster.inventory import walks
from invsync_dagster.inventory.bulk import chunks
from invsync_dagster.inventory.database import NOT_STORABLE, side_transaction, write_transaction
from invsync_dagster.inventory.discovery import GONE, UNMAPPED, Finding, Kind, mapped_findings, unlisted_skus
from invsync_dagster.inventory.imports.proposals import write_mapping
from invsync_dagster.inventory.listings import send_to_review
from invsync_dagster.inventory.unmapped import unmapped_findings
from invsync_dagster.inventory.walks import LONGEST_LEG, Leg, MappedLevel, Walked
from invsync_dagster.platforms.contract import ChannelListing, LevelReference, ListingsPage, Outcome
from invsync_dagster.platforms.errors import PlatformError, Recovery, in_words
from invsync_dagster.sync.another_shop import ANOTHER_SHOP, is_another_shop, is_unknown
from invsync_dagster.sync.calls import Calls, OutOfTimeError
from invsync_dagster.sync.push import calls_of
from invsync_dagster.sync.readings import in_readings, note_walked
from invsync_dagster.sync.recognition import address_of
from invsync_dagster.sync.stopped import is_kept_by_platform, stop_level
from invsync_dagster.sync.workspace import Workspace

# Listings that one transaction keeps: a commit a page of 25 would be most of a walk's cost.
KEPT_AT_ONCE = 2_000

# Levels that one transaction stops.
STOPPED_AT_ONCE = 100

SHOWN = 20  # findings that a report shows; its file has all

NOTHING_LISTED = "nothing_listed"
TOO_MANY_GONE = "too_many_gone"
SAME_PAGE = "same_page"


@dataclass
class Discovery:
    """What a walk found. Counts are listings, `levels` are those that are mapped; where `problem` isn't "", nothing was
    changed.

    `reviewed` levels are gone, or show another level's number, and were sent to review by it; others wait there since an
    earlier walk. `excluded` levels are kept by the platform itself. `first` are the first findings in their order,
    `mapping_file` has all of them, to be corrected and imported.
    """

    channel: str
    listings: int = 0
    levels: int = 0
    reviewed: int = 0
    excluded: int = 0
    unlisted_skus: int = 0
    found: Counter[Kind] = field(default_factory=Counter)
    first: list[Finding] = field(default_factory=list)
    mapping_file: Path | None = None
    api_calls: int = 0
    seconds: float = 0.0
    problem: str = ""

    @property
    def unmapped(self) -> int:
        """Listings that could be mapped and aren't."""
        return sum(self.found[kind] for kind in UNMAPPED)

    def totals(self) -> dict[str, int]:
        """Return all counts by stable names."""
        return {
            "listings": self.listings,
            "mapped_levels": self.levels,
            "unmapped": self.unmapped,
            **{str(kind): self.found[kind] for kind in Kind},
            "sent_to_review": self.reviewed,
            "excluded": self.excluded,
            "unlisted_skus": self.unlisted_skus,
        }


@dataclass
class _Lost:
    """Mapped levels that the channel keeps no number for, with what it says of them: those that it doesn't have at all, those
    that are no level of it any more, and those that it keeps itself."""

    gone: dict[MappedLevel, Outcome] = field(default_factory=dict)
    moved: dict[MappedLevel, Outcome] = field(default_factory=dict)
    kept: dict[MappedLevel, Outcome] = field(default_factory=dict)


class _ImplausibleError(Exception):
    """What the channel lists can't be what it sells: nothing is concluded from it."""


def discover(ws: Workspace, name: str, *, run_id: str) -> Discovery:
    """Walk through the listings of channel `name`, send to review what it no longer has, and write the rest as proposals.

    Nothing is mapped by it. A walk that is empty, knows none of what is mapped, or lost more than `change_limits` let
    pass changes nothing and is not kept. One that runs out of time, or is cut short by a passing failure, is kept, and the
    next run goes on with it. Never raises for the platform's failures: they stand in the report.
    """
    report = Discovery(name)
    channel = ws.channel(name)
    if channel.disabled_reason:
        report.problem = f"configuration: {channel.disabled_reason}"
        return report
    began = ws.clock.now()
    calls = calls_of(ws, channel, began + LONGEST_LEG, background=True)
    whose = (name, address_of(channel), began, run_id)
    with write_transaction(ws.engine) as connection:
        leg = walks.take_up(connection, *whose) or walks.begin(connection, *whose)
    walk, before = leg.walk, leg.listings
    believed = goes_on = False
    try:
        _walk(ws, leg, calls)
        report.listings = leg.listings
        lost = _lost(ws, name, walk, calls, report)
        report.problem = _beyond(ws, report, _newly(lost.gone))
        if not report.problem:
            _stop(ws, name, lost, report)
        _tell(ws, name, walk, lost, report, run_id)
        if not report.problem:
            # Only now: another walk that ends meanwhile forgets those that were believed before it.
            with write_transaction(ws.engine) as connection:
                walks.believe(connection, walk, report.listings, ws.clock.now())
                if leg.first:  # else some of it was seen days ago
                    note_walked(connection, calls.platform, name, walk, began)
            believed = True
    except _ImplausibleError as error:
        report.problem = str(error)
    except OutOfTimeError:
        goes_on = leg.complete or leg.cursor != ""
        report.problem = f"the walk did not finish within {LONGEST_LEG}: {_so_far(leg, goes_on)}"
    except PlatformError as error:
        # Where a run came no further, where it stands may be what the platform fails on.
        goes_on = error.recovery is Recovery.RETRY and leg.listings > before
        then = f"; {_so_far(leg, goes_on)}" if goes_on else ""
        report.problem = in_words(error.code, f"{error.message}{then}", error.recovery)
    finally:
        if goes_on:
            with write_transaction(ws.engine) as connection:
                walks.pause(connection, leg)
        else:
            with write_transaction(ws.engine) as connection:
                old = walks.outdated(connection, name, walk, ws.clock.now()) if believed else [walk]
            walks.forget(ws.engine, old)
    report.listings = leg.listings
    report.api_calls = calls.made
    report.seconds = (ws.clock.now() - began).total_seconds()
    return report


def _so_far(leg: Leg, goes_on: bool) -> str:
    then = "; the next run goes on from there" if goes_on else ""
    return f"{leg.listings} listings so far{then}. Nothing is concluded from a part of it"


def _walk(ws: Workspace, leg: Leg, calls: Calls) -> None:
    """Keep all that the channel lists, from where `leg` begins; it says how far this came."""
    waiting: list[Walked] = []
    try:
        for page in _pages(calls, leg):
            waiting += [_walked(one) for one in page.listings]
            leg.cursor, leg.complete = page.cursor, not page.cursor
            if len(waiting) >= KEPT_AT_ONCE or leg.complete:
                _keep(ws, leg, waiting)
                waiting = []
    except (OutOfTimeError, PlatformError):
        _keep(ws, leg, waiting)
        raise
    with side_transaction(ws.engine) as connection:
        walks.count_kept(connection)


def _pages(calls: Calls, leg: Leg) -> Iterator[ListingsPage]:
    cost = calls.platform.limits.orders_cost
    before: ListingsPage | None = None
    while not leg.complete:
        page = calls.ask(cost, lambda: calls.platform.listings(leg.cursor))
        if before is not None and page.listings and page.listings == before.listings:
            raise _ImplausibleError(
                f"{SAME_PAGE}: the channel answers the same page of listings again: is there a cache before it? Nothing "
                "is concluded; let its API answer uncached"
            )
        yield page
        before = page


def _walked(one: ChannelListing) -> Walked:
    return Walked(
        item_id=one.level.item_id,
        location_id=one.level.location_id,
        listing_id=one.listing_id,
        variant_id=one.variant_id,
        platform_sku=one.platform_sku,
        title=one.title,
        quantity=one.quantity,
        problem=one.problem,
    )


def _keep(ws: Workspace, leg: Leg, listings: list[Walked]) -> None:
    try:
        with write_transaction(ws.engine) as connection:
            walks.add(connection, leg.walk, leg.listings, listings)
    except NOT_STORABLE as error:
        # The error's own text may hold the whole page.
        raise _ImplausibleError(f"a listing holds a value that can't be stored ({type(error).__name__})") from error
    leg.listings += len(listings)


def _lost(ws: Workspace, name: str, walk: int, calls: Calls, report: Discovery) -> _Lost:
    """Return the mapped levels that the channel keeps no number for; raise for a walk that can't be true.

    What a walk didn't see is asked for before it counts as gone: a page may shift while others are read. So is what it saw
    without a number: only a reading tells which of those the platform keeps itself.
    """
    with ws.engine.connect() as connection:
        seen = walks.coverage(connection, name, walk)
    report.levels = seen.mapped
    if not report.listings:
        raise _ImplausibleError(
            f"{NOTHING_LISTED}: {name} lists nothing at all, and {seen.mapped} levels are mapped: are the credentials those "
            "of the right account, with the right to read products? Nothing was changed"
        )
    if is_another_shop(seen.renamed, seen.named):
        raise _ImplausibleError(
            _wrong_shop(name, f"{seen.renamed} of {seen.named} mapped listings have another SKU there")
        )
    known = seen.mapped - len(seen.missing) + _newly(seen.missing)
    lost = _Lost()
    for level, problem in _problems(seen.missing, calls):
        if is_kept_by_platform(problem):
            lost.kept[level] = problem
        elif is_unknown(problem):
            lost.gone[level] = problem
            newly = _newly(lost.gone)
            if (newly and _newly(seen.missing) == known) or is_another_shop(newly, known):
                what = f"of {seen.mapped} mapped levels it has {seen.mapped - len(seen.missing)}"
                raise _ImplausibleError(_wrong_shop(name, what))
        elif problem.recovery is Recovery.REVIEW:
            lost.moved[level] = problem
    lost.kept |= {
        level: problem for level, problem in _problems(seen.undrivable, calls) if is_kept_by_platform(problem)
    }
    return lost


def _problems(levels: Sequence[MappedLevel], calls: Calls) -> Iterator[tuple[MappedLevel, Outcome]]:
    """Read levels, and yield those that have a problem."""
    for part in in_readings(levels, calls.platform.limits):
        references = [LevelReference(level.item_id, level.location_id) for level in part]
        answer = calls.ask(calls.platform.limits.read_cost, lambda asked=references: calls.platform.read(asked))  # type: ignore[misc]
        for level, reading in zip(part, answer.readings, strict=True):
            if reading.problem is not None:
                yield level, reading.problem


def _newly(levels: Collection[MappedLevel]) -> int:
    """Count those that nobody was told of before: what waits for a person since earlier walks is no sign of anything."""
    return sum(not level.waiting for level in levels)


def _beyond(ws: Workspace, report: Discovery, gone: int) -> str:
    """Say that more is newly gone than `change_limits` let pass at once, "" if it isn't."""
    limits = ws.configuration.settings.change_limits
    if gone <= max(limits.minimum, limits.zeroed_share * report.levels):
        return ""
    return (
        f"{TOO_MANY_GONE}: {gone} of {report.levels} mapped levels are gone from {report.channel}, more than change_limits "
        f"let pass at once ({limits.zeroed_share:.0%}). Nothing was changed; if they were taken down on purpose, retire them "
        "with the mapping file of this run"
    )


def _wrong_shop(name: str, what: str) -> str:
    return (
        f"{ANOTHER_SHOP}: this looks like the wrong shop: {what}. Are the credentials of {name} those of another account? "
        "Nothing was changed"
    )


def _stop(ws: Workspace, name: str, lost: _Lost, report: Discovery) -> None:
    now = ws.clock.now()
    found = {level: problem for level, problem in (lost.gone | lost.moved | lost.kept).items() if level.active}
    for part in chunks(found.items(), STOPPED_AT_ONCE):
        with write_transaction(ws.engine) as connection:
            for level, problem in part:
                if level in lost.gone:
                    reason = f"{GONE} on {now:%Y-%m-%d}: {problem.words}"
                    send_to_review(connection, level.id, reason=reason, actor=f"channel {name}", now=now)
                else:
                    stop_level(connection, name, level.id, problem, now)
    report.excluded = sum(level in lost.kept for level in found)
    report.reviewed = len(found) - report.excluded


def _tell(ws: Workspace, name: str, walk: int, lost: _Lost, report: Discovery, run_id: str) -> None:
    path = ws.home.reports / run_id / f"mapping_{name}.csv"
    with ws.engine.connect() as connection:
        report.unlisted_skus = unlisted_skus(connection, name)
        if write_mapping(path, name, _counted(_findings(connection, name, walk, lost), report)):
            report.mapping_file = path
        else:
            path.unlink()


def _findings(connection: Connection, name: str, walk: int, lost: _Lost) -> Iterator[Finding]:
    gone = {level.id for level in lost.gone}
    moved = {level.id: problem.message for level, problem in lost.moved.items()}
    yield from mapped_findings(connection, name, walk, gone, moved)
    yield from unmapped_findings(connection, name, walk)


def _counted(findings: Iterator[Finding], report: Discovery) -> Iterator[Finding]:
    for one in findings:
        report.found[one.kind] += 1
        if len(report.first) < SHOWN:
            report.first.append(one)
        yield one
