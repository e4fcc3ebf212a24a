"""The job that takes an import or a change of rules back: shown first, and done with who and why."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

import dagster as dg
from pydantic import Field

from invsync_dagster.defs.deciding import approver, basis_of, is_import
from invsync_dagster.defs.metadata import cause_of
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.deciding import LONGEST_NUMBER
from invsync_dagster.inventory.imports.undoing import Undone, preview_undo, undo
from invsync_dagster.inventory.looks import DecisionError, decided_by
from invsync_dagster.sync.undo_rules import RulesUndone, preview_rules_undo, undo_rules
from invsync_dagster.sync.workspace import Workspace


class UndoConfig(dg.Config):
    """What is taken back, by whom and why."""

    what: str = Field(
        description="The number of a change of rules (`invsync rules list`, or as the check `breaker` names it), or the id of an "
        "import."
    )
    dry_run: bool = Field(default=True, description="Only show what it would change; nothing is changed.")
    actor: str = Field(
        default="", description="Who decides; kept with the decision. Empty: who started the run, as the proxy says."
    )
    reason: str = Field(default="", description="Why, for whoever asks later; kept with the decision.")


@dg.op(name="undo", description="Shows what taking a change back would move, or takes it back and keeps who and why.")
def undo_op(context: dg.OpExecutionContext, config: UndoConfig, invsync: Invsync) -> None:
    """Take a change back, and say in the log and the output's metadata what it moves; fail where that can't be done."""
    cause_of(context)
    what = config.what.strip()
    try:
        found = _undone(context, invsync.workspace, config, what)
    except DecisionError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    end = (
        "nothing was changed; with `dry_run: false`, `actor` and `reason` it is done"
        if config.dry_run
        else "undone; the next push brings the shops in step"
    )
    words = f"{found.render()}\n{end}"
    context.log.info(words)
    context.add_output_metadata({"undone": dg.MetadataValue.md(f"```\n{words}\n```")})


@dg.job(
    name="undo_change",
    description="Takes an import or a change of a channel's rules back: name it under `what`. It shows what that would move; "
    "with `dry_run: false`, who decides and why, it is done, and goes to the shops with the next push.",
)
def undo_job() -> None:
    """Take one change back."""
    undo_op()


def _undone(context: dg.OpExecutionContext, ws: Workspace, config: UndoConfig, what: str) -> Undone | RulesUndone:
    actor = "nobody"
    if not config.dry_run:
        actor = approver(context, config.actor)
        decided_by(actor, config.reason)
    if is_import(what):
        basis = basis_of(context, ws, actor)
        return preview_undo(basis, what) if config.dry_run else undo(basis, what, config.reason)
    if not what.isdecimal() or len(what) > LONGEST_NUMBER:
        raise DecisionError(
            f"{what[:40]!r} is neither the number of a change of rules (`invsync rules list`) nor the id of an import "
            "(`invsync imports list`)"
        )
    number = int(what)
    return (
        preview_rules_undo(ws, number) if config.dry_run else undo_rules(ws, number, actor=actor, reason=config.reason)
    )
