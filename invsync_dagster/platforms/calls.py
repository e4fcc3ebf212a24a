"""One call to a platform: its answer, or what it means that none came."""

from __future__ import annotations

from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Request, Response, Transport, TransportError


def answer_to(request: Request, transport: Transport, *, deadline: float, writing: bool) -> Response:
    """Send within `deadline` seconds and return the answer, whatever it says. Raises `PlatformError` if none came."""
    try:
        return transport.send(request, deadline=deadline)
    except TransportError as error:
        raise of_transport(error, writing=writing) from error


def of_transport(error: TransportError, *, writing: bool) -> PlatformError:
    """Return what a call without an answer means: a write that may have left is to be settled."""
    if not error.sent:
        return PlatformError(Recovery.RETRY, "not_reached", str(error))
    return PlatformError(Recovery.SETTLE if writing else Recovery.RETRY, "answer_lost", str(error))
