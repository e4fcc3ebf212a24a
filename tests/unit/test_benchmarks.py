"""Every benchmark that a few rows are enough for still runs to its end, and tells its figures; how fast is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SMALL = {
    "ledger --events 1000 --skus 100 --many 4000 --few 1000": (
        "ledger_events_per_second_in_transactions_of_1000",
        "find_ratio_many_to_few",
        "claim_ratio_many_to_few",
    ),
    "push --levels 300": ("push_300_changes_peak_memory", "push_claim_to_record_cpu_per_1000_levels"),
    "deliveries --deliveries 1000 --skus 100 --waiting 10 --prove": ("deliveries_applied", "deliveries_proven"),
    "imports --rows 500": (
        "inventory, 500 rows, on sqlite, second time",
        "mapping, 500 rows, on postgresql, peak memory",
    ),
    "rate --listings 100 --channel alibaba_main": (
        "rate_used_alibaba_full_run_100_listings",
        "calls_refused_alibaba_full_run_100_listings",
    ),
    "transport --channel erp_main": ("transport_cpu_a_call_erp",),
}


@pytest.mark.parametrize("arguments", SMALL)
def test_a_benchmark_tells_its_figures(arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *f"benchmarks.{arguments}".split()], capture_output=True, text=True, timeout=120
    )
    # 1: a goal was missed, which with so little to do says nothing.
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    told = {figure["name"]: figure["value"] for figure in map(json.loads, done.stdout.splitlines())}
    assert set(SMALL[arguments]) <= told.keys(), done.stderr
    assert all(value >= 0 for value in told.values())
