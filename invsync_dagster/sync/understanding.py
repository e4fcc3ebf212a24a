"""From a raw delivery to what it says: the door of its channel, asked by whoever applies, replays, proves or erases."""

from __future__ import annotations

from collections.abc import Iterable

from invsync_dagster.inventory.ledger import Inbound
from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.segments import Delivery


class Doors:
    """The doors of a workspace's channels, each made once."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._doors: dict[str, WebhookDoor] = {}

    def of(self, name: str) -> WebhookDoor:
        """Return a channel's door. Raises `NotUnderstoodError` with the mend for a channel that can't be read now."""
        if name not in self._doors:
            try:
                channel = self._ws.channel(name)
                if channel.disabled_reason:
                    raise NotUnderstoodError(f"the channel is disabled; replay once mended: {channel.disabled_reason}")
                self._doors[name] = self._ws.door(channel)
            except (
                KeyError,
                ValueError,
            ) as error:  # the channel, or a secret of it, is gone or none since it was taken
                raise NotUnderstoodError(f"channel {name!r} can't be read: {error.args[0]}") from error
        return self._doors[name]

    def understand(
        self, deliveries: Iterable[Delivery]
    ) -> tuple[list[tuple[Delivery, Inbound]], list[tuple[Delivery, str]]]:
        """Return what deliveries say, and those that say nothing that can be read, with the reasons."""
        understood: list[tuple[Delivery, Inbound]] = []
        refused: list[tuple[Delivery, str]] = []
        for delivery in deliveries:
            try:
                content = self.of(delivery.channel).parse(delivery.headers, delivery.body)
            except NotUnderstoodError as error:
                refused.append((delivery, str(error)))
                continue
            inbound = Inbound(
                channel=delivery.channel,
                content=content,
                received_at=delivery.received_at,
                receipt_id=delivery.receipt_id,
                topic=delivery.topic,
                source="webhook",
            )
            understood.append((delivery, inbound))
        return understood, refused
