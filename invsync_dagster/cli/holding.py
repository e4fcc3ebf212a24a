"""`invsync held`: what the breaker holds before the wire, shown and approved."""

from __future__ import annotations

import click
from sqlalchemy import ColumnElement, select

from invsync_dagster.cli.common import (
    CHANNEL,
    RefusedError,
    as_json_option,
    decided,
    print_json,
    print_table,
    workspace,
)
from invsync_dagster.inventory import holds
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.tables import inventory_levels

SHOWN = 20  # rows that the terminal shows; --json has all


@click.group("held")
def held_group() -> None:
    """Listings that a change of rules, mapping or status would move too far: they wait for a person."""


@held_group.command("list")
@click.option("--channel", type=CHANNEL, help="Only this channel.")
@as_json_option
def held_list(channel: str | None, as_json: bool) -> None:
    """What is held: the number it had when held, and the one that the change wants.

    \b
    Examples:
      invsync held list
      invsync held list --channel shopify_main
    """
    level = inventory_levels.c
    query = select(level.channel, level.central_sku, level.held_quantity, level.desired, level.held_desired,
                   level.held_reason)  # fmt: skip
    query = query.where(*_held(channel)).order_by(level.channel, level.held_reason, level.central_sku)
    with workspace() as ws, ws.engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    if as_json:
        print_json(rows)
        return
    for reason in dict.fromkeys(row["held_reason"] for row in rows):
        click.echo(reason)
    title = f"Held: {len(rows)}" + (f", the first {SHOWN}; --json has all" if len(rows) > SHOWN else "")
    shown = ("channel", "central_sku", "held_quantity", "desired", "held_desired")
    print_table(title, ("channel", "SKU", "held at", "shows now", "the change wants"),
                [tuple(row[name] for name in shown) for row in rows[:SHOWN]])  # fmt: skip
    if rows:
        click.echo(
            "as it should be? invsync held approve CHANNEL [SKU…] --reason …; else take the change back, which frees them"
        )


@held_group.command("approve")
@click.argument("channel", type=CHANNEL)
@click.argument("skus", nargs=-1, metavar="[SKU…]")
@decided
def held_approve(channel: str, skus: tuple[str, ...], actor: str, reason: str) -> None:
    """Let what is held on CHANNEL show what its rules say, all of it or the given SKUs.

    \b
    Examples:
      invsync held approve shopify_main --reason "the new buffer is meant"
      invsync held approve shopify_main OCT00-SAN-S --reason "counted by hand"
    """
    level = inventory_levels.c
    conditions = [*_held(channel), *([level.central_sku.in_(skus)] if skus else [])]
    with workspace() as ws, write_transaction(ws.engine) as connection:
        ids = list(connection.execute(select(level.id).where(*conditions)).scalars())
        if not ids:
            raise RefusedError(f"nothing is held on {channel!r}" + (f" of {', '.join(skus)}" if skus else ""))
        freed = holds.approve(connection, ids, reason=reason, actor=actor, now=ws.clock.now())
    click.echo(f"{channel}: {freed} listings approved; the next push brings them in step")


def _held(channel: str | None) -> list[ColumnElement[bool]]:
    level = inventory_levels.c
    return [level.held_quantity.is_not(None), *([level.channel == channel] if channel else [])]
