"""The stock's assets: what comes in (webhook and import files), the ledger, its snapshot, and the changes to push."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import dagster as dg
from sqlalchemy import Connection, func, select

from invsync_dagster.channels import Configuration
from invsync_dagster.defs import names
from invsync_dagster.defs.metadata import SHOWN as TABLE_ROWS
from invsync_dagster.defs.metadata import cause_of, column_schema, in_short, latest_report, worst_rows
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.batches import batches_in_force, wrong_batches
from invsync_dagster.inventory.changes import changes_by_channel, each_change, oldest_changes
from invsync_dagster.inventory.deciding import Hold, changed_at, held_levels, holds_now
from invsync_dagster.inventory.looks import Look
from invsync_dagster.inventory.status import QUARANTINE_MEND
from invsync_dagster.inventory.tables import central_inventory, inventory_levels, stock_ledger
from invsync_dagster.sync.intake import IntakeReport, apply_inbox
from invsync_dagster.sync.quarantined import SHOWN, InQuarantine, in_quarantine
from invsync_dagster.sync.registration import missing_channels, register_channels
from invsync_dagster.sync.workspace import Workspace

# Twenty rows in every cycle were a twelfth of all that Dagster keeps.
SHOWN_IN_TIME = 3

# A change that waits longer than this is worth a look; pushes retry failed rows at most an hour apart.
OLDEST_CHANGE_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class ShortSku:
    """A SKU of which more is promised than there is, in units."""

    sku: str
    product_name: str
    quantity: int
    reserved_quantity: int


def build_stock(configuration: Configuration) -> list[Any]:
    """Return the assets from the files to the changes; `configuration` only says where the stock's database is."""
    return [
        dg.AssetSpec(
            names.WEBHOOK_FILES,
            group_name=names.STOCK,
            owners=names.OWNERS,
            kinds={"file"},
            description="Deliveries that the receiver has on disk under data/inbox/, before they were answered.",
        ),
        dg.AssetSpec(
            names.IMPORT_FILES,
            group_name=names.STOCK,
            owners=names.OWNERS,
            kinds={"csv", "excel"},
            description="Inventory and mapping files that people put into data/imports/.",
        ),
        stock_ledger_asset,
        inventory_snapshot,
        inventory_changes,
    ]


@dg.asset(
    key=names.LEDGER,
    deps=[names.WEBHOOK_FILES, names.IMPORTS],
    group_name=names.STOCK,
    owners=names.OWNERS,
    kinds={"table"},
    metadata={"dagster/column_schema": column_schema(stock_ledger), "dagster/table_name": stock_ledger.name},
    check_specs=[
        dg.AssetCheckSpec("configuration", asset=names.LEDGER, description="channels.yaml holds nothing to mend."),
        dg.AssetCheckSpec("understood", asset=names.LEDGER, description="No delivery is in quarantine."),
    ],
    description=(
        "The append-only ledger of the stock. Each run applies the waiting webhook deliveries exactly once, in one "
        "transaction with the balances and every listing's desired quantity.\n\n"
        "*Red* means that nothing was applied (database or disk): the files wait in data/inbox/ and nothing is lost. "
        "Look at the run's error; once that is mended, the next run applies them. A red check `understood` means "
        "deliveries in data/inbox/quarantine/, whichever run put them there: `invsync inbox list` names each with its "
        "reason, `invsync inbox replay FILE…` applies it once that is mended. `configuration` names the line of "
        "channels.yaml and the mend."
    ),
)
def stock_ledger_asset(context: dg.AssetExecutionContext, invsync: Invsync) -> dg.MaterializeResult:
    """Apply the inbox."""
    cause_of(context)
    ws = invsync.workspace
    recomputed = register_channels(ws)
    report = apply_inbox(ws, run_id=context.run.run_id)
    figures = asdict(report)
    del figures["reasons"]
    with ws.engine.connect() as connection:
        sequence = connection.execute(select(func.coalesce(func.max(stock_ledger.c.sequence), 0))).scalar_one()
    with ws.engine.connect() as connection:
        wrong = wrong_batches(ws.configuration.settings.sku_batches, batches_in_force(connection))
    problems = [*ws.configuration.problems, *filter(None, [wrong])]
    problems += [
        f"channel {name!r} is no longer in the file: it is paused until it is back or retired. Its name is for good; to call it "
        "something else, put it back and give it a `title`"
        for name in missing_channels(ws)
    ]
    return dg.MaterializeResult(
        metadata=in_short(cause_of(context), {**figures, "ledger_sequence": sequence, "recomputed_levels": recomputed}),
        check_results=[
            dg.AssetCheckResult(
                check_name="configuration",
                passed=not problems,
                severity=dg.AssetCheckSeverity.ERROR,
                description="\n".join(problems) or "All entries can be used.",
                metadata={"problems": len(problems)},
            ),
            _understood(in_quarantine(ws), report),
        ],
    )


