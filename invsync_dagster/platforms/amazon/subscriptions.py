"""Amazon's notifications: the destination that the channel's settings name, and the seller's subscriptions to what we read.

Destinations belong to the app and take a token of its own (grantless); a type and version of payload has one subscription of a
seller with an app, so one that goes elsewhere is another installation's (notifications v1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from invsync_dagster.platforms.amazon.feeds import Call
from invsync_dagster.platforms.amazon.settings import QUEUE, AmazonSettings
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.fields import mapping, objects, text
from invsync_dagster.platforms.subscribing import Subscription, SubscriptionState

# With the version of the payload that we read.
TOPICS = {"ORDER_CHANGE": "1.0", "FEED_PROCESSING_FINISHED": "2020-09-04"}

_SUBSCRIPTIONS = "/notifications/v1/subscriptions"
_DESTINATIONS = "/notifications/v1/destinations"


class Subscriptions:
    """The notifications of one seller. `call` calls as the seller, `call_as_app` with the app's own token."""

    def __init__(self, settings: AmazonSettings, call: Call, call_as_app: Call) -> None:
        self._call = call
        self._call_as_app = call_as_app
        self._wanted = resource_of(settings)
        self._takes_any = settings.webhook_secret_env is not None
        self.calls = 0

    def found(self) -> tuple[Subscription, ...]:
        """Return how each type stands, nothing where the channel has no way for them to come by.

        Raises `PlatformError`, `NotUnderstoodError`.
        """
        if self._wanted is None and not self._takes_any:
            return ()
        own = self._destination() if self._wanted is not None else None
        return tuple(self._standing(topic, own) for topic in TOPICS)

    def put(self, subscription: Subscription) -> Subscription:
        """Subscribe to a type, with the destination that it needs. Raises `PlatformError`, `NotUnderstoodError`."""
        if self._wanted is None:
            words = "Amazon must be told where to: give the channel webhook_queue or webhook_event_bridge"
            raise PlatformError(Recovery.REVIEW, "no_destination", words)
        destination = self._destination() or self._make(self._wanted)
        document = {"payloadVersion": TOPICS[subscription.topic], "destinationId": destination}
        path = f"{_SUBSCRIPTIONS}/{subscription.topic}"
        self.calls += 1
        made = mapping(self._call("POST", path, {}, _has_payload, document), "payload")
        return Subscription(subscription.topic, SubscriptionState.ACTIVE, text(made, "subscriptionId"))

    def _standing(self, topic: str, own: str | None) -> Subscription:
        self.calls += 1
        query = {"payloadVersion": TOPICS[topic]}
        try:
            answer = self._call("GET", f"{_SUBSCRIPTIONS}/{topic}", query, _has_payload)
        except PlatformError as error:
            if error.code != "not_found":
                raise
            return Subscription(topic, SubscriptionState.MISSING)
        held = mapping(answer, "payload")
        number = text(held, "subscriptionId")
        if self._wanted is not None and text(held, "destinationId") != own:
            note = "it goes to a destination that isn't this channel's"
            return Subscription(topic, SubscriptionState.ELSEWHERE, number, note)
        return Subscription(topic, SubscriptionState.ACTIVE, number)

    def _destination(self) -> str:
        """Return the id of the channel's destination, "" where there is none yet."""
        self.calls += 1
        for each in objects(self._call_as_app("GET", _DESTINATIONS, {}, _has_payload), "payload"):
            resource = mapping(each, "resource")
            if self._wanted is not None and all(
                isinstance(resource.get(kind), Mapping) and fields.items() <= resource[kind].items()
                for kind, fields in self._wanted.items()
            ):
                return text(each, "destinationId")
        return ""

    def _make(self, wanted: Mapping[str, Mapping[str, str]]) -> str:
        self.calls += 1
        name = "invsync " + " ".join(":".join(fields.values()) for fields in wanted.values())
        document = {"name": name[:256], "resourceSpecification": wanted}
        answer = self._call_as_app("POST", _DESTINATIONS, {}, _has_payload, document)
        return text(mapping(answer, "payload"), "destinationId")


def resource_of(settings: AmazonSettings) -> Mapping[str, Mapping[str, str]] | None:
    """Return the queue or the event bus of a channel as Amazon names them, None where the channel doesn't say."""
    if settings.webhook_queue is not None:
        account, name = urlsplit(settings.webhook_queue).path.strip("/").split("/")[-2:]
        known = QUEUE.fullmatch(settings.webhook_queue)
        partition = "aws-cn" if ".amazonaws.com.cn/" in settings.webhook_queue else "aws"
        return {"sqs": {"arn": f"arn:{partition}:sqs:{known[1] if known else 'us-east-1'}:{account}:{name}"}}
    if settings.webhook_event_bridge is not None:
        region, _, account = settings.webhook_event_bridge.partition(":")
        return {"eventBridge": {"accountId": account, "region": region}}
    return None


def _has_payload(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("payload"), Mapping | list)
