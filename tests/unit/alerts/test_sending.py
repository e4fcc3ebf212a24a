"""Messages to real messengers on loopback, and what is said of those that take none."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from invsync_dagster.alerts import sending
from invsync_dagster.alerts.sending import Message, Tone, send, without_address
from tests.sinks import mail_sink, web_sink

MESSAGE = Message("invsync: shop refuses us", "no token [re-authenticate]. Put the new key in place.", Tone.FAILURE)


def test_a_web_hook_is_told_title_and_body() -> None:
    with web_sink() as sink:
        assert send(f"json://127.0.0.1:{sink.port}/hook", MESSAGE) == ""
    assert sink.told == [(MESSAGE.title, MESSAGE.body)]


def test_a_mailbox_gets_one_mail() -> None:
    with mail_sink() as sink:
        address = f"mailto://seller:pass-word@127.0.0.1:{sink.port}/?from=invsync@example.com&to=seller@example.com"
        assert send(address, MESSAGE) == ""
    [(subject, body)] = sink.told
    assert subject == MESSAGE.title
    assert "no token [re-authenticate]. Put the new key in place." in body


def test_a_refusal_is_told_without_the_address(caplog: pytest.LogCaptureFixture) -> None:
    with web_sink() as sink, caplog.at_level(logging.DEBUG):
        sink.refuses = True
        address = f"json://seller:planted-password@127.0.0.1:{sink.port}/planted-path-key?+token=planted-token"
        why = send(address, MESSAGE)
    assert "401" in why
    for part in ("planted-password", "planted-path-key", "planted-token", "127.0.0.1", str(sink.port)):
        assert part not in why
        assert part not in " ".join(record.getMessage() for record in caplog.records if record.name == "apprise")


def test_a_recipient_that_is_refused_is_a_failure() -> None:
    with mail_sink() as sink:
        sink.refuses = True
        why = send(f"mailto://seller:pass-word@127.0.0.1:{sink.port}/?from=a@example.com&to=b@example.com", MESSAGE)
    assert why != ""
    assert "pass-word" not in why


def test_nobody_there_is_a_failure_in_words() -> None:
    with web_sink() as sink:
        port = sink.port
    why = send(f"json://127.0.0.1:{port}/", MESSAGE)
    assert why != ""
    assert str(port) not in why


def test_a_messenger_that_hangs_is_left_after_the_seconds_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SECONDS", 0.3)
    release = threading.Event()
    with web_sink() as sink:
        sink.hangs = release
        began = time.monotonic()
        why = send(f"json://127.0.0.1:{sink.port}/", MESSAGE)
        took = time.monotonic() - began
        release.set()
    assert why != ""
    assert took < 4


@pytest.mark.parametrize("address", ["no address", "unheardof://token", "https://hooks.example.com/x y"])
def test_what_is_no_address_of_a_messenger_is_said_so(address: str) -> None:
    why = send(address, MESSAGE)
    assert why == "its variable holds no address that Apprise knows: see https://appriseit.com/services/"


def test_words_lose_every_part_of_an_address_that_may_be_a_key() -> None:
    words = without_address("tgram://110:AbCdEf/chat refused AbCdEf at chat", "tgram://110:AbCdEf/chat")
    assert words == "[secret] refused [secret] at [secret]"