def _understood(quarantine: InQuarantine, report: IntakeReport) -> dg.AssetCheckResult:
    """Judge by what is there: a delivery waits for a person until it is put back or dropped, whatever came after it."""
    lines = [f"{quarantine.deliveries} deliveries in quarantine: {QUARANTINE_MEND}."] if quarantine.deliveries else []
    lines += list(dict.fromkeys([*quarantine.reasons, *sorted(set(report.reasons))[:SHOWN]]))
    return dg.AssetCheckResult(
        check_name="understood",
        passed=not (quarantine.deliveries or report.quarantined),
        severity=dg.AssetCheckSeverity.WARN,
        description="\n".join(lines) or "All deliveries were applied.",
        metadata={"quarantined": quarantine.deliveries},
    )


@dg.asset(
    key=names.SNAPSHOT,
    deps=[names.LEDGER],
    group_name=names.STOCK,
    owners=names.OWNERS,
    kinds={"table"},
    metadata={"dagster/column_schema": column_schema(central_inventory), "dagster/table_name": central_inventory.name},
    check_specs=[
        dg.AssetCheckSpec("not_negative", asset=names.SNAPSHOT, description="No SKU has more reserved than on hand.")
    ],
    description=(
        "The balance of every SKU as of one ledger sequence: what every number below derives from.\n\n"
        "*A red check* `not_negative`: more is promised than there is. Such SKUs show 0 everywhere. Count them, or "
        "cancel an order; `invsync explain SKU` shows how it came about."
    ),
)
def inventory_snapshot(invsync: Invsync) -> dg.MaterializeResult:
    """Sum up the balances."""
    stock = central_inventory.c
    short = stock.quantity < stock.reserved_quantity
    totals = select(
        func.count(),
        func.count().filter(stock.status == "active"),
        func.coalesce(func.sum(stock.quantity), 0),
        func.coalesce(func.sum(stock.reserved_quantity), 0),
        func.coalesce(func.max(stock.version), 0),
        func.count().filter(short),
    )
    worst = (
        select(stock.sku, stock.product_name, stock.quantity, stock.reserved_quantity)
        .where(short)
        .order_by(stock.quantity - stock.reserved_quantity, stock.sku)
    )
    ws = invsync.workspace
    with ws.engine.connect() as connection:
        skus, active, units, reserved, version, negative = connection.execute(totals).one()
        table: dict[str, Any] = {}
        if negative:
            rows = [ShortSku(*row) for row in connection.execute(worst.limit(TABLE_ROWS))]
            every = (ShortSku(*row) for row in connection.execute(worst.execution_options(yield_per=1000)))
            table = {**worst_rows(rows), **latest_report(ws.home, "negative_skus", every, ws.clock.now())}
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": skus,
            "active_skus": active,
            "units": int(units),
            "reserved": int(reserved),
            "ledger_sequence": version,
            "negative_skus": negative,
            **table,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="not_negative",
                passed=negative == 0,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{negative} SKUs have more reserved than on hand; they show 0.",
                metadata={"negative_skus": negative},
            )
        ],
    )


