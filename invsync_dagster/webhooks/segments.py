"""The form of a segment: one file with the deliveries of one group, a line each, checked by a sum.

A segment is text: a first line with the version, a line a delivery, and a last line with their number, so that a
segment that was cut shows, even between two lines. A delivery's line is `<crc32> <base64 of the body> <the rest as
JSON>`; line ends can't occur within, so that whatever is damaged ends at the next line.
"""

from __future__ import annotations

import binascii
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

FIRST_LINE = b"invsync-segment 1"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Delivery(NamedTuple):
    """One webhook as it came: verified, not parsed. Header names are lower case, `body` is the exact bytes.

    `receipt_id` is ours, `<segment>:<index>` with the index from 0 in the order of arrival; "" until it is read back.
    """

    channel: str
    topic: str
    received_at: datetime
    headers: Mapping[str, str]
    body: bytes
    receipt_id: str = ""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A line of a segment that isn't what was written."""

    receipt_id: str
    reason: str
    raw: bytes


def encode(deliveries: Sequence[Delivery]) -> bytes:
    """Return the content of a segment with these deliveries."""
    return _framed(map(encode_line, deliveries))


def rewritten(name: str, content: bytes, change: Callable[[Delivery], Delivery]) -> bytes:
    """Return a segment with each delivery as `change` makes it, at its old place, and nothing of damaged lines."""
    lines = []
    for item in decode(name, content):
        if isinstance(item, Delivery):
            lines.append(encode_line(change(item)))
        elif item.receipt_id.rpartition(":")[2].isdecimal():
            lines.append(b"")
    return _framed(lines)


def _framed(lines: Iterable[bytes]) -> bytes:
    lines = list(lines)
    return b"\n".join([FIRST_LINE, *lines, b"end %d" % len(lines), b""])


def written_at(name: str) -> datetime:
    """Return when a segment was written, from its name or from a receipt in it."""
    return EPOCH + timedelta(microseconds=int(name.partition("-")[0]))


def encode_line(delivery: Delivery) -> bytes:
    """Return a delivery's line, without its end."""
    rest = json.dumps(
        {
            "channel": delivery.channel,
            "topic": delivery.topic,
            "received_at": delivery.received_at.isoformat(),
            "headers": dict(delivery.headers),
        }
    )
    content = binascii.b2a_base64(delivery.body, newline=False) + b" " + rest.encode("ascii")
    return b"%08x %s" % (zlib.crc32(content), content)


def decode_line(line: bytes, receipt_id: str) -> Delivery:
    """Return the delivery of a line. Raises ValueError or KeyError for one that isn't what was written."""
    checksum, _, content = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        raise ValueError("its checksum doesn't match")
    body, _, rest = content.partition(b" ")
    fields = json.loads(rest)
    return Delivery(
        channel=fields["channel"],
        topic=fields["topic"],
        received_at=datetime.fromisoformat(fields["received_at"]),
        headers=fields["headers"],
        body=binascii.a2b_base64(body, strict_mode=True),
        receipt_id=receipt_id,
    )


def decode(name: str, content: bytes) -> Iterator[Delivery | Damaged]:
    """Yield what is in the segment `name`, damaged lines among the good ones.

    Damage of the frame is told as well: receipts `<segment>:first` for a version we don't know, and `<segment>:end`
    for a segment that was cut or holds another number of lines than were written.
    """
    lines = content.split(b"\n")
    if lines[0] != FIRST_LINE:
        yield Damaged(f"{name}:first", "the first line names no version that is known", lines[0])
    whole = len(lines) >= 3 and lines[-1] == b"" and lines[-2] == b"end %d" % (len(lines) - 3)
    for index, line in enumerate(lines[1:-2] if whole else lines[1:]):
        try:
            yield decode_line(line, f"{name}:{index}")
        except (ValueError, KeyError) as error:
            yield Damaged(f"{name}:{index}", f"the line is damaged: {error}", line)
    if not whole:
        yield Damaged(f"{name}:end", "the segment ends early, or holds another number of lines than written", lines[-1])
