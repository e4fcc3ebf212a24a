"""The job that decides what the breaker holds: shown once more, approved or dropped, as a whole or one by one."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

from typing import Literal

import dagster as dg
from pydantic import Field

from invsync_dagster.defs.metadata import cause_of, report_file, worst_rows
from invsync_dagster.defs.operators import operator_of
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.deciding import decide, held_levels, holds_now
from invsync_dagster.inventory.imports import importing
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.refusals import FileError
from invsync_dagster.inventory.looks import DecisionError, Look
from invsync_dagster.sync.workspace import Workspace


class DecisionConfig(dg.Config):
    """What is decided, how, by whom and why."""

    what: str = Field(
        description="The number of a hold, or a channel for all that is held there, or the id of an import or of counts."
    )
    decision: Literal["look", "approve", "drop"] = Field(
        description="look: only show what it would do now, and the look that an approval names under `seen`. approve: it takes "
        "effect with the next push. drop: held listings stay at what they show, an import never goes in."
    )
    skus: list[str] = Field(default=[], description="Of held listings only those of these SKUs; empty: all.")
    seen: str = Field(
        default="", description="The look that is approved, as 1234-56789; empty: what it was when it was held."
    )
    actor: str = Field(
        default="", description="Who decides; kept with the decision. Empty: who started the run, as the proxy says."
    )
    reason: str = Field(default="", description="Why, for whoever asks later; kept with the decision.")


def approver(context: dg.OpExecutionContext, given: str) -> str:
    """Return who decides: as given, else as the proxy says. Raises dg.Failure where nobody does."""
    name = given.strip() or operator_of(context).strip()
    if not name:
        raise dg.Failure("say who decides, under `actor`: it is kept with the decision", allow_retries=False)
    return name


@dg.op(
    name="decide", description="Looks at what the breaker holds, approves or drops it, and keeps who decided and why."
)
def decide_op(context: dg.OpExecutionContext, config: DecisionConfig, invsync: Invsync) -> None:
    """Decide, and say in the log and the output's metadata what it did; fail with one sentence where it can't be done."""
    cause_of(context)
    ws = invsync.workspace
    try:
        if config.decision == "look":
            _look(context, ws, config.what)
            return
        words = _decided(context, ws, config, approver(context, config.actor))
    except (DecisionError, FileError) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    context.log.info(words)
    context.add_output_metadata({"decided": dg.MetadataValue.md(f"```\n{words}\n```")})


@dg.job(
    name="decide_held",
    description="Decides what the breaker holds: name under `what` a hold, a channel, or an import, with who decides and why. "
    "The check `breaker` of inventory_changes shows what waits.",
)
def decide_job() -> None:
    """Decide one thing that is held."""
    decide_op()


def is_import(what: str) -> bool:
    """Say whether a held import or held counts are meant: their ids have a hyphen, which no channel and no number has."""
    return "-" in what


def _decided(context: dg.OpExecutionContext, ws: Workspace, config: DecisionConfig, actor: str) -> str:
    if is_import(config.what):
        basis = basis_of(context, ws, actor)
        if config.decision == "drop":
            return importing.drop(basis, config.what, config.reason).render()
        return importing.approve(basis, config.what, config.reason, config.seen).render()
    with write_transaction(ws.engine) as connection:
        done = decide(
            connection,
            config.what,
            "drop" if config.decision == "drop" else "approve",
            skus=config.skus,
            seen=config.seen,
            actor=actor,
            reason=config.reason,
            now=ws.clock.now(),
        )
    return f"{config.what}: {done.render()}"


def _look(context: dg.OpExecutionContext, ws: Workspace, what: str) -> None:
    if is_import(what):
        found, seen = importing.look_again(basis_of(context, ws, "nobody"), what)
        words = found.render() if found else "counts of a channel: `invsync imports show` lists them"
        context.add_output_metadata({"preview": dg.MetadataValue.md(f"```\n{words}\n```"), "seen": str(seen)})
        return
    with ws.engine.connect() as connection:
        seen = Look.at_present(connection)
        holds = {one.number for one in holds_now(connection) if what in (str(one.number), one.channel)}
        levels = [one for one in held_levels(connection) if one.hold in holds]
    if not levels:
        raise DecisionError(f"nothing is held as {what!r}")
    table = {**worst_rows(levels), **report_file(ws.home, context.run.run_id, f"held_{what}", levels)}
    context.add_output_metadata({"levels": len(levels), "seen": str(seen), **table})


def basis_of(context: dg.OpExecutionContext, ws: Workspace, actor: str) -> Basis:
    """Return what decisions about imports need."""
    settings = ws.configuration.settings
    return Basis(
        engine=ws.engine,
        folder=ws.home.imports,
        limits=settings.import_limits,
        now=ws.clock.now(),
        actor=actor,
        run_id=context.run.run_id,
        sources=settings.imports,
    )
