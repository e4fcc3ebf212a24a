"""Whose stock this is: the id of the installation. A copy in a backup has none, so that nobody works on it unrestored."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from invsync_dagster.inventory.tables import installation


class NotRestoredError(Exception):
    """The database is a backup's copy, or a restore of it broke off: what the shops show since then is not known."""


def installation_of(connection: Connection) -> str | None:
    """Return the id; None where the database is a backup's copy."""
    return connection.execute(select(installation.c.id)).scalar_one_or_none()


def name_installation(connection: Connection, name: str) -> None:
    """Give the database the id `name`, whatever it has."""
    connection.execute(delete(installation))
    connection.execute(insert(installation).values(id=name))


def required_installation(connection: Connection) -> str:
    """Return the id of a stock that may be worked on. Raises `NotRestoredError`."""
    name = installation_of(connection)
    if name is None:
        raise NotRestoredError(
            "the stock's database comes from a backup whose restore was not ended, so that nothing is known of what the shops"
            " show since; run `invsync restore` with that backup (docs/backup.md)"
        )
    return name
