"""Files of the inbox: whole, the owner's alone, several at a time, and none of those that could not all be written."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from invsync_dagster.webhooks.files import write_all_durably, write_durably
from invsync_dagster.webhooks.quarantine import AT_ONCE, Quarantine
from invsync_dagster.webhooks.segments import Delivery


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_the_owners_and_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "one"
    write_durably(path, b"before")
    write_durably(path, b"after")
    assert (names(tmp_path), path.read_bytes(), path.stat().st_mode & 0o777) == (["one"], b"after", 0o600)


def test_of_several_files_none_is_left_where_one_can_not_be_written(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"before")
    with pytest.raises(OSError, match="No such file"):
        write_all_durably([(tmp_path / "one", b"1"), (kept, b"after"), (tmp_path / "nowhere" / "two", b"2")])
    assert (names(tmp_path), kept.read_bytes()) == (["kept"], b"before")


def test_no_files_are_nothing_to_write() -> None:
    write_all_durably([])


def test_a_quarantine_takes_more_than_it_has_open_at_once(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine")
    at = datetime(2026, 3, 1, tzinfo=UTC)
    refused = [
        (Delivery("shop", "orders/create", at, {"x": "y"}, b"%d" % number, f"0-s:{number}"), f"reason {number}")
        for number in range(2 * AT_ONCE + 1)
    ]
    quarantine.keep_all(refused)
    found = {one.receipt_id: one.reason for one in quarantine.entries()}
    assert found == {delivery.receipt_id: reason for delivery, reason in refused}
    last = refused[-1][0]
    assert quarantine.delivery_in(quarantine.path_of(last.receipt_id)) == last
    quarantine.keep_all([])
    assert len(quarantine.files()) == len(refused)
