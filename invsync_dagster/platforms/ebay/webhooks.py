"""eBay's notifications: whose they are (signed by keys that eBay publishes), their address's challenge, what they say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from invsync_dagster.events import Content
from invsync_dagster.platforms import fields
from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.ebay import errors
from invsync_dagster.platforms.ebay.settings import EbaySettings
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError, Recovery, SignatureError
from invsync_dagster.platforms.fields import Tree, mapping, object_in, only, text
from invsync_dagster.platforms.oauth import GrantTokens
from invsync_dagster.platforms.transport import Request, Transport

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

# getPublicKey: keep a key for about an hour. While it can't be asked for again, the old one is good for a day.
_FRESH = timedelta(hours=1)
_USABLE = timedelta(days=1)
# eBay gives a notification little time; the key is one small answer.
_DEADLINE = 4.0
# An id that eBay doesn't know isn't asked for again soon; more of them than this aren't remembered.
_UNKNOWN_FOR = timedelta(minutes=10)
_MOST_UNKNOWN = 1000

_KEY_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,80}")

_ORDER = frozenset({"ORDER_CONFIRMATION", "ITEM_MARKED_SHIPPED"})
# The first two say nothing of stock (no personal data is kept here; a revoked consent shows at the next call), and a
# platform's word on its number is a reading, never a count.
_WITHOUT_EFFECT = frozenset({"MARKETPLACE_ACCOUNT_DELETION", "AUTHORIZATION_REVOCATION", "ITEM_AVAILABILITY"})

_NEEDED: Tree = {
    "metadata": {"topic": None},
    "notification": {"data": {"orderId": None, "order": {"orderId": None}}},
}


def needed(payload: Any) -> Any:
    """Return what `EbayDoor.parse` reads of a body, without the buyer."""
    return only(payload, _NEEDED)


@dataclass(frozen=True, slots=True)
class _Key:
    public: EllipticCurvePublicKey
    digest: str
    fetched_at: datetime


class EbayDoor:
    """The `WebhookDoor` of one account; it keeps the public keys that it was given by `fetch_key`. Safe for threads."""

    def __init__(self, settings: EbaySettings, verification_token: str, tokens: GrantTokens) -> None:
        if not _TOKEN.fullmatch(verification_token):
            raise ValueError("a verification token has 32 to 80 letters, digits, _ or -")
        self._settings = settings
        self._verification_token = verification_token
        self._tokens = tokens
        self._lock = threading.Lock()
        self._keys: dict[str, _Key] = {}
        self._unknown: dict[str, datetime] = {}

    def __repr__(self) -> str:
        return f"EbayDoor({self._settings.webhook_url})"

    def challenge_answer(self, query: Mapping[str, str]) -> bytes | None:
        """Return the JSON that proves to eBay that this address is ours, None if the query is no challenge.

        hex(SHA-256(challenge code + verification token + endpoint)), with the endpoint as it was given to eBay.
        """
        code = query.get("challenge_code", "")
        if not code:
            return None
        parts = code + self._verification_token + self._settings.webhook_url
        return json.dumps({"challengeResponse": hashlib.sha256(parts.encode()).hexdigest()}).encode()

    def wanted_key(self, headers: Mapping[str, str], now: datetime) -> str:
        """Return the id of the key to fetch before `verify`; "" if it is here and fresh, or nothing would come of it."""
        try:
            key_id, _ = _signature(headers)
        except SignatureError:
            return ""
        with self._lock:
            key, since = self._keys.get(key_id), self._unknown.get(key_id)
        if key is not None:
            return key_id if now - key.fetched_at > _FRESH else ""
        return "" if since is not None and now - since < _UNKNOWN_FOR else key_id

    def fetch_key(self, key_id: str, transport: Transport, now: datetime) -> None:
        """Ask eBay for a public key; blocks for some seconds at most. Raises `PlatformError` if it may be had later."""
        try:
            key = self._asked(key_id, transport, now)
        except PlatformError as error:
            if error.recovery not in (Recovery.REVIEW, Recovery.REJECT):
                raise
            with self._lock:
                if len(self._unknown) >= _MOST_UNKNOWN:
                    self._unknown.clear()
                self._unknown[key_id] = now
            return
        with self._lock:
            self._keys[key_id] = key

    def _asked(self, key_id: str, transport: Transport, now: datetime) -> _Key:
        token = self._tokens.token(transport, now)
        url = f"{self._settings.api_url}/commerce/notification/v1/public_key/{key_id}"
        request = Request("GET", url, {"Authorization": f"Bearer {token}", "Accept": "application/json"})
        response = answer_to(request, transport, deadline=_DEADLINE, writing=False)
        if response.status == 401 and self._tokens.refused(token, now):
            raise PlatformError(Recovery.RETRY, "token_expired", "eBay refuses a token that was given a while ago")
        answer = errors.json_of(
            response,
            lambda value: isinstance(value, dict) and "key" in value,
            writing=False,
            secrets=self._tokens.secrets,
        )
        return _key_of(answer, now)

    def verify(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Check `X-EBAY-SIGNATURE`: ECDSA on the raw body by the key that it names. Raises `SignatureError`.

        The signature holds no time, so a notification may be replayed: all that it does is to have an order asked for.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key_id, signature = _signature(headers)
        with self._lock:
            key = self._keys.get(key_id)
        if key is None or now - key.fetched_at > _USABLE:
            raise SignatureError("the key that X-EBAY-SIGNATURE names is not one of eBay's")
        # SHA-1 is what eBay signs with; which digest it is, the published key says and not the sender.
        algorithm = hashes.SHA1() if key.digest == "SHA1" else hashes.SHA256()  # noqa: S303
        try:
            key.public.verify(signature, body, ec.ECDSA(algorithm))
        except InvalidSignature:
            raise SignatureError("the signature X-EBAY-SIGNATURE is wrong") from None

    def topic(self, headers: Mapping[str, str], body: bytes) -> str:
        """Return `metadata.topic`, which eBay tells in the body. Raises `NotUnderstoodError`."""
        return _topic(object_in(body))

    def parse(self, headers: Mapping[str, str], body: bytes) -> Content:
        """Return the id of the order to ask for. Raises `NotUnderstoodError`.

        ORDER_CONFIRMATION names listings and units but no SKU, comes once a line, and again after a failed payment: only
        the whole order tells what was sold.
        """
        payload = object_in(body)
        topic = _topic(payload)
        if topic in _WITHOUT_EFFECT:
            return Content()
        if topic not in _ORDER:
            raise NotUnderstoodError(f"the topic {topic!r:.60} is not one that we read")
        data = mapping(mapping(payload, "notification"), "data")
        order = data["order"] if isinstance(data.get("order"), dict) else data
        return Content(unclear_orders=(text(order, "orderId"),))


def _topic(payload: Mapping[str, Any]) -> str:
    return fields.topic(mapping(payload, "metadata").get("topic"), "metadata.topic")


def _signature(headers: Mapping[str, str]) -> tuple[str, bytes]:
    """Return key id and signature of the header, base64 of a JSON object. Raises `SignatureError`."""
    try:
        given = json.loads(base64.b64decode(headers.get("x-ebay-signature", "").encode("ascii"), validate=True))
        key_id, signature = given["kid"], base64.b64decode(given["signature"].encode("ascii"), validate=True)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise SignatureError("the signature X-EBAY-SIGNATURE is missing or malformed") from None
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise SignatureError("the signature X-EBAY-SIGNATURE names no key")
    return key_id.lower(), signature


def _key_of(answer: Mapping[str, Any], now: datetime) -> _Key:
    """Read a published key; eBay writes its PEM without line breaks. Raises `PlatformError`."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    digest, written = answer.get("digest"), answer.get("key")
    match = _PEM.fullmatch(written) if isinstance(written, str) else None
    if digest not in ("SHA1", "SHA256") or match is None:
        raise PlatformError(Recovery.RETRY, "malformed_key", "the public key is not in the form that eBay promises")
    try:
        public = load_der_public_key(base64.b64decode("".join(match[1].split())))
    except ValueError:
        raise PlatformError(Recovery.RETRY, "malformed_key", "the public key can't be read") from None
    if not isinstance(public, EllipticCurvePublicKey):
        raise PlatformError(Recovery.RETRY, "malformed_key", "the public key is not an ECDSA key")
    return _Key(public, digest, now)
