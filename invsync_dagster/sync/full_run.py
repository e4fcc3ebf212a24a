"""Several batches of one channel's full run at once: they share its rate limit, behind the pushes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread

from invsync_dagster.sync.reconcile import FullSyncReport, full_sync
from invsync_dagster.sync.workspace import Workspace


def full_run(ws: Workspace, name: str, batches: Sequence[int], *, run_id: str) -> Iterator[FullSyncReport]:
    """Run `batches` of channel `name`, `full_sync_at_once` of them side by side; yield the report of each when it is done.

    Alone, a batch waits for each answer before it asks again: with answers of 0.4 s no rate above 2.5 calls a second is
    reached. What breaks one batch (not the platform's failures: they stand in its report) is raised once those under way
    are done, and no other is begun. Nor is it where the caller stops listening.
    """
    waiting: SimpleQueue[int] = SimpleQueue()
    for batch in batches:
        waiting.put(batch)
    done: SimpleQueue[FullSyncReport | Exception | None] = SimpleQueue()
    stop = Event()

    def work() -> None:
        mine = ws.beside()
        try:
            while not stop.is_set():
                done.put(full_sync(mine, name, waiting.get_nowait(), run_id=run_id))
        except Empty:
            pass
        except Exception as error:  # a thread's end: handed to the one who waits for it
            stop.set()
            done.put(error)
        finally:
            done.put(None)

    # Daemons: a run that is ended doesn't wait for them, and what they had claimed is taken over.
    at_work = min(ws.configuration.settings.full_sync_at_once, len(batches))
    for number in range(at_work):
        Thread(target=work, name=f"full sync {name} {number}", daemon=True).start()
    broken: Exception | None = None
    try:
        while at_work:
            answer = done.get()
            if answer is None:
                at_work -= 1
            elif isinstance(answer, Exception):
                broken = broken or answer
            else:
                yield answer
    finally:
        stop.set()
    if broken is not None:
        raise broken
