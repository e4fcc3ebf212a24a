"""`invsync status` and `invsync explain`: how things stand, and why."""

from __future__ import annotations

import click

from invsync_dagster.cli.common import CHANNEL, as_json_option, moment, print_json, print_table, workspace
from invsync_dagster.clock import age_in_words
from invsync_dagster.inventory.past import explain_at
from invsync_dagster.inventory.status import COLUMNS, status
from invsync_dagster.sync.hearing import LONGEST_WAIT, oldest_waiting
from invsync_dagster.sync.quarantined import in_quarantine


@click.command("status")
@as_json_option
def status_command(as_json: bool) -> None:
    """How things stand: what is in step per channel, and what waits for a person.

    \b
    Examples:
      invsync status
      invsync status --json
    """
    with workspace() as ws:
        with ws.engine.connect() as connection:
            found = status(connection, ws.clock.now(), in_quarantine(ws).deliveries)
        problems = list(ws.configuration.problems)
        waiting = oldest_waiting(ws.home.inbox, ws.clock.now())
    seconds = waiting.total_seconds() if waiting is not None else None
    if as_json:
        print_json({**found.to_dict(), "configuration_problems": problems, "oldest_delivery_seconds": seconds})
        return
    print_table("Channels (listings)", COLUMNS, found.rows())
    click.echo(
        f"{found.skus} SKUs ({found.inactive} inactive), {found.units} units on hand, {found.reserved} reserved; "
        f"{found.out_of_step} listings out of step; ledger at {found.ledger_sequence}"
    )
    if waiting is not None and waiting > LONGEST_WAIT:
        problems.append(
            f"a delivery has waited in the inbox for {age_in_words(seconds)}: is the daemon running, is the inbox sensor on?"
        )
    for line in [*problems, *found.notes()]:
        click.echo(f"! {line}")


@click.command("explain")
@click.argument("sku")
@click.option("--channel", type=CHANNEL, help="One channel alone.")
@click.option("--at", help="A past moment, with the time zone: 2026-07-01T06:00:00+00:00 (else: now).")
@as_json_option
def explain_command(sku: str, channel: str | None, at: str | None, as_json: bool) -> None:
    """Why each channel shows what it shows for SKU, or showed it: reading, answer, attempt, rules, ledger, delivery.

    \b
    Examples:
      invsync explain OCT00-SAN-S
      invsync explain OCT00-SAN-S --channel shopify_main --at 2026-07-01T06:00:00+02:00
    """
    then = None if at is None else moment("--at", at)
    with workspace() as ws, ws.engine.connect() as connection:
        explanation = explain_at(connection, sku, then, channel)
    if as_json:
        print_json(explanation.to_dict())
    else:
        click.echo(explanation.render())
