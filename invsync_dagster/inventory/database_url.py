"""Reads the URL of a database: SQLite's file, or PostgreSQL through psycopg 3, whatever its scheme says."""

from __future__ import annotations

from importlib.util import find_spec

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError


class DatabaseUrlError(ValueError):
    """A database URL that can't be used; the text never holds the URL, which may hold a password."""


def parse_url(url: str, name: str = "the database URL") -> URL:
    """Return the URL of the stock's database, or of the one that errors are to call `name`, as it is opened.

    `sqlite:///path` stays as it is. `postgres://`, `postgresql://` and `postgresql+<any driver>://` all mean PostgreSQL
    through psycopg 3, so that one spelling serves every tool. Raises `DatabaseUrlError`.
    """
    try:
        parsed = make_url(url)
        backend = "postgresql" if parsed.drivername == "postgres" else parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise DatabaseUrlError(
            f"{name} can't be read; write sqlite:///path or postgresql://user:password@host:port/database,"
            " with %40 for an @ in the password"
        ) from None
    if backend == "sqlite":
        return parsed
    if backend != "postgresql":
        raise DatabaseUrlError(f"{name} names {backend!r}; the stock is kept in sqlite or postgresql")
    # Of a password with an @ the rest would be taken for a part of the host's name, which errors tell.
    if url.count("@") > (0 if parsed.username is None else 1) or "#" in (parsed.host or ""):
        raise DatabaseUrlError(
            f"{name} has an @ or a # that isn't where one belongs: write %40 for each @ in the user's name, the password or an "
            "option, and %23 for each #"
        )
    if secret := next((option for option in ("password", "sslpassword") if option in parsed.query), None):
        raise DatabaseUrlError(
            f"{name} has the option {secret}, and options are shown where a database is named: write the password as "
            "user:password@host, and name a key file that needs none"
        )
    if find_spec("psycopg") is None:
        raise DatabaseUrlError("PostgreSQL needs psycopg; install the project with its extra: pip install .[postgres]")
    return parsed.set(drivername="postgresql+psycopg")
