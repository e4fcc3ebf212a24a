"""The status as Prometheus reads it: gauges of the document, and the receiver's own counters (docs/status.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from invsync_dagster.webhooks.status.document import Seen, Verdict

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# Of a channel's listings: the document's key, which is the label `state` too.
_STATES = ("in_step", "out_of_step", "held", "stopped", "review", "paused", "excluded")


def render(seen: Seen, receiver: Mapping[str, object]) -> bytes:
    """Return all metrics as text."""
    registry = CollectorRegistry()
    registry.register(_Families([*_families(seen), *_own_families(receiver)]))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(seen: Seen) -> Iterator[Metric]:
    document = seen.document
    verdict = GaugeMetricFamily("invsync_verdict", "1 for how all stands, else 0.", labels=["verdict"])
    for one in Verdict:
        verdict.add_metric([one], float(seen.verdict is one))
    yield verdict
    problems = GaugeMetricFamily(
        "invsync_problem", "1 for each thing that is wrong now.", labels=["cause", "channel", "severity", "title"]
    )
    for problem in seen.problems:
        problems.add_metric([problem[key] for key in ("cause", "channel", "severity", "title")], 1)
    yield problems
    if not document:
        return
    yield _gauge("invsync_status_timestamp_seconds", "When the status was written.", _at(document["written_at"]))
    yield _gauge("invsync_skus", "SKUs in the stock.", document["skus"])
    yield _gauge("invsync_units", "Units on hand.", document["units"])
    yield _gauge("invsync_units_reserved", "Units promised to open orders.", document["reserved"])
    yield _gauge("invsync_skus_negative", "SKUs with more reserved than on hand.", document["negative"])
    yield _gauge("invsync_ledger_sequence", "Entries of the ledger.", document["ledger_sequence"])
    yield _gauge("invsync_open_cases", "What waits for a person.", document["open_cases"])
    yield _gauge("invsync_imports_held", "Imports and counts that are held.", len(document["held_imports"]))
    yield _gauge("invsync_deliveries_quarantined", "Deliveries that could not be applied.", document["quarantined"])
    oldest = document["oldest_delivery_seconds"]
    yield _gauge(
        "invsync_oldest_delivery_seconds", "How long the oldest delivery has waited in the inbox.", oldest or 0
    )
    if document["backup"]:
        yield _gauge(
            "invsync_backup_timestamp_seconds", "When the last backup was taken.", _at(document["backup"]["at"])
        )
    yield from _of_channels(document["channels"])


def _of_channels(channels: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    def family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"invsync_{name}", text, labels=["channel", *labels])

    info = family("channel_info", "1; its labels say what the channel is.", "platform", "environment", "state")
    listings = family("listings", "Listings, by how they stand.", "state")
    uncertain = family("listings_uncertain", "Of those out of step: the number there isn't known for sure.")
    oldest = family("oldest_change_seconds", "How long the oldest change has waited; 0 for none.")
    times = family("last_timestamp_seconds", "When there last was a push, a success, a delivery, a full run.", "what")
    syncs = family(
        "syncs_last_hour", "Attempts of the last hour that reached the wire, and those that failed.", "result"
    )
    latency = family("latency_seconds", "From a change elsewhere to the acknowledgement, last hour.", "quantile")
    budget = family("budget_left_ratio", "Share of the burst of the channel's rate that is left.")
    blocked = family("blocked_seconds", "Seconds for which a throttled answer lets the channel wait.")
    waits = family("day_limit_waiting", "Levels that wait since their listing's writes of the day are used.")
    for one in channels:
        name = one["channel"]
        info.add_metric([name, one["platform"], one["environment"], one["state"]], 1)
        for state in _STATES:
            listings.add_metric([name, state], one[state])
        uncertain.add_metric([name], one["uncertain"])
        oldest.add_metric([name], one["oldest_change_seconds"] or 0)
        for what in ("push", "success", "delivery", "full_run"):
            if one[f"last_{what}_at"]:
                times.add_metric([name, what], _at(one[f"last_{what}_at"]))
        syncs.add_metric([name, "all"], one["syncs_last_hour"])
        syncs.add_metric([name, "failed"], one["failed_last_hour"])
        if one["latency"]:
            latency.add_metric([name, "0.5"], one["latency"]["p50"])
            latency.add_metric([name, "0.95"], one["latency"]["p95"])
        if one["budget"]:
            budget.add_metric([name], one["budget"]["points"] / one["budget"]["burst"])
            blocked.add_metric([name], one["budget"]["blocked_seconds"])
        waits.add_metric([name], one["waiting_for_day_limit"])
    yield from (info, listings, uncertain, oldest, times, syncs, latency, budget, blocked, waits)


def _own_families(receiver: Mapping[str, Any]) -> Iterator[Metric]:
    waiting = receiver["segments_waiting"]
    if waiting is not None:
        yield _gauge("invsync_inbox_segments", "Segments that wait in the inbox, up to 10,000.", waiting)
    answers = CounterMetricFamily(
        "invsync_receiver_answers", "Answers to deliveries since the receiver started.", labels=["channel", "status"]
    )
    for one in receiver["answers"]:
        answers.add_metric([one["channel"], str(one["status"])], one["number"])
    refused = CounterMetricFamily(
        "invsync_receiver_refused", "Deliveries that were refused, by why.", labels=["channel", "reason"]
    )
    for one in receiver["refused"]:
        refused.add_metric([one["channel"], one["reason"]], one["number"])
    yield from (answers, refused)
    seconds = SummaryMetricFamily(
        "invsync_receiver_answer_seconds", "What taken deliveries waited for; the quantiles are of the latest 1,000."
    )
    for quantile, key in (("0.5", "answer_p50_seconds"), ("0.99", "answer_p99_seconds")):
        if receiver[key] is not None:
            seconds.add_sample(seconds.name, {"quantile": quantile}, receiver[key])
    seconds.add_metric([], receiver["taken"], receiver["seconds_of_taken"])
    yield seconds


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _at(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
