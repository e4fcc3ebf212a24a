"""The terminal of the demo: each sale and push as a line, and below them how every channel stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from invsync_dagster.demo.street import Event
from invsync_dagster.demo.watch import ChannelFigures, Push, by_channel

PLAIN_EVERY_SECONDS = 15.0
_STYLES = {"sale": "bold green", "shipped": "blue", "cancelled": "yellow", "sent back": "magenta", "goods in": "cyan"}


class View:
    """Prints what happens. On a terminal the figures stay below the lines; in a file they are printed now and then."""

    def __init__(self, console: Console, address: str) -> None:
        self._console = console
        self._address = address
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._printed_at = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def event(self, event: Event) -> None:
        """Print what happened in a shop."""
        self._line(event.what, event.shop, event.words, _STYLES.get(event.what, ""))

    def notice(self, words: str) -> None:
        """Print what happened to the demo itself."""
        self._line("restart", "", words, "bold red")

    def pushes(self, pushes: Sequence[Push]) -> None:
        """Print what was pushed, a line a channel, and every failure with its code."""
        for channel, some in by_channel(list(pushes)).items():
            done = [push for push in some if push.status == "acknowledged"]
            if done:
                seconds = [push.seconds for push in done if push.seconds is not None]
                took = f", {max(seconds):.1f} s after the webhook" if seconds else ""
                self._line("pushed", channel, f"{_some(done)}{took}", "white")
            accepted = [push for push in some if push.status == "accepted"]
            if accepted:
                self._line("accepted", channel, f"{_some(accepted)}, to be read back", "blue")
            for push in some:
                if push.status not in ("acknowledged", "accepted"):
                    self._line(push.status, channel, f"{push.sku} → {_shown(push.new)}: {push.code}", "red")

    def figures(self, figures: dict[str, ChannelFigures], out_of_step: int, sales: int) -> None:
        """Show how every channel stands."""
        table = Table(title=None, header_style="bold", expand=False)
        for column in ("channel", "pushed", "accepted", "failed", "webhook → pushed: half", "95 %", "out of step"):
            first = column == "channel"
            table.add_column(column, justify="left" if first else "right", no_wrap=first)
        for name, one in figures.items():
            table.add_row(
                name,
                str(one.acknowledged),
                str(one.accepted or "–"),
                str(one.failed),
                _seconds(one.latency(0.5)),
                _seconds(one.latency(0.95)),
                Text(str(one.out_of_step), style="bold red" if one.out_of_step else "bold green"),
            )
        words = f"{sales} sales; {out_of_step} levels out of step; Dagster at {self._address}; Ctrl-C ends it"
        if self._live is not None:
            self._live.update(Group(table, Text(words, style="bold")), refresh=True)
        elif time.monotonic() >= self._printed_at + PLAIN_EVERY_SECONDS:
            self._printed_at = time.monotonic()
            self._console.print(table)
            self._console.print(words)

    def _line(self, what: str, channel: str, words: str, style: str) -> None:
        line = Text.assemble(
            (time.strftime("%H:%M:%S  "), "dim"), (f"{what:<12}", style), (f"{channel:<16}", "bold"), (words, "")
        )
        self._console.print(line, soft_wrap=True)


def _some(pushes: Sequence[Push]) -> str:
    """Return the first of the pushes, and how many more there are."""
    first = ", ".join(f"{push.sku} {_shown(push.old)} → {_shown(push.new)}" for push in pushes[:3])
    return f"{first} and {len(pushes) - 3} more" if len(pushes) > 3 else first


def _shown(quantity: int | None) -> str:
    return "?" if quantity is None else str(quantity)


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f} s"
