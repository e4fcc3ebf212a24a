"""`invsync listings`: a SKU's listings paused and resumed, on every channel or on one."""

from __future__ import annotations

import click
from sqlalchemy import Connection, select

from invsync_dagster.cli.common import CHANNEL, RefusedError, decided, workspace
from invsync_dagster.inventory import listings
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.explain import explain
from invsync_dagster.inventory.tables import platform_mapping


@click.group("listings")
def listings_group() -> None:
    """Listings of SKUs: paused and resumed."""


@listings_group.command("pause")
@click.argument("skus", nargs=-1, required=True, metavar="SKU…")
@click.option("--channel", type=CHANNEL, help="On this channel alone.")
@decided
def listings_pause(skus: tuple[str, ...], channel: str | None, actor: str, reason: str) -> None:
    """Stop pushing SKU, and leave the numbers that channels show as they are; its sales still count.

    \b
    Examples:
      invsync listings pause OCT00-SAN-S --reason "recalled"
      invsync listings pause OCT00-SAN-S --channel amazon_eu --reason "price error there"
    """
    _change(skus, channel, "active", "paused", actor, reason)


@listings_group.command("resume")
@click.argument("skus", nargs=-1, required=True, metavar="SKU…")
@click.option("--channel", type=CHANNEL, help="On this channel alone.")
@decided
def listings_resume(skus: tuple[str, ...], channel: str | None, actor: str, reason: str) -> None:
    """Push SKU again where it is paused; what a channel shows is read before it is written.

    \b
    Examples:
      invsync listings resume OCT00-SAN-S --reason "checked"
    """
    _change(skus, channel, "paused", "active", actor, reason)


def _change(
    skus: tuple[str, ...], channel: str | None, before: str, status: listings.Status, actor: str, reason: str
) -> None:
    with workspace() as ws, write_transaction(ws.engine) as connection:
        ids = [listing for sku in dict.fromkeys(skus) for listing in _of(connection, sku, channel, before)]
        changed = listings.set_status(connection, ids, status, actor=actor, reason=reason, now=ws.clock.now())
    click.echo(f"{changed} listings: {status}")


def _of(connection: Connection, sku: str, channel: str | None, status: str) -> list[int]:
    """Return a SKU's listings of a status. Raises `RefusedError` where it has none, `UnknownError` naming near SKUs."""
    listing = platform_mapping.c
    query = select(listing.id).where(listing.central_sku == sku, listing.status == status)
    if channel is not None:
        query = query.where(listing.platform_name == channel)
    ids = list(connection.execute(query).scalars())
    if not ids:
        explain(connection, sku, channel)
        raise RefusedError(f"{sku} has no listing that is {status}" + (f" on {channel!r}" if channel else ""))
    return ids
