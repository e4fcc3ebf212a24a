"""Prints the figures of the benchmarks, one JSON line each, with the machine that they were measured on."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path


def figure(
    name: str,
    value: float,
    unit: str,
    goal: float | None = None,
    met: bool | None = None,
    floor: float | None = None,
    ratio: float | None = None,
    **details: object,
) -> None:
    """Print one figure. `floor` is the bare cost that it is compared with, `ratio` the quotient; absent ones are left out."""
    row: dict[str, object] = {"name": name, "value": _rounded(value), "unit": unit}
    optional = {"goal": goal, "met": met, "floor": floor, "ratio": ratio}
    row |= {key: _rounded(given) for key, given in optional.items() if given is not None}
    row |= details
    row |= {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version()}
    print(json.dumps(row), flush=True)


def _rounded(value: float) -> float:
    return value if isinstance(value, bool) else float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
