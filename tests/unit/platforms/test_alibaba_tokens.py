"""The grant at Alibaba.com: signatures by the documented vectors, renewal, and the file that keeps what it gave."""

from __future__ import annotations

import hashlib
import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from invsync_dagster.platforms.alibaba.gateway import Api, Gop, Top, gop_signature, top_signature
from invsync_dagster.platforms.contract import Result
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Response
from tests.unit.platforms.alibaba_stage import REFRESH, AlibabaStage

DAY = 86_400


def vectors(contracts: Path) -> list[dict[str, Any]]:
    return json.loads((contracts / "alibaba" / "sign_vectors.json").read_text())["vectors"]


def test_the_signatures_are_those_of_the_vectors(contracts: Path) -> None:
    signed = []
    for vector in vectors(contracts):
        if "api_path" in vector:
            signed.append(gop_signature(vector["app_secret"], vector["api_path"], vector["params"]))
        else:
            signed.append(top_signature(vector["app_secret"], vector["params"]))
    assert signed == [vector["sign"] for vector in vectors(contracts)]
    assert len(signed) == 3


def test_the_calls_themselves_are_signed_as_the_vectors_are(contracts: Path) -> None:
    gop, top = vectors(contracts)[1:]
    at = datetime.fromtimestamp(int(gop["params"]["timestamp"]) / 1000, UTC)
    business = {name: gop["params"][name] for name in ("product_id", "sku_inventory")}
    request = Gop("https://x/rest", gop["params"]["app_key"], gop["app_secret"]).request(
        Api(gop["api_path"]), business, gop["params"]["access_token"], at
    )
    fields = dict(parse_qsl(request.body.decode()))
    assert fields == gop["params"] | {"sign": gop["sign"]}
    assert request.url == f"https://x/rest{gop['api_path']}"
    at = datetime.fromisoformat(top["params"]["timestamp"] + "+08:00").astimezone(UTC)
    business = {name: top["params"][name] for name in ("product_id", "language")}
    request = Top("https://y", top["params"]["app_key"], top["app_secret"]).request(
        Api("", top["params"]["method"]), business, top["params"]["session"], at
    )
    assert dict(parse_qsl(request.body.decode())) == top["params"] | {"sign": top["sign"]}


def test_the_documented_vector_holds() -> None:
    # openapi.alibaba.com, docId=61.
    parameters = {
        "app_key": "12345678",
        "code": "3_500102_JxZ05Ux3cnnSSUm6dCxYg6Q26",
        "sign_method": "sha256",
        "simplify": "true",
        "timestamp": "1517820392000",
    }
    signed = gop_signature("helloworld", "/auth/token/create", parameters)
    assert signed == "0B409A354C6FB222EE2C8095002ACDB2D30566151D1A2361AEE7D2627B9BCBEA"
    assert gop_signature("helloworld", "/auth/token/create", {**parameters, "sign": "X"}) == signed


def refreshes(stage: AlibabaStage) -> list[str]:
    """Return the refresh tokens that were sent."""
    fields = [dict(parse_qsl(request.body.decode())) for request in stage.wire.requests if "/auth/" in request.url]
    return [each["refresh_token"] for each in fields]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens" / "alibaba_main.json"


def test_one_token_serves_until_a_tenth_of_its_life_is_left(file: Path) -> None:
    stage = AlibabaStage(file)
    stage.platform.check_credentials()
    stage.clock.advance(0.89 * DAY)
    stage.platform.check_credentials()
    assert refreshes(stage) == [REFRESH]
    stage.clock.advance(0.02 * DAY)
    stage.platform.check_credentials()
    assert refreshes(stage) == [REFRESH, f"{REFRESH}-r1"]


def test_another_process_uses_the_token_that_the_first_one_got(file: Path) -> None:
    stage = AlibabaStage(file)
    stage.platform.check_credentials()
    stage.another().check_credentials()
    stage.clock.advance(0.95 * DAY)
    stage.another().check_credentials()
    stage.platform.check_credentials()
    assert refreshes(stage) == [REFRESH, f"{REFRESH}-r1"]


def test_the_file_is_its_owners_alone_and_names_no_grant(file: Path) -> None:
    AlibabaStage(file).platform.check_credentials()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert kept["refresh_token"] == f"{REFRESH}-r1"
    assert kept["grant"] == hashlib.sha256(REFRESH.encode()).hexdigest()
    assert sorted(each.name for each in file.parent.iterdir()) == [file.name, f"{file.name}.lock"]


def test_a_new_authorisation_replaces_what_the_file_keeps(file: Path) -> None:
    stage = AlibabaStage(file)
    file.parent.mkdir()
    others = {"access_token": "old", "refresh_token": "old-r", "given_at": 0.0, "ends_at": 9e12}
    file.write_text(json.dumps({"grant": "of another refresh token", **others}))
    stage.platform.check_credentials()
    assert refreshes(stage) == [REFRESH]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"grant": 1}', "null"])
