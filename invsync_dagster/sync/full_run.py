"""Several batches of one channel's full run at once: they share its rate limit, behind the pushes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from queue import Empty, SimpleQueue
from threading import Event, Thread

from invsync_dagster.platforms.errors import PlatformError
from invsync_dagster.sync.adoption import Adopted
from invsync_dagster.sync.bulk_reading import ask_for_all
from invsync_dagster.sync.calls import OutOfTimeError
from invsync_dagster.sync.differences import FullSyncReport
from invsync_dagster.sync.push import calls_of
from invsync_dagster.sync.reconcile import full_sync, keep_report
from invsync_dagster.sync.workspace import Workspace

# Pushes go first: where they need all of the budget for longer, the batches begin without a bulk reading.
LONGEST_WAIT = timedelta(seconds=30)

_log = logging.getLogger(__name__)


def full_run(ws: Workspace, name: str, batches: Sequence[int], *, run_id: str) -> Iterator[FullSyncReport]:
    """Run `batches` of channel `name`, `full_sync_at_once` of them side by side; yield the report of each when it is done.

    Alone, a batch waits for each answer before it asks again: with answers of 0.4 s no rate above 2.5 calls a second is
    reached. A batch that fails does so alone, and says why in its report; after one that stops the channel (dead credentials,
    another shop) no other is begun, and their reports say so. Without the database nothing can be kept: `DatabaseGoneError` is
    raised once the batches under way are done, and no other is begun. Nor is it where the caller stops listening.
    """
    _ask_for_all(ws, name, batches, run_id)
    waiting: SimpleQueue[int] = SimpleQueue()
    for batch in batches:
        waiting.put(batch)
    done: SimpleQueue[FullSyncReport | Exception | None] = SimpleQueue()
    stop = Event()
    stopped: list[str] = []
    adopted = Adopted()

    def work() -> None:
        mine = ws.beside()
        try:
            while not stop.is_set():
                batch = waiting.get_nowait()
                if stopped:
                    report = FullSyncReport(name, batch, problem=f"not begun, it would fare no better: {stopped[0]}")
                    keep_report(mine, report, run_id)
                else:
                    report = full_sync(mine, name, batch, run_id=run_id, adopted=adopted)
                if report.stops_channel:
                    stopped.append(report.problem)
                done.put(report)
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


def _ask_for_all(ws: Workspace, name: str, batches: Sequence[int], run_id: str) -> None:
    channel = ws.channel(name)
    if channel.disabled_reason:
        return  # each batch says so
    try:
        calls = calls_of(ws, channel, ws.clock.now() + LONGEST_WAIT, background=True)
        ask_for_all(ws, name, batches, calls, run_id=run_id)
    except OutOfTimeError:
        _log.warning("%s reads level by level: no call was free within %s to ask for all at once", name, LONGEST_WAIT)
    except PlatformError as error:
        # Dead credentials: each batch meets them itself, and its report says so.
        _log.warning("%s can't be asked for all its levels: %s: %s", name, error.code, error.message)
    except Exception:  # it only spares readings: the batches do without, or meet the same and say so
        _log.exception("%s can't be asked for all its levels", name)
