"""The daily snapshots: the stock at the end of each day, rebuilt from the ledger, the same bytes each time."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

import hashlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from invsync_dagster.channels import Configuration
from invsync_dagster.defs.metadata import cause_of
from invsync_dagster.defs.names import DAILY_SNAPSHOT, LEDGER, OWNERS, STOCK
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.history import DailyBalance, DayNotOverError, close_day, daily_balances

COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("sku", type="text", description="The central SKU."),
        dg.TableColumn("quantity", type="bigint", description="Units on hand at the end of the day."),
        dg.TableColumn("reserved_quantity", type="bigint", description="Units promised to open orders."),
        dg.TableColumn("sequence", type="bigint", description="The SKU's last ledger entry of the day or before."),
    ]
)


def build_daily(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """Return the daily snapshot, partitioned by the days of the configured time zone."""
    settings = configuration.settings
    zone = settings.time_zone
    days = dg.DailyPartitionsDefinition(start_date=settings.snapshots_from.isoformat(), timezone=zone)

    @dg.asset(
        key=DAILY_SNAPSHOT,
        deps=[LEDGER],
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=31),
        output_required=False,
        group_name=STOCK,
        owners=OWNERS,
        kinds={"parquet"},
        metadata={"dagster/column_schema": COLUMNS},
        description=(
            "The stock at the end of a day as Parquet under data/snapshots/, one file a day: the ledger up to the "
            "day's closing sequence, which is fixed once, when the day has ended. A backfill of any past range gives "
            "the same bytes.\n\n"
            "*Red* means that the day isn't over yet (in the `time_zone` of channels.yaml), or that the disk is full. Wait "
            "for the day's end, or make room, and materialise the partition again; the others are done."
        ),
    )
    def daily_snapshot(context: dg.AssetExecutionContext, invsync: Invsync) -> Iterator[Any]:
        cause_of(context)
        ws = invsync.workspace
        failed = {}
        for day in context.partition_keys:
            try:
                with write_transaction(ws.engine) as connection:
                    closing = close_day(connection, date.fromisoformat(day), zone, ws.clock.now())
            except DayNotOverError as error:
                failed[day] = str(error)
                continue
            with ws.engine.connect() as connection:
                balances = daily_balances(connection, closing)
            path = ws.home.data / "snapshots" / f"{day}.parquet"
            digest = write_parquet(path, balances)
            metadata: dict[str, Any] = {
                "dagster/partition_row_count": len(balances),
                "units": sum(one.quantity for one in balances),
                "reserved": sum(one.reserved_quantity for one in balances),
                "closing_sequence": closing,
                "sha256": digest,
                "path": dg.MetadataValue.path(path),
            }
            yield dg.AssetMaterialization(DAILY_SNAPSHOT, partition=day, metadata=metadata)
        if failed:
            raise dg.Failure("; ".join(failed.values()), allow_retries=False)

    return [daily_snapshot]


def write_parquet(path: Path, balances: list[DailyBalance]) -> str:
    """Write the balances, whole or not at all, and return the SHA-256 of the file's bytes."""
    import pandas as pd  # here, since its import costs each run 0.4 s

    frame = pd.DataFrame(
        {
            "sku": pd.array([one.sku for one in balances], dtype="str"),
            "quantity": pd.array([one.quantity for one in balances], dtype="int64"),
            "reserved_quantity": pd.array([one.reserved_quantity for one in balances], dtype="int64"),
            "sequence": pd.array([one.sequence for one in balances], dtype="int64"),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    frame.to_parquet(partial, index=False, compression="zstd")
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    partial.replace(path)
    return digest
