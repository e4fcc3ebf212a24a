"""Writes rules into channels.yaml, whole or not at all; comments, order and everything else stay as people wrote them."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from invsync_dagster.yaml_lines import UnreadableError, read_yaml

# How far the file indents a list, and a block within a block.
_DASH = re.compile(r"^( *)- ", re.MULTILINE)
_NESTED = re.compile(r"^( *)\w+:[ \t]*(?:#.*)?\n( +)\w+:", re.MULTILINE)


class NotWrittenError(Exception):
    """The file is as it was, and why; the message ends with what to write by hand."""


def write_rules(path: Path, channel: str, rules: Mapping[str, int | None]) -> None:
    """Set rules of a channel in the file; None takes the line out, so that the default holds. Raises `NotWrittenError`."""
    try:
        content = path.read_bytes()
        wanted = _wanted(read_yaml(content).value, channel, rules)
        new = _edited(content, channel, rules)
        if read_yaml(new).value != wanted:
            raise ValueError("what stands there is shared with other places of the file")
        _replace(path, new)
    except (OSError, ValueError, YAMLError, UnreadableError) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise NotWrittenError(f"{path.name} can't be written ({why}): {by_hand(channel, rules)}") from error


def by_hand(channel: str, rules: Mapping[str, int | None]) -> str:
    """Say what a person would have to write."""
    lines = ", ".join(f"{name}: {value}" for name, value in rules.items() if value is not None)
    gone = ", ".join(name for name, value in rules.items() if value is None)
    parts = [f"write `{lines}`"] * bool(lines) + [f"take out `{gone}`"] * bool(gone)
    return f"{' and '.join(parts)} under `rules:` of channel {channel!r} by hand, then run `invsync channels sync`"


def _wanted(document: Any, channel: str, rules: Mapping[str, int | None]) -> Any:
    """Return the document's plain value with the rules in it. Raises ValueError where the channel isn't there once."""
    entries = [one for one in document["channels"] if one.get("name") == channel]
    if len(entries) != 1:
        raise ValueError(f"it has {len(entries)} channels of the name {channel!r}")
    present = dict(entries[0].get("rules") or {})
    for name, value in rules.items():
        _set(present, name, value)
    again = [one | {"rules": present} if one.get("name") == channel else one for one in document["channels"]]
    return document | {"channels": again}


def _edited(content: bytes, channel: str, rules: Mapping[str, int | None]) -> bytes:
    text = content.decode()
    dash, nested = _DASH.search(text), _NESTED.search(text)
    offset = len(dash[1]) if dash else 0
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=len(nested[2]) - len(nested[1]) if nested else 2, sequence=offset + 2, offset=offset)
    document = yaml.load(text)
    entry = next(one for one in document["channels"] if one.get("name") == channel)
    if entry.get("rules") is None:
        entry["rules"] = {}
    for name, value in rules.items():
        _set(entry["rules"], name, value)
    out = io.StringIO()
    yaml.dump(document, out)
    return _with_lines_of(text, out.getvalue()).encode()


def _with_lines_of(before: str, after: str) -> str:
    """Return the text after an edit, with the lines of before wherever only their spaces differ."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    alike = SequenceMatcher(None, _bare(old), _bare(new), autojunk=False).get_opcodes()
    return "".join(
        line
        for kind, begin, end, new_begin, new_end in alike
        for line in (old[begin:end] if kind == "equal" else new[new_begin:new_end])
    )


def _bare(lines: list[str]) -> list[str]:
    return ["".join(line.split()) for line in lines]


def _set(values: Any, name: str, value: int | None) -> None:
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value


def _replace(path: Path, content: bytes) -> None:
    """Replace the file at once or not at all, with its owner and mode; where it is a link, what it points at.

    Written by an administrator, it must stay readable for the services. Raises OSError also where the owner can't be kept.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        was, now = target.stat(), temporary.stat()
        if (now.st_uid, now.st_gid) != (was.st_uid, was.st_gid):
            os.chown(temporary, was.st_uid, was.st_gid)
        shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
