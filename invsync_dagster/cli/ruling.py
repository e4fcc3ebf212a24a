"""`invsync rules`: changes of rules, listed and undone."""

from __future__ import annotations

import click

from invsync_dagster.cli.common import (
    CHANNEL,
    NOT_AS_HOPED,
    as_json_option,
    print_json,
    print_table,
    user,
    workspace,
)
from invsync_dagster.inventory.explanation import in_utc
from invsync_dagster.inventory.rule_changes import rule_changes
from invsync_dagster.sync.undo_rules import preview_rules_undo, undo_rules


@click.group("rules")
def rules_group() -> None:
    """Changes of channels' and listings' rules: what they were, and back to it."""


@rules_group.command("list")
@click.option("--channel", type=CHANNEL, default="", help="Only this channel.")
@as_json_option
def rules_list(channel: str, as_json: bool) -> None:
    """The latest changes of rules, newest first: when, by whom, from what to what.

    \b
    Examples:
      invsync rules list
      invsync rules list --channel shopify_main
    """
    with workspace() as ws, ws.engine.connect() as connection:
        changes = rule_changes(connection, channel)
    if as_json:
        print_json([one.to_dict() for one in changes])
        return
    columns = ("change", "at", "by", "channel", "of", "rules", "reason")
    rows = [
        (
            one.number,
            in_utc(one.at),
            one.actor,
            one.channel,
            f"{one.listings} listings" if one.listings else "the channel",
            one.words,
            one.reason,
        )
        for one in changes
    ]
    print_table("Changes of rules", columns, rows)


@rules_group.command("undo")
@click.argument("change", type=click.IntRange(1, 10**18 - 1))
@click.option("--reason", help="Why, for whoever asks later. Without it nothing is done: it is a preview.")
@click.option("--actor", default=user, show_default="your user name", help="Who decides.")
@as_json_option
def rules_undo(change: int, reason: str | None, actor: str, as_json: bool) -> None:
    """Put the rules of before CHANGE back into channels.yaml. Shows it first; with --reason it is done.

    \b
    Examples:
      invsync rules undo 1234
      invsync rules undo 1234 --reason "one nought too many"
    """
    with workspace() as ws:
        found = undo_rules(ws, change, actor=actor, reason=reason) if reason else preview_rules_undo(ws, change)
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(found.render())
        click.echo("undone; the next push brings the channel in step" if reason else "do it: the same with --reason …")
    if reason and found.held:
        click.get_current_context().exit(NOT_AS_HOPED)
