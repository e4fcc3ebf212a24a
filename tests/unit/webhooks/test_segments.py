"""The form of a segment: it gives back what went in, and shows every damage."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from invsync_dagster.webhooks.segments import Damaged, Delivery, decode, encode

AT = datetime(2026, 11, 3, 12, 0, 0, 123456, tzinfo=UTC)

deliveries = st.builds(
    Delivery,
    channel=st.sampled_from(["shop", "desk"]),
    topic=st.text(max_size=20),
    received_at=st.datetimes(timezones=st.just(UTC)),
    headers=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
    body=st.binary(max_size=60),
    receipt_id=st.just(""),
)


def delivery(body: bytes) -> Delivery:
    return Delivery("shop", "orders/create", AT, {"content-type": "application/json"}, body)


def without_receipt(item: Delivery) -> Delivery:
    return Delivery(item.channel, item.topic, item.received_at, item.headers, item.body)


@given(st.lists(deliveries, max_size=5))
def test_a_segment_gives_back_exactly_what_was_written_with_receipts_in_order(group: list[Delivery]) -> None:
    read = [item for item in decode("s", encode(group)) if isinstance(item, Delivery)]
    assert [without_receipt(item) for item in read] == group
    assert [item.receipt_id for item in read] == [f"s:{index}" for index in range(len(group))]


@given(st.data())
def test_a_changed_byte_costs_at_most_its_own_line_and_always_shows(data: st.DataObject) -> None:
    group = [delivery(b"one"), delivery(b"two"), delivery(b"three")]
    content = bytearray(encode(group))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    items = list(decode("s", bytes(content)))
    good = [without_receipt(item) for item in items if isinstance(item, Delivery)]
    assert any(isinstance(item, Damaged) for item in items)
    assert all(item in group for item in good)
    # A changed line end joins two lines, so that two are lost.
    assert len(good) >= (1 if encode(group)[place : place + 1] == b"\n" else 2)


@given(st.integers(0, 10_000))
def test_a_segment_that_was_cut_anywhere_gives_its_whole_lines_and_shows_the_cut(length: int) -> None:
    group = [delivery(b"one"), delivery(b"two"), delivery(b"three")]
    whole = encode(group)
    content = whole[: length % len(whole)]
    items = list(decode("s", content))
    good = [without_receipt(item) for item in items if isinstance(item, Delivery)]
    assert good == group[: len(good)]
    assert len(good) >= content.count(b"\n") - 2
    assert isinstance(items[-1], Damaged)
    assert items[-1].receipt_id == "s:end"


def test_a_line_of_zeros_shows_though_the_number_of_lines_is_right() -> None:
    lines = encode([delivery(b"one"), delivery(b"two")]).split(b"\n")
    lines[1] = b"\0" * len(lines[1])
    items = list(decode("s", b"\n".join(lines)))
    assert [item.receipt_id for item in items] == ["s:0", "s:1"]
    assert [type(item) for item in items] == [Damaged, Delivery]


def test_an_unknown_version_shows() -> None:
    items = list(decode("s", encode([delivery(b"one")]).replace(b"segment 1", b"segment 9")))
    assert isinstance(items[0], Damaged)
    assert items[0].receipt_id == "s:first"
