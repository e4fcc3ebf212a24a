"""Of which kind of export a header is, and what is wrong with one that is nearly of a kind."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from invsync_dagster.inventory.imports.kinds import EXPORTS, WOOCOMMERCE_PRODUCTS, Kind
from invsync_dagster.inventory.imports.refusals import FileError
from invsync_dagster.inventory.imports.woocommerce_names import is_woocommerce_row

TITLE_LINES = 20  # among which a header is looked for that isn't on the first


def below_titles(name: str, line: int, first: int) -> FileError:
    """Return the refusal of a file whose header is on `line`, under other text that begins on `first`."""
    mend = "delete the lines above it: the header must be the first line"
    return FileError(name, f"its header is on line {line}, below other text", mend, line=first)


def kind_of(name: str, header: list[str], exports: Sequence[Kind], declared: str, ours: str, line: int) -> Kind | None:
    """The kind of file that a header is of; None: one of ours.

    `declared`: the kind's name, if there is a declaration; `ours`: what the file is called if all its columns are ours,
    else "". Raises `FileError` for a header of another kind than declared, of two kinds, or with a needed column twice.
    """
    if ours and declared == ours:
        return None
    kind = _declared(name, header, exports, declared, line) if declared else _shown(name, header, exports, ours, line)
    twice = kind.doubled(header) if kind else None
    if twice:
        first, second = twice
        reason = "the column is there twice" if first == second else f"'{first}' and this column say the same thing"
        raise FileError(name, reason, "keep the right one of the two", line=line, column=second)
    return kind


def _declared(name: str, header: list[str], exports: Sequence[Kind], declared: str, line: int) -> Kind:
    for kind in exports:
        if kind.name == declared and kind.fits(header):
            return kind
    known = {kind.name: kind for kind in exports}
    if declared in known:
        reason = f"it is declared as {declared}, but has not its columns"
        raise FileError(name, reason, f"known by {known[declared].looked_for()}", line=line)
    raise FileError(name, f"it is declared as an unknown kind '{declared}'", f"known: {', '.join(known)}")


def _shown(name: str, header: list[str], exports: Sequence[Kind], ours: str, line: int) -> Kind | None:
    fitting = [kind for kind in exports if kind.fits(header)]
    if ours and all(kind in EXPORTS for kind in fitting):
        return None
    if len(fitting) > 1 or (ours and fitting):
        names = [kind.name for kind in fitting] + ([ours] if ours else [])
        raise FileError(
            name,
            f"the header fits {len(names)} kinds of files: {', '.join(names)}",
            f"declare one of them, as kind: {names[0]} in {name}.yaml or --kind {names[0]}",
            line=line,
        )
    return fitting[0] if fitting else None


def refuse_begun(
    name: str, header: list[str], exports: Sequence[Kind], ours: Collection[str], row: Sequence[str], line: int
) -> None:
    """Raise `FileError` for a header of no kind that lacks columns of an export, `row` being the first row under it.

    It is an export that lacks some if it has at least half of the columns that the kind is known by, two or more, and one
    that isn't among `ours`; or if the row shows WooCommerce's export in a language that isn't known.
    """
    kind = WOOCOMMERCE_PRODUCTS if is_woocommerce_row(header, row) else _begun(header, exports, ours)
    if kind:
        missing = kind.missing(header)
        what = f"column {missing[0]}" if len(missing) == 1 else f"columns {', '.join(missing)}"
        raise FileError(name, f"it looks like {kind.title}, but has no {what}", kind.mend, line=line)


def _begun(header: list[str], exports: Sequence[Kind], ours: Collection[str]) -> Kind | None:
    shares: dict[int, float] = {}
    for number, kind in enumerate(exports):
        places = kind.fields_of(header)
        found = {header[places[field]] for field in kind.required if field in places}
        if len(found) > 1 and not found <= set(ours) and kind.form is None:
            shares[number] = len(found) / (len(kind.required) + bool(kind.marks))
    best = max(shares, key=shares.__getitem__, default=-1)
    return exports[best] if best >= 0 and shares[best] >= 0.5 else None
