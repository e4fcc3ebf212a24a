"""Who may see the status at the receiver, in which forms, and what it says when nobody writes it."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from http.client import HTTPMessage
from pathlib import Path
from random import Random
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.webhooks import receiver as receiver_module
from invsync_dagster.webhooks import server
from invsync_dagster.webhooks.gates import Gates
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.status import desk, page
from invsync_dagster.webhooks.status import document as documents
from invsync_dagster.webhooks.status.counts import Counts
from invsync_dagster.webhooks.status.tokens import COOKIE, SIGNED_IN_FOR, TokenError, Tokens
from tests.unit.webhooks.doors import signed
from tests.unit.webhooks.serving import BODY, LIMIT, NOW, TOKEN, Stage, ask, opened, served
from tests.unit.webhooks.status_stage import document, in_trouble, problem

BEARER = {"Authorization": f"Bearer {TOKEN}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OTHER = "another-token-0123456789-abc"


def post_form(port: int, **fields: str) -> tuple[int, bytes, HTTPMessage]:
    return ask(port, "POST", desk.PAGE, urlencode(fields).encode(), FORM)


def cookie_of(headers: HTTPMessage) -> dict[str, str]:
    return {"Cookie": headers["set-cookie"].partition(";")[0]}


def signed_in(port: int) -> dict[str, str]:
    status, _, headers = post_form(port, token=TOKEN)
    assert (status, headers["location"]) == (303, desk.PAGE)
    return cookie_of(headers)


def told(stage: Stage) -> dict[str, object]:
    status, body, _ = ask(stage.port, "GET", desk.JSON, headers=BEARER)
    assert status == 200
    answer = json.loads(body)
    assert isinstance(answer, dict)
    return answer


class Page(HTMLParser):
    """The text of a page, its tags, and the words of its title."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.title = ""
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "title":
            self.title += data
        elif self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def shown(stage: Stage) -> Page:
    status, body, headers = ask(stage.port, "GET", desk.PAGE, headers=signed_in(stage.port))
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    return Page(body)


