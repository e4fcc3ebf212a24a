import json
import random
from collections.abc import Callable
from datetime import timedelta

import dagster as dg
import pytest

from invsync_dagster.defs.names import LEDGER
from invsync_dagster.inventory.proof import Contradiction, Proven
from invsync_dagster.sync.prove import ProofReport
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.quarantine import Quarantine
from invsync_dagster.webhooks.segments import Delivery
from tests.defs.conftest import Installation


def receive(home: Installation, sku: str, quantity: int, note: str = "") -> None:
    """Let the ERP tell a count."""
    now = home.clock.now()
    event = {"event_id": f"{sku}-{quantity}", "sku": sku, "change_type": "adjustment", "quantity": quantity}
    event |= {"occurred_at": now.isoformat(), "version": quantity, "note": note}
    headers = {"x-invsync-timestamp": str(int(now.timestamp()))}
    home.home.inbox.mkdir(parents=True, exist_ok=True)
    writer = SegmentWriter(home.home.inbox, home.clock, random.Random(quantity))
    writer.write([Delivery("shop", "stock/changed", now, headers, json.dumps(event).encode())])


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def replay(home: Installation, since: str, until: str, channel: str = "") -> dg.ExecuteInProcessResult:
    config = {"ops": {"apply_kept_deliveries": {"config": {"since": since, "until": until, "channel": channel}}}}
    return home.run("replay_deliveries", run_config=config)


def observed(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    [event] = [e for e in result.get_asset_observation_events() if e.asset_key == LEDGER]
    return {name: value.value for name, value in event.asset_observation_data.asset_observation.metadata.items()}


def test_the_job_applies_a_time_again_and_shows_on_the_ledger_what_came_of_it(
    install: Callable[..., Installation],
) -> None:
    home = install("shop")
    home.stock({"A": 5}, ["shop"])
    receive(home, "A", 7)
    receive(home, "B", 3)
    assert home.run("webhooks").success
    since, until = (home.clock.now() + timedelta(minutes=minutes) for minutes in (-5, 5))
    result = replay(home, since.isoformat(), until.isoformat())
    assert result.success
    shown = observed(result)
    assert (shown["deliveries"], shown["entries"], shown["quarantined"]) == (2, 0, 1)
    home.stock({"B": 1}, ["shop"])
    receive(home, "A", 8)
    assert home.run("webhooks").success
    again = observed(replay(home, since.isoformat(), until.isoformat()))
    assert (again["deliveries"], again["quarantined"]) == (3, 0)


def test_a_time_without_its_zone_is_refused_by_the_job(install: Callable[..., Installation]) -> None:
    home = install("shop")
    assert not replay(home, "2026-01-01T00:00:00", "2026-01-02T00:00:00").success


def test_the_audit_holds_the_orders_against_their_deliveries(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install("shop")
    home.stock({"A": 5}, ["shop"])
    receive(home, "A", 7)
    assert home.run("webhooks").success
    home.clock.advance(60)
    check = checks(home.run("audit"))["orders_as_delivered"]
    assert check.passed
    assert check.metadata["deliveries"].value == 1

    found = Contradiction("shop", "1", "1", "5-a:0", "the line is not in the books", "ordered 1 at revision 1", "")
    report = ProofReport(Proven(contradicted=1, contradictions=[found]))
    monkeypatch.setattr("invsync_dagster.defs.checks.prove_orders", lambda *arguments: report)
    check = checks(home.run("audit"))["orders_as_delivered"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert check.metadata["lines_contradicted"].value == 1


def test_buyers_fields_go_by_night_after_the_days_that_are_set(install: Callable[..., Installation]) -> None:
    home = install("shop", settings="  retention: { buyers_days: 5 }\n")
    home.stock({"A": 5}, ["shop"])
    receive(home, "A", 7, note="Ann Buyer")
    assert home.run("webhooks").success
    (segment,) = home.home.inbox.rglob("*.segment")
    whole = segment.read_bytes()
    home.clock.advance(4 * 86_400)
    result = home.run("clean_up")
    assert checks(result)["buyers_erased"].passed
    assert segment.read_bytes() == whole
    home.clock.advance(3 * 86_400)
    result = home.run("clean_up")
    [made] = result.asset_materializations_for_node("housekeeping")
    assert made.metadata["deliveries_erased"].value == 1
    assert len(segment.read_bytes()) < len(whole)
    assert checks(result)["buyers_erased"].passed


def test_a_delivery_in_quarantine_keeps_the_check_red_until_it_is_put_back(
    install: Callable[..., Installation],
) -> None:
    home = install("shop")
    home.stock({"A": 5}, ["shop"])
    receive(home, "B", 3)
    home.run("webhooks")
    receive(home, "A", 7)
    check = checks(home.run("webhooks"))["understood"]
    assert (check.passed, check.metadata["quarantined"].value) == (False, 1)
    assert check.description is not None
    assert check.description.startswith("1 deliveries in quarantine: `invsync inbox list` says why")
    assert "shop: no listing of shop for 'B'" in check.description
    home.stock({"B": 1}, ["shop"])
    ws = home.open()
    inbox = Inbox(ws.home.inbox)
    for path in inbox.quarantine.files():
        inbox.put_back(path, SegmentWriter(ws.home.inbox, home.clock, random.Random(9)))
    ws.close()
    check = checks(home.run("webhooks"))["understood"]
    assert (check.passed, check.description) == (True, "All deliveries were applied.")


def test_what_can_not_be_read_in_the_inbox_is_red_as_long_as_it_lies_there(
    install: Callable[..., Installation],
) -> None:
    home = install("shop")
    home.home.inbox.mkdir(parents=True)
    stranger = home.home.inbox / "stranger.segment"
    stranger.write_text("{}")
    check = checks(home.run("webhooks"))["understood"]
    assert not check.passed
    assert "stranger.segment stays in the inbox" in str(check.description)
    stranger.unlink()
    assert checks(home.run("webhooks"))["understood"].passed


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"receipt_id": 1, "reason": 2}', None])
def test_a_file_in_quarantine_that_is_none_of_ours_is_told_of_and_stops_no_run(
    install: Callable[..., Installation], content: str | None
) -> None:
    home = install("shop")
    home.stock({"A": 5}, ["shop"])
    strange = home.home.inbox / "quarantine" / "note.json"
    if content is None:
        strange.mkdir(parents=True)
    else:
        strange.parent.mkdir(parents=True, exist_ok=True)
        strange.write_text(content)
    receive(home, "A", 7)
    result = home.run("webhooks")
    assert result.success
    understood = checks(result)["understood"]
    assert not understood.passed
    assert "note.json is damaged, or none of ours" in str(understood.description)
    with pytest.raises((ValueError, OSError)):
        Quarantine(strange.parent).delivery_in(strange)
