"""`invsync held`: what the breaker holds before the wire, shown, approved and dropped."""

from __future__ import annotations

import click

from invsync_dagster.cli.common import (
    CHANNEL,
    NOT_AS_HOPED,
    as_json_option,
    decided,
    print_json,
    print_table,
    workspace,
)
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.deciding import Decision, decide, held_levels, holds_now
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.looks import Look

SHOWN = 20  # rows that the terminal shows; --json has all


@click.group("held")
def held_group() -> None:
    """Listings that a change of rules, mapping or status would move too far: they wait for a person."""


@held_group.command("list")
@click.option("--channel", type=CHANNEL, default="", help="Only this channel.")
@as_json_option
def held_list(channel: str, as_json: bool) -> None:
    """What is held, since when and why: the number that each listing shows, and the one that the change wants.

    \b
    Examples:
      invsync held list
      invsync held list --channel shopify_main
    """
    with workspace() as ws, ws.engine.connect() as connection:
        seen = Look.at_present(connection)
        holds = holds_now(connection, channel)
        levels = held_levels(connection, channel)
    if as_json:
        rows = [one.to_dict() for one in levels]
        print_json({"seen": str(seen), "holds": [one.to_dict() for one in holds], "levels": rows})
        return
    title = f"Held: {len(levels)}" + (f", the first {SHOWN}; --json has all" if len(levels) > SHOWN else "")
    columns = ("hold", "channel", "SKU", "shows", "the change wants", "since", "decided")
    rows_shown = [
        (one.hold, one.channel, one.sku, one.shown, one.wanted, in_utc(one.since), "stays so" if one.dropped else "")
        for one in levels[:SHOWN]
    ]
    print_table(title, columns, rows_shown)
    for hold in holds:
        stays = f", {hold.dropped} decided to stay so" if hold.dropped else ""
        click.echo(f"\nhold {hold.number}, {hold.levels} listings{stays}: {hold.reason}")
        click.echo(f"  as it should be:  invsync held approve {hold.number} --seen {seen} --reason …")
        click.echo(f"  a mistake:  {hold.mend}, which frees them")
        click.echo(f"  leave them as they are:  invsync held drop {hold.number} --reason …")


@held_group.command("approve")
@click.argument("what", metavar="HOLD|CHANNEL", type=CHANNEL)
@click.argument("skus", nargs=-1, metavar="[SKU…]")
@click.option(
    "--seen", default="", help="The look that you approve, from `held list`; else what it was when it was held."
)
@decided
def held_approve(what: str, skus: tuple[str, ...], seen: str, actor: str, reason: str) -> None:
    """Let what is held show what its rules say: a hold by its number or all of a channel, or the given SKUs of it.

    \b
    Examples:
      invsync held approve 1234 --seen 1240-56789 --reason "the new buffer is meant"
      invsync held approve shopify_main OCT00-SAN-S --reason "counted by hand"
    """
    _decide(what, "approve", skus, seen, actor, reason)


@held_group.command("drop")
@click.argument("what", metavar="HOLD|CHANNEL", type=CHANNEL)
@click.argument("skus", nargs=-1, metavar="[SKU…]")
@decided
def held_drop(what: str, skus: tuple[str, ...], actor: str, reason: str) -> None:
    """Leave what is held at the numbers that it shows, less what is sold, until the change is taken back.

    \b
    Examples:
      invsync held drop 1234 --reason "a slip, to be mended tomorrow"
    """
    _decide(what, "drop", skus, "", actor, reason)


def _decide(what: str, decision: Decision, skus: tuple[str, ...], seen: str, actor: str, reason: str) -> None:
    with workspace() as ws, write_transaction(ws.engine) as connection:
        done = decide(connection, what, decision, skus=skus, seen=seen, actor=actor, reason=reason, now=ws.clock.now())
    click.echo(f"{what}: {done.render()}")
    if done.changed:
        click.get_current_context().exit(NOT_AS_HOPED)