def test_a_damaged_file_is_begun_anew(file: Path, content: str) -> None:
    stage = AlibabaStage(file)
    file.parent.mkdir()
    file.write_text(content)
    stage.platform.check_credentials()
    assert json.loads(file.read_text())["refresh_token"] == f"{REFRESH}-r1"


def test_a_file_that_cannot_be_written_stops_before_the_grant_is_used_up(tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    stage = AlibabaStage(tmp_path / "a_file" / "tokens.json")
    with pytest.raises(PlatformError) as raised:
        stage.platform.check_credentials()
    assert (raised.value.recovery, raised.value.code) == (Recovery.REAUTHENTICATE, "token_file")
    assert "tokens.json" in raised.value.message
    assert stage.wire.requests == []


def test_a_renewal_that_fails_for_a_while_leaves_the_old_token_in_use(file: Path) -> None:
    stage = AlibabaStage(file)
    stage.platform.check_credentials()
    stage.clock.advance(0.95 * DAY)
    stage.wire.answer_next(Response(503, {}, b""))
    stage.platform.check_credentials()
    stage.clock.advance(0.06 * DAY)
    stage.wire.answer_next(Response(503, {}, b""))
    with pytest.raises(PlatformError) as raised:
        stage.platform.check_credentials()
    assert raised.value.recovery is Recovery.RETRY
    stage.platform.check_credentials()


def test_a_revoked_grant_asks_for_a_new_authorisation_and_sends_nothing_more(file: Path) -> None:
    stage = AlibabaStage(file)
    level = stage.account.add_sku("A-1", 5)
    stage.account.revoke()
    (outcome,) = stage.write((level, 3))
    assert (outcome.result, outcome.recovery) == (Result.NOT_SENT, Recovery.REAUTHENTICATE)
    assert (outcome.code, "authorise the app again" in outcome.message) == ("IllegalRefreshToken", True)
    assert len(stage.wire.requests) == 1


def test_an_old_token_that_is_refused_is_replaced_once(file: Path) -> None:
    stage = AlibabaStage(file)
    level = stage.account.add_sku("A-1", 5)
    stage.platform.check_credentials()
    stage.clock.advance(600)
    stage.account.gate.grant.access_token = "taken back"
    (outcome,) = stage.write((level, 3))
    assert (outcome.result, outcome.recovery) == (Result.NOT_SENT, Recovery.RETRY)
    assert stage.write((level, 3))[0].result is Result.ACKNOWLEDGED
    stage.account.gate.grant.access_token = "taken back again"
    (outcome,) = stage.write((level, 4))
    assert (outcome.result, outcome.recovery) == (Result.NOT_SENT, Recovery.REAUTHENTICATE)


@pytest.mark.parametrize(
    "answer",
    [
        {"code": "0"},
        {"code": "0", "access_token": "", "expires_in": 5},
        {"code": "0", "access_token": "a\nb", "expires_in": 5},
        {"code": "0", "access_token": "a", "expires_in": 0},
        {"code": "0", "access_token": "a", "expires_in": True},
        {"code": "0", "access_token": "a", "expires_in": "soon"},
    ],
)
def test_an_answer_without_a_usable_token_is_asked_for_again(file: Path, answer: Any) -> None:
    stage = AlibabaStage(file)
    stage.wire.answer_next(Response(200, {}, json.dumps(answer).encode()))
    with pytest.raises(PlatformError) as raised:
        stage.platform.check_credentials()
    assert (raised.value.recovery, raised.value.code) == (Recovery.RETRY, "malformed_answer")
    assert not file.exists()


def test_a_grant_whose_refresh_token_ends_first_is_renewed_before_that(file: Path) -> None:
    stage = AlibabaStage(file)
    answer = {
        "code": "0",
        "access_token": "a",
        "refresh_token": "r",
        "expires_in": 100 * DAY,
        "refresh_expires_in": DAY,
    }
    stage.wire.answer_next(Response(200, {}, json.dumps(answer).encode()))
    stage.account.gate.grant.access_token, stage.account.gate.grant.refresh_token = "a", "r"
    stage.account.gate.grant.ends_at = 9e12
    stage.platform.check_credentials()
    stage.clock.advance(0.95 * DAY)
    stage.platform.check_credentials()
    assert refreshes(stage) == [REFRESH, "r"]


def test_the_session_parameter_may_be_named_as_the_sdks_do(file: Path) -> None:
    stage = AlibabaStage(file, token_parameter="session")
    with pytest.raises(PlatformError):  # the stand-in goes by the documents
        stage.platform.check_credentials()
    ((_, fields),) = stage.sent()
    assert ("session" in fields, "access_token" in fields) == (True, False)


def test_what_keeps_the_tokens_shows_none_of_them(file: Path) -> None:
    stage = AlibabaStage(file)
    stage.platform.check_credentials()
    tokens: Any = stage.platform._tokens
    assert [each for each in tokens.secrets if each in repr(tokens._kept) + repr(tokens) + repr(stage.platform)] == []
