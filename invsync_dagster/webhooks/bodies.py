"""Bodies of requests: read before anything is known of their sender, within bounds of size, time and memory."""

from __future__ import annotations

import asyncio
from collections import Counter

from starlette.requests import Request

from invsync_dagster.webhooks.floods import FullError

# Shopify gives a delivery 5 s in all; who needs longer for a body holds a connection for nothing.
BODY_SECONDS = 10.0
# Bodies beyond the first figure share the second among them: it bounds the memory, and webhooks are small, so that strangers'
# large ones don't keep them out.
SMALL_BODY = 64 * 1024
LARGE_BODIES = 128 * 1024 * 1024


class Bodies:
    """Reads bodies, and knows how many bytes of large ones are on their way, in all and to each address."""

    def __init__(self) -> None:
        self._all = 0
        self._of = Counter[str]()

    async def read(self, request: Request, address: str, max_bytes: int) -> bytes | None:
        """Return the raw body, or None as soon as it is over `max_bytes`, whatever length was announced.

        Raises FullError where it is large, and too much of large ones is on its way already: in all, or to an address that has
        more of it than is free. So whoever fills one leaves as much to the others, and two of them a third. Raises
        TimeoutError and ClientDisconnect.
        """
        chunks = []
        size = large = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > max_bytes:
                        return None
                    if size > SMALL_BODY:
                        self._count(address, size - large)
                        large = size
                        if self._is_too_much(address, large):
                            raise FullError
                    chunks.append(chunk)
            return b"".join(chunks)
        finally:
            self._count(address, -large)

    def _count(self, address: str, more: int) -> None:
        self._all += more
        self._of[address] += more

    def _is_too_much(self, address: str, large: int) -> bool:
        """One alone passes however large it is, and the first of an address as long as there is room."""
        free = LARGE_BODIES - self._all
        return (free < 0 and self._all > large) or (self._of[address] > large and self._of[address] > free)
