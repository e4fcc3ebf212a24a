"""The receiver before a platform that publishes its keys: challenges, keys fetched beside the loop, and strangers' ids."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from invsync_dagster.platforms.doors import KeyedDoor
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.webhooks.gates import Gates
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.keys import BURST, SECONDS_A_FETCH, Keys
from tests.contract.ebay_harness import EbayHarness
from tests.unit.webhooks.serving import ask, opened, served


class Held:
    """The stand-in behind a gate: a key is answered once it opens."""

    def __init__(self, harness: EbayHarness) -> None:
        self.harness = harness
        self.gate = threading.Event()
        self.gate.set()
        self.down = False
        self.asked = 0

    def send(self, request: Request, *, deadline: float) -> Response:
        self.asked += "public_key" in request.url
        assert self.gate.wait(timeout=20)
        return Response(503, {}, b"") if self.down else self.harness.keys.send(request, deadline=deadline)


@dataclass
class Stage:
    harness: EbayHarness
    transport: Held
    port: int
    inbox: Inbox

    def told(self) -> tuple[dict[str, str], bytes]:
        """Return a true notification."""
        self.harness.change(self.harness.make_level(5))
        sent = self.harness.account.take_outgoing()[-1]
        return sent.headers, sent.body

    def post(self, headers: dict[str, str], body: bytes) -> int:
        return ask(self.port, "POST", "/webhooks/ebay_main", body, headers)[0]

    def kept(self) -> list[bytes]:
        return [delivery.body for path in self.inbox.segments(1000) for delivery in self.inbox.read(path)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    harness = EbayHarness()
    inbox = Inbox(tmp_path / "inbox")
    inbox.prepare(harness.clock.now())
    writer = SegmentWriter(inbox.folder, harness.clock, random.Random(1))
    transport = Held(harness)
    gates = Gates({"ebay_main": harness.door})
    with served(opened(gates, writer, inbox.folder, harness.clock, 10_000, transport)) as port:
        yield Stage(harness, transport, port, inbox)
        transport.gate.set()


def named(number: int) -> dict[str, str]:
    """Return the headers of a stranger who names a key that there isn't."""
    header = {"kid": f"00000000-0000-0000-0000-{number:012d}", "signature": "AAAA"}
    value = base64.b64encode(json.dumps(header).encode()).decode()
    return {"Content-Type": "application/json", "X-EBAY-SIGNATURE": value}


def test_a_challenge_is_answered_as_json_and_any_other_get_is_not(stage: Stage) -> None:
    status, body, headers = ask(stage.port, "GET", "/webhooks/ebay_main?challenge_code=abc")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert len(json.loads(body)["challengeResponse"]) == 64
    assert ask(stage.port, "GET", "/webhooks/ebay_main")[0] == 405
    assert ask(stage.port, "DELETE", "/webhooks/ebay_main?challenge_code=abc")[0] == 405
    assert ask(stage.port, "GET", "/webhooks/nobody?challenge_code=abc")[0] == 405
    assert stage.kept() == []


def test_the_first_notification_waits_for_its_key_and_the_next_ones_use_it(stage: Stage) -> None:
    sent = [stage.told() for _ in range(3)]
    assert [stage.post(*each) for each in sent] == [202] * 3
    assert stage.kept() == [body for _, body in sent]
    assert stage.transport.asked == 1


def test_several_that_wait_for_one_key_have_it_fetched_once_while_others_are_answered(stage: Stage) -> None:
    stage.transport.gate.clear()
    sent = [stage.told() for _ in range(3)]
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda each=each: statuses.append(stage.post(*each))) for each in sent]
    for thread in threads:
        thread.start()
    assert ask(stage.port, "GET", "/healthz")[0] == 200
    stage.transport.gate.set()
    for thread in threads:
        thread.join(timeout=20)
    assert statuses == [202] * 3
    assert stage.transport.asked == 1


def test_a_key_that_cant_be_had_now_is_answered_503_so_that_it_is_sent_again(stage: Stage) -> None:
    headers, body = stage.told()
    stage.transport.down = True
    assert stage.post(headers, body) == 503
    stage.transport.down = False
    assert stage.post(headers, body) == 202
    stage.harness.clock.advance(7200)
    stage.transport.down = True
    assert stage.post(headers, body) == 202
    stage.harness.clock.advance(86_400)
    assert stage.post(headers, body) == 401


def test_a_tampered_notification_is_answered_401(stage: Stage) -> None:
    headers, body = stage.told()
    assert stage.post(headers, body + b" ") == 401
    assert stage.post(headers, body) == 202


def test_made_up_keys_are_asked_for_a_few_times_and_then_slowly_and_a_known_one_always(stage: Stage) -> None:
    headers, body = stage.told()
    assert stage.post(headers, body) == 202
    stage.harness.clock.advance(3600 * 2)
    burst = int(BURST)
    assert [stage.post(named(number), b"{}") for number in range(burst)] == [401] * burst
    assert [stage.post(named(number), b"{}") for number in range(burst, burst + 3)] == [503] * 3
    assert stage.transport.asked == 1 + burst
    assert stage.post(named(0), b"{}") == 401
    assert stage.post(headers, body) == 202
    assert stage.transport.asked == 2 + burst
    stage.harness.clock.advance(SECONDS_A_FETCH)
    assert [stage.post(named(number), b"{}") for number in (90, 91)] == [401, 503]


def test_strangers_who_wait_for_a_made_up_key_stop_no_delivery_whose_key_is_known(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invsync_dagster.webhooks.floods.MOST_WAITING", 1)
    headers, body = stage.told()
    assert stage.post(headers, body) == 202
    stage.transport.gate.clear()
    stranger = threading.Thread(target=stage.post, args=(named(1), b"{}"))
    stranger.start()
    while stage.transport.asked < 2:
        time.sleep(0.01)
    assert stage.post(headers, body) == 202
    stage.harness.clock.advance(7200)  # the key is to be asked for again, and good for a day
    monkeypatch.setattr("invsync_dagster.webhooks.floods.MOST_WAITING", 2)
    assert stage.post(headers, body) == 202
    stage.transport.gate.set()
    stranger.join(timeout=20)


def test_another_key_than_the_one_under_way_is_not_waited_for() -> None:
    harness = EbayHarness()
    transport = Held(harness)
    transport.gate.clear()

    async def both() -> tuple[bool, bool]:
        keys = Keys(transport, harness.clock)
        door = harness.door
        assert isinstance(door, KeyedDoor)
        first = asyncio.create_task(keys.ready("ebay", door, {"x-ebay-signature": named(1)["X-EBAY-SIGNATURE"]}))
        await asyncio.sleep(0)
        second = await keys.ready("ebay", door, {"x-ebay-signature": named(2)["X-EBAY-SIGNATURE"]})
        transport.gate.set()
        return await first, second

    assert asyncio.run(both()) == (True, False)
