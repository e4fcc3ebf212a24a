"""An empty database of either kind for a benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.postgres_server import Server

BACKENDS = ("sqlite", "postgresql")

# For 1,000,000 SKUs, as docs/production.md says.
SET_UP = {"shared_buffers": "5GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}


@contextmanager
def database(backend: str, folder: str) -> Iterator[str]:
    """Yield the URL of an empty database; PostgreSQL keeps its promises to the disk here, unlike in the tests."""
    if backend == "sqlite":
        yield f"sqlite:///{folder}/stock.db"
        return
    server = Server({"fsync": "on", "full_page_writes": "on"} | SET_UP)
    try:
        server.admin().execute("CREATE DATABASE stock")
        yield server.url("stock")
    finally:
        server.remove()
