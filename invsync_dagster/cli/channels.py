"""`invsync channels`: registered, listed, paused, resumed, retired."""

from __future__ import annotations

import click
from sqlalchemy import select

from invsync_dagster.cli.common import (
    CHANNEL,
    NOT_AS_HOPED,
    as_json_option,
    configured,
    decided,
    meaning,
    print_json,
    print_table,
    workspace,
)
from invsync_dagster.inventory import channels as channel_rows
from invsync_dagster.inventory.batches import set_batches
from invsync_dagster.inventory.catch_up import catch_up, hold_beyond_limits
from invsync_dagster.inventory.database import DatabaseGoneError, write_transaction
from invsync_dagster.inventory.tables import channels as channels_table
from invsync_dagster.sync.credentials import refusal
from invsync_dagster.sync.registration import register
from invsync_dagster.sync.workspace import Workspace


@click.group("channels")
def channels_group() -> None:
    """The channels of channels.yaml in the database: registered, paused, retired."""


@channels_group.command("sync")
@as_json_option
def channels_sync(as_json: bool) -> None:
    """Bring the database in line with channels.yaml, and recompute the listings whose rules changed.

    \b
    Examples:
      invsync channels sync
    """
    with workspace() as ws:
        register(ws)
        problems = [*ws.configuration.problems, *_recomputed(ws)]
        names = [channel.name for channel in ws.configuration.channels if not channel.disabled_reason]
    if as_json:
        print_json({"channels": names, "problems": problems})
    else:
        click.echo(f"registered: {', '.join(names) or 'no channel'}")
        for problem in problems:
            click.echo(f"! {problem}")
    if problems:
        click.get_current_context().exit(NOT_AS_HOPED)


@channels_group.command("list")
@as_json_option
def channels_list(as_json: bool) -> None:
    """All channels, those of the database and those of the file.

    \b
    Examples:
      invsync channels list
    """
    with workspace() as ws:
        with ws.engine.connect() as connection:
            known = {
                row.name: row for row in connection.execute(select(channels_table).order_by(channels_table.c.name))
            }
        configured = {channel.name: channel for channel in ws.configuration.channels}
    rows = []
    for name in [*known, *(name for name in configured if name not in known)]:
        row, channel = known.get(name), configured.get(name)
        approved = row.push_approved_at if row is not None else None
        reason = channel.disabled_reason if channel else "not in channels.yaml"
        rows.append(
            {
                "channel": name,
                "platform": row.platform if row is not None else channel.platform if channel else "",
                "environment": row.environment if row is not None else channel.environment if channel else "",
                "status": row.status if row is not None else "not registered",
                "first_push": f"approved by {row.push_approved_by}" if row is not None and approved else "not approved",
                "reason": "; ".join(
                    filter(None, (row.status_reason or row.stopped_reason if row is not None else "", reason))
                ),
            }
        )
    if as_json:
        print_json(rows)
    else:
        print_table("Channels", ("channel", "platform", "environment", "status", "first push", "reason"),
                     [tuple(row.values()) for row in rows])  # fmt: skip


@channels_group.command("check")
@click.argument("names", nargs=-1, type=CHANNEL, metavar="[CHANNEL…]")
@as_json_option
def channels_check(names: tuple[str, ...], as_json: bool) -> None:
    """Ask each platform whether it lets us in, with the rights that are needed; nothing is changed there.

    \b
    Examples:
      invsync channels check
      invsync channels check shopify_main
    """
    with workspace() as ws:
        chosen = [configured(ws, name) for name in names] or ws.configuration.channels
        answers = {channel.name: refusal(ws, channel.name) for channel in chosen}
        meanings = {channel.name: meaning(channel, answers[channel.name]) for channel in chosen}
    if as_json:
        print_json([{"channel": name, "works": not why, "answer": why} for name, why in answers.items()])
    else:
        print_table("Credentials", ("channel", "answer"), [(name, why or "works") for name, why in answers.items()])
        for name, means in meanings.items():
            if means:
                click.echo(f"! {name}: {means}")
    if any(answers.values()):
        click.get_current_context().exit(NOT_AS_HOPED)


def _set_status(name: str, state: str, actor: str, reason: str) -> None:
    with workspace() as ws:
        now = ws.clock.now()
        with write_transaction(ws.engine) as connection:
            channel_rows.set_status(connection, name, state, actor=actor, reason=reason, now=now)
            held = hold_beyond_limits(connection, now)
        problems = _recomputed(ws)
    click.echo(f"{name}: {state}" + (f"; {held} listings are held: invsync held list" if held else ""))
    for problem in problems:
        click.echo(f"! {problem}")
    if problems:
        click.get_current_context().exit(NOT_AS_HOPED)


def _recomputed(ws: Workspace) -> list[str]:
    """Recompute the levels that a committed change touches; return what keeps them from it: the change is made all the same."""
    try:
        catch_up(ws.engine, ws.clock.now())
    except DatabaseGoneError as error:
        return [
            f"that is done, and the levels follow with the next cycle, or `invsync channels sync`: {error.reason}; {error.mend}"
        ]
    return []


@channels_group.command("batches")
@decided
def channels_batches(actor: str, reason: str) -> None:
    """Take over the number of batches of full runs (`sku_batches`) from channels.yaml; reload the definitions then.

    \b
    Examples:
      invsync channels batches --reason "ten times as many SKUs"
    """
    with workspace() as ws:
        number = ws.configuration.settings.sku_batches
        with write_transaction(ws.engine) as connection:
            set_batches(connection, number, actor=actor, reason=reason, now=ws.clock.now())
    click.echo(f"full runs have {number} batches; the next one of each channel runs them all")


@channels_group.command("pause")
@click.argument("channel", type=CHANNEL)
@decided
def channels_pause(channel: str, actor: str, reason: str) -> None:
    """Stop pushing to CHANNEL and leave its numbers as they are; its orders still count.

    \b
    Examples:
      invsync channels pause shopify_main --reason "stocktaking until noon"
    """
    _set_status(channel, "paused", actor, reason)


@channels_group.command("resume")
@click.argument("channel", type=CHANNEL)
@decided
def channels_resume(channel: str, actor: str, reason: str) -> None:
    """Push to CHANNEL again; what it shows is read before it is written.

    \b
    Examples:
      invsync channels resume shopify_main --reason "counted"
    """
    _set_status(channel, "active", actor, reason)


@channels_group.command("retire")
@click.argument("channel", type=CHANNEL)
@decided
def channels_retire(channel: str, actor: str, reason: str) -> None:
    """Give CHANNEL up: nothing is pushed there and its webhooks are not taken any more.

    \b
    Examples:
      invsync channels retire shopify_outlet --reason "the shop is closed"
    """
    _set_status(channel, "retired", actor, reason)
