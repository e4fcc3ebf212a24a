"""`invsync webhooks`: what the platforms are to notify us of, listed and brought in order."""

from __future__ import annotations

from dataclasses import asdict

import click

from invsync_dagster.cli.common import (
    CHANNEL,
    NOT_AS_HOPED,
    as_json_option,
    configured,
    print_json,
    print_table,
    workspace,
)
from invsync_dagster.sync.subscriptions import Watch, watch_subscriptions

_channel_option = click.option(
    "--channel", "names", type=CHANNEL, multiple=True, help="Only this channel; may be repeated."
)


@click.group("webhooks")
def webhooks_group() -> None:
    """The platforms' webhooks and notifications: subscribed, listed, mended."""


@webhooks_group.command("sync")
@_channel_option
@as_json_option
def webhooks_sync(names: tuple[str, ...], as_json: bool) -> None:
    """Subscribe to what is missing and switch on what is off, with every channel's platform.

    \b
    Examples:
      invsync webhooks sync
      invsync webhooks sync --channel woo_main
    """
    _run(names, as_json, mend=True)


@webhooks_group.command("list")
@_channel_option
@as_json_option
def webhooks_list(names: tuple[str, ...], as_json: bool) -> None:
    """What is subscribed to, as the platforms say; changes nothing.

    \b
    Examples:
      invsync webhooks list
    """
    _run(names, as_json, mend=False)


def _run(names: tuple[str, ...], as_json: bool, *, mend: bool) -> None:
    with workspace() as ws:
        usable = [channel for channel in ws.configuration.channels if not channel.disabled_reason]
        chosen = [configured(ws, name) for name in names] or usable
        watches = [watch_subscriptions(ws, channel.name, mend=mend) for channel in chosen]
    if as_json:
        print_json([asdict(watch) for watch in watches])
    else:
        _show(watches)
    if any(watch.problems for watch in watches):
        click.get_current_context().exit(NOT_AS_HOPED)


def _show(watches: list[Watch]) -> None:
    rows = [
        (watch.channel, one.topic, one.found, one.done, one.problem) for watch in watches for one in watch.topics
    ]  # fmt: skip
    if rows:
        print_table("Webhooks", ("channel", "kind", "found", "done", "problem"), rows)
    for watch in watches:
        if watch.topics:
            at = f" at {watch.address}" if watch.address else ""
            click.echo(f"{watch.channel}: {watch.active} of {len(watch.topics)} active{at}")
        elif watch.unwatched:
            click.echo(f"{watch.channel}: {watch.unwatched}")
        if watch.problem:
            click.echo(f"! {watch.channel}: {watch.problem}")
