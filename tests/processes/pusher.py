"""One pusher: brings a channel in step, again and again, as runs do, until it is told to end or is killed.

`python -m tests.processes.pusher`, at home where the environment says: prints `ready` when it begins.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta

from invsync_dagster.settings import Home
from invsync_dagster.sync.push import push_channel
from invsync_dagster.sync.workspace import Workspace

CHANNEL = "desk"


def main() -> None:
    ws = Workspace.open(Home.from_environment())
    print("ready", flush=True)
    while True:
        push_channel(ws, CHANNEL, run_id=str(os.getpid()), deadline=ws.clock.now() + timedelta(seconds=5))
        time.sleep(0.05)


if __name__ == "__main__":
    main()