@pytest.mark.parametrize("path", sorted(desk.PATHS))
def test_without_a_token_in_the_environment_nothing_is_there(path: str, tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    inbox = Inbox(tmp_path / "inbox")
    inbox.prepare(NOW)
    documents.write(tmp_path / "status", document())
    with served(opened(Gates({}), SegmentWriter(inbox.folder, clock, Random(1)), inbox.folder, clock, LIMIT)) as port:
        for method in ("GET", "HEAD", "POST", "PUT"):
            assert ask(port, method, path, b"", BEARER)[0] == 404


@pytest.mark.parametrize("path", [desk.JSON, desk.METRICS])
@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ä"])
def test_who_bears_no_token_is_told_nothing(receiver: Stage, path: str, given: str) -> None:
    documents.write(receiver.status, document())
    status, body, headers = ask(
        receiver.port, "GET", path, headers={"Authorization": given.encode("latin-1").decode("latin-1")}
    )
    assert (status, body, headers["www-authenticate"]) == (401, b"", "Bearer")


def test_the_status_is_the_document_with_what_the_receiver_knows(receiver: Stage) -> None:
    documents.write(receiver.status, document())
    assert receiver.post(BODY, signed(BODY)) == 202
    assert receiver.post(b"{}", {"Content-Type": "application/json"}) == 401
    assert receiver.post(b"{}", signed(b"{}"), "/webhooks/nobody") == 503
    answer = told(receiver)
    assert (answer["verdict"], answer["age_seconds"], answer["skus"]) == ("well", 0.0, 12_480)
    own = answer["receiver"]
    assert isinstance(own, dict)
    assert own["answers"] == [
        {"channel": "a channel that channels.yaml doesn't have", "status": 503, "number": 1},
        {"channel": "shop", "status": 202, "number": 1},
        {"channel": "shop", "status": 401, "number": 1},
    ]
    assert {(one["channel"], one["reason"]) for one in own["refused"]} == {
        ("a channel that channels.yaml doesn't have", "nobody has the name"),
        ("shop", "the signature does not fit the body"),
    }
    assert (own["taken"], own["segments_waiting"]) == (1, 1)
    assert 0 < own["answer_p50_seconds"] <= own["answer_p99_seconds"] == own["seconds_of_taken"]


def test_a_person_gives_the_token_once_and_sees_the_page(receiver: Stage) -> None:
    documents.write(receiver.status, document())
    status, body, headers = ask(receiver.port, "GET", desk.PAGE)
    assert status == 401
    assert {"name", "type"} <= Page(body).all("input")[0].keys()
    status, body, headers = post_form(receiver.port, token=f" {TOKEN}\n")
    assert (status, body) == (303, b"")
    assert TOKEN not in str(headers)
    assert "; Path=/status.html; Max-Age=2592000; HttpOnly; SameSite=Lax" in headers["set-cookie"]
    status, body, headers = ask(receiver.port, "GET", desk.PAGE, headers=cookie_of(headers))
    assert (status, Page(body).title) == (200, "✓ All is well · invsync")
    assert headers["content-security-policy"] == page.POLICY
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")


def test_the_cookie_is_secure_but_on_this_machine_itself(receiver: Stage) -> None:
    body = urlencode({"token": TOKEN}).encode()
    for host, secure in {
        "sync.example.com": True,
        "192.168.1.7:8791": True,
        "": True,
        "[": True,
        "localhost:8791": False,
        "127.0.0.1:8791": False,
        "[::1]:8791": False,
    }.items():
        status, _, headers = ask(receiver.port, "POST", desk.PAGE, body, FORM | {"Host": host})
        assert (status, headers["set-cookie"].endswith("; Secure")) == (303, secure), host


def test_a_wrong_token_is_said_so_and_is_in_no_log(receiver: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        status, body, headers = post_form(receiver.port, token="a-wrong-token")
        ask(receiver.port, "GET", desk.JSON, headers={"Authorization": "Bearer a-wrong-token"})
    assert (status, headers["set-cookie"]) == (401, None)
    assert "This is not the token." in Page(body).text
    assert [record.getMessage() for record in caplog.records] == [
        "refused the status to somebody with 401: the token is wrong"
    ]


def test_signing_out_takes_the_cookie_away(receiver: Stage) -> None:
    assert post_form(receiver.port, sign_out="1")[0] == 401
    given = FORM | signed_in(receiver.port)
    status, _, headers = ask(receiver.port, "POST", desk.PAGE, b"sign_out=1", given)
    assert (status, headers["location"]) == (303, desk.PAGE)
    assert "invsync_status=; Path=/status.html; Max-Age=0;" in headers["set-cookie"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"token": 1}', {"Content-Type": "application/json"}, 415),
        (b"token=" + b"x" * desk.MOST_FORM_BYTES, FORM, 413),
        (b"", FORM, 401),
        (b"\xff&=&token&" + b"a=&" * 300, FORM, 401),
    ],
)
def test_what_is_no_form_is_refused(receiver: Stage, body: bytes, headers: dict[str, str], status: int) -> None:
    assert ask(receiver.port, "POST", desk.PAGE, body, headers)[0] == status


def test_other_methods_are_told_which_ones_there_are(receiver: Stage) -> None:
    for path, allowed in {desk.JSON: "GET", desk.METRICS: "GET", desk.PAGE: "GET, POST"}.items():
        status, _, headers = ask(receiver.port, "DELETE", path, headers=BEARER)
        assert (status, headers["allow"]) == (405, allowed)
        assert ask(receiver.port, "HEAD", path, headers=BEARER)[:2] == (401 if path == desk.PAGE else 200, b"")


def test_two_tokens_are_valid_while_one_is_changed_and_a_cookie_ends_with_its_own() -> None:
    before = Tokens([TOKEN])
    both = Tokens.from_environment({"INVSYNC_STATUS_TOKEN": OTHER, "INVSYNC_STATUS_PREVIOUS_TOKEN": TOKEN})
    after = Tokens.from_environment({"INVSYNC_STATUS_TOKEN": OTHER, "INVSYNC_STATUS_PREVIOUS_TOKEN": ""})
    cookie = before.cookie(NOW)
    assert (both.fits(TOKEN), both.fits(OTHER), after.fits(TOKEN)) == (True, True, False)
    assert (both.knows(cookie, NOW), after.knows(cookie, NOW)) == (True, False)
    assert after.knows(both.cookie(NOW), NOW)
    assert TOKEN not in cookie
    assert OTHER not in repr(both)


