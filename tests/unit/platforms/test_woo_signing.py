"""OAuth 1.0a on loopback and Basic over TLS: what the store's own check takes and refuses, and what a host drops."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.platforms.contract import Result
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.platforms.woocommerce.sandbox_answers import RefusedError
from invsync_dagster.platforms.woocommerce.sandbox_auth import KeyCheck
from invsync_dagster.platforms.woocommerce.signing import Signer, signature
from tests.contract.wire import ManualClock
from tests.unit.platforms.woo_stage import SECRETS, WooStage

URL = "http://127.0.0.1:8790/woo_main/wp-json/wc/v3/products"
KEY, SECRET = "ck_0123456789abcdef", "cs_fedcba9876543210"
CLOCK = ManualClock()


def request(query: dict[str, str], *, url: str = URL, method: str = "GET", secret: str = SECRET) -> Request:
    address, headers = Signer(KEY, secret).signed(method, url, query, CLOCK.now())
    return Request(method, address, headers)


def problem(sent: Request, clock: ManualClock = CLOCK, check: KeyCheck | None = None) -> str:
    try:
        (check or KeyCheck(KEY, SECRET, clock)).check(sent, query_of(sent))
    except RefusedError as refused:
        return str(refused)
    return ""


def query_of(sent: Request) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(sent.url).query, keep_blank_values=True))


@given(
    st.dictionaries(
        # WooCommerce decodes names once more before it signs: no name with an escape in it can be signed for.
        st.text(st.characters(codec="utf-8", exclude_characters="%"), min_size=1),
        st.text(st.characters(codec="utf-8")),
        max_size=4,
    )
)
def test_any_query_survives_the_signature(query: dict[str, str]) -> None:
    asked = {f"x{name}": value for name, value in query.items()}
    sent = request(asked)
    assert problem(sent) == ""
    assert {name: value for name, value in query_of(sent).items() if not name.startswith("oauth_")} == asked


def test_the_signature_is_that_of_the_standard() -> None:
    # RFC 5849 3.4.1 by hand: POST&url&parameters, each part percent-encoded, keyed with the secret and an &.
    query = {"oauth_consumer_key": "abcd", "oauth_nonce": "n", "oauth_timestamp": "1", "sku": "A B/c+d&e"}
    assert signature("efgh", "post", "http://localhost/p", query) == "crg5wwf8VTnAuzzgC4E6dcIFcdl5dPxjOxUlWWpB23M="


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "DELETE"}, "Invalid signature"),
        ({"url": "&page=2"}, "Invalid signature"),
        ({"path": "/orders"}, "Invalid signature"),
    ],
)
def test_a_request_that_was_changed_is_refused(change: dict[str, str], words: str) -> None:
    sent = request({"page": "1"})
    if "method" in change:
        sent = replace(sent, method=change["method"])
    elif "path" in change:
        sent = replace(sent, url=sent.url.replace("/products", change["path"]))
    else:
        sent = replace(sent, url=sent.url + change["url"])
    assert words in problem(sent)


def test_a_request_sent_twice_or_too_late_or_with_another_secret_is_refused() -> None:
    check = KeyCheck(KEY, SECRET, CLOCK)
    sent = request({})
    assert problem(sent, check=check) == ""
    assert "nonce" in problem(sent, check=check)
    assert "timestamp" in problem(request({}), ManualClock(CLOCK.now() + timedelta(minutes=16)))
    assert "signature" in problem(request({}, secret="cs_wrong"))
    assert "Missing OAuth parameter" in problem(Request("GET", f"{URL}?oauth_nonce=1", {}))
    assert "cannot list" in problem(Request("GET", URL, {}))


def test_over_tls_the_key_travels_in_the_header_alone() -> None:
    sent = request({"page": "1"}, url=URL.replace("http://", "https://"))
    assert sent.url.endswith("/products?page=1")
    assert base64.b64decode(sent.headers["Authorization"].removeprefix("Basic ")).decode() == f"{KEY}:{SECRET}"
    assert problem(sent) == ""
    assert problem(replace(sent, headers={})) == "Sorry, you cannot list resources."
    assert problem(request({}, url=sent.url, secret="cs_wrong")) == "Consumer secret is invalid."


@pytest.mark.parametrize(("key", "secret"), [("", "cs"), ("ck", "")])
def test_an_empty_key_or_secret_is_refused(key: str, secret: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        Signer(key, secret)


# --- hosts that drop the Authorization header -------------------------------------------------------------------------


def ways(stage: WooStage) -> list[str]:
    """How each request that was sent proved who calls."""
    return ["header" if "Authorization" in sent.headers else "query" for sent in stage.wire.requests]


def test_a_host_that_drops_the_header_gets_the_signature_in_the_query_from_then_on() -> None:
    stage = WooStage(header_dropped=True)
    hat = stage.store.add_product("HAT", 10)
    assert stage.read(hat).quantity == 10
    assert stage.write(hat, 7).result is Result.ACKNOWLEDGED
    assert (stage.store.shown(hat), ways(stage)) == (7, ["header", "query", "query"])
    assert all(SECRETS["consumer_secret_env"] not in sent.url for sent in stage.wire.requests)
    first, second, _ = stage.wire.deadlines
    assert second <= first


def test_another_process_signs_the_query_from_its_first_call_on() -> None:
    stage, other = WooStage(header_dropped=True), WooStage(header_dropped=True)
    stage.platform.check_credentials()
    other.platform.go_on_from(stage.platform.pace)
    other.platform.check_credentials()
    assert set(ways(other)) == {"query"}
    plain = WooStage()
    plain.platform.go_on_from(WooStage().platform.pace)
    plain.platform.check_credentials()
    assert set(ways(plain)) == {"header"}


def test_a_write_that_meets_the_dropped_header_first_lands_once() -> None:
    stage = WooStage(header_dropped=True)
    hat = stage.store.add_product("HAT", 10)
    assert stage.write(hat, 7).result is Result.ACKNOWLEDGED
    assert (stage.store.shown(hat), ways(stage)) == (7, ["header", "query"])


@pytest.mark.parametrize("dropped", [True, False])
@pytest.mark.parametrize(("key", "calls"), [("ck_another", 2), (SECRETS["consumer_key_env"], 1)])
def test_a_wrong_key_still_asks_for_a_new_one_after_one_call_more(dropped: bool, key: str, calls: int) -> None:
    stage = WooStage(header_dropped=dropped)
    stage.store.change_key(key, "cs_another")
    with pytest.raises(PlatformError, match="the store refuses our key") as raised:
        stage.platform.check_credentials()
    assert (raised.value.recovery, raised.value.code) == (
        Recovery.REAUTHENTICATE,
        "woocommerce_rest_authentication_error",
    )
    # A wrong secret is told as such where the header arrives.
    assert len(stage.wire.requests) == (2 if dropped else calls)
    stage.store.change_key(SECRETS["consumer_key_env"], SECRETS["consumer_secret_env"])
    stage.platform.check_credentials()


def test_a_call_that_is_under_way_while_another_finds_out_goes_once_more_too() -> None:
    stage = WooStage(header_dropped=True)
    hat = stage.store.add_product("HAT", 10)

    def meanwhile(request: Request) -> Response:
        stage.platform.check_credentials()
        return stage.store.handle(request)

    stage.wire._script.append(meanwhile)
    assert stage.read(hat).quantity == 10
    assert ways(stage)[:3] == ["header", "header", "query"]
    assert set(ways(stage)[2:]) == {"query"}


def test_a_firewalls_401_is_no_dropped_header() -> None:
    stage = WooStage()
    stage.wire.answer_next(Response(401, {}, b"<html>Log in</html>"))
    with pytest.raises(PlatformError) as raised:
        stage.platform.check_credentials()
    assert (raised.value.recovery, len(stage.wire.requests)) == (Recovery.REAUTHENTICATE, 1)


def test_a_lost_answer_to_the_second_try_of_a_write_is_unknown() -> None:
    stage = WooStage(header_dropped=True)
    hat = stage.store.add_product("HAT", 10)
    stage.wire._script.append(stage.store.handle)
    stage.wire.lose_answer_next()
    outcome = stage.write(hat, 7)
    assert (outcome.result, outcome.recovery) == (Result.UNKNOWN, Recovery.SETTLE)
    assert (stage.store.shown(hat), ways(stage)) == (7, ["header", "query"])
