"""Queues of notifications: each has a thread that brings what it hands out into the inbox, and removes it only then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from invsync_dagster.clock import Clock
from invsync_dagster.platforms.doors import Queue, Queued, QueuedDoor, WebhookDoor
from invsync_dagster.platforms.errors import NotUnderstoodError, PlatformError
from invsync_dagster.webhooks.group import Writer
from invsync_dagster.webhooks.segments import Delivery

log = logging.getLogger("invsync.receiver")

# After a failure the queue is asked again so many seconds later, twice as many after each further one, up to a minute.
FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0


class QueuePoller:
    """Empties one channel's queue into the inbox, on a daemon thread of its own.

    What can't be understood goes into the inbox as well, whose reader puts it into quarantine with the reason. Whatever
    dies between the inbox and the removal brings a delivery twice, which changes nothing.
    """

    def __init__(self, channel: str, door: WebhookDoor, queue: Queue, writer: Writer, clock: Clock) -> None:
        self.channel = channel
        self.problem = ""
        self._door = door
        self._queue = queue
        self._writer = writer
        self._clock = clock
        self._stopping = threading.Event()
        self._failures = 0

    def start(self) -> None:
        """Begin to poll."""
        threading.Thread(target=self._run, name=f"queue {self.channel}", daemon=True).start()

    def stop(self) -> None:
        """End after the poll that is under way; what it still brings is safe or handed out again."""
        self._stopping.set()

    def poll(self) -> int:
        """Wait for notifications, bring them into the inbox, remove them there, and return how many there were.

        A failure is told in `problem` and in the log, once until it is over.
        """
        try:
            taken = self._queue.receive()
            if taken:
                self._writer.write([self._delivery(each) for each in taken])
                self._queue.remove(taken)
        except PlatformError as error:
            self._failed(f"its queue can't be read: {error}")
            return 0
        except OSError as error:
            self._failed(f"the inbox can't be written: {error.strerror or type(error).__name__}")
            return 0
        except Exception as error:  # a thread's end: nobody would be told that the queue is left alone
            self._failed(f"reading its queue broke: {type(error).__name__}", error)
            return 0
        if self.problem:
            log.info("%s: its queue is read again", self.channel)
        self.problem, self._failures = "", 0
        return len(taken)

    def pause(self) -> float:
        """Return the seconds to wait before the next poll: none unless the last one failed."""
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._failures - 1)) if self._failures else 0.0

    def _run(self) -> None:
        while not self._stopping.wait(self.pause()):
            self.poll()

    def _failed(self, problem: str, bug: Exception | None = None) -> None:
        if problem != self.problem:
            log.error("%s: %s", self.channel, problem, exc_info=bug)
        self.problem, self._failures = problem, self._failures + 1

    def _delivery(self, taken: Queued) -> Delivery:
        try:
            topic = self._door.topic({}, taken.body)
        except NotUnderstoodError as error:
            log.warning("%s: a notification of its queue is not understood: %s", self.channel, error)
            topic = ""
        headers = {"content-type": "application/json", "x-queue-message-id": taken.message_id}
        return Delivery(self.channel, topic, self._clock.now(), headers, taken.body)


def pollers_of(doors: Mapping[str, WebhookDoor], writer: Callable[[], Writer], clock: Clock) -> list[QueuePoller]:
    """Return a poller for each channel that has a queue; each has a writer of its own, as it has a thread of its own."""
    found = {name: (door, door.queue()) for name, door in doors.items() if isinstance(door, QueuedDoor)}
    return [QueuePoller(name, door, queue, writer(), clock) for name, (door, queue) in found.items() if queue]