@pytest.mark.parametrize("forged", ["", ".", "9999999999.", "9999999999.00", "-1.00", "٣.00", "1e9.00", "x" * 5000])
def test_a_forged_or_old_cookie_is_none(forged: str) -> None:
    tokens = Tokens([TOKEN])
    cookie = tokens.cookie(NOW)
    until, _, proof = cookie.partition(".")
    assert tokens.knows(cookie, NOW + SIGNED_IN_FOR - timedelta(seconds=1))
    assert not tokens.knows(cookie, NOW + SIGNED_IN_FOR + timedelta(seconds=1))
    assert not tokens.knows(f"{int(until) + 1}.{proof}", NOW)
    assert not tokens.knows(forged, NOW)


def test_a_token_that_could_be_guessed_is_refused_without_repeating_it() -> None:
    for guessable in ("hunter2", "ä" * 24):
        with pytest.raises(TokenError, match="24 ASCII characters") as refused:
            Tokens.from_environment({"INVSYNC_STATUS_TOKEN": guessable})
        assert guessable not in str(refused.value)
    assert not Tokens.from_environment({"INVSYNC_STATUS_PREVIOUS_TOKEN": TOKEN})


def test_a_document_that_nobody_writes_any_more_is_trouble_itself(receiver: Stage) -> None:
    documents.write(receiver.status, document())
    receiver.clock.advance(119)
    assert told(receiver)["verdict"] == "well"
    receiver.clock.advance(2)
    answer = told(receiver)
    assert (answer["verdict"], answer["age_seconds"]) == ("trouble", 121.0)
    seen = shown(receiver)
    assert seen.title == "✗ Trouble · invsync"
    assert "The status is old since 13:00 (2 min)" in seen.text
    assert "as of 2 min ago" in seen.text
    assert "Nobody writes the status; the figures below are of then." in seen.text
    assert "`status_sensor` is on" in seen.text


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"version": 2}', b"\xff"])
def test_where_no_document_can_be_read_the_page_says_what_to_do(receiver: Stage, content: bytes | None) -> None:
    if content is not None:
        receiver.status.mkdir()
        (receiver.status / documents.FILE_NAME).write_bytes(content)
    answer = told(receiver)
    assert (answer["verdict"], answer["age_seconds"]) == ("trouble", None)
    assert "No status has been written yet" in shown(receiver).text
    assert ask(receiver.port, "GET", desk.METRICS, headers=BEARER)[0] == 200


def test_the_document_is_for_its_owner_alone(tmp_path: Path) -> None:
    documents.write(tmp_path / "status", document())
    assert (tmp_path / "status").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "status" / documents.FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "status").iterdir()] == [documents.FILE_NAME]


@pytest.mark.parametrize(
    ("problems", "waiting", "verdict", "title"),
    [
        ([], 0, "well", "✓ All is well · invsync"),
        ([], 3, "attention", "! Needs a look · invsync"),
        ([problem("one", severity="warning")], 0, "attention", "! Needs a look · invsync"),
        ([problem("one", severity="warning"), problem("two")], 0, "trouble", "✗ Trouble · invsync"),
    ],
)
def test_the_verdict_is_the_worst_of_what_there_is(
    receiver: Stage, problems: list[dict[str, object]], waiting: int, verdict: str, title: str
) -> None:
    documents.write(receiver.status, document(problems=problems, waits_for_people=waiting))
    assert (told(receiver)["verdict"], shown(receiver).title) == (verdict, title)


def test_the_page_says_what_is_wrong_since_when_why_and_what_to_do(receiver: Stage) -> None:
    documents.write(receiver.status, in_trouble())
    seen = shown(receiver)
    assert "Trouble : 1 error, 1 warning, 44 cases for you" in seen.text
    assert "Error shopify_main refuses us since 12:13 (47 min)" in seen.text
    assert "put the new keys into SHOPIFY_MAIN_ACCESS_TOKEN" in seen.text
    assert {"href": "https://stock.example.com/assets/push_results/shopify_main"} in seen.all("a")
    for words in (
        "none for 95 s: the platform told us to wait",
        "12 levels (250 writes a listing)",
        "one change would set 41 of 60 listings to 0",
        "invsync imports approve imp-20261103-0001",
        "马克杯-蓝色-超长的库存编号-0123456789",
        "stocktaking until Monday",
    ):
        assert words in seen.text
    # The worst channel is the first that is seen, and says so in words.
    assert seen.text.index("shopify, production: stopped") < seen.text.index("amazon, production: active")


