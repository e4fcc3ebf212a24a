"""Changes true documents into what no platform would send: values replaced, taken out, doubled, moved, bytes broken."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 10**9 + 1, 2**53 + 1, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")]),
    st.sampled_from(
        ["", " ", "\0", "\ud800", "0", "-1", "1e999", "nan", "Infinity", "٣", "a" * 70_000, "gid://shopify/X/1"]
    ),
    st.sampled_from(
        ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-02-30T00:00:00Z", "2026-11-20", "20261120T10Z"]
    ),
    st.text(max_size=10),
    st.integers(),
    st.sampled_from([[], {}, [[]], [None], {"": {}}, [{}], [1, "a", None]]),
    # Stands for so many levels of lists, which `json.dumps` itself couldn't write.
    st.integers(1, 1_200).map(lambda depth: f"@{depth}@"),
)


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container with each of its keys or indices."""
    if isinstance(document, dict):
        keys = list(document)
    elif isinstance(document, list):
        keys = list(range(len(document)))
    else:
        return
    for key in keys:
        yield document, key
        yield from places(document[key])


@st.composite
def changed(draw: st.DrawFn, document: Any) -> bytes:
    """Return a document with a few of its values replaced, taken out, doubled or moved, as the bytes of a body."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(document))
        if not found:
            break
        holder, key = draw(st.sampled_from(found))
        what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "wrap", "double", "move"]))
        if what == "remove":
            del holder[key]
        elif what == "replace":
            holder[key] = copy.deepcopy(draw(ODD))  # the next change may be within it
        elif what == "wrap":
            holder[key] = [holder[key]]
        elif what == "double":
            holder[key] = [holder[key], holder[key]]
        else:
            other, place = draw(st.sampled_from(found))
            holder[key] = json.loads(json.dumps(other.get(place) if isinstance(other, dict) else None))
    return written(document, draw)


def written(document: Any, draw: st.DrawFn) -> bytes:
    body = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    parts = body.split(b'"@')
    for index, part in enumerate(parts[1:], 1):
        depth, mark, rest = part.partition(b'@"')
        parts[index] = b"[" * int(depth) + b"]" * int(depth) + rest if mark and depth.isdigit() else b'"@' + part
    return b"".join(parts)


@st.composite
def broken(draw: st.DrawFn, document: Any) -> bytes:
    """Return a body with bytes put in, taken out or changed."""
    body = bytearray(json.dumps(document).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b'"id":1,', b"NaN", b"\xff"])
        )
    return bytes(body)
