"""SKUs that mean the same to a person: texts that differ only in case, spaces, dashes or leading zeros."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from sqlalchemy import Connection, select

from invsync_dagster.inventory.tables import central_inventory

# Dashes of all kinds (those of Unicode's category Pd, the minus sign and the underscore) and spaces.
_PARTING = re.compile(r"[\s_\-\u00ad\u058a\u05be\u2010-\u2015\u2212\u2e3a\u2e3b\u301c\u3030\ufe58\ufe63\uff0d]+")

ROWS_AT_ONCE = 10_000
MOST_CANDIDATES = 3  # of one text; more than one is for a person anyway


def _without_parting(text: str) -> str:
    return _PARTING.sub("", text)


def _without_zeros(text: str) -> str:
    return text.lstrip("0") or text[:1]


def _visible(text: str) -> str:
    return "".join(one for one in text if unicodedata.category(one) != "Cf")


_STEPS = {"case": str.casefold, "spaces or dashes": _without_parting, "leading zeros": _without_zeros}


def normalised(sku: str, *, but: str = "") -> str:
    """Return what is left of a SKU without case, spaces, dashes, leading zeros and what nobody sees; "" if that is all.

    `but` names a step that is left out.
    """
    text = sku if sku.isascii() else _visible(unicodedata.normalize("NFKC", sku))
    for name, step in _STEPS.items():
        if name != but:
            text = step(text)
    return text


def difference(left: str, right: str) -> str:
    """Say in words in what two SKUs of one normalised text differ: in each step without which they wouldn't be equal."""
    needed = [name for name in _STEPS if normalised(left, but=name) != normalised(right, but=name)]
    return ", ".join(needed) or "the form of its characters"


def candidates(connection: Connection, keys: Collection[str]) -> dict[str, list[str]]:
    """Return for normalised texts the SKUs of the stock that have them, the first few each; one pass over the stock."""
    found: dict[str, list[str]] = {}
    if not keys:
        return found
    wanted = frozenset(keys)
    query = select(central_inventory.c.sku).order_by(central_inventory.c.sku)
    for sku in connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query).scalars():
        key = normalised(sku)
        if key in wanted and len(known := found.setdefault(key, [])) < MOST_CANDIDATES:
            known.append(sku)
    return found
