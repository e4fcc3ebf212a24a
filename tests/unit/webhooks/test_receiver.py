"""The receiver over real HTTP: every answer, and that a 2xx comes only once the delivery is on disk."""

from __future__ import annotations

import errno
import http.client
import json
import logging
import socket

import pytest

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.platforms.ebay.settings import EbaySettings
from invsync_dagster.platforms.erp.settings import ErpSettings
from invsync_dagster.webhooks import bodies
from invsync_dagster.webhooks.gates import gates_of
from tests.unit.webhooks.doors import signed
from tests.unit.webhooks.serving import BODY, LIMIT, NOW, Stage, ask


def test_a_signed_webhook_is_kept_byte_for_byte_and_answered_202(receiver: Stage) -> None:
    body = b'\xef\xbb\xbf{"id":  1,\r\n "name": "\xc3\xa9"}\n'
    assert receiver.post(body, signed(body)) == 202
    (kept,) = receiver.kept()
    assert (kept.channel, kept.topic, kept.received_at, kept.body) == ("shop", "orders/create", NOW, body)


def test_doubled_deliveries_are_both_kept_since_the_ledger_tells_them_apart(receiver: Stage) -> None:
    assert [receiver.post(BODY, signed(BODY)) for _ in range(2)] == [202, 202]
    assert [kept.body for kept in receiver.kept()] == [BODY, BODY]


def test_the_platforms_headers_are_kept_and_secrets_and_addresses_are_not(receiver: Stage) -> None:
    extra = {
        "X-Shopify-Event-Id": "98880550",
        "Authorization": "Bearer hidden",
        "Cookie": "hidden",
        "X-Api-Key": "hidden",
        "X-Shopify-Access-Token": "hidden",
        "X-Forwarded-For": "203.0.113.9",
        "User-Agent": "hidden",
    }
    assert receiver.post(BODY, signed(BODY) | extra) == 202
    (kept,) = receiver.kept()
    assert set(kept.headers) == {"content-type", "x-test-signature", "x-test-topic", "x-shopify-event-id"}
    assert b"hidden" not in receiver.inbox.segments(1)[0].read_bytes()


def test_no_answer_comes_before_the_delivery_is_on_disk(receiver: Stage) -> None:
    receiver.writer.gate.clear()
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20)
    connection.request("POST", "/webhooks/shop", BODY, signed(BODY))
    assert receiver.writer.began.wait(timeout=20)
    connection.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        connection.sock.recv(1)
    assert receiver.kept() == []
    connection.sock.settimeout(20)
    receiver.writer.gate.set()
    assert connection.getresponse().status == 202
    connection.close()
    assert len(receiver.kept()) == 1


def test_a_disk_that_fails_is_answered_503_and_nothing_is_kept_until_it_works_again(receiver: Stage) -> None:
    receiver.writer.problem = OSError(errno.ENOSPC, "No space left on device")
    status, _, headers = ask(receiver.port, "POST", "/webhooks/shop", BODY, signed(BODY))
    assert (status, headers["retry-after"]) == (503, "30")
    assert receiver.kept() == []
    receiver.writer.problem = None
    assert receiver.post(BODY, signed(BODY)) == 202
    assert len(receiver.kept()) == 1


def test_an_inbox_that_is_gone_is_answered_503(receiver: Stage) -> None:
    receiver.inbox.folder.rename(receiver.inbox.folder.with_name("elsewhere"))
    assert receiver.post(BODY, signed(BODY)) == 503
    assert ask(receiver.port, "GET", "/healthz")[0] == 503
    receiver.inbox.folder.with_name("elsewhere").rename(receiver.inbox.folder)
    assert ask(receiver.port, "GET", "/healthz")[0] == 200
    assert receiver.post(BODY, signed(BODY)) == 202


def test_a_wrong_signature_is_answered_401(receiver: Stage) -> None:
    assert receiver.post(BODY, signed(b"another body")) == 401
    assert receiver.post(BODY + b" ", signed(BODY)) == 401
    assert receiver.post(BODY, {"Content-Type": "application/json", "X-Test-Topic": "orders/create"}) == 401
    assert receiver.kept() == []


def test_an_unknown_channel_is_answered_as_a_closed_one_is(receiver: Stage) -> None:
    answers = [ask(receiver.port, "POST", f"/webhooks/{name}", BODY, signed(BODY)) for name in ("nobody", "broken")]
    told = [(status, body, {k: v for k, v in headers.items() if k != "date"}) for status, body, headers in answers]
    assert told[0] == told[1] == (503, b"", {"retry-after": "30", "content-length": "0"})


def test_a_closed_channel_is_answered_503_without_its_reason(receiver: Stage) -> None:
    status, body, headers = ask(receiver.port, "POST", "/webhooks/broken", BODY, signed(BODY))
    assert (status, body, headers["retry-after"]) == (503, b"", "30")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_anything_but_json_is_answered_415(receiver: Stage, content_type: str) -> None:
    headers = signed(BODY) | {"Content-Type": content_type}
    assert receiver.post(BODY, headers) == 415
    assert receiver.kept() == []


