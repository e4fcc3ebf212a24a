"""The kept deliveries: found by the time they were received, erased in their place, forgotten by their day."""

from __future__ import annotations

import random
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.webhooks.inbox import ERASED, Inbox, SegmentWriter
from invsync_dagster.webhooks.kept import Kept
from invsync_dagster.webhooks.seals import NO_SEALS, Seals
from invsync_dagster.webhooks.segments import Damaged, Delivery

NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
KEYS = Seals([bytes(range(32))])


@pytest.fixture(params=[NO_SEALS, KEYS], ids=["open", "sealed"])
def seals(request: pytest.FixtureRequest) -> Seals:
    found: Seals = request.param
    return found


def keep(folder: Path, seals: Seals, *groups: list[Delivery]) -> list[Path]:
    """Write groups as segments of the time of their first delivery, applied; return where they are kept."""
    inbox, clock, rng = Inbox(folder, seals), VirtualClock(NOW - timedelta(days=99)), random.Random(1)
    inbox.prepare(NOW)
    kept = []
    for group in groups:
        clock.advance((group[0].received_at - clock.now()).total_seconds())
        path = SegmentWriter(folder, clock, rng, seals).write(group)
        inbox.finish(path)
        kept.append(folder / "done" / f"{group[0].received_at:%Y-%m-%d}" / path.name)
    return kept


def delivery(body: str, *, days: float = 0, channel: str = "shop") -> Delivery:
    return Delivery(channel, "orders/create", NOW - timedelta(days=days), {}, body.encode())


def bodies(kept: Kept, since: datetime, until: datetime, channel: str = "") -> list[bytes]:
    return [item.body for item in kept.between(since, until, channel) if isinstance(item, Delivery)]


def test_deliveries_are_found_by_time_and_channel_in_the_order_of_arrival(tmp_path: Path, seals: Seals) -> None:
    keep(
        tmp_path,
        seals,
        [delivery("old", days=2)],
        [delivery("a"), delivery("b", channel="other")],
        [delivery("c", days=-0.01)],
    )
    kept = Kept(tmp_path, seals)
    assert bodies(kept, NOW - timedelta(days=9), NOW + timedelta(days=1)) == [b"old", b"a", b"b", b"c"]
    assert bodies(kept, NOW, NOW + timedelta(days=1), "shop") == [b"a", b"c"]
    assert bodies(kept, NOW - timedelta(days=9), NOW) == [b"old"]
    assert bodies(kept, NOW, NOW + timedelta(microseconds=1)) == [b"a", b"b"]
    assert bodies(Kept(tmp_path / "nowhere", seals), NOW, NOW + timedelta(days=1)) == []


def test_the_days_say_how_much_is_kept(tmp_path: Path, seals: Seals) -> None:
    first, second = keep(tmp_path, seals, [delivery("old", days=2)], [delivery("new")])
    days = Kept(tmp_path, seals).days()
    assert [(day.day, day.segments, day.size_bytes, day.is_erased) for day in days] == [
        ("2026-11-01", 1, first.stat().st_size, False),
        ("2026-11-03", 1, second.stat().st_size, False),
    ]


def test_erasing_keeps_receipts_and_places_and_happens_once(tmp_path: Path, seals: Seals) -> None:
    old, young = keep(tmp_path, seals, [delivery("one", days=40), delivery("two", days=40)], [delivery("three")])
    kept = Kept(tmp_path, seals)
    before = [item.receipt_id for item in kept.between(NOW - timedelta(days=99), NOW + timedelta(days=1))]
    asked = []

    def less(delivery: Delivery) -> Delivery:
        asked.append(delivery.body)
        return delivery._replace(body=delivery.body[:1])

    assert kept.erase((NOW - timedelta(days=30)).date(), less) == 2
    assert kept.erase((NOW - timedelta(days=30)).date(), less) == 0
    assert asked == [b"one", b"two"]
    assert bodies(kept, NOW - timedelta(days=99), NOW + timedelta(days=1)) == [b"o", b"t", b"three"]
    assert [i.receipt_id for i in kept.between(NOW - timedelta(days=99), NOW + timedelta(days=1))] == before
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert (old.parent / ERASED).exists()
    assert not (young.parent / ERASED).exists()
    assert [day.is_erased for day in kept.days()] == [True, False]


def test_a_segment_that_is_applied_after_its_day_was_erased_is_erased_too(tmp_path: Path) -> None:
    kept, limit = Kept(tmp_path, NO_SEALS), (NOW - timedelta(days=30)).date()
    for body in ("one", "two"):
        keep(tmp_path, NO_SEALS, [delivery(body, days=40)])
        assert kept.erase(limit, lambda delivery: delivery._replace(body=b"")) == 1
        assert [day.is_erased for day in kept.days()] == [True]


