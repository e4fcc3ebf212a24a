"""JSON bodies and their fields, read the same way for all platforms: what isn't of the form asked for is named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery

# Names of fields, each with the fields below it; None for a plain value.
Tree = Mapping[str, "Tree | None"]


def only(value: Any, tree: Tree | None) -> Any:
    """Return of a JSON value the fields that `tree` names and nothing else; a list's entries one by one.

    What isn't of the tree's form becomes None: a text in the place of an object may be anything.
    """
    if tree is None:
        return value if isinstance(value, str | int | float) else None
    if isinstance(value, list):
        return [_only_of(each, tree) for each in value]
    return _only_of(value, tree)


def _only_of(value: Any, tree: Tree) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    return {name: only(value[name], below) for name, below in tree.items() if name in value}


def json_in(body: bytes) -> Any:
    """Return what a body holds, None if it isn't JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def object_in(body: bytes) -> Mapping[str, Any]:
    """Return the object that a webhook's body is. Raises `NotUnderstoodError`."""
    payload = json_in(body)
    if not isinstance(payload, dict):
        raise NotUnderstoodError("the body is not a JSON object")
    return payload


@contextmanager
def understanding() -> Iterator[None]:
    """Turn an answer of the wrong shape into the failure of its call; only reads are parsed under it."""
    try:
        yield
    except NotUnderstoodError as error:
        raise PlatformError(Recovery.RETRY, "malformed_answer", f"not what we asked for: {error}") from error


def text(item: Mapping[str, Any], name: str) -> str:
    """Return a text. Raises `NotUnderstoodError` if it is missing or empty."""
    value = item.get(name)
    if not isinstance(value, str) or not value:
        raise NotUnderstoodError(f"{name} is missing or not a text")
    return value


def topic(value: Any, where: str) -> str:
    """Return what a platform calls an event. Raises `NotUnderstoodError` for what isn't such a name: it is written into the
    inbox, the database and the log before anything else of a webhook is read."""
    if not isinstance(value, str) or not 1 <= len(value) <= 100 or not value.isprintable():
        raise NotUnderstoodError(f"{where} is missing or not the name of an event")
    return value


def moment(item: Mapping[str, Any], name: str) -> datetime:
    """Return a time in UTC, which one without a zone is in. Raises `NotUnderstoodError`."""
    try:
        value = datetime.fromisoformat(text(item, name))
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise NotUnderstoodError(f"{name} is not a time") from None


def identity(item: Mapping[str, Any], name: str) -> str:
    """Return an id of digits as text; ids exceed 2**53, so one that was read as a float is refused. Raises
    `NotUnderstoodError`."""
    value = item.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return str(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return value
    raise NotUnderstoodError(f"{name} is not an id")


def mapping(item: Mapping[str, Any], name: str, *, optional: bool = False) -> Mapping[str, Any]:
    """Return an object. Raises `NotUnderstoodError` if it is missing and not `optional`."""
    value = item.get(name)
    if value is None and optional:
        return {}
    if not isinstance(value, dict):
        raise NotUnderstoodError(f"{name} is missing or not an object")
    return value


def objects(item: Mapping[str, Any], name: str, *, optional: bool = False) -> Sequence[Mapping[str, Any]]:
    """Return a list of objects. Raises `NotUnderstoodError` if it is missing and not `optional`."""
    value = item.get(name)
    if value is None and optional:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise NotUnderstoodError(f"{name} is not a list of objects")
    return value
