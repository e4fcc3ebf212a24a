"""Notifications from an SQS queue over real HTTP: nothing leaves the queue before it is safe in the inbox."""

from __future__ import annotations

import errno
import json
import logging
import random
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from invsync_dagster.platforms.amazon import AmazonDoor, AmazonSettings, queue
from invsync_dagster.platforms.amazon.queue import SqsQueue
from invsync_dagster.platforms.doors import Queued
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import apply_inbox
from invsync_dagster.webhooks import queues
from invsync_dagster.webhooks.gates import Gates
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.queues import QueuePoller, pollers_of
from invsync_dagster.webhooks.segments import Delivery
from tests.contract.amazon_harness import KEY, SECRETS, SELLER, settings_with
from tests.unit.sync.amazon_stage import NAME, AmazonStage
from tests.unit.webhooks.serving import ask, opened, served

NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
KEYS = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI-key")


@pytest.fixture(scope="module")
def sqs() -> Iterator[str]:
    """Serve a stand-in of SQS on loopback, and yield its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@dataclass
class Aws:
    """Amazon's side of a queue: it puts notifications in."""

    client: Any
    url: str

    def send(self, body: str) -> str:
        return str(self.client.send_message(QueueUrl=self.url, MessageBody=body)["MessageId"])

    def left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(map(int, told.values()))


