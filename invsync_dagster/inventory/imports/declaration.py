"""What an inventory file says of itself, by the caller or a sidecar: basis, as-of time, contained orders, lag."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from invsync_dagster.inventory.counts import Basis
from invsync_dagster.inventory.imports.reading import FileError
from invsync_dagster.yaml_lines import Document, UnreadableError, read_yaml

BASES: tuple[Basis, ...] = ("on_hand", "available")
KEYS = ("basis", "as_of", "contains", "lag_seconds")


@dataclass(frozen=True, slots=True)
class Declaration:
    """How to understand the quantities of an inventory file.

    `basis`: `on_hand` (units on the shelf), or `available` (open orders of the channels in `contains` taken off).
    `as_of`: when the source counted, aware; None: the file's own time. `contains`: names of the channels whose orders
    the source has already booked. `lag_seconds`: how late it books them.
    """

    basis: Basis = "on_hand"
    as_of: datetime | None = None
    contains: tuple[str, ...] = field(default=())
    lag_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        as_of = self.as_of.astimezone(UTC).isoformat() if self.as_of else None
        return {"basis": self.basis, "as_of": as_of, "contains": list(self.contains), "lag_seconds": self.lag_seconds}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Declaration:
        """Rebuild what `to_dict` gave."""
        as_of = datetime.fromisoformat(values["as_of"]) if values["as_of"] else None
        return cls(values["basis"], as_of, tuple(values["contains"]), float(values["lag_seconds"]))


def sidecar_of(path: Path) -> Path:
    """The file beside an import that declares it: `stock.csv` -> `stock.csv.yaml`."""
    return path.with_name(path.name + ".yaml")


def read_sidecar(path: Path) -> Declaration:
    """Read the declaration beside `path`, or the default where there is none. Raises `FileError` with key and mend."""
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
    basis = values.get("basis", "on_hand")
    if basis not in BASES:
        raise error("basis", f"unknown basis '{basis}'", f"write {' or '.join(BASES)}")
    as_of = values.get("as_of")
    if "as_of" in values and not (isinstance(as_of, datetime) and as_of.tzinfo):
        raise error(
            "as_of", "this is no time with a time zone", "write it as 2026-07-01T06:00:00+00:00, without quotes"
        )
    contains = values.get("contains", [])
    if not isinstance(contains, list) or not all(isinstance(one, str) for one in contains):
        raise error("contains", "this is no list of channel names", "write it as [shopify_main, erp_main]")
    lag = values.get("lag_seconds", 0)
    if isinstance(lag, bool) or not isinstance(lag, int | float) or not 0 <= lag < float("inf"):
        raise error("lag_seconds", "this is no number of seconds", "write 0 or more")
    return Declaration(basis, as_of, tuple(contains), float(lag))