@dg.asset(
    key=names.CHANGES,
    deps=[names.SNAPSHOT],
    group_name=names.STOCK,
    owners=names.OWNERS,
    kinds={"table"},
    metadata={"dagster/column_schema": column_schema(inventory_levels), "dagster/table_name": inventory_levels.name},
    check_specs=[
        dg.AssetCheckSpec("oldest_change", asset=names.CHANGES, description="No change waits longer than 15 minutes."),
        dg.AssetCheckSpec(
            "breaker", asset=names.CHANGES, description="No listing that the breaker holds waits for a person."
        ),
    ],
    description=(
        "The levels whose number is to be brought in step, per channel: those whose desired quantity differs from "
        "what is on its way, or that are uncertain. The database keeps them in an index, so finding them costs as "
        "much as there is work.\n\n"
        "*A red check* `oldest_change`: a level has been out of step for long; the table `worst` says why. `breaker`: "
        "a change of rules, mapping or status would have moved too many listings, which go on selling down from the number "
        "that they had. Look at the check's table or at `invsync held list`, then decide with the job `decide_held` or "
        "`invsync held approve HOLD --reason …`, or take the change back (docs/holding.md)."
    ),
)
def inventory_changes(invsync: Invsync) -> dg.MaterializeResult:
    """Count the changes of each channel and show the oldest."""
    ws = invsync.workspace
    now = ws.clock.now()
    with ws.engine.connect() as connection:
        channels = changes_by_channel(connection, now)
        oldest = oldest_changes(connection, TABLE_ROWS)
        holds = holds_now(connection)
        held = sum(one.levels for one in holds)
        breaker = _breaker_check(connection, ws, holds, now)
        ages = [(now - one.oldest).total_seconds() for one in channels if one.oldest]
        age = max(ages, default=0.0)
        late = age > OLDEST_CHANGE_SECONDS
        report = latest_report(ws.home, "oldest_changes", each_change(connection), now) if late else {}
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(one.changes for one in channels),
            "due": sum(one.due for one in channels),
            "uncertain": sum(one.uncertain for one in channels),
            "zeros": sum(one.zeros for one in channels),
            "held": held,
            "oldest_change_s": round(age, 1),
            **{f"changes_{one.channel}": one.changes for one in channels},
            **worst_rows(oldest if late else oldest[:SHOWN_IN_TIME]),
            **report,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="oldest_change",
                passed=not late,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"The oldest change waits for {age:.0f} s.",
                metadata={"oldest_change_s": round(age, 1)},
            ),
            breaker,
        ],
    )


def _breaker_check(connection: Connection, ws: Workspace, holds: Sequence[Hold], now: datetime) -> dg.AssetCheckResult:
    """Tell what waits for a person: each hold in a sentence with its mend, and the levels in a table."""
    waiting = [one for one in holds if one.waits]
    told = [f"Hold {one.number}, {one.waits} listings: {one.reason}. A mistake? {one.mend}." for one in waiting]
    shown: dict[str, Any] = {}
    if waiting:
        shown["seen"] = str(Look.at_present(connection))
        shown |= worst_rows(held_levels(connection, limit=TABLE_ROWS))
        # Whoever approves with `seen` has seen the report: what was held since the last one is to be in it.
        shown |= latest_report(ws.home, "held", held_levels(connection), now, changed_at(connection))
    return dg.AssetCheckResult(
        check_name="breaker",
        passed=not waiting,
        severity=dg.AssetCheckSeverity.WARN,
        description="\n".join([*told, "Decide with the job `decide_held`."]) if told else "Nothing waits for a person.",
        metadata={
            "held": sum(one.waits for one in waiting),
            "kept_as_decided": sum(one.dropped for one in holds),
            **shown,
        },
    )
