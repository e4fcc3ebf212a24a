"""A long inbox is listed a few times, read in batches that fit into memory, and emptied; files are for their owner alone."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from invsync_dagster.inventory.tables import deliveries
from invsync_dagster.sync import intake
from invsync_dagster.sync.hearing import oldest_waiting
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.segments import Delivery
from tests.unit.sync.conftest import LittleWorld
from tests.unit.sync.kept_stage import SKU, Kept


@pytest.fixture
def kept(world: LittleWorld, tmp_path: Path) -> Kept:
    return Kept(world, tmp_path)


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count how many segments each listing of the inbox returns."""
    counted: list[int] = []
    segments = Inbox.segments

    def listed(self: Inbox, limit: int) -> list[Path]:
        found = segments(self, limit)
        counted.append(len(found))
        return found

    monkeypatch.setattr(Inbox, "segments", listed)
    yield counted


def sell(kept: Kept, times: int) -> None:
    """Sell at a shop, its webhooks in a segment each."""
    for _ in range(times):
        kept.world.sell("shop_main", SKU)
        kept.world.clock.advance(1)
    kept.world.deliver("shop_main")
    writer = SegmentWriter(kept.folder, kept.world.clock, kept.ws.rng)
    for delivery in kept.world.inbox:
        writer.write([delivery])
    kept.world.inbox.clear()


def test_a_long_inbox_is_listed_once_a_slice_and_emptied_in_the_order_of_arrival(
    kept: Kept, listings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "SEGMENTS_LISTED", 5)
    monkeypatch.setattr(intake, "DELIVERIES_AT_ONCE", 3)
    sell(kept, 6)
    report = kept.apply()
    assert (report.segments, report.deliveries, report.entries) == (12, 12, 6)
    assert listings == [5, 5, 2, 0]
    received = [row.received_at for row in kept.rows(deliveries)]
    assert received == sorted(received)
    assert kept.reserved() == 6


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many deliveries each transaction takes."""
    sizes = []
    apply = intake.apply_deliveries

    def counted(ws: object, batch: list[Delivery], *arguments: object, **options: object) -> object:
        sizes.append(len(batch))
        return apply(ws, batch, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(intake, "apply_deliveries", counted)
    return sizes


def test_large_bodies_fill_a_transaction_sooner(kept: Kept, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "BYTES_AT_ONCE", 1)
    sell(kept, 2)
    assert kept.apply().entries == 2
    assert [size for size in sizes if size] == [1, 1, 1, 1]


def test_what_is_left_behind_a_full_transaction_goes_in_larger_ones(
    kept: Kept, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "DELIVERIES_AT_ONCE", 2)
    monkeypatch.setattr(intake, "BACKLOG_AT_ONCE", 5)
    sell(kept, 6)
    assert kept.apply().entries == 6
    assert [size for size in sizes if size] == [2, 5, 5]


def test_all_that_lies_in_the_inbox_is_for_its_owner_alone(kept: Kept) -> None:
    sell(kept, 1)
    now = kept.world.clock.now()
    broken = Delivery("shop_main", "orders/create", now, {"x-shopify-topic": "orders/create"}, b"{")
    writer = SegmentWriter(kept.folder, kept.world.clock, kept.ws.rng)
    writer.write([broken])
    damaged = writer.write([broken._replace(body=b"{}")])
    damaged.write_bytes(damaged.read_bytes().replace(b"end 1", b"end 2"))
    kept.apply()
    kinds = {True: 0o700, False: 0o600}
    found = list(kept.folder.rglob("*"))
    assert {path.parent.name for path in found} >= {"quarantine", f"{now:%Y-%m-%d}"}
    assert all(stat.S_IMODE(path.stat().st_mode) == kinds[path.is_dir()] for path in found)


def test_a_file_that_only_ends_like_a_segment_is_named_and_stops_nobody(kept: Kept) -> None:
    sell(kept, 1)
    stray = kept.folder / "!copy of yesterday.segment"
    stray.write_text("notes")
    assert oldest_waiting(kept.folder, kept.ws.clock.now()) is not None
    report = kept.apply()
    assert (report.entries, report.quarantined) == (1, 1)
    assert report.reasons == [f"{stray.name} stays in the inbox: no segment is called so; move it away"]
    assert stray.read_text() == "notes"
    assert oldest_waiting(kept.folder, kept.ws.clock.now()) is None
    assert Inbox(kept.folder).waiting() == 0
