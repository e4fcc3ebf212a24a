"""What the columns of all tables are made of: the names of constraints, exact texts, identities, and UTC times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy
from sqlalchemy import BigInteger, DateTime, Dialect, Integer, MetaData
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Texts compare by their code points on both databases; a server's own collation may follow its country, in which "A-1" and
# "a1" stand side by side.
Text = sqlalchemy.Text().with_variant(sqlalchemy.Text(collation="C"), "postgresql")

# SQLite's rowid alias must be spelled INTEGER; PostgreSQL needs 64 bits.
Identity = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; naive values are refused, since nobody could say which moment they mean."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        return _to_sqlite if dialect.name == "sqlite" else _to_utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return _from_sqlite if dialect.name == "sqlite" else _to_utc


def _to_utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"a time without a time zone can't be stored: {value.isoformat()}")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _to_sqlite(value: datetime | None) -> str | None:
    if value is not None and value.tzinfo is UTC:
        return _text_of_utc(value)
    utc = _to_utc(value)
    return None if utc is None else _text_of_utc(utc)


# The text that SQLAlchemy's own type stores. Made once for the several places of a time: a ledger entry has three times, and
# its order line and delivery repeat them. Only for UTC: elsewhere equal times can be an hour apart (end of summer time).
@lru_cache(maxsize=32_768)
def _text_of_utc(value: datetime) -> str:
    return value.isoformat(" ", "microseconds").removesuffix("+00:00")


def _from_sqlite(value: str | None) -> datetime | None:
    return None if value is None else _utc_of_text(value)


# The counts of one file have one time, and a ledger entry repeats that of its delivery.
@lru_cache(maxsize=32_768)
def _utc_of_text(value: str) -> datetime:
    return datetime.fromisoformat(value).replace(tzinfo=UTC)
