"""`invsync restore`: what a backup holds, and the backup brought back into an empty home."""

from __future__ import annotations

import os
from pathlib import Path

import click

from invsync_dagster.backups.manifest import Manifest
from invsync_dagster.backups.restoring import Restoring
from invsync_dagster.backups.sealing import BackupKeys
from invsync_dagster.cli.common import NOT_AS_HOPED, run_id, user, workspace
from invsync_dagster.clock import SystemClock, age_in_words
from invsync_dagster.environment import Environment
from invsync_dagster.inventory.audit import audit
from invsync_dagster.inventory.database_url import parse_url
from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import apply_inbox

# Reasons and differences that the terminal shows.
SHOWN = 20


@click.command("restore")
@click.argument("backup", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--inbox",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="An inbox that survived elsewhere: its deliveries are taken in too (that of this home always is).",
)
@click.option("--preview", is_flag=True, help="Say what the backup holds, and whether it could be restored here.")
@click.option("--actor", default=user, show_default="your user name", help="Who restores.")
def restore_command(backup: Path, inbox: Path | None, preview: bool, actor: str) -> None:
    """Bring a BACKUP (a folder of data/backups/) back into an empty home, and apply the deliveries since.

    Stop all services but the receiver first. Afterwards every level is uncertain: it is read before anything is raised.

    \b
    Examples:
      invsync restore data/backups/invsync-20261121T020000Z --preview
      invsync restore data/backups/invsync-20261121T020000Z
    """
    home, now = Home.from_environment(), SystemClock().now()
    environ = Environment(os.environ)
    keys = BackupKeys.from_environment(environ)
    restoring = Restoring(home, backup, keys, environ, actor, now, inbox)
    manifest = restoring.checked()
    _show(backup, manifest, age_in_words((now - manifest.taken_at).total_seconds()))
    if preview:
        click.echo("nothing was changed; without --preview it is restored here")
        return
    restored = restoring.restore()
    where = parse_url(home.database_url).render_as_string()
    click.echo(f"restored: {where}; {restored.levels:,} levels are uncertain, and are read before they are raised")
    click.echo(f"inbox: {restored.inbox.waiting:,} segments since then to be applied, {restored.inbox.kept:,} kept")
    with workspace() as ws:
        report = apply_inbox(ws, run_id=run_id())
        with ws.engine.connect() as connection:
            differences = audit(connection)
    click.echo(
        f"applied: {report.deliveries:,} deliveries, {report.duplicates:,} of them known to the backup; "
        f"{report.entries:,} ledger entries of {report.skus:,} SKUs came of it, {report.quarantined:,} could not be applied"
    )
    for reason in sorted(set(report.reasons))[:SHOWN]:
        click.echo(f"! {reason}")
    click.echo(f"books: {len(differences)} differences")
    for one in differences[:SHOWN]:
        click.echo(f"! {one.sku} {one.subject} {one.what}: {one.stored}, and {one.proven} is proven")
    click.echo(
        "next: start the services; the first cycle lists the orders since the backup, and a full run compares every listing"
    )
    if differences or report.quarantined:
        click.get_current_context().exit(NOT_AS_HOPED)


def _show(backup: Path, manifest: Manifest, age: str) -> None:
    sealed = f"sealed with the key {manifest.key}" if manifest.key else "not sealed"
    click.echo(
        f"backup: {backup.name} of {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC ({age} ago), "
        f"{manifest.size_bytes / 1e6:,.1f} MB, {sealed}"
    )
    click.echo(f"installation: {manifest.installation}, on {manifest.database}, schema {manifest.schema_revision}")
    click.echo(
        f"stock: {manifest.skus:,} SKUs, {manifest.levels:,} levels, the ledger up to entry {manifest.sequence:,}"
    )
    channels = ", ".join(f"{one.name} ({one.platform}, {one.environment})" for one in manifest.channels)
    click.echo(f"channels: {channels or 'none'}")
    click.echo(
        f"inbox: {manifest.segments:,} segments of {len(manifest.days)} days, {manifest.quarantined:,} files in quarantine"
    )