def test_foreign_text_stays_text(receiver: Stage) -> None:
    documents.write(receiver.status, in_trouble())
    seen = shown(receiver)
    assert len(seen.all("script")) == 1
    assert seen.text.count("<script>document.title = 'taken over'</script>") == 9
    assert not any(name.startswith("on") or name == "style" for _, attributes in seen.tags for name in attributes)
    assert "'unsafe" not in page.POLICY


def test_tables_have_headers_and_drawings_have_words(receiver: Stage) -> None:
    documents.write(receiver.status, in_trouble())
    seen = shown(receiver)
    assert {attributes.get("scope") for attributes in seen.all("th")} == {"col", "row"}
    assert len(seen.all("caption")) == len(seen.all("table")) == 4
    for attributes in seen.all("svg"):
        assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label"), attributes
    assert len(seen.all("h1")) == 1
    assert seen.all("html") == [{"lang": "en"}]


def test_the_trend_has_a_gap_where_nobody_wrote_it(receiver: Stage) -> None:
    told = document()
    for numbers in (told["trend"]["at"], told["trend"]["out_of_step"], *told["trend"]["channels"].values()):
        del numbers[100:150]
    documents.write(receiver.status, told)
    seen = shown(receiver)
    lines = [attributes["points"] for attributes in seen.all("polyline")]
    assert len(lines) == 2 * 8
    assert all(0 <= float(pair.split(",")[1]) <= 100 for line in lines if line for pair in line.split())
    assert "Levels out of step in the last 24 hours: now 12, most 186 at 05:30" in seen.text


def test_prometheus_reads_the_metrics(receiver: Stage) -> None:
    documents.write(receiver.status, in_trouble())
    assert receiver.post(BODY, signed(BODY)) == 202
    status, body, headers = ask(receiver.port, "GET", desk.METRICS, headers=BEARER)
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert values["invsync_verdict", "trouble"] == 1
    assert values["invsync_verdict", "well"] == 0
    assert values["invsync_status_timestamp_seconds",] == NOW.timestamp()
    assert values["invsync_listings", "amazon_eu", "held"] == 41
    assert values["invsync_listings", "shopify_main", "out_of_step"] == 214
    assert values["invsync_latency_seconds", "erp_main", "0.95"] == 1.34
    assert ("invsync_latency_seconds", "shopify_main", "0.95") not in values
    assert values["invsync_budget_left_ratio", "erp_main"] == 0.806
    assert values["invsync_blocked_seconds", "ebay_main"] == 95
    assert values["invsync_oldest_delivery_seconds",] == 12
    assert values["invsync_receiver_answers_total", "shop", "202"] == 1
    assert values["invsync_receiver_answer_seconds_count",] == 1
    assert values["invsync_receiver_answer_seconds", "0.99"] > 0
    causes = [name[1:] for name in values if name[0] == "invsync_problem"]
    assert ("check:shopify_main refuses us", "shopify_main", "error", "shopify_main refuses us") in causes


