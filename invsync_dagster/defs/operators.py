"""Who started a run: the name of the proxy's login, which the run carries as a tag."""

from __future__ import annotations

import os

import dagster as dg
from dagster._core.run_coordinator import SubmitRunContext

from invsync_dagster.defs.names import USER

# The variable that names the proxy's header. Unset, no header is believed: without a proxy anybody could send it.
HEADER_VARIABLE = "INVSYNC_USER_HEADER"


def operator_of(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> str:
    """Return who started the run, as the proxy's login says; "" where there is no proxy, or nobody started it."""
    return context.run.tags.get(USER, "")


def tag_operator(instance: dg.DagsterInstance, context: SubmitRunContext) -> None:
    """Tag a run that is submitted with who asked for it. A tag that came along by hand is nobody's word: it is replaced, or
    emptied; a retry keeps its parent's."""
    header, run = os.environ.get(HEADER_VARIABLE), context.dagster_run
    if not header:
        return
    name = context.get_request_header(header) or ""
    if name or (run.tags.get(USER) and run.parent_run_id is None):
        instance.add_run_tags(run.run_id, {USER: name})
