"""Fills the forms that people write, and says what is wrong in them: in a sentence with the mend, never what they wrote."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from invsync_dagster.yaml_lines import Place

Form = TypeVar("Form", bound=BaseModel)


def meant(word: object, known: Iterable[str]) -> str:
    """Return a hint at the one of the known words that is most like a mistyped one, "" where none is."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def filled(model: type[Form], values: dict[Any, Any]) -> tuple[Form, list[tuple[Place, str]]]:
    """Fill a form as far as it is right; returns it, and (path, sentence with mend) of each fault.

    Of a list and of named entries the one that is wrong is left out; any other field keeps its default.
    """
    # YAML has keys that are no words (`~`, a date), which errors would call by other names.
    values = {str(key): _by_words(value) for key, value in values.items()}
    faults: list[tuple[Place, str]] = []
    while True:  # a field may be found wrong as a whole once its entries are right
        try:
            return model.model_validate(values), faults
        except ValidationError as error:
            wrong = sentences(error, model)
        entries = {path[:2] for path, _ in wrong if _is_entry(model, values, path)}
        fields = {path[0] for path, _ in wrong if path[:2] not in entries}
        for path, sentence in wrong:
            until = "it is left out until then" if path[:2] in entries else "its default holds until then"
            faults.append((path, f"{sentence}; {until}"))
        values = {key: _without(key, value, entries) for key, value in values.items() if key not in fields}


def _by_words(value: Any) -> Any:
    return {str(name): entry for name, entry in value.items()} if isinstance(value, dict) else value


def _is_entry(model: type[BaseModel], values: dict[str, Any], path: Place) -> bool:
    """Whether an error is of one entry that its field's value has, and can do without."""
    field = model.model_fields.get(str(path[0]))
    if len(path) < 2 or field is None or get_origin(field.annotation) not in (dict, tuple):
        return False
    value = values[str(path[0])]
    return path[1] in value if isinstance(value, dict) else path[1] in range(len(value))


def _without(key: str, value: Any, entries: Collection[Place]) -> Any:
    if isinstance(value, dict):
        return {name: entry for name, entry in value.items() if (key, name) not in entries}
    if isinstance(value, list):
        return [entry for number, entry in enumerate(value) if (key, number) not in entries]
    return value


def sentences(error: ValidationError, model: type[BaseModel]) -> list[tuple[Place, str]]:
    """Return (path, sentence with mend) of each error; given values are not repeated, one may be a pasted secret."""
    result = []
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        path = item["loc"]
        of_a_key = path[-1:] == ("[key]",)
        where = ".".join(str(part) for part in (path[:-1] if of_a_key else path)) or "it"
        if item["type"] == "extra_forbidden":
            known = _model_at(model, path[:-1]).model_fields
            sentence = f"unknown key {where!r}{meant(path[-1], known)} — remove or rename it"
        elif item["type"] == "missing":
            sentence = f"{where} is missing — add it"
        else:
            message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
            sentence = f"{where} {message} — mend the {'key' if of_a_key else 'value'}"
        result.append((path, sentence))
    return result


def _model_at(model: type[BaseModel], path: Place) -> type[BaseModel]:
    """Return the model of the block at `path` within `model`."""
    for part in path:
        known = model.model_fields.get(str(part))
        if known is None:
            continue  # a place in a list, or a name that people chose
        for inner in (known.annotation, *get_args(known.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return model
