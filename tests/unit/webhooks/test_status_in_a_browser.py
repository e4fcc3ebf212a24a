"""The status page in a real browser: signed in by the form, on a phone and a desktop, brought up to date by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from invsync_dagster.webhooks.status import document as documents
from tests.unit.webhooks import browser
from tests.unit.webhooks.browser import Tab
from tests.unit.webhooks.serving import TOKEN, Stage
from tests.unit.webhooks.status_stage import document, in_trouble

pytestmark = pytest.mark.skipif(
    browser.program() is None, reason="there is no Chromium on PATH, and INVSYNC_BROWSER names none"
)

SIGN_IN = f"document.querySelector('input').value = '{TOKEN}'; document.querySelector('button').click()"
# What sticks out of a phone's width, but for the tables that are scrolled by themselves.
TOO_WIDE = """[...document.querySelectorAll("main *")]
  .filter(one => !one.closest(".wide, svg") && one.getBoundingClientRect().right > innerWidth + 1)
  .map(one => one.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser.tab(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def tab(started: Tab) -> Tab:
    started.open("about:blank")
    started.call("Network.clearBrowserCookies")
    started.complaints.clear()
    return started


def test_a_person_signs_in_on_a_phone_and_sees_at_once_what_is_wrong(receiver: Stage, tab: Tab) -> None:
    documents.write(receiver.status, in_trouble())
    tab.size(360, 640)
    tab.open(f"http://127.0.0.1:{receiver.port}/status.html")
    assert tab.run("document.querySelector('label').textContent") == "Token"
    # The form is answered 401, of which the browser takes note.
    tab.complaints.clear()
    tab.run(SIGN_IN)
    tab.wait_for("Page.loadEventFired")
    assert tab.run("document.title") == "✗ Trouble · invsync"
    assert tab.run("document.cookie") == ""
    # The verdict and the first thing that is wrong are seen without scrolling, and nothing sticks out.
    assert tab.run("document.querySelector('.problems h3').getBoundingClientRect().bottom") < 640
    for width, height, dark in ((360, 640, True), (1280, 800, False)):
        tab.size(width, height, dark=dark)
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert tab.run(TOO_WIDE) == []
    # Letters as large as people need them, and what is tapped as large as a finger.
    assert (
        tab.run(
            "Math.min(...[...document.querySelectorAll('dd, td, p')].map(e => parseFloat(getComputedStyle(e).fontSize)))"
        )
        >= 14
    )
    assert tab.run("document.querySelector('footer button').getBoundingClientRect().height") >= 44

    # It is brought up to date without being loaded again, and foreign text did nothing.
    documents.write(receiver.status, document())
    receiver.clock.advance(1)
    tab.run("window.stayed = true; look()")
    assert tab.run("[document.title, window.stayed]") == ["✓ All is well · invsync", True]
    assert tab.run("document.getElementById('lost').hidden") is True
    assert tab.complaints == []

    tab.run("document.querySelector('footer button').click()")
    tab.wait_for("Page.loadEventFired")
    assert tab.run("document.querySelectorAll('input[type=password]').length") == 1


def test_a_receiver_that_does_not_answer_is_said_so_in_place(receiver: Stage, tab: Tab) -> None:
    documents.write(receiver.status, document())
    tab.open(f"http://127.0.0.1:{receiver.port}/status.html")
    tab.run(SIGN_IN)
    tab.wait_for("Page.loadEventFired")
    tab.call("Network.enable")
    tab.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    tab.run("look()")
    assert tab.run("document.getElementById('lost').hidden") is False
    assert "does not answer" in tab.run("document.getElementById('lost').innerText")
    assert "All is well" in tab.run("document.querySelector('h1').innerText")
    tab.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    tab.run("look()")
    assert tab.run("document.getElementById('lost').hidden") is True
