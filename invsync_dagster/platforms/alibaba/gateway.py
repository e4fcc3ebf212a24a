"""Signed calls of the two gateways, GOP and TOP: how a request is built, and what an answer of each is wrapped in."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

from invsync_dagster.platforms.transport import Request

# TOP tells and takes times of China.
CHINA = timezone(timedelta(hours=8))


@dataclass(frozen=True, slots=True)
class Api:
    """One call by its names: the path at GOP, the method at TOP ("" where it has no such call)."""

    path: str
    method: str = ""


EDIT_INVENTORY = Api("/icbu/product/edit-inventory")
GET_PRODUCT = Api("/alibaba/icbu/product/get/v2")
SEARCH_PRODUCTS = Api("/alibaba/icbu/product/search/v2")
CHANGE_INVENTORY = Api("/icbu/product/inventory/update", "alibaba.icbu.product.inventory.update")
GET_INVENTORY = Api("/icbu/product/inventory/get", "alibaba.icbu.product.sku.inventory.get")
LIST_ORDERS = Api("/alibaba/order/list", "alibaba.seller.order.list")
GET_ORDER = Api("/alibaba/order/get", "alibaba.seller.order.get")
GET_LOGISTICS = Api("/order/logistics/query", "alibaba.seller.order.logistics.get")
REFRESH_TOKEN = Api("/auth/token/refresh")

_HEADERS = {"Content-Type": "application/x-www-form-urlencoded;charset=utf-8", "Accept": "application/json"}


class Gop:
    """The gateway of openapi.alibaba.com. Its representation holds no secret."""

    def __init__(self, url: str, app_key: str, app_secret: str, token_parameter: str = "access_token") -> None:  # noqa: S107 - a name
        _refuse_empty(app_key, app_secret)
        self._url = url
        self._key = app_key
        self._secret = app_secret
        self._token_parameter = token_parameter

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        return (self._secret, self._key)

    def request(self, api: Api, parameters: Mapping[str, str], token: str, now: datetime) -> Request:
        """Return a signed call; all of it stands in the body, as addresses end up in the logs of proxies."""
        asked = {
            **parameters,
            "app_key": self._key,
            "timestamp": str(int(now.timestamp() * 1000)),
            "sign_method": "sha256",
        }
        if token:
            asked[self._token_parameter] = token
        asked["sign"] = gop_signature(self._secret, api.path, asked)
        return Request("POST", f"{self._url}{api.path}", dict(_HEADERS), urlencode(asked).encode())

    def unwrapped(self, api: Api, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer as it is: GOP wraps nothing."""
        return answer


class Top:
    """The gateway of open.taobao.com. Its representation holds no secret."""

    def __init__(self, url: str, app_key: str, app_secret: str) -> None:
        _refuse_empty(app_key, app_secret)
        self._url = url
        self._key = app_key
        self._secret = app_secret

    @property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not be quoted with."""
        return (self._secret, self._key)

    def request(self, api: Api, parameters: Mapping[str, str], token: str, now: datetime) -> Request:
        """Return a signed call."""
        asked = {
            **parameters,
            "method": api.method,
            "app_key": self._key,
            "session": token,
            "timestamp": now.astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S"),
            "format": "json",
            "v": "2.0",
            "sign_method": "hmac",
        }
        asked["sign"] = top_signature(self._secret, asked)
        return Request("POST", self._url, dict(_HEADERS), urlencode(asked).encode())

    def unwrapped(self, api: Api, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what stands inside TOP's envelope, in GOP's form: an error gets its `code`, a success the code "0"."""
        error = answer.get("error_response")
        if isinstance(error, Mapping):
            code, words = error.get("sub_code") or error.get("code"), error.get("sub_msg") or error.get("msg")
            return {"type": "ISV", "code": str(code), "message": words, "request_id": error.get("request_id")}
        inner = answer.get(f"{api.method.replace('.', '_')}_response")
        return {"code": "0", **inner} if isinstance(inner, Mapping) else {}


def gop_signature(secret: str, path: str, parameters: Mapping[str, str]) -> str:
    """Return GOP's signature: the path, then each name and value in the order of the names (docId=61)."""
    base = path + "".join(f"{name}{parameters[name]}" for name in sorted(parameters) if name != "sign")
    return hmac.digest(secret.encode(), base.encode(), hashlib.sha256).hex().upper()


def top_signature(secret: str, parameters: Mapping[str, str]) -> str:
    """Return TOP's signature (`sign_method` hmac, HMAC-MD5): each name and value in the order of the names."""
    base = "".join(f"{name}{parameters[name]}" for name in sorted(parameters) if name != "sign")
    return hmac.digest(secret.encode(), base.encode(), "md5").hex().upper()


def compact(value: Any) -> str:
    """Return a list or object as the text that is both sent and signed."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _refuse_empty(app_key: str, app_secret: str) -> None:
    if not app_key or not app_secret:
        raise ValueError("the app's key or its secret is empty")
