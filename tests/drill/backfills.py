"""Backfills through Dagster's own daemon, launched as the UI does: past days twice, and batches of which one fails."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from invsync_dagster.defs.full_sync import batch_partitions
from invsync_dagster.defs.names import DAILY_SNAPSHOT, full_sync_key
from invsync_dagster.demo.house import House
from invsync_dagster.demo.services import DemoError
from invsync_dagster.demo.stage import Say

DAYS = 7
BACKFILL_SECONDS = 300.0
# The shop answers so many calls, and then so many fail that of the batches that are under way one at least has a reading that
# fails as often as it is tried.
GOOD_CALLS = 5

_LAUNCH = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) { __typename
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_BACKFILL = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename
  ... on PartitionBackfill { status assetBackfillData { assetBackfillStatuses {
    ... on AssetPartitionsStatusCounts { numPartitionsMaterialized numPartitionsFailed } } } } } }"""
_PARTITIONS = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { __typename
  ... on AssetNode { assetPartitionStatuses { __typename
    ... on DefaultPartitionStatuses { materializedPartitions failedPartitions } } } } }"""

Row = tuple[str, str, bool]


def backfills(house: House, say: Say) -> list[Row]:
    """Return what was done, how it ended, and whether that is right."""
    return [*_days(house, say), *_batches(house, say)]


def _days(house: House, say: Say) -> list[Row]:
    today = house.ws.clock.now().astimezone(ZoneInfo(house.ws.configuration.settings.time_zone)).date()
    days = [str(today - timedelta(days=back)) for back in range(DAYS, 0, -1)]
    files = [house.ws.home.data / "snapshots" / f"{day}.parquet" for day in days]
    seen: list[dict[str, str]] = []
    written: list[list[int]] = []
    rows: list[Row] = []
    for time_of in ("first", "second"):
        status, done, failed = _backfill(house, DAILY_SNAPSHOT.path, days, f"a past week, {time_of} time", say)
        seen.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.exists()})
        written.append([file.stat().st_mtime_ns for file in files if file.exists()])
        right = (status, done, failed) == ("COMPLETED_SUCCESS", DAYS, 0)
        rows.append((f"daily_snapshot, {DAYS} days, {time_of} time", f"{status}: {done} done, {failed} failed", right))
    same = seen[0] == seen[1] and len(seen[0]) == DAYS
    anew = all(before < after for before, after in zip(*written, strict=True))
    words = f"{'same' if same else 'different'} bytes, {'all' if anew else 'not all'} written anew"
    return [*rows, (f"daily_snapshot, {DAYS} files compared", words, same and anew)]


def _batches(house: House, say: Say) -> list[Row]:
    shop = house.stage.shops[-1]
    path = full_sync_key(shop).path
    settings = house.ws.configuration.settings
    batches = batch_partitions(settings).get_partition_keys()
    fault: dict[str, Any] = {"kind": "error_503"}
    house.shops.set_faults(
        shop, {}, [*[None] * GOOD_CALLS, *[fault] * (settings.retries * settings.full_sync_at_once + 1)]
    )
    status, done, failed = _backfill(house, path, batches, f"everything at {shop}", say)
    red = _failed(house, path)
    right = (status, done, failed) == ("COMPLETED_FAILED", len(batches) - len(red), len(red)) and 0 < done < len(
        batches
    )
    what = f"{'/'.join(path)}, {len(batches)} batches, readings fail"
    rows = [(what, f"{status}: {done} done, failed: {', '.join(red)}", right)]
    if not red:
        return rows
    status, done, failed = _backfill(house, path, red, f"what failed at {shop}, again", say)
    right = (status, done, failed, _failed(house, path)) == ("COMPLETED_SUCCESS", len(red), 0, [])
    return [
        *rows,
        (f"{'/'.join(path)}, batch {', '.join(red)} alone", f"{status}: {done} done, {failed} failed", right),
    ]


def _backfill(
    house: House, path: Sequence[str], partitions: Sequence[str], title: str, say: Say
) -> tuple[str, int, int]:
    """Launch a backfill and wait for its end; return its status and how many partitions are done and failed."""
    params = {"assetSelection": [{"path": list(path)}], "partitionNames": list(partitions), "title": title}
    answer = house.dagster.ask(_LAUNCH, {"params": params})["launchPartitionBackfill"]
    if answer["__typename"] != "LaunchBackfillSuccess":
        raise DemoError(f"Dagster can't launch the backfill {title!r}: {answer.get('message', answer['__typename'])}")
    began = time.monotonic()
    while True:
        found = house.dagster.ask(_BACKFILL, {"id": answer["backfillId"]})["partitionBackfillOrError"]
        if found["status"].startswith(("COMPLETED", "FAILED", "CANCELED")):
            break
        if time.monotonic() > began + BACKFILL_SECONDS:
            raise DemoError(f"the backfill {title!r} is still {found['status']} after {BACKFILL_SECONDS:.0f} s")
        house.services.keep_running(say)
        time.sleep(1.0)
    say(f"backfill {answer['backfillId']}, {title}: {found['status']} after {time.monotonic() - began:.0f} s")
    [counts] = found["assetBackfillData"]["assetBackfillStatuses"]
    return found["status"], counts["numPartitionsMaterialized"], counts["numPartitionsFailed"]


def _failed(house: House, path: Sequence[str]) -> list[str]:
    node = house.dagster.ask(_PARTITIONS, {"key": {"path": list(path)}})["assetNodeOrError"]
    return list(node["assetPartitionStatuses"]["failedPartitions"])
