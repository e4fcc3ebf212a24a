"""The stand-in store's webhooks: those that its keeper made by hand, those made by the API, and how failures switch them off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.platforms.woocommerce.sandbox_answers import RefusedError, answer, page

# A delivery that fails while so many before it have failed disables its webhook (class-wc-webhook.php).
_FAILURES_BEARABLE = 5
FIRST = 7
_BY_HAND = ("order.created", "order.updated", "order.deleted", "order.restored", "product.updated")
_STATES = ("active", "paused", "disabled")


class Webhooks:
    """One webhook a topic is there from the beginning, made by hand: its address is the one where they all arrive."""

    def __init__(self) -> None:
        self._all: dict[int, dict[str, Any]] = {
            FIRST + place: {"id": FIRST + place, "status": "active", "topic": topic, "delivery_url": ""}
            for place, topic in enumerate(_BY_HAND)
        }
        self._failures = 0

    @property
    def status(self) -> str:
        """Active while one of them is, else what they all are."""
        states = {each["status"] for each in self._all.values()}
        return "active" if "active" in states or not states else str(min(states))

    def sends(self, topic: str) -> bool:
        """Tell whether a webhook of this topic goes out; one of a topic that nobody could subscribe to always does."""
        mine = [each for each in self._all.values() if each["topic"] == topic]
        if topic not in _BY_HAND:
            return self.status == "active"
        return any(each["status"] == "active" for each in mine)

    def remove(self) -> None:
        """Delete all webhooks, as somebody does in the store's settings."""
        self._all.clear()

    def switch(self, topic: str, status: str) -> None:
        """Bring the webhooks of a topic into another status."""
        for each in self._all.values():
            if each["topic"] == topic:
                each["status"] = status

    def forget_secrets(self) -> None:
        """Change every secret by hand, so that no delivery is signed with ours."""
        for each in self._all.values():
            each.pop("secret", None)

    def secrets_of(self, topic: str) -> list[str]:
        """Return the secrets that the API set for a topic."""
        return [each["secret"] for each in self._all.values() if each["topic"] == topic and "secret" in each]

    def ended(self, *, well: bool) -> None:
        """Note how a delivery ended; what comes too often in a row switches all of them off."""
        if well:
            self._failures = 0
        elif self._failures > _FAILURES_BEARABLE:
            for each in self._all.values():
                each["status"] = "disabled" if each["status"] == "active" else each["status"]
        else:
            self._failures += 1

    def listed(self, query: Mapping[str, str]) -> Response:
        """Answer GET /webhooks; a secret is never shown."""
        found = sorted(self._all.values(), key=lambda each: int(each["id"]), reverse=query.get("order") != "asc")
        return page([_view(each) for each in found], query)

    def create(self, request: Request) -> Response:
        """Answer POST /webhooks."""
        given = json.loads(request.body)
        if not given.get("topic") or not str(given.get("delivery_url", "")).startswith("http"):
            raise RefusedError(400, "woocommerce_rest_shop_webhook_invalid_topic", "Webhook topic must be valid.")
        number = max(self._all, default=FIRST) + 1
        made = {name: given[name] for name in ("topic", "delivery_url", "secret") if name in given}
        self._all[number] = {"id": number, "status": _status(given, "active"), **made}
        return answer(201, _view(self._all[number]))

    def update(self, number: int, request: Request) -> Response:
        """Answer PUT or POST /webhooks/<id>; one that is switched on keeps its failures: the next one switches it off again."""
        found = self._all.get(number)
        if found is None:
            raise RefusedError(404, "woocommerce_rest_shop_webhook_invalid_id", "Invalid ID.")
        given = json.loads(request.body)
        found |= {name: given[name] for name in ("delivery_url", "secret") if name in given}
        found["status"] = _status(given, str(found["status"]))
        return answer(200, _view(found))

    def dump(self) -> dict[str, Any]:
        """Return the webhooks as JSON values."""
        return {"all": list(self._all.values()), "failures": self._failures}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `dump` returned."""
        self._all = {each["id"]: dict(each) for each in state["all"]}
        self._failures = state["failures"]


def _view(webhook: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in webhook.items() if name != "secret"}


def _status(given: Mapping[str, Any], otherwise: str) -> str:
    status = given.get("status", otherwise)
    if status not in _STATES:
        raise RefusedError(400, "rest_invalid_param", "Invalid parameter(s): status")
    return str(status)
