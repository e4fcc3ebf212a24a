"""OAuth 1.0a on loopback and Basic over TLS: what the store's own check takes and refuses."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.platforms.transport import Request
from invsync_dagster.platforms.woocommerce.sandbox_auth import KeyCheck
from invsync_dagster.platforms.woocommerce.signing import Signer, signature
from tests.contract.wire import ManualClock

URL = "http://127.0.0.1:8790/woo_main/wp-json/wc/v3/products"
KEY, SECRET = "ck_0123456789abcdef", "cs_fedcba9876543210"
CLOCK = ManualClock()


def request(query: dict[str, str], *, url: str = URL, method: str = "GET", secret: str = SECRET) -> Request:
    address, headers = Signer(KEY, secret).signed(method, url, query, CLOCK.now())
    return Request(method, address, headers)


def problem(sent: Request, clock: ManualClock = CLOCK) -> str:
    return KeyCheck(KEY, SECRET, clock).problem_of(sent, query_of(sent))


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
    assert check.problem_of(sent, query_of(sent)) == ""
    assert "nonce" in check.problem_of(sent, query_of(sent))
    assert "timestamp" in problem(request({}), ManualClock(CLOCK.now() + timedelta(minutes=16)))
    assert "signature" in problem(request({}, secret="cs_wrong"))
    assert "Missing OAuth parameter" in problem(Request("GET", URL, {}))


def test_over_tls_the_key_travels_in_the_header_alone() -> None:
    sent = request({"page": "1"}, url=URL.replace("http://", "https://"))
    assert sent.url.endswith("/products?page=1")
    assert base64.b64decode(sent.headers["Authorization"].removeprefix("Basic ")).decode() == f"{KEY}:{SECRET}"
    assert problem(sent) == ""
    assert problem(replace(sent, headers={})) == "Consumer key is invalid."


@pytest.mark.parametrize(("key", "secret"), [("", "cs"), ("ck", "")])
def test_an_empty_key_or_secret_is_refused(key: str, secret: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        Signer(key, secret)
