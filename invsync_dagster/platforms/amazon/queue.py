"""The SQS queue that Amazon puts a seller's notifications into: long polls, and the removal of what is safe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from invsync_dagster.platforms.amazon.settings import QUEUE
from invsync_dagster.platforms.doors import Queued
from invsync_dagster.platforms.errors import PlatformError, Recovery, told

# The longest that SQS waits for a message, and the most that it hands out at once (SQS, ReceiveMessage).
WAIT_SECONDS = 20
AT_ONCE = 10
# What was handed out and not removed is handed out again after so long: writing ten notifications takes milliseconds, so
# this is what a crash costs.
HIDDEN_SECONDS = 30
_ANSWER_SECONDS = 10


class SqsQueue:
    """The `Queue` at a URL. `keys` are an AWS access key's id and secret; without them they are found in AWS's own ways:
    the environment, a profile, the role of the machine.

    Notifications come at least once and in no order. For one thread at a time.
    """

    def __init__(self, url: str, keys: tuple[str, str] | None, *, wait_seconds: int = WAIT_SECONDS) -> None:
        self._url = url
        self._keys = keys
        self._wait_seconds = wait_seconds

    def __repr__(self) -> str:
        return f"SqsQueue({self._url})"

    def receive(self) -> Sequence[Queued]:
        """Wait up to 20 seconds for notifications, and return up to ten. Raises `PlatformError`."""
        wait, hidden = self._wait_seconds, HIDDEN_SECONDS
        answer = self._ask(
            "receive_message", MaxNumberOfMessages=AT_ONCE, WaitTimeSeconds=wait, VisibilityTimeout=hidden
        )
        return [
            # Half a character can't be UTF-8; this writes it as JSON does.
            Queued(each["MessageId"], each["ReceiptHandle"], each["Body"].encode("utf-8", "backslashreplace"))
            for each in answer.get("Messages", ())
        ]

    def remove(self, taken: Sequence[Queued]) -> None:
        """Remove up to ten notifications. Raises `PlatformError` if some of them stay: they are handed out again."""
        entries = [{"Id": str(number), "ReceiptHandle": each.receipt} for number, each in enumerate(taken)]
        for failed in self._ask("delete_message_batch", Entries=entries).get("Failed", ()):
            raise self._error(failed["Code"], f"a notification stays in the queue: {failed.get('Message', '')}")

    def _ask(self, operation: str, **parameters: Any) -> Any:
        try:
            from botocore.exceptions import BotoCoreError, ClientError
        except ModuleNotFoundError:
            words = "webhook_queue needs boto3, which isn't installed: pip install 'invsync-dagster[amazon]'"
            raise self._error("no_boto3", words) from None
        # Neither is chained: their causes carry headers.
        try:
            return getattr(self._client, operation)(QueueUrl=self._url, **parameters)
        except ClientError as error:
            said = error.response.get("Error", {})
            raise self._error(str(said.get("Code", "unknown")), str(said.get("Message", ""))) from None
        except BotoCoreError as error:
            raise self._error(type(error).__name__, str(error)) from None

    @cached_property
    def _client(self) -> Any:
        # 0.3 s and 30 MB that only a channel with a queue needs.
        import boto3
        from botocore.config import Config

        address = urlsplit(self._url)
        named = QUEUE.fullmatch(self._url)
        key_id, key = self._keys or (None, None)
        return boto3.session.Session().client(
            "sqs",
            region_name=named[1] if named else "us-east-1",
            endpoint_url=f"{address.scheme}://{address.netloc}",
            aws_access_key_id=key_id,
            aws_secret_access_key=key,
            # Who polls tries again by itself, and says so.
            config=Config(
                connect_timeout=_ANSWER_SECONDS,
                read_timeout=self._wait_seconds + _ANSWER_SECONDS,
                retries={"total_max_attempts": 1},
            ),
        )

    def _error(self, code: str, words: str) -> PlatformError:
        return PlatformError(Recovery.RETRY, code, told(words, self._keys or ()))
