"""`invsync discover`: what a channel lists, against the mapping, as proposals to correct and import."""

from __future__ import annotations

from dataclasses import asdict

import click

from invsync_dagster.cli.common import (
    CHANNEL,
    NOT_AS_HOPED,
    as_json_option,
    configured,
    failed_at,
    print_json,
    print_table,
    run_id,
    workspace,
)
from invsync_dagster.inventory.discovery import Kind
from invsync_dagster.sync.discover import SHOWN, Discovery, discover


@click.command("discover")
@click.argument("channel", type=CHANNEL)
@as_json_option
def discover_command(channel: str, as_json: bool) -> None:
    """List what CHANNEL offers, and compare it with the mapping: a CSV of proposals to correct and import.

    Maps nothing; a mapped listing that is gone there is stopped until somebody has looked.

    \b
    Examples:
      invsync discover shopify_main
    """
    with workspace() as ws:
        its_channel = configured(ws, channel)
        found = discover(ws, channel, run_id=run_id())
    if found.problem and found.mapping_file is None:
        raise failed_at(its_channel, found.problem)
    if as_json:
        print_json(_document(found))
    else:
        _show(found)
    if found.problem or found.found[Kind.VANISHED] or found.found[Kind.MOVED]:
        click.get_current_context().exit(NOT_AS_HOPED)


def _document(found: Discovery) -> dict[str, object]:
    return {
        "channel": found.channel,
        "problem": found.problem,
        "totals": found.totals(),
        "first": [asdict(one) for one in found.first],
        "mapping_file": str(found.mapping_file) if found.mapping_file else None,
    }


def _show(found: Discovery) -> None:
    cases = sum(found.found.values())
    if found.first:
        title = f"{found.channel}: {cases} cases" + (f", the first {SHOWN}" if cases > SHOWN else "")
        columns = ("case", "SKU", "proposed", "at the channel", "item", "location", "why", "title")
        rows = [
            (one.kind, one.central_sku, one.proposed_sku, one.platform_sku or one.variant_id, one.item_id, one.location_id,
             one.note, one.title)
            for one in found.first
        ]  # fmt: skip
        print_table(title, columns, rows)
    totals = found.totals()
    click.echo(
        "{channel}: {listings} listings, {mapped_levels} mapped levels; {unmapped} not mapped ({matched} have a SKU of the "
        "same text, {similar} a similar one, {conflict} one that fits several, {unmatched} none); {doubly_mapped} doubly "
        "mapped, {renamed} rows of renamed ones, {vanished} vanished, {moved} rows of moved ones, {undrivable} without a "
        "number there, {returned} returned; {unlisted_skus} active SKUs aren't listed there".format(
            channel=found.channel, **totals
        )
    )
    if found.problem:
        click.echo(f"! {found.problem}")
    if found.reviewed:
        click.echo(f"! {found.reviewed} levels are gone or moved there, and stopped until you retire or map them anew")
    if found.excluded:
        click.echo(f"{found.excluded} listings are excluded from now on: the platform keeps their stock itself")
    if found.mapping_file:
        click.echo(f"to correct, and then to import: {found.mapping_file}")
        click.echo("a row without central_sku isn't imported: copy proposed_sku there where you agree")