def test_nothing_stays_of_a_damaged_line_and_its_neighbours_keep_their_receipts(tmp_path: Path) -> None:
    (path,) = keep(tmp_path, NO_SEALS, [delivery(body, days=40) for body in ("one", "Ann Buyer", "three")])
    lines = path.read_bytes().split(b"\n")
    lines[2] = b"x" + lines[2]
    path.write_bytes(b"\n".join(lines))
    kept = Kept(tmp_path, NO_SEALS)
    kept.erase(NOW.date(), lambda delivery: delivery)
    one, damaged, three = kept.between(NOW - timedelta(days=99), NOW)
    assert [item.receipt_id.rpartition(":")[2] for item in (one, damaged, three)] == ["0", "1", "2"]
    assert isinstance(damaged, Damaged)
    assert damaged.raw == b""


def test_what_must_stay_whole_or_is_sealed_with_a_lost_key_is_asked_about_again(tmp_path: Path) -> None:
    keep(tmp_path, KEYS, [delivery("sealed", days=40)])
    keep(tmp_path, NO_SEALS, [delivery("open", days=50)])
    kept = Kept(tmp_path, NO_SEALS)
    asked = []

    def leave(delivery: Delivery) -> None:
        asked.append(delivery.body)

    for _ in range(2):
        assert kept.erase(NOW.date(), leave) == 0
    assert asked == [b"open", b"open"]
    assert Kept(tmp_path, KEYS).erase(NOW.date(), lambda delivery: delivery._replace(body=b"")) == 2


def test_days_are_forgotten_with_all_that_is_in_them(tmp_path: Path, seals: Seals) -> None:
    keep(tmp_path, seals, [delivery("older", days=41)], [delivery("old", days=40)], [delivery("new")])
    kept = Kept(tmp_path, seals)
    kept.erase((NOW - timedelta(days=30)).date(), lambda delivery: delivery)
    assert kept.forget((NOW - timedelta(days=40)).date()) == 1
    assert kept.forget(NOW.date()) == 1
    assert [day.day for day in kept.days()] == ["2026-11-03"]


def test_a_segment_that_waits_for_its_key_is_not_forgotten(tmp_path: Path) -> None:
    lost, other = keep(tmp_path, KEYS, [delivery("a", days=2)], [delivery("b", days=2)])
    mark = Inbox(tmp_path).quarantine.keep_damaged(Damaged(f"{lost.stem}:sealed", "sealed", b""))
    kept = Kept(tmp_path, NO_SEALS)
    assert kept.forget((NOW - timedelta(days=1)).date()) == 1
    assert lost.exists()
    assert not other.exists()
    mark.unlink()
    assert kept.forget((NOW - timedelta(days=1)).date()) == 1
    assert kept.days() == []


def test_the_quarantine_is_erased_by_the_time_of_each_delivery(tmp_path: Path, seals: Seals) -> None:
    quarantine = Inbox(tmp_path, seals).quarantine
    for number, days in ((1, 40), (2, 1)):
        quarantine.keep(delivery(f"Ann {number}", days=days)._replace(receipt_id=f"{number}:0"), "no listing")
    micros = (NOW - timedelta(days=40) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    raw = quarantine.keep_damaged(Damaged(f"{micros:016d}-x:0", "its checksum", b"Ann Buyer"))
    limit = NOW - timedelta(days=30)
    assert quarantine.erase(limit, lambda delivery: delivery._replace(body=b"{}")) == 2
    assert quarantine.erase(limit, lambda delivery: delivery._replace(body=b"{}")) == 0
    assert [quarantine.delivery_in(quarantine.path_of(f"{n}:0")).body for n in (1, 2)] == [b"{}", b"Ann 2"]
    assert sorted(entry.reason for entry in quarantine.entries()) == ["its checksum", "no listing", "no listing"]
    with pytest.raises(ValueError, match="holds no whole delivery"):
        quarantine.delivery_in(raw)


def test_what_a_replay_takes_out_of_the_quarantine_stops_no_erasing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantine = Inbox(tmp_path).quarantine
    paths = [
        quarantine.keep(delivery("Ann", days=40)._replace(receipt_id=f"{number}:0"), "no listing") for number in (1, 2)
    ]
    monkeypatch.setattr(quarantine, "files", lambda: paths)
    paths[0].unlink()
    assert quarantine.erase(NOW, lambda delivery: delivery._replace(body=b"{}")) == 1
