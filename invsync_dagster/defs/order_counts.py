"""The daily count of orders: one asset a channel that sells, with its check and the report of what differs."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.defs.metadata import cause_of, failing, report_file, tag_failed, worst_rows
from invsync_dagster.defs.names import OWNERS, RECONCILIATION, order_count_key, platform_kinds, platform_tags
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sync.order_count import Kind, OrderCount, count_orders

AGREE = "orders_agree"


class CountConfig(dg.Config):
    """How far back to count."""

    days: int = Field(default=1, ge=1, le=60, description="Days before today, each of which has ended.")


def counted_channels(configuration: Configuration) -> list[Channel]:
    """Return the channels whose platform takes orders: an own ERP tells its shelf instead."""
    return [
        each for each in configuration.channels if each.platform in VENDORS and VENDORS[each.platform].moves_own_number
    ]


def build_order_counts(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """Return one asset a channel that takes orders."""
    return [_asset(channel) for channel in counted_channels(configuration)]


def _asset(channel: Channel) -> dg.AssetsDefinition:
    key, name = order_count_key(channel.name), channel.name

    @dg.asset(
        key=key,
        pool=f"order_count_{name}",
        group_name=RECONCILIATION,
        owners=OWNERS,
        kinds=platform_kinds(channel),
        tags=platform_tags(channel),
        check_specs=[
            dg.AssetCheckSpec(
                AGREE,
                asset=key,
                description="The platform's orders of the day, and their units, are those that we have booked. Red: the "
                "report names each line that differed; what was missing is booked by now.",
            )
        ],
        description=(
            f"The orders of **{channel.title}** that changed last on the day before, as the channel lists them, compared line "
            "by line with what we have booked. What is missing or newer there is applied, as a poll does, and then named: "
            "webhooks and polls should have told of it.\n\n"
            "*Red* means that the channel could not be asked: look at its check `pushed`, and run the job `count_orders` again "
            "once it answers. *A red check* names what differed; what was missing is booked by now (docs/webhooks.md)."
        ),
    )
    def order_count_asset(context: dg.AssetExecutionContext, config: CountConfig, invsync: Invsync) -> Iterator[Any]:
        cause_of(context)
        ws = invsync.workspace
        with failing(context, name):
            count = count_orders(ws, name, days=config.days, run_id=context.run.run_id)
        report = report_file(ws.home, context.run.run_id, f"orders_{name}", count.differences)
        if count.problem:
            tag_failed(context, [name])
            yield _check(key, count)
            raise dg.Failure(f"{name}: {count.problem}", metadata=report, allow_retries=False)
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={
                "dagster/row_count": count.orders_there,
                **count.totals(),
                "api_calls": count.api_calls,
                "duration_s": round(count.seconds, 3),
                **worst_rows(count.differences),
                **report,
            },
            check_results=[_check(key, count)],
        )

    return order_count_asset


_WORDS = {
    Kind.MISSING: "missing here, and booked now",
    Kind.TOTALS: "with other totals there, asked for and booked",
    Kind.GONE: "of orders that the channel doesn't have any more: cancel or count what they hold",
}


def _check(key: dg.AssetKey, count: OrderCount) -> dg.AssetCheckResult:
    days = f"{count.since:%Y-%m-%d %H:%M} to {count.until:%Y-%m-%d %H:%M} UTC"
    orders = f"{count.orders_there} orders of {count.units_there} units there, {count.orders_here} of {count.units_here} here"
    lines = [f"{days}: {orders}."]
    for kind, words in _WORDS.items():
        if number := sum(one.kind is kind for one in count.differences):
            first = next(one.order_id for one in count.differences if one.kind is kind)
            lines.append(f"{number} lines {words} (the first: order {first}).")
    if count.unasked:
        lines.append(f"{count.unasked} more orders of ours were not listed, and too many to ask for.")
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=AGREE,
        passed=not (count.different or count.unasked or count.problem),
        severity=dg.AssetCheckSeverity.ERROR if count.problem else dg.AssetCheckSeverity.WARN,
        description=count.problem or " ".join(lines),
        metadata=count.totals(),
    )
