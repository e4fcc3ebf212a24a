"""Says what is wrong with what people wrote into a checked form, in a sentence with the mend, and never what they wrote."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import get_args

from pydantic import BaseModel, ValidationError

from invsync_dagster.yaml_lines import Place


def meant(word: object, known: Iterable[str]) -> str:
    """Return a hint at the one of the known words that is most like a mistyped one, "" where none is."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def sentences(error: ValidationError, model: type[BaseModel]) -> list[tuple[Place, str]]:
    """Return (path, sentence with mend) of each error; given values are not repeated, one may be a pasted secret."""
    result = []
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        path = item["loc"]
        where = ".".join(str(part) for part in path) or "it"
        if item["type"] == "extra_forbidden":
            known = _model_at(model, path[:-1]).model_fields
            sentence = f"unknown key {where!r}{meant(path[-1], known)} — remove or rename it"
        elif item["type"] == "missing":
            sentence = f"{where} is missing — add it"
        else:
            message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
            sentence = f"{where} {message} — mend the value"
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