def test_whoever_asks_without_end_is_given_what_was_made_a_second_ago(
    receiver: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents.write(receiver.status, document())
    reads: list[Path] = []
    read = documents.read

    def counted(folder: Path) -> documents.Document | None:
        reads.append(folder)
        return read(folder)

    monkeypatch.setattr(documents, "read", counted)
    asking = [threading.Thread(target=told, args=(receiver,)) for _ in range(20)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(timeout=20)
    assert len(reads) == 1
    receiver.clock.advance(1)
    told(receiver)
    assert len(reads) == 2


def test_webhooks_are_taken_while_the_status_is_being_made_and_many_wait_for_it(
    receiver: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents.write(receiver.status, document())
    making, go_on = threading.Event(), threading.Event()
    read = documents.read

    def held_up(folder: Path) -> documents.Document | None:
        making.set()
        assert go_on.wait(timeout=20)
        return read(folder)

    monkeypatch.setattr(documents, "read", held_up)
    asking = [threading.Thread(target=told, args=(receiver,)) for _ in range(20)]
    for thread in asking:
        thread.start()
    try:
        assert making.wait(timeout=20)
        assert receiver.post(BODY, signed(BODY)) == 202
    finally:
        go_on.set()
        for thread in asking:
            thread.join(timeout=20)


def test_beyond_fifty_a_second_they_are_told_to_come_again(receiver: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MOST_A_SECOND", 2)
    documents.write(receiver.status, document())
    cookie = Tokens([TOKEN]).cookie(NOW)
    asked = [(desk.JSON, BEARER), (desk.PAGE, {"Cookie": f"{COOKIE}={cookie}"}), (desk.METRICS, BEARER)]
    assert [ask(receiver.port, "GET", path, headers=given)[0] for path, given in asked] == [200, 200, 429]
    assert ask(receiver.port, "GET", desk.JSON, headers=BEARER)[2]["retry-after"] == "1"
    receiver.clock.advance(1)
    assert told(receiver)["verdict"] == "well"


def test_those_without_a_token_that_wait_for_their_refusal_give_their_places_to_webhooks(
    receiver: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "REFUSED_SECONDS", 5.0)
    with contextlib.ExitStack() as stack:
        flood = [http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20) for _ in range(4)]
        for connection in flood:
            stack.callback(connection.close)
            connection.request("GET", desk.JSON, headers={"Authorization": "Bearer wrong"})
        # By this answer they all wait for theirs.
        assert ask(receiver.port, "GET", "/healthz")[0] == 200
        monkeypatch.setattr(server, "MOST_CONNECTIONS", 4)
        assert [receiver.post(BODY, signed(BODY)) for _ in range(3)] == [202] * 3


def test_the_quantiles_are_of_the_latest_answers() -> None:
    counts = Counts()
    assert counts.quantiles((0.5,)) is None
    for _ in range(1_000):
        counts.answered("shop", 202, 9.0)
    for number in range(1, 1_001):
        counts.answered("shop", 202, number / 1000)
    counts.answered("shop", 401, 99.0)
    assert counts.quantiles((0.5, 0.99)) == [0.5, 0.99]
    assert counts.taken == 2_000


def test_an_inbox_that_is_very_full_is_not_counted_to_its_end(receiver: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MOST_COUNTED", 2)
    for _ in range(4):
        assert receiver.post(BODY, signed(BODY)) == 202
    own = told(receiver)["receiver"]
    assert isinstance(own, dict)
    assert own["segments_waiting"] == 2


def test_an_inbox_that_is_gone_takes_no_status_away(receiver: Stage) -> None:
    documents.write(receiver.status, document())
    receiver.inbox.folder.rename(receiver.inbox.folder.with_name("elsewhere"))
    own = told(receiver)["receiver"]
    assert isinstance(own, dict)
    assert own["segments_waiting"] is None
    assert "its inbox can't be read" in shown(receiver).text
    code, body, _ = ask(receiver.port, "GET", desk.METRICS, headers=BEARER)
    assert (code, b"invsync_inbox_segments" in body) == (200, False)


def test_figures_of_before_the_database_went_away_say_how_old_they_are(receiver: Stage) -> None:
    away = (NOW - timedelta(hours=5)).isoformat()
    gone = problem("The database can't be used", cause="status:database", since=away)
    documents.write(receiver.status, document(NOW - timedelta(hours=5), written_at=NOW.isoformat(), problems=[gone]))
    seen = shown(receiver)
    assert "as of 5 h ago" in seen.text
    assert "The database can't be used since 08:00 (5 h)" in seen.text


def test_what_is_wrong_has_the_same_labels_as_long_as_it_is(receiver: Stage) -> None:
    documents.write(receiver.status, document())
    found = set()
    for _ in range(3):
        receiver.clock.advance(600)
        body = ask(receiver.port, "GET", desk.METRICS, headers=BEARER)[1].decode()
        found.add(next(line for line in body.splitlines() if line.startswith("invsync_problem{")))
    assert len(found) == 1


def test_deliveries_are_summed_up_while_others_come() -> None:
    counts = Counts()

    class Overtaken(tuple[str, int]):
        def __iter__(self) -> Iterator[str | int]:
            counts.answered("another", 202, 0.1)
            return super().__iter__()

    counts.answers[Overtaken(("shop", 202))] = 3
    assert counts.taken == 3
