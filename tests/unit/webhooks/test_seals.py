"""The seal of the inbox: what is sealed tells nothing, opens with any key that is held, and says which key it needs."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.seals import NO_SEALS, InboxKeyError, SealedError, Seals
from invsync_dagster.webhooks.segments import Delivery

NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
BODY = b'{"buyer": "Ann Buyer"}'


def as_text(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


def folder_of(tmp_path: Path, *keys: bytes) -> tuple[Inbox, SegmentWriter]:
    seals = Seals(keys)
    inbox = Inbox(tmp_path / "inbox", seals)
    inbox.prepare(NOW)
    return inbox, SegmentWriter(inbox.folder, VirtualClock(NOW), random.Random(1), seals)


def delivery() -> Delivery:
    return Delivery("shop", "orders/create", NOW, {"x-name": "Ann Buyer"}, BODY)


def test_without_a_key_nothing_is_sealed() -> None:
    assert not NO_SEALS.has_key
    assert NO_SEALS.seal(BODY) == NO_SEALS.open(BODY) == BODY
    assert not Seals.from_environment({}).has_key
    assert not Seals.from_environment({"INVSYNC_INBOX_KEY": ""}).has_key


def test_what_is_sealed_tells_nothing_and_opens_with_its_key() -> None:
    seals = Seals.from_environment({"INVSYNC_INBOX_KEY": as_text(NEW)})
    sealed = seals.seal(BODY)
    assert b"Ann" not in sealed
    assert seals.open(sealed) == BODY
    assert seals.seal(BODY) != sealed


def test_the_first_key_seals_and_all_open() -> None:
    sealed = Seals([OLD]).seal(BODY)
    both = Seals.from_environment({"INVSYNC_INBOX_KEY": as_text(NEW, OLD)})
    assert both.open(sealed) == BODY
    assert Seals([NEW]).open(both.seal(BODY)) == BODY
    with pytest.raises(SealedError, match="INVSYNC_INBOX_KEY doesn't hold"):
        Seals([OLD]).open(both.seal(BODY))


def test_what_was_written_before_there_was_a_key_still_opens() -> None:
    assert Seals([NEW]).open(BODY) == BODY


@pytest.mark.parametrize("place", [-1, 40, 30, 26])
def test_a_changed_byte_breaks_the_seal(place: int) -> None:
    seals = Seals([NEW])
    sealed = bytearray(seals.seal(BODY))
    sealed[place] ^= 1
    with pytest.raises(SealedError, match="its seal is broken"):
        seals.open(bytes(sealed))


def test_a_cut_seal_is_broken() -> None:
    seals = Seals([NEW])
    sealed = seals.seal(BODY)
    for length in range(sealed.index(b"\n") + 1, len(sealed)):
        with pytest.raises(SealedError, match="its seal is broken"):
            seals.open(sealed[:length])


@pytest.mark.parametrize("text", ["secret!", as_text(NEW[:16]), as_text(NEW) + "," + as_text(NEW + OLD)])
def test_what_is_no_key_is_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(InboxKeyError, match="INVSYNC_INBOX_KEY") as caught:
        Seals.from_environment({"INVSYNC_INBOX_KEY": text})
    assert text not in str(caught.value)


def test_no_key_is_in_what_is_printed() -> None:
    assert repr(Seals([OLD, NEW])) == "Seals(2 keys)"


def test_a_sealed_segment_is_read_back_and_tells_nothing_on_disk(tmp_path: Path) -> None:
    inbox, writer = folder_of(tmp_path, NEW, OLD)
    path = writer.write([delivery()])
    assert b"Ann" not in path.read_bytes()
    assert base64.b64encode(BODY) not in path.read_bytes()
    (read,) = inbox.read(path)
    assert (read.body, read.headers) == (BODY, {"x-name": "Ann Buyer"})


def test_a_segment_whose_key_is_gone_is_named_in_quarantine_and_kept_as_it_is(tmp_path: Path) -> None:
    _, writer = folder_of(tmp_path, OLD)
    path = writer.write([delivery()])
    content = path.read_bytes()
    inbox, _ = folder_of(tmp_path, NEW)
    assert inbox.read(path) == []
    inbox.finish(path)
    (entry,) = inbox.quarantine.entries()
    assert entry.receipt_id == f"{path.stem}:sealed"
    assert "which INVSYNC_INBOX_KEY doesn't hold" in entry.reason
    assert (inbox.folder / "done" / "2026-11-03" / path.name).read_bytes() == content


def test_the_quarantine_shows_the_reason_to_everybody_and_the_delivery_to_the_key(tmp_path: Path) -> None:
    inbox, writer = folder_of(tmp_path, NEW)
    (read,) = inbox.read(writer.write([delivery()]))
    path = inbox.quarantine.keep(read, "line_items is missing")
    fields = json.loads(path.read_bytes())
    assert (fields["reason"], fields["channel"]) == ("line_items is missing", "shop")
    assert "body" not in fields
    assert b"Ann" not in path.read_bytes()
    assert inbox.quarantine.delivery_in(path) == read
    other, _ = folder_of(tmp_path, OLD)
    with pytest.raises(ValueError, match="which INVSYNC_INBOX_KEY doesn't hold"):
        other.quarantine.delivery_in(path)
    assert [one.reason for one in other.quarantine.entries()] == ["line_items is missing"]
