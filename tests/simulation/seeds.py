"""One seed lived through and judged: what was stale or wrong, and whether enough happened to mean something."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.built import MARKETPLACES, SHOPS
from tests.simulation.tally import Tally
from tests.simulation.world import World


@dataclass(frozen=True)
class Verdict:
    """What a seed showed; `faults` is empty for a good one. `flag` chooses its world on the command line, `done` counts what
    staff and buyers did in a day."""

    seed: int
    tally: Tally
    faults: list[str]
    flag: str = ""
    done: Counter[str] = field(default_factory=Counter)

    def render(self) -> str:
        replay = f"python -m tests.simulation --seed {self.seed} {self.flag}".rstrip()
        head = f"seed {self.seed}: {len(self.faults)} faults; replay with: {replay}"
        return "\n".join([head, *(f"  {fault}" for fault in self.faults[:20])])


def live(seed: int, *, marketplaces: bool = False, kind: type[World] = World, **size: Any) -> Verdict:
    """Run one seed: no stale write while it lasts, in step by incremental cycles alone, and by a full run all over.

    `marketplaces`: eBay, Alibaba.com and Amazon are in it too; `kind`: what world it is, `size` its other arguments.
    """
    world = kind(seed, shops=SHOPS | (MARKETPLACES if marketplaces else {}), **size)
    world.run()
    world.settle()
    faults = [f"stale write: {text}" for text in world.tally.violations]
    faults += [f"left out of step: {world.out_of_step()} levels"] if world.out_of_step() else []
    faults += [f"after incremental cycles: {text}" for text in world.differences(edited_too=False)]
    for name in world.channels:
        world.reconcile(name)
    world.settle()
    faults += [f"after the full run: {text}" for text in world.differences(edited_too=True)]
    faults += [f"audit: {text}" for text in world.audit()]
    flags = ["--marketplaces"] * marketplaces + ["--restored"] * (kind is not World)
    return Verdict(seed, world.tally, faults, " ".join(flags))
