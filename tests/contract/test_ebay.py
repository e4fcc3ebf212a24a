"""eBay keeps the platform contract, held against its stand-in account."""

from __future__ import annotations

import pytest

from tests.contract.ebay_harness import EbayHarness
from tests.contract.suite import Harness, PlatformContract


class TestEbay(PlatformContract):
    @pytest.fixture
    def harness(self) -> Harness:
        return EbayHarness()

    def test_a_batch_of_levels_at_the_limit_is_read_in_one_call(self, harness: Harness) -> None:
        """Whether an offer has a quantity of its own is told offer by offer, and what that took is told to the budget."""
        levels = [harness.make_level(number % 5) for number in range(harness.platform.limits.read_batch)]
        answer = harness.platform.read(levels)
        assert [reading.quantity for reading in answer.readings] == [number % 5 for number in range(len(levels))]
        assert len(harness.wire.requests) == 1 + len(levels)
        assert answer.budget is not None
        assert answer.budget.spent == 1 + len(levels)


class TestEbayWithQuantitiesOfOffers(TestEbay):
    @pytest.fixture
    def harness(self) -> Harness:
        return EbayHarness(own=True)
