"""Runs the benchmarks: `python -m benchmarks` all of them, `python -m benchmarks latency` those that are named."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Run the modules of this folder that have a `main`; 2 for a name that isn't one of them."""
    known = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    for name in names:
        if name not in known:
            print(f"benchmarks: there is no {name!r}; there are: {', '.join(known)}", file=sys.stderr)
            return 2
    for name in names or known:
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
