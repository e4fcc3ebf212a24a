"""eBay's own contracts: requests and answers held against its OpenAPI specifications."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from jsonschema import Draft4Validator

from invsync_dagster.platforms.transport import Request, Response

_SPECIFICATIONS = {
    "/sell/inventory/v1": "sell_inventory_v1_oas3.json",
    "/sell/fulfillment/v1": "sell_fulfillment_v1_oas3.json",
    "/developer/analytics/v1_beta": "developer_analytics_v1_beta_oas3.json",
    "/commerce/notification/v1": "commerce_notification_v1_oas3.yml",
}
# Every API of eBay gives these, and no specification names them.
_EVERYWHERE = {401, 403, 429}


@cache
def _document(folder: Path, file: str) -> Any:
    text = (folder / "ebay" / file).read_text(encoding="utf-8")
    return json.loads(text) if file.endswith(".json") else yaml.safe_load(text)


def problems_of_exchange(folder: Path, request: Request, response: Response) -> list[str]:
    """Return what a request and its answer have against the vendor's specification, [] if nothing."""
    parts = urlsplit(request.url)
    root = next((each for each in _SPECIFICATIONS if parts.path.startswith(each)), None)
    if root is None:
        return [f"no API at {parts.path}"]
    document = _document(folder, _SPECIFICATIONS[root])
    operation = _operation(document, request.method.lower(), parts.path.removeprefix(root))
    if operation is None:
        return [f"no operation {request.method} {unquote(parts.path)}"]
    given = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    found = _problems_of_parameters(operation, given, request.headers)
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        found += _problems(document, schema, json.loads(request.body))
    elif request.body:
        found.append("a body where none is taken")
    return found + _problems_of_answer(document, operation, response)


def _operation(document: Mapping[str, Any], method: str, path: str) -> Mapping[str, Any] | None:
    exact: Mapping[str, Any] | None = document["paths"].get(path, {}).get(method)
    if exact is not None:
        return exact
    for pattern, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"\{[^/]+\}", "[^/]+", pattern), path) and method in operations:
            found: Mapping[str, Any] = operations[method]
            return found
    return None


def _problems_of_parameters(
    operation: Mapping[str, Any], given: Mapping[str, str], headers: Mapping[str, str]
) -> list[str]:
    parameters = operation.get("parameters", [])
    known = {each["name"]: each for each in parameters if each["in"] == "query"}
    found = [f"unknown parameter {name}" for name in given if name not in known]
    found += [f"missing parameter {name}" for name, each in known.items() if each.get("required") and name not in given]
    named = {name.lower() for name in headers}
    wanted = {each["name"].lower() for each in parameters if each["in"] == "header" and each.get("required")}
    return found + [f"missing header {name}" for name in {*wanted, "authorization"} - named]


def _problems_of_answer(document: Mapping[str, Any], operation: Mapping[str, Any], response: Response) -> list[str]:
    if response.status in _EVERYWHERE:
        return []
    answer = operation["responses"].get(str(response.status))
    if answer is None:
        return [f"no answer {response.status}"]
    value = json.loads(response.body or b"{}")
    known = answer.get("x-response-codes", {}).get("errors", {})
    found = [
        f"error {error['errorId']} with {response.status}"
        for error in value.get("errors", [])
        if known and str(error["errorId"]) not in known
    ]
    # 207 has no schema of its own: it is the same answer as 200.
    answer = operation["responses"]["200"] if response.status == 207 else answer
    if "content" in answer:
        found += _problems(document, answer["content"]["application/json"]["schema"], value)
    return found


def _problems(document: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> list[str]:
    """Hold a value against a schema whose objects have no other properties than those that are written down."""
    strict = _strict(document["components"]["schemas"])
    validator = Draft4Validator({**_strict(schema), "components": {"schemas": strict}})
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(value)]


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    strict = {name: _strict(value) for name, value in schema.items()}
    closed = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    return {**strict, "additionalProperties": False} if closed else strict
