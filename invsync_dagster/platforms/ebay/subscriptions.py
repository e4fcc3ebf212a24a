"""eBay's notifications: the destination that is our address, and the seller's subscriptions to the topics that we read.

A destination is the application's, a subscription the seller's; an address that goes on failing is MARKED_DOWN by eBay, and
then nothing comes whatever is subscribed (commerce_notification 1.5.1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.ebay import errors
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.fields import objects, text
from invsync_dagster.platforms.oauth import GrantTokens
from invsync_dagster.platforms.subscribing import Subscription, SubscriptionState
from invsync_dagster.platforms.transport import Request, Response, Transport

TOPICS = ("ORDER_CONFIRMATION", "ITEM_MARKED_SHIPPED")

_API = "/commerce/notification/v1"
_PAYLOAD = {"format": "JSON", "schemaVersion": "1.0", "deliveryProtocol": "HTTPS"}
_MOST_PAGES = 20
# eBay asks a new destination with a challenge before it answers.
_DEADLINE = 30.0
# The application has no configuration; eBay's own words name a call that a seller doesn't make.
_NO_ALERT_EMAIL = "ebay_195003"
_SCOPE = ", and for notifications commerce.notification.subscription"


class Subscriptions:
    """The notifications of one seller by one application. Its representation holds no secret."""

    def __init__(
        self,
        api_url: str,
        seller: GrantTokens,
        application: GrantTokens,
        verification_token: str,
        alert_email: str | None,
        transport: Transport,
        clock: Clock,
    ) -> None:
        self._api_url = api_url
        self._seller = seller
        self._application = application
        self._verification_token = verification_token
        self._alert_email = alert_email
        self._transport = transport
        self._clock = clock
        self.calls = 0

    def found(self, address: str) -> tuple[Subscription, ...]:
        """Return how each topic stands. Raises `PlatformError`, `NotUnderstoodError`."""
        destinations = {text(each, "destinationId"): each for each in self._destinations()}
        held = [each for each in self._listed("subscription", self._seller) if each.get("topicId") in TOPICS]
        by_topic = {text(each, "topicId"): each for each in held}
        return tuple(_standing(topic, by_topic.get(topic), destinations, address) for topic in TOPICS)

    def put(self, subscription: Subscription, address: str) -> Subscription:
        """Make a subscription, or enable one, with the destination that it needs. Raises `PlatformError`."""
        destination = self._destination(address)
        wanted = {"status": "ENABLED", "payload": _PAYLOAD, "destinationId": destination}
        if subscription.handle:
            self._send("PUT", f"/subscription/{subscription.handle}", self._seller, wanted)
            return replace(subscription, state=SubscriptionState.ACTIVE, note="")
        answer = self._send("POST", "/subscription", self._seller, {**wanted, "topicId": subscription.topic})
        return Subscription(subscription.topic, SubscriptionState.ACTIVE, _named(answer))

    def _destination(self, address: str) -> str:
        """Return the id of the enabled destination that is our address; eBay asks it with a challenge when it is made, and
        makes none for an application without an address for its alerts (195003)."""
        own = next((each for each in self._destinations() if _endpoint(each) == address), None)
        if own is not None and own.get("status") == "ENABLED":
            return text(own, "destinationId")
        if self._alert_email is not None:
            self._send("PUT", "/config", self._application, {"alertEmail": self._alert_email})
        config = {"endpoint": address, "verificationToken": self._verification_token}
        # A name has 64 letters at most.
        name = f"invsync {urlsplit(address).hostname}"[:64]
        wanted = {"name": name, "status": "ENABLED", "deliveryConfig": config}
        if own is None:
            return _named(self._send("POST", "/destination", self._application, wanted))
        number = text(own, "destinationId")
        self._send("PUT", f"/destination/{number}", self._application, wanted)
        return number

    def _destinations(self) -> list[Mapping[str, Any]]:
        return self._listed("destination", self._application)

    def _listed(self, name: str, tokens: GrantTokens) -> list[Mapping[str, Any]]:
        """Return all destinations or subscriptions, page by page."""
        entries: list[Mapping[str, Any]] = []
        path = f"/{name}?limit=100"
        for _ in range(_MOST_PAGES):
            answer = self._send("GET", path, tokens, None)
            value = errors.json_of(answer, _is_object, writing=False, secrets=self._secrets)
            entries += objects(value, f"{name}s", optional=True)
            following = value.get("next")
            if not isinstance(following, str) or not following:
                return entries
            path = f"/{name}?{urlsplit(following).query}"
        raise PlatformError(Recovery.REJECT, "too_many_pages", f"eBay lists more {name}s than there can be")

    @property
    def _secrets(self) -> tuple[str, ...]:
        return (*self._seller.secrets, *self._application.secrets, self._verification_token)

    def _send(self, method: str, path: str, tokens: GrantTokens, document: Mapping[str, Any] | None) -> Response:
        """Send one request, and return its answer if it is a success. Raises `PlatformError`."""
        now = self._clock.now()
        token = tokens.token(self._transport, now)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        body = b""
        if document is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(document, separators=(",", ":")).encode()
        self.calls += 1
        request = Request(method, f"{self._api_url}{_API}{path}", headers, body)
        writing = method != "GET"
        response = answer_to(request, self._transport, deadline=_DEADLINE, writing=writing)
        if response.status == 401 and tokens.refused(token, now):
            raise PlatformError(Recovery.RETRY, "token_expired", "eBay refuses a token that was given a while ago")
        try:
            # What was made or changed needs no body.
            if method == "GET" or not 200 <= response.status < 300:
                errors.json_of(response, _is_object, writing=writing, secrets=self._secrets)
        except PlatformError as error:
            if error.code == _NO_ALERT_EMAIL:
                words = f"{error.message}; give the channel's settings `alert_email`"
                raise PlatformError(error.recovery, error.code, words) from error
            if response.status in (401, 403):
                raise PlatformError(error.recovery, error.code, f"{error.message}{_SCOPE}") from error
            raise
        return response


def _standing(
    topic: str, held: Mapping[str, Any] | None, destinations: Mapping[str, Mapping[str, Any]], address: str
) -> Subscription:
    if held is None:
        return Subscription(topic, SubscriptionState.MISSING)
    number = text(held, "subscriptionId")
    destination = destinations.get(str(held.get("destinationId")), {})
    at = _endpoint(destination)
    if not destination:
        return Subscription(topic, SubscriptionState.WRONG, number, "its destination is gone")
    if at != address:
        # Also one that is marked down: another installation's, which would lose its topic while it is away.
        return Subscription(topic, SubscriptionState.ELSEWHERE, number, f"it goes to {urlsplit(at).hostname}")
    for what, each in (("its destination", destination), ("it", held)):
        if each.get("status") != "ENABLED":
            return Subscription(topic, SubscriptionState.OFF, number, f"{what} is {each.get('status')}"[:60])
    return Subscription(topic, SubscriptionState.ACTIVE, number)


def _endpoint(destination: Mapping[str, Any]) -> str:
    config = destination.get("deliveryConfig")
    return str(config.get("endpoint", "")) if isinstance(config, Mapping) else ""


def _named(answer: Response) -> str:
    """Return the id of what was made: the last part of its Location."""
    number = urlsplit(answer.headers.get("location", "")).path.rpartition("/")[2]
    if not number:
        raise PlatformError(Recovery.SETTLE, "malformed_answer", "eBay doesn't say the id of what it made")
    return number


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)
