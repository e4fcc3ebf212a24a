"""One applier: applies what waits in the inbox, again and again, as runs do, until it is told to end or is killed.

`python -m tests.processes.applier`, at home where the environment says: prints `ready` when it begins.
"""

from __future__ import annotations

import os
import time

from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import apply_inbox
from invsync_dagster.sync.workspace import Workspace


def main() -> None:
    ws = Workspace.open(Home.from_environment())
    print("ready", flush=True)
    while True:
        if not apply_inbox(ws, run_id=str(os.getpid())).segments:
            time.sleep(0.005)


if __name__ == "__main__":
    main()
