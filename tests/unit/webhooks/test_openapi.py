"""The receiver held against its description: cases that fit it and cases that don't, signed and not, over real HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.auth import AuthBase
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from invsync_dagster.webhooks.status.desk import PATHS
from invsync_dagster.webhooks.status.tokens import COOKIE, Tokens
from tests.unit.webhooks.doors import sign, signed
from tests.unit.webhooks.serving import NOW, TOKEN, Stage, ask

DESCRIPTION = Path(__file__).parents[3] / "docs" / "receiver-openapi.yaml"
DESCRIBED = schemathesis.openapi.from_path(DESCRIPTION)
OPERATIONS: dict[str, Any] = {}
for operation in DESCRIBED.get_all_operations():
    assert isinstance(operation, Ok), operation
    OPERATIONS[operation.ok().label] = operation.ok()
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# With 503 in the description, `not_a_server_error` would refuse what is meant.
CHANNELS = st.sampled_from(["shop", "desk", "woo", "ebay", "broken", "nobody"]) | st.text(max_size=20)
# A question about health or the status can't be asked wrongly.
PLAIN = ("GET /healthz", "GET /status", "GET /metrics", "GET /status.html")
MODES = [
    (label, mode) for label in OPERATIONS for mode in GenerationMode if label not in PLAIN or mode.value == "positive"
]


class Signed(AuthBase):
    """Signs the bytes that are sent, as the tests' door wants it; what is asked has the token, and a cookie."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        request.headers["X-Test-Signature"] = sign(body if isinstance(body, bytes) else body.encode())
        request.headers["X-Test-Topic"] = "orders/create"
        request.headers["Authorization"] = f"Bearer {TOKEN}"
        request.headers["Cookie"] = f"{COOKIE}={Tokens([TOKEN]).cookie(NOW)}"
        return request


@pytest.mark.parametrize(("label", "mode"), MODES)
def test_every_answer_is_one_that_is_described(receiver: Stage, label: str, mode: GenerationMode) -> None:
    answered: list[int] = []

    with requests.Session() as session:
        session.trust_env = False

        @given(data=st.data())
        @settings(max_examples=20)
        def sends(data: st.DataObject) -> None:
            case = data.draw(OPERATIONS[label].as_strategy(generation_mode=mode))
            channel, proof = data.draw(CHANNELS), data.draw(st.sampled_from([Signed(), None]))
            if not answered:  # one at least is answered as its sender wishes
                channel, proof = "ebay" if label.startswith("GET") else "shop", Signed()
            if label == "POST /status.html" and isinstance(case.body, dict) and isinstance(proof, Signed):
                case.body["token"] = TOKEN
            if "channel" in (case.path_parameters or {}):
                case.path_parameters["channel"] = channel
            answer: Any = case.call(
                base_url=f"http://127.0.0.1:{receiver.port}",
                session=session,
                auth=proof,
                allow_redirects=False,
            )
            answered.append(answer.status_code)
            assert "server" not in answer.headers
            if answer.status_code in (404, 405):
                # Another path came of the channel's name, or there is no question in the query.
                assert answer.content == b""
                return
            case.validate_response(answer, checks=CHECKS)

        sends()
    assert mode is GenerationMode.NEGATIVE or answered[0] in (200, 202, 303)
    assert 500 not in answered


def test_the_description_names_what_the_receiver_answers_and_all_platforms_proofs() -> None:
    described = yaml.safe_load(DESCRIPTION.read_text(encoding="utf-8"))
    assert set(described["paths"]) == {"/webhooks/{channel}", "/inventory-webhook", "/healthz", *PATHS}
    responses = described["paths"]["/webhooks/{channel}"]["post"]["responses"]
    assert set(responses) == {"200", "202", "400", "401", "408", "413", "415", "503"}
    names = {
        scheme["name"].lower() for scheme in described["components"]["securitySchemes"].values() if "name" in scheme
    }
    assert names == {
        "invsync_status",
        "x-shopify-hmac-sha256",
        "x-wc-webhook-signature",
        "x-ebay-signature",
        "x-invsync-key",
        "x-invsync-timestamp",
        "x-invsync-signature",
    }


def test_health_is_what_is_described_while_nothing_can_be_written(receiver: Stage) -> None:
    receiver.writer.problem = OSError(28, "No space left on device")
    assert receiver.post(b"{}", signed(b"{}")) == 503
    status, body, _ = ask(receiver.port, "GET", "/healthz")
    assert (status, json.loads(body)) == (503, {"status": "failing"})
