"""Buyers' fields go from the kept deliveries: what stays is what the parser needs, and says the same as before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from invsync_dagster.events import Content
from invsync_dagster.inventory.tables import channels
from invsync_dagster.platforms.doors import WebhookDoor
from invsync_dagster.platforms.errors import NotUnderstoodError
from invsync_dagster.platforms.fields import json_in
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.sync.understanding import Doors
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox
from invsync_dagster.webhooks.kept import Kept
from invsync_dagster.webhooks.seals import Seals
from invsync_dagster.webhooks.segments import Delivery

# What stays of a delivery that nobody could read: the fact that it came.
NOTHING = b"{}"


@dataclass
class Erased:
    """Deliveries that lost their buyers' fields, kept and in quarantine; `left_whole` would say something else without."""

    deliveries: int = 0
    quarantined: int = 0
    left_whole: int = 0


def erase_buyers(ws: Workspace, before: datetime) -> Erased:
    """Erase buyers' fields from the deliveries of the days before that of `before`; receipts and replays stay the same.

    Of each body stay the fields that its platform's parser reads (`Vendor.needed`), if they say what the whole body says;
    of one that can't be read, nothing. Raises `InboxKeyError`, `OSError`.
    """
    seals = Seals.from_environment(ws.environ)
    report = Erased()
    eraser = _Eraser(ws, report)
    report.deliveries = Kept(ws.home.inbox, seals).erase(before.date(), eraser.less_of)
    report.quarantined = Inbox(ws.home.inbox, seals).quarantine.erase(before, eraser.less_of)
    return report


class _Eraser:
    """Makes of a delivery what is kept of it."""

    def __init__(self, ws: Workspace, report: Erased) -> None:
        with ws.engine.connect() as connection:
            rows = connection.execute(select(channels.c.name, channels.c.platform)).all()
        # The file's word goes over the database's, which also knows channels that have left the file.
        self._platforms = {row.name: row.platform for row in rows}
        self._platforms |= {channel.name: channel.platform for channel in ws.configuration.channels}
        self._doors = Doors(ws)
        self._report = report

    def less_of(self, delivery: Delivery) -> Delivery | None:
        vendor = VENDORS.get(self._platforms.get(delivery.channel, ""))
        payload = json_in(delivery.body)
        kept = None if vendor is None or payload is None else vendor.needed(payload)
        body = NOTHING if kept is None else json.dumps(kept, separators=(",", ":")).encode()
        try:
            door = self._doors.of(delivery.channel)
        except NotUnderstoodError:  # disabled, or gone: its fields are known, and nobody can compare
            return delivery._replace(body=body)
        said = _said(door, delivery.headers, delivery.body)
        if _said(door, delivery.headers, body) == said:
            return delivery._replace(body=body)
        if said is None:
            return delivery._replace(body=NOTHING)
        self._report.left_whole += 1
        return None


def _said(door: WebhookDoor, headers: Mapping[str, str], body: bytes) -> Content | None:
    try:
        return door.parse(headers, body)
    except NotUnderstoodError:
        return None
