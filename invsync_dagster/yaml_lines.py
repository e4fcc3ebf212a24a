"""Reads YAML into plain values together with the line of each, for messages that name the line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

# A place in a document: `("channels", 0, "name")` is the name of the first channel, `()` the whole.
Place = tuple[str | int, ...]


class UnreadableError(Exception):
    """A file that can't be used at all; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class Document:
    """A document's plain value, the line (from 1) of each place in it, and what is wrong at single places."""

    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    faults: dict[Place, str] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the nearest one around it that stands in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_yaml(content: bytes) -> Document:
    """Return the document. Faults of single places are a key given twice in one block (YAML would silently take the
    last) and a value that isn't one, such as the date 2026-13-01.

    Raises UnreadableError for what isn't YAML, and for an alias within what it names.
    """
    document = Document()
    try:
        loader = yaml.SafeLoader(content)
        try:
            root = loader.get_single_node()
            if root is None:
                raise UnreadableError("it is empty", 1)
            document.value = _value(loader, root, (), document, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UnreadableError(error.problem or "not YAML", mark.line + 1 if mark else 1) from None
    except yaml.YAMLError:
        raise UnreadableError("it isn't plain UTF-8 text", 1) from None
    return document


def _value(loader: yaml.SafeLoader, node: yaml.Node, place: Place, document: Document, around: tuple[int, ...]) -> Any:
    """Return the plain value of a node; `around` are the identities of the nodes that it stands within."""
    document.lines.setdefault(place, node.start_mark.line + 1)
    if id(node) in around:
        raise UnreadableError("an alias stands within what it names", node.start_mark.line + 1)
    around = (*around, id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, child, (*place, index), document, around) for index, child in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node, place, document)
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise UnreadableError("a key must be a word", key.start_mark.line + 1)
        if key.value in seen:
            here = (*place, key.value)
            document.lines[here] = key.start_mark.line + 1
            document.faults[here] = f"{key.value} stands twice — keep one of the two lines"
        seen.add(key.value)
    loader.flatten_mapping(node)
    result = {}
    for key, child in node.value:
        name = _scalar(loader, key, place, document)
        here = (*place, name)
        if here not in document.faults:
            document.lines[here] = key.start_mark.line + 1
        result[name] = _value(loader, child, here, document, around)
    return result


def _scalar(loader: yaml.SafeLoader, node: yaml.Node, place: Place, document: Document) -> Any:
    try:
        return loader.construct_object(node)
    except ValueError as error:
        document.faults[place] = f"{node.value} is no value ({error}) — mend it"
        return None
