"""Reads from the sources of the platforms which codes of failures they give to which class."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from invsync_dagster.platforms.errors import Recovery

ROOT = Path(__file__).parents[3]
PLATFORMS = ROOT / "invsync_dagster" / "platforms"
SYNC = ROOT / "invsync_dagster" / "sync"

# What a code looks like; texts for people have spaces, setting names stand elsewhere.
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_BUILDERS = {"PlatformError", "Outcome"}
# `doubt`: a lost or unclear answer, to a write and to a reading.
_DOUBT = (Recovery.SETTLE, Recovery.RETRY)


@cache
def codes() -> set[tuple[str, Recovery, str]]:
    """Return (platform, class, code) of every code that stands in the source; what is of no platform is of `every channel`."""
    found: set[tuple[str, Recovery, str]] = set()
    for path in sorted([*PLATFORMS.rglob("*.py"), *SYNC.rglob("*.py")]):
        if path.name.startswith("sandbox"):
            continue
        platform = path.parent.name if path.parent.parent == PLATFORMS else "every channel"
        for recovery, code in _in(ast.parse(path.read_text(encoding="utf-8"))):
            found.add((platform, recovery, code))
    return found


def _in(tree: ast.AST) -> Iterator[tuple[Recovery, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) == "review" and node.args:
            yield from ((Recovery.REVIEW, code) for code in _texts(node.args[0]))
        if isinstance(node, ast.Call) and _name(node.func) in _BUILDERS:
            for place, argument in enumerate(node.args[:-1]):
                for recovery in _recoveries(argument):
                    for code in _texts(node.args[place + 1]):
                        yield recovery, code
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                yield from _row(key, value)


def _row(key: ast.expr | None, value: ast.expr) -> Iterator[tuple[Recovery, str]]:
    """A row of a table: the code is the text behind the class, or the row's key."""
    parts = value.elts if isinstance(value, ast.Tuple) else []
    for place, part in enumerate(parts):
        for recovery in _recoveries(part):
            behind = [code for after in parts[place + 1 : place + 2] for code in _texts(after)]
            yield from ((recovery, code) for code in behind or [code.lower() for code in _texts(key)])


def _recoveries(node: ast.expr) -> tuple[Recovery, ...]:
    if isinstance(node, ast.Attribute) and _name(node.value) == "Recovery":
        return (Recovery[node.attr],)
    if isinstance(node, ast.Name) and node.id == "doubt":
        return _DOUBT
    if isinstance(node, ast.IfExp):
        return (*_recoveries(node.body), *_recoveries(node.orelse))
    return ()


def _texts(node: ast.expr | None) -> list[str]:
    """The codes that an expression may be: a text, the alternatives of `or` and of a condition, a text with a number in it."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) and _CODE.fullmatch(node.value) else []
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in _texts(value)]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body), *_texts(node.orelse)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)]
    return []


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
