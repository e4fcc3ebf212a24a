"""`invsync upgrade`, `move-database`: what is done to the databases while everything else is stopped."""

from __future__ import annotations

import os

import click
from sqlalchemy import make_url

from invsync_dagster.backups.sealing import BackupKeys
from invsync_dagster.backups.taking import take
from invsync_dagster.cli.common import RefusedError, gone
from invsync_dagster.clock import SystemClock
from invsync_dagster.defs.storage_url import dagster_database_url
from invsync_dagster.environment import Environment, read_env_file
from invsync_dagster.inventory.copies import BackupError, in_use, is_bare
from invsync_dagster.inventory.database import DatabaseGoneError, migrate, open_database
from invsync_dagster.inventory.database_url import parse_url
from invsync_dagster.inventory.moving import MovingError, move_stock
from invsync_dagster.inventory.schema import is_older, require_schema
from invsync_dagster.settings import Home
from invsync_dagster.setup import DagsterStorageError, initialise_dagster, make_folders_and_tables


@click.command("upgrade")
@click.option("--no-backup", is_flag=True, help="The database server is backed up by other means.")
def upgrade_command(no_backup: bool) -> None:
    """Bring the stock's database, backed up if it has to be changed, and Dagster's storage to this version.

    Stop all services first.

    \b
    Examples:
      invsync upgrade
    """
    home = Home.from_environment()
    environ = {**read_env_file(home.root), **os.environ}
    url = parse_url(home.database_url)
    dagster_database_url(Environment(environ))  # before anything is made: one that is the stock's is refused
    bare = is_bare(home.database_url)
    older = not bare and is_older(home.database_url)
    if older and not no_backup:
        try:
            backup = take(home, BackupKeys.from_environment(Environment(os.environ)), SystemClock().now())
        except BackupError as error:
            raise RefusedError(f"nothing was changed, since there is no backup: {error}") from error
        click.echo(f"backup: {backup.path} ({backup.manifest.size_bytes:,} bytes)")
    make_folders_and_tables(home)
    click.echo(f"stock: {'made' if bare else 'migrated' if older else 'up to date'} in {url.render_as_string()}")
    try:
        done = initialise_dagster(home, environ)
    except DagsterStorageError as error:
        raise RefusedError(str(error)) from error
    click.echo(f"Dagster's storage: {'migrated' if done else 'up to date'}")


@click.command("move-database")
@click.option(
    "--to",
    "variable",
    default="INVSYNC_NEW_DATABASE_URL",
    show_default=True,
    help="The environment variable with the URL of the new database.",
)
def move_database_command(variable: str) -> None:
    """Copy the whole stock into a new, empty database. Stop all services first; the old database isn't changed.

    \b
    Examples:
      INVSYNC_NEW_DATABASE_URL=postgresql://invsync@127.0.0.1/invsync invsync move-database
    """
    home = Home.from_environment()
    wanted = Environment(os.environ).get(variable)
    if not wanted:
        raise RefusedError(f"{variable} is not set; give it the URL of the new database")
    parse_url(wanted, variable)
    require_schema(home.database_url)
    if used := in_use(home.database_url):
        raise RefusedError(f"{used}: what is sold meanwhile would not come along; stop all services, and move again")
    try:
        source, target = open_database(home.database_url), open_database(wanted, make=True)
        try:
            try:
                migrate(target)
            except DatabaseGoneError as error:
                raise RefusedError(gone(error, variable)) from error
            rows = move_stock(source, target, lambda table, count: click.echo(f"{table}: {count:,} rows"))
        finally:
            source.dispose()
            target.dispose()
    except (MovingError, OSError) as error:
        raise RefusedError(str(error)) from error
    where = make_url(wanted).render_as_string()
    click.echo(f"{rows:,} rows are in {where}; let INVSYNC_DATABASE_URL be what {variable} is")
