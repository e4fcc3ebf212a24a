"""One look: what is wrong goes into the book, and what is due goes out. A target that fails holds up no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine

from invsync_dagster.alerts import book
from invsync_dagster.alerts.book import OPENED, Notice, Outage
from invsync_dagster.alerts.causes import Found, Severity, secrets_of
from invsync_dagster.alerts.conditions import disk_cause, stock_causes
from invsync_dagster.alerts.sending import SECONDS, Message, Sender, Tone
from invsync_dagster.channels import Configuration
from invsync_dagster.clock import Clock
from invsync_dagster.environment import readable
from invsync_dagster.inventory import channels
from invsync_dagster.settings import Home

# A message names so many causes; whoever wants them all looks at the list.
NAMED = 8

# Longer than any sending: what a dead process took is told again then.
HOLDS_FOR = timedelta(seconds=6 * SECONDS)


@dataclass(frozen=True)
class Watchman:
    """What a look needs; `send` is how a message leaves."""

    home: Home
    configuration: Configuration
    environ: Mapping[str, str]
    engine: Engine
    clock: Clock
    send: Sender

    def look(self) -> Found:
        """Return what is wrong with the stock, its channels and the disk."""
        with self.engine.connect() as connection:
            causes = stock_causes(connection, self.configuration, self.clock.now(), self.secrets)
        return Found((*causes, *disk_cause(self.home.data)))

    def open_causes(self) -> frozenset[str]:
        """Return the keys of the causes that are open in the book."""
        with self.engine.connect() as connection:
            return book.open_keys(connection)

    def outages(self) -> dict[str, Outage]:
        """Return by channel the latest time in which it was down."""
        with self.engine.connect() as connection:
            return book.outages(connection)

    def at_rest(self) -> dict[str, str]:
        """Return the channels that a person has `paused` or `retired`."""
        with self.engine.connect() as connection:
            return channels.at_rest(connection)

    @property
    def secrets(self) -> frozenset[str]:
        """What must stand in no message."""
        return secrets_of(self.configuration, self.environ)

    def tell(self, found: Found) -> dict[str, str]:
        """Note what was found, and send what is due.

        Returns by target what it said against a message, "" where it took it; targets that had none are left out.
        """
        settings = self.configuration.settings
        book.note(self.engine, found, book.Readers(settings.alerts, settings.ui_url), self.clock.now())
        due: dict[str, list[Notice]] = {}
        for target in self._targets():
            if notices := book.take_due(self.engine, target, self.clock.now(), HOLDS_FOR):
                due[target] = notices
        answers = self._send({target: message_of(notices) for target, notices in due.items()})
        for target, why in answers.items():
            if why:
                book.not_told(self.engine, due[target], why, self.clock.now())
            else:
                book.told(self.engine, due[target], self.clock.now())
        return answers

    def tell_at_once(self, message: Message) -> dict[str, str]:
        """Send to every target past the book, which can't be read; returns what each said against it."""
        return self._send(dict.fromkeys(self._targets(), message))

    def _targets(self) -> list[str]:
        """Return the targets whose address is known; of the others the check of channels.yaml is red."""
        names = dict.fromkeys(target.url_env for target in self.configuration.settings.alerts)
        return [name for name in names if readable(self.environ, name)]

    def _send(self, messages: Mapping[str, Message]) -> dict[str, str]:
        """Send side by side: one that hangs takes its own seconds alone."""
        with ThreadPoolExecutor(max(1, len(messages)), "alerts") as pool:
            under_way = {
                target: pool.submit(self.send, self.environ[target], message) for target, message in messages.items()
            }
            return {target: future.result() for target, future in under_way.items()}


def message_of(notices: Sequence[Notice]) -> Message:
    """Fold notices into one message: the worst first, what is over last."""
    ordered = sorted(notices, key=lambda one: (one.kind != OPENED, one.severity != Severity.ERROR, one.id))
    opened = [one for one in ordered if one.kind == OPENED]
    if len(ordered) == 1:
        title = ordered[0].title if opened else f"Over: {ordered[0].title}"
    else:
        counts = {"new": len(opened), "over": len(ordered) - len(opened)}
        title = " and ".join(f"{number} {what}" for what, number in counts.items() if number)
    parts = [_paragraph(one, named=len(ordered) > 1) for one in ordered[:NAMED]]
    if len(ordered) > NAMED:
        parts.append(f"And {len(ordered) - NAMED} more: `invsync alerts list`.")
    return Message(f"invsync: {title}", "\n\n".join(parts), _tone(opened))


def _paragraph(notice: Notice, *, named: bool) -> str:
    title = f"{notice.title}. " if notice.kind == OPENED else f"Over: {notice.title}. "
    return (title if named else "") + notice.message


def _tone(opened: Sequence[Notice]) -> Tone:
    if not opened:
        return Tone.SUCCESS
    return Tone.FAILURE if any(one.severity == Severity.ERROR for one in opened) else Tone.WARNING
