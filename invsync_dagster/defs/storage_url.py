"""The URL of Dagster's own database, as the environment names it. Imports no Dagster: set-up and upgrade look at it first."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import URL

from invsync_dagster.inventory.database_url import DatabaseUrlError, parse_url

VARIABLE = "INVSYNC_DAGSTER_DATABASE_URL"


# How this machine is called.
_HERE = ("localhost", "127.0.0.1", "::1")


def dagster_database_url(environ: Mapping[str, str]) -> str | None:
    """Return the URL of Dagster's own database, None for SQLite.

    dagster-postgres speaks psycopg2 only, and SQLAlchemy reads a plain `postgresql://` as psycopg 3, with which every
    event fails: so the driver is set here. Raises `DatabaseUrlError`, also for the stock's own database: both sides
    would keep their migrations in the same table there.
    """
    asked = environ.get(VARIABLE)
    if not asked:
        return None
    url = parse_url(asked, VARIABLE)
    if url.get_backend_name() != "postgresql":
        raise DatabaseUrlError(f"{VARIABLE} must name a PostgreSQL database; unset it for SQLite")
    if stock := environ.get("INVSYNC_DATABASE_URL"):
        other = parse_url(stock, "INVSYNC_DATABASE_URL")
        if _place(url) == _place(other):
            raise DatabaseUrlError(
                f"{VARIABLE} names the database of the stock; Dagster needs one of its own beside it"
            )
    return url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


def _place(url: URL) -> tuple[str, int, str | None]:
    """Return what tells two databases apart, however they are written: 5432 is the port that a URL without one means, and
    options make no other database."""
    host = (url.host or "").lower()
    return _HERE[0] if host in _HERE else host, url.port or 5432, url.database
