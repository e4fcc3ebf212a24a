"""Group commit: what waits together is written together, and nothing is answered before it is written."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from invsync_dagster.webhooks import group as group_module
from invsync_dagster.webhooks.group import GroupCommit, NotWrittenError
from invsync_dagster.webhooks.segments import Delivery


class HeldWriter:
    """A disk that finishes a group when the test lets it, and fails while `failing`."""

    def __init__(self) -> None:
        self.groups: list[list[bytes]] = []
        self.began = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.failing = False

    def write(self, deliveries: Sequence[Delivery]) -> Path:
        self.groups.append([delivery.body for delivery in deliveries])
        self.began.release()
        assert self.let.acquire(timeout=20)
        if self.failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        return Path("segment")


def delivery(body: bytes) -> Delivery:
    return Delivery("shop", "orders/create", datetime(2026, 11, 3, tzinfo=UTC), {}, body)


async def begun(writer: HeldWriter) -> None:
    """Return when the writer has begun another group."""
    assert await asyncio.to_thread(writer.began.acquire, timeout=20)


def test_deliveries_that_arrive_during_a_write_go_into_the_next_group_together() -> None:
    async def scenario() -> list[list[bytes]]:
        writer = HeldWriter()
        commit = GroupCommit(writer)
        first = asyncio.create_task(commit.keep(delivery(b"1")))
        await begun(writer)
        others = [asyncio.create_task(commit.keep(delivery(body))) for body in (b"2", b"3", b"4")]
        await asyncio.sleep(0)
        assert not first.done()
        writer.let.release()
        await first
        await begun(writer)
        assert not any(task.done() for task in others)
        writer.let.release()
        await asyncio.gather(*others)
        await commit.close()
        return writer.groups

    assert asyncio.run(scenario()) == [[b"1"], [b"2", b"3", b"4"]]


def test_a_group_that_fails_fails_for_each_of_its_deliveries_and_the_next_one_is_written() -> None:
    async def scenario() -> None:
        writer = HeldWriter()
        commit = GroupCommit(writer)
        writer.failing = True
        writer.let.release()
        with pytest.raises(NotWrittenError, match="No space left"):
            await commit.keep(delivery(b"1"))
        assert commit.failure == "No space left on device"
        writer.failing = False
        writer.let.release()
        await commit.keep(delivery(b"2"))
        assert commit.failure == ""
        await commit.close()

    asyncio.run(scenario())


def test_after_a_failure_the_check_tries_again_by_itself() -> None:
    async def scenario() -> list[list[bytes]]:
        writer = HeldWriter()
        commit = GroupCommit(writer)
        assert await commit.check() == ""
        writer.failing = True
        writer.let.release(2)
        with pytest.raises(NotWrittenError):
            await commit.keep(delivery(b"1"))
        assert await commit.check() == "No space left on device"
        writer.failing = False
        writer.let.release()
        assert await commit.check() == ""
        await commit.close()
        return writer.groups

    assert asyncio.run(scenario()) == [[b"1"], [], []]


def test_a_check_during_a_write_tries_nothing_by_itself() -> None:
    async def scenario() -> list[list[bytes]]:
        writer = HeldWriter()
        commit = GroupCommit(writer)
        kept = asyncio.create_task(commit.keep(delivery(b"1")))
        await begun(writer)
        assert await commit.check() == ""
        writer.let.release()
        await kept
        await commit.close()
        return writer.groups

    assert asyncio.run(scenario()) == [[b"1"]]


def test_a_writer_that_breaks_answers_its_group_and_goes_on_with_the_next() -> None:
    began, another_waits = threading.Event(), threading.Event()

    class Broken:
        calls = 0

        def write(self, deliveries: Sequence[Delivery]) -> Path:
            self.calls += 1
            if self.calls == 1:
                began.set()
                assert another_waits.wait(timeout=20)
                raise TypeError("a mistake of ours")
            return Path("segment")

    async def scenario() -> None:
        commit = GroupCommit(Broken())
        first = asyncio.create_task(commit.keep(delivery(b"1")))
        assert await asyncio.to_thread(began.wait, 20)
        second = asyncio.create_task(commit.keep(delivery(b"2")))
        await asyncio.sleep(0)
        another_waits.set()
        with pytest.raises(NotWrittenError, match="the writer broke"):
            await first
        await asyncio.wait_for(second, 20)
        await commit.close()

    asyncio.run(scenario())


def test_more_than_may_wait_for_a_stalled_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "WAITING_BYTES", 10)

    async def scenario() -> None:
        writer = HeldWriter()
        commit = GroupCommit(writer)
        first = asyncio.create_task(commit.keep(delivery(b"1" * 10)))
        await begun(writer)
        second = asyncio.create_task(commit.keep(delivery(b"2" * 10)))
        await asyncio.sleep(0)
        with pytest.raises(NotWrittenError, match="more is waiting"):
            await commit.keep(delivery(b"3"))
        writer.let.release(2)
        await asyncio.gather(first, second)
        await commit.close()

    asyncio.run(scenario())


def test_a_group_is_bounded_in_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "GROUP_DELIVERIES", 3)
    monkeypatch.setattr(group_module, "GROUP_BYTES", 5)

    async def scenario() -> list[list[bytes]]:
        writer = HeldWriter()
        writer.let.release(10)
        commit = GroupCommit(writer)
        bodies = [b"a", b"b", b"c", b"d", b"eeee", b"ffffffffff"]
        await asyncio.gather(*(commit.keep(delivery(body)) for body in bodies))
        await commit.close()
        return writer.groups

    assert asyncio.run(scenario()) == [[b"a", b"b", b"c"], [b"d", b"eeee"], [b"ffffffffff"]]


def test_a_sender_that_left_changes_nothing_for_the_others_of_its_group() -> None:
    async def scenario() -> list[list[bytes]]:
        writer = HeldWriter()
        commit = GroupCommit(writer)
        first = asyncio.create_task(commit.keep(delivery(b"1")))
        await begun(writer)
        left, stayed = (asyncio.create_task(commit.keep(delivery(body))) for body in (b"2", b"3"))
        await asyncio.sleep(0)
        left.cancel()
        writer.let.release(2)
        await asyncio.gather(first, stayed)
        await commit.close()
        return writer.groups

    assert asyncio.run(scenario()) == [[b"1"], [b"2", b"3"]]


def test_closing_waits_until_what_is_waiting_is_written() -> None:
    async def scenario() -> bool:
        writer = HeldWriter()
        commit = GroupCommit(writer)
        kept = asyncio.create_task(commit.keep(delivery(b"1")))
        await begun(writer)
        closing = asyncio.create_task(commit.close())
        await asyncio.sleep(0)
        assert not closing.done()
        writer.let.release()
        await closing
        return kept.done()

    assert asyncio.run(scenario())
