"""The job that explains a SKU in the UI: why its channels show what they show, or showed it at a past moment."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

import dagster as dg
from pydantic import Field

from invsync_dagster.clock import parse_moment
from invsync_dagster.defs.metadata import cause_of
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.explain import UnknownError
from invsync_dagster.inventory.past import explain_at


class ExplainConfig(dg.Config):
    """What to explain."""

    sku: str = Field(description="The SKU, exactly as in the stock.")
    channel: str = Field(default="", description="One channel alone; empty: all.")
    at: str = Field(
        default="", description="A past moment with its time zone, as 2026-07-01T06:00:00+00:00; empty: now."
    )


@dg.op(
    name="walk_back", description="Walks from the channels' numbers to readings, answers, rules, ledger and deliveries."
)
def explain_op(context: dg.OpExecutionContext, config: ExplainConfig, invsync: Invsync) -> None:
    """Show the explanation as the output's metadata and in the log; fail with one sentence for what isn't known."""
    cause_of(context)
    try:
        at = parse_moment(config.at) if config.at else None
        with invsync.workspace.engine.connect() as connection:
            found = explain_at(connection, config.sku, at, config.channel or None)
    except (ValueError, UnknownError) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    words = found.render()
    context.log.info(words)
    context.add_output_metadata({"explanation": dg.MetadataValue.md(f"```\n{words}\n```")})


@dg.job(
    name="explain",
    description="Why the channels show what they show of a SKU, now or at a past moment: see the step's output.",
)
def explain_job() -> None:
    """Explain one SKU."""
    explain_op()
