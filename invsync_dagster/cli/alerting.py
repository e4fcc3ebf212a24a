"""`invsync alerts`: what is wrong now, and whether the messengers can be reached."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import click

from invsync_dagster.alerts.book import Alert, book, untold
from invsync_dagster.alerts.sending import Message, Tone, send
from invsync_dagster.cli.common import (
    NOT_AS_HOPED,
    RefusedError,
    as_json_option,
    print_json,
    print_table,
    workspace,
)
from invsync_dagster.inventory.explanation import in_utc

LATELY = timedelta(days=7)


@click.group("alerts")
def alerts_group() -> None:
    """What people are warned of, and the messengers that they are told by."""


@alerts_group.command("list")
@click.option("--lately", is_flag=True, help="Also those that were over in the last seven days.")
@as_json_option
def alerts_list(lately: bool, as_json: bool) -> None:
    """The open alerts, and what a messenger hasn't taken yet.

    \b
    Examples:
      invsync alerts list
      invsync alerts list --lately
    """
    with workspace() as ws, ws.engine.connect() as connection:
        found = book(connection, ws.clock.now() - LATELY if lately else None)
        waiting = untold(connection)
    if as_json:
        print_json({"alerts": [_plain(alert) for alert in found], "untold": waiting})
        return
    if not found:
        click.echo("no open alert" if not lately else "no alert in the last seven days")
    for alert in found:
        over = f", over since {in_utc(alert.recovered_at)}" if alert.recovered_at else ""
        click.echo(f"{alert.severity} since {in_utc(alert.since)}{over}: {alert.title}\n  {alert.message}")
    for target, (notices, why) in waiting.items():
        click.echo(f"! {target}: {notices} not told yet{f', last answer: {why}' if why else ''}")


@alerts_group.command("test")
@as_json_option
def alerts_test(as_json: bool) -> None:
    """Send a test message to each target of `alerts` in channels.yaml.

    \b
    Examples:
      invsync alerts test
    """
    with workspace() as ws:
        targets = list(dict.fromkeys(target.url_env for target in ws.configuration.settings.alerts))
        environ = ws.environ
    if not targets:
        raise RefusedError("channels.yaml names no target under settings: alerts; docs/alerts.md shows how")
    message = Message("invsync: test", "A test by `invsync alerts test`: alerts reach you here.", Tone.INFO)
    answers = {
        target: send(environ[target], message) if environ.get(target) else "the variable is not set: set it in .env"
        for target in targets
    }
    if as_json:
        print_json({target: {"taken": not why, "answer": why} for target, why in answers.items()})
    else:
        print_table(
            "Test message", ("target", "outcome"), [(target, why or "taken") for target, why in answers.items()]
        )
    if any(answers.values()):
        click.get_current_context().exit(NOT_AS_HOPED)


def _plain(alert: Alert) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(alert).items()}
