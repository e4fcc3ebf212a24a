"""The `invsync` command: what people look at and decide in a terminal, in words, or with --json as data.

Exit codes: 0 done; 1 done but not as hoped (an import was held, a channel failed); 2 it could not be done, then one
line says why and what to do.
"""

from __future__ import annotations

import click

from invsync_dagster.cli.alerting import alerts_group
from invsync_dagster.cli.channels import channels_group
from invsync_dagster.cli.common import Commands
from invsync_dagster.cli.discovering import discover_command
from invsync_dagster.cli.exporting import export_command
from invsync_dagster.cli.holding import held_group
from invsync_dagster.cli.importing import import_command, imports_group
from invsync_dagster.cli.inbox import audit_command, inbox_group
from invsync_dagster.cli.keeping import move_database_command, upgrade_command
from invsync_dagster.cli.listing import listings_group
from invsync_dagster.cli.pushing import approve_command, preview_command, sync_command
from invsync_dagster.cli.restoring import restore_command
from invsync_dagster.cli.ruling import rules_group
from invsync_dagster.cli.seeing import explain_command, status_command
from invsync_dagster.cli.webhooks import webhooks_group


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """One central stock that keeps every shop in step."""


for command in (
    status_command,
    explain_command,
    import_command,
    imports_group,
    sync_command,
    preview_command,
    approve_command,
    discover_command,
    held_group,
    rules_group,
    listings_group,
    channels_group,
    inbox_group,
    audit_command,
    export_command,
    alerts_group,
    webhooks_group,
    restore_command,
    upgrade_command,
    move_database_command,
):
    main.add_command(command)
