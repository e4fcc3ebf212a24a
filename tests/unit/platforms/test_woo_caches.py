"""Page caches before a store's REST API: what they say of themselves, and what gives the silent ones away."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from invsync_dagster.platforms.contract import LevelReference
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Request, Response
from tests.unit.platforms.woo_stage import WooStage


@pytest.mark.parametrize(
    "headers",
    [
        {"age": "31"},
        {"x-cache": "HIT"},
        {"x-cache": "MISS from shield, TCP_HIT from edge"},
        {"cf-cache-status": "hit"},
        {"cf-cache-status": "STALE"},
        {"x-litespeed-cache": "hit,private"},
        {"x-kinsta-cache": "HIT"},
        {"cache-status": '"nginx"; hit; ttl=30'},
        {"x-varnish": "32770 5"},
        {"x-wc-cache": "HIT"},
    ],
)
def test_a_reading_out_of_a_cache_is_refused_with_the_mend(headers: dict[str, str]) -> None:
    stage = WooStage()
    rows = b'[{"id":5,"manage_stock":true,"stock_quantity":7}]'
    stage.wire.answer_next(Response(200, headers, rows))
    with pytest.raises(PlatformError, match="leave out /wp-json/") as raised:
        stage.read(LevelReference("5"))
    assert (raised.value.recovery, raised.value.code) == (Recovery.REJECT, "cached_answer")


def test_a_304_is_told_as_the_copy_that_it_stands_for() -> None:
    stage = WooStage()
    stage.wire.answer_next(Response(304, {"etag": '"x"'}, b""))
    with pytest.raises(PlatformError, match=r"HTTP 304.*leave out /wp-json/") as raised:
        stage.read(LevelReference("5"))
    assert (raised.value.recovery, raised.value.code) == (Recovery.REJECT, "cached_answer")


def test_every_reading_asks_the_stores_own_cache_of_answers_to_keep_out() -> None:
    stage = WooStage()
    hat = stage.store.add_product("HAT", 10)
    stage.read(hat)
    stage.platform.listings()
    stage.write(hat, 7)
    asked = [(sent.method, parse_qs(urlsplit(sent.url).query).get("_skip_cache")) for sent in stage.wire.requests]
    assert asked == [("GET", ["1"]), ("GET", ["1"]), ("POST", None)]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-wc-cache": "SKIP"},
        {"age": "0", "x-cache": "MISS", "cf-cache-status": "DYNAMIC"},
        {"x-litespeed-cache-control": "public,max-age=0,no-hit", "x-cache-lookup": "HIT from proxy:3128"},
        {"cache-status": '"nginx"; fwd=uri-miss; stored', "x-varnish": "32770", "x-redis-object-cache": "hit"},
    ],
)
def test_an_answer_that_passed_by_a_cache_counts(headers: dict[str, str]) -> None:
    stage = WooStage()
    stage.wire.answer_next(Response(200, headers, b'[{"id":5,"manage_stock":true,"stock_quantity":7}]'))
    assert stage.read(LevelReference("5")).quantity == 7


class CachingHost:
    """A host whose page cache keeps every answer to a GET for good and says nothing about it."""

    def __init__(self, stage: WooStage, *, by_query: bool) -> None:
        self._store = stage.store.handle
        self._by_query = by_query
        self._copies: dict[str, Response] = {}

    def handle(self, request: Request) -> Response:
        if request.method != "GET":
            return self._store(request)
        address = request.url if self._by_query else urlsplit(request.url).path
        if address not in self._copies:
            self._copies[address] = self._store(request)
        return self._copies[address]


def test_a_silent_page_cache_has_no_copy_of_what_is_read() -> None:
    stage = WooStage()
    level = stage.store.add_product("A", 5)
    stage.wire._handler = CachingHost(stage, by_query=True).handle
    begin = stage.clock.now()
    assert stage.read(level).quantity == 5
    assert stage.platform.orders_changed(begin, begin + timedelta(minutes=1)).content.documents == ()
    order_id = stage.store.buy({level: 2})
    assert stage.read(level).quantity == 3
    (document,) = stage.platform.orders_changed(begin, begin + timedelta(minutes=1)).content.documents
    assert document.order_id == order_id


def test_a_page_cache_that_looks_at_the_path_alone_is_found_out_and_nothing_counts_as_gone() -> None:
    stage = WooStage()
    one, other = stage.store.add_product("A", 5), stage.store.add_product("B", 6)
    stage.wire._handler = CachingHost(stage, by_query=False).handle
    assert stage.read(one).quantity == 5
    for levels in ([other], [one, other]):
        with pytest.raises(PlatformError, match="leave out /wp-json/") as raised:
            stage.platform.read(levels)
        assert raised.value.code == "cached_answer"


def test_orders_that_were_not_asked_for_are_not_taken_for_the_answer() -> None:
    stage = WooStage()
    hat = stage.store.add_product("A", 9)
    begin = stage.clock.now()
    first = stage.store.buy({hat: 1})
    stage.clock.advance(60)
    second = stage.store.buy({hat: 1})
    stage.wire._handler = CachingHost(stage, by_query=False).handle
    stage.platform.orders([first])
    with pytest.raises(PlatformError, match="what was not asked for"):
        stage.platform.orders([second])
    with pytest.raises(PlatformError, match="from before the time asked for"):
        stage.platform.orders_changed(begin + timedelta(seconds=30), stage.clock.now() + timedelta(seconds=1))
