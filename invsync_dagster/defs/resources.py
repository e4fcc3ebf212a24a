"""The one resource: a workspace of the project, opened for a run and closed with it. Secrets: the environment."""

from __future__ import annotations

import dagster as dg
from pydantic import Field, PrivateAttr

from invsync_dagster.settings import Home
from invsync_dagster.sync.workspace import Workspace


class Invsync(dg.ConfigurableResource):
    """The database, the configured channels and their clients, as the environment (INVSYNC_…) says where they are."""

    grace_seconds: float = Field(
        default=35.0,
        gt=0,
        description="Seconds after a channel's deadline for the request under way; then the run goes on without it.",
    )
    _workspace: Workspace | None = PrivateAttr(default=None)

    def open_workspace(self) -> Workspace:
        """Open what this process works with; tests put their own clock, transports and channels here."""
        return Workspace.open(Home.from_environment())

    @property
    def workspace(self) -> Workspace:
        """The workspace of this run, opened by the first step that asks for it."""
        if self._workspace is None:
            self._workspace = self.open_workspace()
        return self._workspace

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the connections and free the worker's lock."""
        if self._workspace is not None:
            self._workspace.close()
            self._workspace = None
