"""What an inventory file says of itself, by the caller or a sidecar: basis, as-of time, contained orders, lag."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, select

from invsync_dagster.inventory.counts import Basis
from invsync_dagster.inventory.imports.keeping import name_of
from invsync_dagster.inventory.imports.kinds import Kind
from invsync_dagster.inventory.imports.refusals import FileError
from invsync_dagster.inventory.tables import channels
from invsync_dagster.yaml_lines import Document, UnreadableError, read_yaml

BASES: tuple[Basis, ...] = ("on_hand", "available")
MARKS = (".", ",")
ENCODINGS = ("utf-8", "windows-1252", "gb18030", "gbk", "shift_jis")
ALL_LOCATIONS = "all"
KEYS = ("basis", "as_of", "contains", "lag_seconds", "kind", "encoding", "decimal_mark", "locations")


@dataclass(frozen=True, slots=True)
class Declaration:
    """How to understand an inventory file; what isn't declared comes from its kind.

    `basis`: `on_hand` (units on the shelf), or `available` (open orders of the channels in `contains` taken off); ""
    before the kind is known. `as_of`: when the source counted, aware; None: the file's own time. `contains`: names of the
    channels whose orders the source has already booked; None: those of its kind. `lag_seconds`: how late it books them.

    `kind` decides where a header fits two kinds. `encoding`, `decimal_mark`: those of the text, where the file doesn't
    tell. `locations`: the places of an export that are counted together, or `all`.
    """

    basis: Basis | Literal[""] = ""
    as_of: datetime | None = None
    contains: tuple[str, ...] | None = None
    lag_seconds: float | None = None
    kind: str = ""
    encoding: str = ""
    decimal_mark: str = ""
    locations: tuple[str, ...] = ()

    def over(self, other: Declaration) -> Declaration:
        """What this one declares, key by key, and where it declares nothing, what `other` does."""
        said = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(other, **{one.name: said[one.name] for one in fields(self) if said[one.name] != one.default})

    def in_words(self) -> str:
        """What the quantities are, of a declaration that is settled."""
        what = "units on hand" if self.basis == "on_hand" else "units available"
        when = f" as of {self.as_of.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if self.as_of else ""
        return f"counts {what}{when}; orders already in it: {', '.join(self.contains or ()) or 'none'}"

    def to_dict(self) -> dict[str, Any]:
        as_of = self.as_of.astimezone(UTC).isoformat() if self.as_of else None
        return {
            "basis": self.basis,
            "as_of": as_of,
            "contains": None if self.contains is None else list(self.contains),
            "lag_seconds": self.lag_seconds,
            "kind": self.kind,
            "encoding": self.encoding,
            "decimal_mark": self.decimal_mark,
            "locations": list(self.locations),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Declaration:
        """Rebuild what `to_dict` gave."""
        given = dict(values)
        given["as_of"] = datetime.fromisoformat(values["as_of"]) if values["as_of"] else None
        given["contains"] = None if values["contains"] is None else tuple(values["contains"])
        given["locations"] = tuple(values.get("locations", ()))
        return cls(**given)


def sidecar_of(path: Path) -> Path:
    """The file beside an import that declares it: `stock.csv` -> `stock.csv.yaml`."""
    return path.with_name(path.name + ".yaml")


def read_sidecar(path: Path) -> Declaration:
    """Read the declaration beside `path`, or the default where there is none. Raises `FileError` with key and mend."""
    name_of(path)  # names that are made of it must be possible
    sidecar = sidecar_of(path)
    if not sidecar.exists():
        return Declaration()
    keys = f"give the keys {', '.join(KEYS)}"
    try:
        document = read_yaml(sidecar.read_bytes())
    except OSError as error:
        raise FileError(
            sidecar.name, f"the file can't be read ({error.strerror})", "check that it is readable"
        ) from error
    except UnreadableError as error:
        raise FileError(sidecar.name, f"the file is no YAML ({error})", keys, line=error.line) from error
    if not isinstance(document.value, dict):
        raise FileError(sidecar.name, "the file is no list of keys", keys, line=1)
    for place, fault in document.faults.items():
        raise FileError(sidecar.name, fault, "write each key once, with one value", line=document.line(place))
    return _checked(sidecar.name, document.value, document)


def _checked(name: str, values: dict[Any, Any], document: Document) -> Declaration:
    def error(key: str, reason: str, mend: str) -> FileError:
        return FileError(name, reason, mend, line=document.line((key,)), column=key)

    for key in values:
        if key not in KEYS:
            raise error(str(key), "unknown key", f"known keys: {', '.join(KEYS)}")
    basis = values.get("basis", "")
    if "basis" in values and basis not in BASES:
        raise error("basis", f"unknown basis '{basis}'", f"write {' or '.join(BASES)}")
    as_of = values.get("as_of")
    if "as_of" in values and not (isinstance(as_of, datetime) and as_of.tzinfo):
        raise error(
            "as_of", "this is no time with a time zone", "write it as 2026-07-01T06:00:00+00:00, without quotes"
        )
    contains = values.get("contains")
    if "contains" in values and not _texts(contains):
        raise error("contains", "this is no list of channel names", "write it as [shopify_main, erp_main]")
    lag = values.get("lag_seconds")
    if "lag_seconds" in values and (
        isinstance(lag, bool) or not isinstance(lag, int | float) or not 0 <= lag < float("inf")
    ):
        raise error("lag_seconds", "this is no number of seconds", "write 0 or more")
    mark, encoding, kind = values.get("decimal_mark", ""), values.get("encoding", ""), values.get("kind", "")
    if "decimal_mark" in values and mark not in MARKS:
        raise error("decimal_mark", "this is no decimal mark", 'write "." or ","')
    if "encoding" in values and encoding not in ENCODINGS:
        raise error("encoding", f"unknown encoding '{encoding}'", f"write one of: {', '.join(ENCODINGS)}")
    if not isinstance(kind, str):
        raise error("kind", "this is no name of a kind", "write a name, as the preview shows it")
    locations = values.get("locations", [])
    if locations == ALL_LOCATIONS:
        locations = [ALL_LOCATIONS]
    if not _texts(locations) or ("locations" in values and not locations):
        raise error("locations", "this is no list of locations", 'write all, or ["Main warehouse"]')
    return Declaration(
        basis=basis,
        as_of=as_of,
        contains=None if contains is None else tuple(contains),
        lag_seconds=None if lag is None else float(lag),
        kind=kind,
        encoding=encoding,
        decimal_mark=mark,
        locations=tuple(locations),
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def settle(connection: Connection, name: str, declaration: Declaration, export: Kind | None) -> Declaration:
    """Fill in from the kind of the file (None: one of ours) what its declaration leaves open. Raises `FileError`.

    An export of a platform contains the orders of the channel that it comes from; where there are several, nobody but its
    owner knows of which.
    """
    contains = declaration.contains
    if contains is None and export is not None:
        contains = export.contains
        if contains is None:
            column = channels.c
            query = select(column.name).where(column.platform == export.platform, column.status != "retired")
            contains = tuple(connection.execute(query.order_by(column.name)).scalars())
            if len(contains) > 1:
                raise FileError(
                    name,
                    f"{export.title} may be of {' or '.join(contains)}",
                    f"declare which, as contains: [{contains[0]}] in {name}.yaml or --contains {contains[0]}",
                )
    lag = declaration.lag_seconds
    return replace(
        declaration,
        basis=declaration.basis or (export.basis if export else "on_hand"),
        contains=contains or (),
        lag_seconds=(export.lag_seconds if export else 0.0) if lag is None else lag,
    )
