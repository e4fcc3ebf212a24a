"""Documents behind signed addresses, good for five minutes: our token has no business there."""

from __future__ import annotations

from invsync_dagster.platforms.calls import answer_to
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.platforms.transport import Request, Transport


def fetched(transport: Transport, address: str, deadline: float) -> bytes:
    """Fetch a report. Raises `PlatformError`: a new address may be asked for."""
    response = answer_to(Request("GET", address), transport, deadline=deadline, writing=False)
    if response.status != 200:
        words = f"the report could not be fetched (HTTP {response.status})"
        raise PlatformError(Recovery.RETRY, "report_failed", words)
    return response.body