@pytest.fixture
def aws(sqs: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Aws:
    # What was handed out is handed out again at once.
    monkeypatch.setattr(queue, "HIDDEN_SECONDS", 0)
    client = boto3.session.Session().client(
        "sqs",
        region_name="us-east-1",
        endpoint_url=sqs,
        aws_access_key_id=KEYS[0],
        aws_secret_access_key=KEYS[1],
    )
    return Aws(
        client, client.create_queue(QueueName=f"q{random.Random(request.node.name).getrandbits(40)}")["QueueUrl"]
    )


@dataclass
class Writer:
    """The true writer, which the test can let fail."""

    inner: SegmentWriter
    problem: OSError | None = None

    def write(self, deliveries: Sequence[Delivery]) -> Path:
        if self.problem is not None:
            raise self.problem
        return self.inner.write(deliveries)


@dataclass
class Place:
    """An inbox and the poller that fills it."""

    inbox: Inbox
    writer: Writer
    poller: QueuePoller

    def kept(self) -> list[Delivery]:
        return [delivery for path in self.inbox.segments(100) for delivery in self.inbox.read(path)]


def place(folder: Path, queue: Any) -> Place:
    clock = VirtualClock(NOW)
    inbox = Inbox(folder / "inbox")
    inbox.prepare(NOW)
    writer = Writer(SegmentWriter(inbox.folder, clock, random.Random(1)))
    return Place(inbox, writer, QueuePoller(NAME, AmazonDoor(SELLER, []), queue, writer, clock))


def its_queue(aws: Aws) -> SqsQueue:
    return SqsQueue(aws.url, KEYS, wait_seconds=0)


def finished(feed: str) -> str:
    told = {"sellerId": SELLER, "feedId": feed, "feedType": "JSON_LISTINGS_FEED", "processingStatus": "DONE"}
    payload = {"feedProcessingFinishedNotification": told}
    return json.dumps({"notificationType": "FEED_PROCESSING_FINISHED", "payload": payload})


def test_a_notification_is_kept_byte_for_byte_and_then_removed(aws: Aws, tmp_path: Path) -> None:
    here = place(tmp_path, its_queue(aws))
    body = ' {"notificationType": "FEED_PROCESSING_FINISHED", "ä": "\\u00e9"}\n'
    number = aws.send(body)
    assert here.poller.poll() == 1
    (kept,) = here.kept()
    assert (kept.channel, kept.topic, kept.received_at) == (NAME, "FEED_PROCESSING_FINISHED", NOW)
    assert (kept.body, kept.headers["x-queue-message-id"]) == (body.encode(), number)
    assert (aws.left(), here.poller.problem, here.poller.poll()) == (0, "", 0)


def test_up_to_ten_come_at_once_as_one_segment(aws: Aws, tmp_path: Path) -> None:
    here = place(tmp_path, its_queue(aws))
    for number in range(12):
        aws.send(finished(str(number)))
    assert (here.poller.poll(), here.poller.poll(), aws.left()) == (10, 2, 0)
    assert len(here.inbox.segments(100)) == 2
    assert sorted(
        json.loads(kept.body)["payload"]["feedProcessingFinishedNotification"]["feedId"] for kept in here.kept()
    ) == sorted(map(str, range(12)))


def test_what_is_not_on_disk_stays_in_the_queue(aws: Aws, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = place(tmp_path, its_queue(aws))
    aws.send(finished("1"))
    here.writer.problem = OSError(errno.ENOSPC, "No space left on device")
    assert (here.poller.poll(), here.poller.poll()) == (0, 0)
    assert (aws.left(), here.kept()) == (1, [])
    assert here.poller.problem == "the inbox can't be written: No space left on device"
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    assert here.poller.pause() == 4.0
    here.writer.problem = None
    assert here.poller.poll() == 1
    assert (aws.left(), len(here.kept()), here.poller.problem, here.poller.pause()) == (0, 1, "", 0.0)


@dataclass
class Scripted:
    """A queue that hands out what it is told, whether it was removed or not."""

    answers: list[list[Queued] | Exception]
    removal: PlatformError | None = None
    removed: list[Queued] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def receive(self) -> Sequence[Queued]:
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer

    def remove(self, taken: Sequence[Queued]) -> None:
        if self.removal is not None:
            raise self.removal
        self.removed += taken
        self.done.set()


def test_what_could_not_be_removed_comes_again_and_books_a_sale_once(tmp_path: Path) -> None:
    stage = AmazonStage({"A": 9}, {"A": 9}, processing_seconds=0)
    stage.settle()
    stage.account.buy({"A": 2})
    (sold,) = stage.account.take_outgoing()
    again = Queued("1", "r", json.dumps(json.loads(sold.body)["detail"]).encode())
    scripted = Scripted([[again], [again, again]], PlatformError(Recovery.RETRY, "InternalError", "try again"))
    here = place(tmp_path, scripted)
    assert (here.poller.poll(), here.poller.problem) == (0, "its queue can't be read: InternalError: try again [retry]")
    scripted.removal = None
    assert (here.poller.poll(), scripted.removed) == (2, [again, again])
    home = Home(root=tmp_path, data=tmp_path, database_url="", channels_file=tmp_path / "channels.yaml")
    report = apply_inbox(replace(stage.ws, home=home), run_id="run")
    assert (report.deliveries, report.entries, report.quarantined) == (3, 1, 0)
    assert stage.level("A").desired == 7


def test_what_can_not_be_understood_goes_to_quarantine_and_hinders_nothing(aws: Aws, tmp_path: Path) -> None:
    stage = AmazonStage({"A": 9}, {"A": 9}, processing_seconds=0)
    here = place(tmp_path, its_queue(aws))
    stage.account.buy({"A": 2})
    (sold,) = stage.account.take_outgoing()
    for body in ("no JSON", "[]", '{"NotificationType": "PRICING_HEALTH"}', json.dumps({"Message": "an envelope"})):
        aws.send(body)
    aws.send(json.dumps(json.loads(sold.body)["detail"]))
    assert (here.poller.poll(), aws.left()) == (5, 0)
    home = Home(root=tmp_path, data=tmp_path, database_url="", channels_file=tmp_path / "channels.yaml")
    report = apply_inbox(replace(stage.ws, home=home), run_id="run")
    assert (report.deliveries, report.entries, report.quarantined) == (5, 1, 4)
    reasons = [json.loads(path.read_bytes())["reason"] for path in (here.inbox.folder / "quarantine").iterdir()]
    assert sorted(reasons) == [
        "NotificationType is missing or not the name of an event",
        "the body is not a JSON object",
        "the body is not a JSON object",
        "the notification 'PRICING_HEALTH' is not one that we read",
    ]


def test_a_queue_that_is_not_there_is_told_in_the_words_of_aws(aws: Aws, tmp_path: Path) -> None:
    here = place(tmp_path, SqsQueue(aws.url + "x", KEYS, wait_seconds=0))
    assert here.poller.poll() == 0
    assert here.poller.problem.startswith("its queue can't be read: AWS.SimpleQueueService.NonExistentQueue: ")


def test_nobody_listening_and_no_credentials_are_told_without_secrets(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = place(tmp_path, SqsQueue("http://127.0.0.1:9/123456789012/q", KEYS, wait_seconds=0)).poller
    assert (unreachable.poll(), KEYS[1] in unreachable.problem) == (0, False)
    assert "EndpointConnectionError: Could not connect" in unreachable.problem
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    nameless = place(tmp_path, SqsQueue(aws.url, None, wait_seconds=0)).poller
    assert (nameless.poll(), nameless.problem) == (
        0,
        "its queue can't be read: NoCredentialsError: Unable to locate credentials [retry]",
    )


def test_credentials_are_taken_in_the_ways_of_aws_where_none_are_named(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS[1])
    aws.send(finished("1"))
    assert place(tmp_path, SqsQueue(aws.url, None, wait_seconds=0)).poller.poll() == 1


def test_without_boto3_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    here = place(tmp_path, SqsQueue("https://sqs.eu-west-1.amazonaws.com/123456789012/q", KEYS))
    assert (here.poller.poll(), here.poller.problem) == (
        0,
        "its queue can't be read: no_boto3: webhook_queue needs boto3, which isn't installed: "
        "pip install 'invsync-dagster[amazon]' [retry]",
    )


def test_what_nobody_thought_of_is_told_and_the_thread_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queues, "FIRST_PAUSE", 0.001)
    scripted = Scripted([RuntimeError("a parser broke"), [Queued("1", "r", finished("7").encode())]])
    here = place(tmp_path, scripted)
    here.poller.start()
    assert scripted.done.wait(20)
    here.poller.stop()
    assert len(here.kept()) == 1
    (logged,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert logged.getMessage() == "amazon_eu: reading its queue broke: RuntimeError"
    assert "a parser broke" in caplog.text


def test_failures_are_further_and_further_apart_up_to_a_minute(tmp_path: Path) -> None:
    gone = PlatformError(Recovery.RETRY, "gone", "x")
    here = place(tmp_path, Scripted([gone] * 8))
    pauses = []
    for _ in range(8):
        here.poller.poll()
        pauses.append(here.poller.pause())
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_channel_with_a_queue_has_a_poller_and_takes_nothing_over_http_without_a_key(aws: Aws) -> None:
    vendor = VENDORS["amazon"]
    named = settings_with(
        webhook_queue=aws.url,
        webhook_queue_key_id_env="QI",
        webhook_queue_key_env="QK",
        webhook_secret_env=...,
        webhook_previous_secret_env=...,
    )
    secrets = {name: value for name, value in SECRETS.items() if not name.startswith("webhook_")}
    keys = dict(zip(("webhook_queue_key_id_env", "webhook_queue_key_env"), KEYS, strict=True))
    door = vendor.door(vendor.settings.model_validate(named), secrets | keys)
    plain = vendor.door(vendor.settings.model_validate(settings_with()), SECRETS)
    found = pollers_of({"a": door, "b": plain}, lambda: Writer(None), VirtualClock(NOW))  # type: ignore[arg-type]
    assert [poller.channel for poller in found] == ["a"]
    assert repr(door.queue()) == f"SqsQueue({aws.url})"  # type: ignore[attr-defined]


def test_the_receiver_empties_its_queues_and_tells_of_one_that_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    works = Scripted([[Queued("1", "r", finished("7").encode())]])
    fails = Scripted([PlatformError(Recovery.RETRY, "AccessDenied", "not allowed")] * 2)
    good, bad = place(tmp_path, works), place(tmp_path, fails)
    bad.poller.channel = "other"
    bad.poller.poll()
    door = AmazonDoor(SELLER, [KEY])
    clock = VirtualClock(NOW)
    writer = SegmentWriter(good.inbox.folder, clock, random.Random(2))
    pollers = (good.poller, bad.poller)
    app = opened(Gates({NAME: door}), writer, good.inbox.folder, clock, 1000, pollers=pollers)
    with served(app) as port:
        assert works.done.wait(20)
        status, body, _ = ask(port, "GET", "/healthz")
        assert (status, json.loads(body)) == (200, {"status": "degraded"})
    assert "other: its queue can't be read: AccessDenied: not allowed" in caplog.text
    assert [kept.topic for kept in good.kept()] == ["FEED_PROCESSING_FINISHED"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"webhook_queue": "https://sqs.eu-west-1.amazonaws.com.evil.example/123456789012/q"}, "the queue's URL"),
        ({"webhook_queue": "arn:aws:sqs:eu-west-1:123456789012:q"}, "the queue's URL"),
        ({"webhook_queue_key_id_env": "QI", "webhook_queue_key_env": "QK"}, "without a webhook_queue"),
        ({"webhook_queue_key_id_env": "QI"}, "must be given together"),
        ({"webhook_secret_env": ...}, "without a webhook_secret_env"),
    ],
)
def test_settings_of_a_queue_that_can_not_be_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AmazonSettings.model_validate(settings_with(**changed))
