"""Settings of the contract tests: assertions inside the shared suite explain themselves as those of a test file do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.contract.suite")
