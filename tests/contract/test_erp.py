"""The ERP keeps the platform contract, held against its stand-in."""

from __future__ import annotations

import pytest

from tests.contract.erp_harness import ErpHarness
from tests.contract.suite import Harness, PlatformContract


class TestErp(PlatformContract):
    @pytest.fixture
    def harness(self) -> Harness:
        return ErpHarness()
