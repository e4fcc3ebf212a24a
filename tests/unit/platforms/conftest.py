"""Where the vendors' own machine-readable contracts are: the folder named by INVSYNC_CONTRACTS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def contracts() -> Path:
    """The folder with `shopify/admin_2026-07.json.gz` and its like; tests skip where it isn't set."""
    folder = os.environ.get("INVSYNC_CONTRACTS")
    if not folder:
        pytest.skip("INVSYNC_CONTRACTS is not set: the vendors' contracts are not here to test against")
    return Path(folder)