@pytest.mark.parametrize(
    ("channel", "body", "status"),
    [
        ("woo", b"webhook_id=7", 200),
        ("woo", b"webhook_id=7&x=1", 415),
        ("shop", b"webhook_id=7", 415),
        ("woo", b"", 400),
    ],
)
def test_the_greeting_of_a_new_webhook_is_answered_200_and_has_no_effect(
    receiver: Stage, channel: str, body: bytes, status: int
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert receiver.post(body, headers, f"/webhooks/{channel}") == status
    assert receiver.kept() == []


def test_a_compressed_body_is_answered_415(receiver: Stage) -> None:
    assert receiver.post(BODY, signed(BODY) | {"Content-Encoding": "gzip"}) == 415


def test_json_with_a_character_set_is_taken(receiver: Stage) -> None:
    assert receiver.post(BODY, signed(BODY) | {"Content-Type": "Application/JSON; charset=utf-8"}) == 202


def test_an_empty_body_and_one_whose_topic_is_missing_are_answered_400(receiver: Stage) -> None:
    headers = signed(BODY)
    del headers["X-Test-Topic"]
    assert receiver.post(b"", signed(b"")) == 400
    assert receiver.post(BODY, headers) == 400
    assert receiver.kept() == []


def test_a_body_at_the_limit_is_taken_and_one_above_is_answered_413(receiver: Stage) -> None:
    at, above = b"a" * LIMIT, b"a" * (LIMIT + 1)
    assert receiver.post(at, signed(at)) == 202
    assert receiver.post(above, signed(above)) == 413
    assert [len(kept.body) for kept in receiver.kept()] == [LIMIT]


def test_a_length_over_the_limit_is_answered_413_before_the_body_is_sent(receiver: Stage) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as connection:
        connection.sendall(
            b"POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 999999\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_stream_without_a_length_is_cut_at_the_limit_with_413(receiver: Stage) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as connection:
        connection.sendall(
            b"POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(3):
            connection.sendall(b"3e8\r\n" + b"a" * 1000 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert receiver.kept() == []


def test_a_stream_without_a_length_below_the_limit_is_taken(receiver: Stage) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20)
    connection.request("POST", "/webhooks/shop", iter([BODY[:10], BODY[10:]]), signed(BODY), encode_chunked=True)
    assert connection.getresponse().status == 202
    connection.close()
    assert [kept.body for kept in receiver.kept()] == [BODY]


def test_a_sender_that_leaves_in_the_middle_leaves_nothing_behind(receiver: Stage) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as connection:
        connection.sendall(
            b"POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
    assert receiver.post(BODY, signed(BODY)) == 202
    assert len(receiver.kept()) == 1


def test_a_body_that_does_not_come_is_answered_408(receiver: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as connection:
        connection.sendall(
            b"POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
    assert receiver.kept() == []


def test_the_plain_address_belongs_to_the_channel_that_has_it(receiver: Stage) -> None:
    assert receiver.post(BODY, signed(BODY), path="/inventory-webhook") == 202
    assert [kept.channel for kept in receiver.kept()] == ["desk"]


def test_health_and_wrong_methods(receiver: Stage) -> None:
    status, body, _ = ask(receiver.port, "GET", "/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    for path, right in (("/webhooks/shop", "POST"), ("/webhooks/nobody", "POST"), ("/inventory-webhook", "POST")):
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"):
            status, body, headers = ask(receiver.port, method, path)
            assert (status, body, headers["allow"]) == (405, b"", right)
    assert ask(receiver.port, "POST", "/healthz", b"{}")[0] == 405
    for path in (
        "/",
        "/other",
        "/healthz/",
        "/webhooks",
        "/docs",
        "/openapi.json",
        "//webhooks/shop",
        "/webhooks/../shop",
    ):
        status, body, headers = ask(receiver.port, "GET", path)
        assert (status, body) == (405 if path == "/webhooks/../shop" else 404, b"")
        assert set(headers) == {"date", "content-length"} | ({"allow"} if status == 405 else set())


def test_logs_hold_neither_bodies_nor_signatures(receiver: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    body = b'{"email": "buyer@example.com"}'
    headers = signed(b"another body")
    assert receiver.post(body, headers) == 401
    receiver.writer.problem = OSError(errno.EIO, "Input/output error")
    assert receiver.post(body, signed(body)) == 503
    assert "refused a webhook for shop" in caplog.text
    assert "Input/output error" in caplog.text
    assert "buyer@example.com" not in caplog.text
    assert headers["X-Test-Signature"] not in caplog.text


def erp(name: str, **more: object) -> Channel:
    settings = ErpSettings(
        base_url="https://erp.example.com",
        api_key_env="DESK_KEY",
        signing_secret_env="DESK_SIGNING",
        webhook_secret_env="DESK_SECRET",
    )
    return Channel(name, "erp", "production", settings, **more)  # type: ignore[arg-type]


def test_gates_open_usable_channels_with_their_doors_secrets_alone_and_close_disabled_ones() -> None:
    environ = {"DESK_SECRET": "c"}
    configuration = Configuration(
        channels=(erp("desk", inventory_webhook=True), erp("off", disabled_reason="line 9: no secret"))
    )
    gates = gates_of(configuration, environ)
    assert set(gates.doors) == {"desk"}
    assert gates.plain == "desk"
    assert gates.closed == {"off": "line 9: no secret"}


def test_a_secret_that_can_be_none_closes_its_channel_and_no_other() -> None:
    settings = EbaySettings(
        client_id_env="I",
        client_secret_env="S",
        refresh_token_env="R",
        verification_token_env="V",
        webhook_url="https://sync.example.com/webhooks/ebay",
    )
    environ = {"DESK_SECRET": "c", "I": "i", "S": "s", "V": "too short"}
    configuration = Configuration(channels=(Channel("ebay", "ebay", "production", settings), erp("desk")))
    gates = gates_of(configuration, environ)
    assert set(gates.doors) == {"desk"}
    assert gates.closed == {"ebay": "a verification token has 32 to 80 letters, digits, _ or -"}
