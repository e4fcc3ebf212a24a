"""Amazon's own contracts: requests and answers held against its models, notifications and feeds against its schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from jsonschema import Draft4Validator, Draft7Validator

from invsync_dagster.platforms.transport import Request, Response

_MODELS = ("listingsItems_2021-08-01", "orders_2026-01-01", "feeds_2021-06-30", "reports_2021-06-30", "notifications")


@cache
def _document(folder: Path, path: str) -> Any:
    return json.loads((folder / "amazon" / path).read_text())


def problems_of_exchange(folder: Path, request: Request, response: Response) -> list[str]:
    """Return what a request to the API and its answer have against the vendor's model, [] if nothing."""
    found = _operation(folder, request)
    if found is None:
        return [f"no operation {request.method} {unquote(urlsplit(request.url).path)}"]
    model, operation = found
    asked = parse_qs(urlsplit(request.url).query, keep_blank_values=True)
    problems = _problems_of_query(operation, {name: ",".join(values) for name, values in asked.items()})
    return [*problems, *_problems_of_body(model, operation, request), *problems_of_answer(folder, request, response)]


def problems_of_answer(folder: Path, request: Request, response: Response) -> list[str]:
    """Return what an answer alone has against the vendor's model."""
    found = _operation(folder, request)
    assert found is not None
    model, operation = found
    answer = operation["responses"].get(str(response.status))
    if answer is None:
        return [f"no answer {response.status}"]
    known = {name.lower() for name in answer.get("headers", {})}
    told = {name for name in response.headers if name.startswith("x-amzn")}
    problems = [f"header {name} with {response.status}" for name in told - known]
    return problems + (_problems(model, answer["schema"], json.loads(response.body)) if "schema" in answer else [])


def _operation(folder: Path, request: Request) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    path_asked = urlsplit(request.url).path
    for name in _MODELS:
        model = _document(folder, f"models/{name}.json")
        for path, operations in model["paths"].items():
            pattern = re.sub(r"\{[^/]+\}", "[^/]+", path)
            if re.fullmatch(pattern, path_asked) and request.method.lower() in operations:
                return model, operations[request.method.lower()]
    return None


def _problems_of_query(operation: Mapping[str, Any], asked: Mapping[str, str]) -> list[str]:
    known = {each["name"]: each for each in operation.get("parameters", []) if each.get("in") == "query"}
    found = [f"unknown parameter {name}" for name in asked if name not in known]
    found += [f"missing parameter {name}" for name, each in known.items() if each["required"] and name not in asked]
    for name, text in asked.items():
        parameter = known.get(name, {})
        schema: dict[str, Any] = {
            key: parameter[key] for key in ("enum", "maxItems", "items", "maximum") if key in parameter
        }
        value: Any = text
        if parameter.get("type") == "array":
            value = text.split(",")
        elif parameter.get("type") == "integer":
            value = int(text)
        found += [f"{name}: {error.message}" for error in Draft4Validator(schema).iter_errors(value)]
    return found


def _problems_of_body(model: Mapping[str, Any], operation: Mapping[str, Any], request: Request) -> list[str]:
    bodies = [each for each in operation.get("parameters", []) if each.get("in") == "body"]
    if not bodies:
        return ["a body where none is taken"] if request.body else []
    return _problems(model, bodies[0]["schema"], json.loads(request.body))


def _problems(model: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> list[str]:
    validator = Draft4Validator({**schema, "definitions": model["definitions"]})
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(value)]


def problems_of_notification(folder: Path, name: str, value: Any) -> list[str]:
    """Return what a notification has against the vendor's schema of that name."""
    validator = Draft7Validator(_document(folder, f"schemas/notifications/{name}.json"))
    return [error.message for error in validator.iter_errors(value)]


def problems_of_feed(folder: Path, name: str, value: Any) -> list[str]:
    """Return what a feed or its report has against the vendor's schema of that name."""
    return [
        error.message for error in Draft7Validator(_document(folder, f"schemas/feeds/{name}.json")).iter_errors(value)
    ]
