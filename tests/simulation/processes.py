"""Simulated processes: who they are, and how they die."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection


class SimulatedDeathError(BaseException):
    """`kill -9` of one process; not an Exception, so that no handler of ours can survive it."""


class SimulatedWorker:
    """A process identity whose life the world decides."""

    def __init__(self, name: str, alive: set[str]) -> None:
        self._name, self._alive = name, alive
        alive.add(name)

    @property
    def name(self) -> str:
        return self._name

    def is_alive(self, name: str) -> bool:
        return name in self._alive


def mortal_connections(die: Callable[[], None]) -> type[Connection]:
    """Return the class of connections in whose commits `die` may end the process.

    Not an event of the engine: with one, every statement of the world looks for all events: 9.5 s a seed, not 7.2.
    """

    class Mortal(Connection):
        def _commit_impl(self) -> None:
            die()
            super()._commit_impl()

    return Mortal
