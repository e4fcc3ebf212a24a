"""A change of rules is undone by writing the former ones into channels.yaml: previewed first, and refused with the reason."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from invsync_dagster.channels import load
from invsync_dagster.inventory.counts import Count, CountSource, apply_counts
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.listings import Listing, set_listings
from invsync_dagster.inventory.looks import DecisionError
from invsync_dagster.inventory.rule_changes import rule_changes
from invsync_dagster.inventory.skus import Sku, set_skus
from invsync_dagster.inventory.tables import inventory_levels, operator_actions
from invsync_dagster.sandbox.clock import VirtualClock
from invsync_dagster.settings import Home
from invsync_dagster.sync.registration import register_channels
from invsync_dagster.sync.undo_rules import preview_rules_undo, undo_rules
from invsync_dagster.sync.workspace import Workspace
from tests import databases
from tests.simulation.built import START
from tests.simulation.processes import SimulatedWorker

pytestmark = pytest.mark.usefixtures("each_database")

FILE = """\
# ours
channels:
  - name: desk
    platform: erp
    environment: sandbox
    settings: {base_url: http://127.0.0.1:9, api_key_env: K, signing_secret_env: S, webhook_secret_env: W}
    rules:
      buffer: 2   # kept back
"""
ENVIRON = {"K": "k", "S": "s", "W": "w"}
SKUS = [f"S{number:02}" for number in range(30)]


class Office:
    """One channel with thirty SKUs of ten units, in step with a buffer of two; `edit` changes its file as a person does."""

    def __init__(self, root: Path) -> None:
        self.home = Home.from_environment({"INVSYNC_ROOT": str(root)})
        self.engine = databases.fresh_engine()
        self.clock = VirtualClock(START)
        self.file = self.home.channels_file
        self.file.write_text(FILE)
        self.sync()
        by = {"actor": "test", "reason": "opening"}
        with write_transaction(self.engine) as connection:
            set_skus(connection, [Sku(sku) for sku in SKUS], now=START, **by)
            counts = [Count(sku, 10, START) for sku in SKUS]
            apply_counts(connection, counts, CountSource("opening"), now=START, run_id="")
            self.map(connection)
            level = inventory_levels.c
            shown = {"acknowledged_quantity": level.desired, "expected": level.desired, "uncertain": None}
            connection.execute(inventory_levels.update().values(shown))

    @staticmethod
    def map(connection: object, **rules: int) -> None:
        listings = [Listing("desk", sku, sku, platform_sku=sku, **rules) for sku in SKUS]  # type: ignore[arg-type]
        set_listings(connection, listings, actor="test", reason="import 7", now=START)  # type: ignore[arg-type]

    @property
    def ws(self) -> Workspace:
        return Workspace(
            home=self.home,
            configuration=load(self.home, ENVIRON),
            engine=self.engine,
            clock=self.clock,
            rng=random.Random(1),
            worker=SimulatedWorker("process-1", set()),
            environ=ENVIRON,
        )

    def sync(self) -> None:
        register_channels(self.ws)

    def edit(self, old: str, new: str) -> int:
        """Edit the file and take it over; returns the number of the change."""
        self.clock.advance(7200)
        self.file.write_text(self.file.read_text().replace(old, new))
        self.sync()
        with self.engine.connect() as connection:
            return rule_changes(connection)[0].number

    def shown(self) -> set[int]:
        with self.engine.connect() as connection:
            return set(
                connection.execute(inventory_levels.select().with_only_columns(inventory_levels.c.desired)).scalars()
            )


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_the_changes_are_listed_with_what_they_were(office: Office) -> None:
    office.edit("buffer: 2 ", "buffer: 4 ")
    with write_transaction(office.engine) as connection:
        office.map(connection, maximum=9)
    with office.engine.connect() as connection:
        listings, channel = rule_changes(connection)
    assert (channel.words, channel.actor, channel.listings) == ("buffer 2 -> 4", "channels.yaml", 0)
    assert (listings.words, listings.reason) == ("maximum none -> 9 (and 29 more)", "import 7")


def test_the_former_rules_are_previewed_written_and_in_force(office: Office) -> None:
    number = office.edit("buffer: 2 ", "buffer: 4 ")
    assert office.shown() == {6}
    found = preview_rules_undo(office.ws, number)
    assert (found.moved, found.zeroed, found.raised, found.held) == (0, 0, 0, 30)  # all would rise: more than half
    assert (office.shown(), "buffer: 4" in office.file.read_text()) == ({6}, True)
    found = undo_rules(office.ws, number, actor="ann", reason="a slip")
    assert office.file.read_text() == FILE
    assert (office.shown(), found.held) == ({6}, 30)
    with office.engine.connect() as connection:
        row = connection.execute(operator_actions.select().where(operator_actions.c.action == "rules undone")).one()
    assert (row.actor, row.before, row.after, row.reason) == ("ann", {"buffer": 4}, {"buffer": 2}, "a slip")


def test_what_the_rules_held_is_free_again(office: Office) -> None:
    number = office.edit("buffer: 2 ", "buffer: 40 ")
    assert office.shown() == {8}
    found = preview_rules_undo(office.ws, number)
    assert (found.moved, found.held) == (0, 0)
    assert "buffer 40 -> 2" in found.render()
    undo_rules(office.ws, number, actor="ann", reason="a slip")
    assert office.shown() == {8}


def test_rules_that_were_changed_again_since_are_not_undone(office: Office) -> None:
    first = office.edit("buffer: 2 ", "buffer: 4 ")
    second = office.edit("buffer: 4 ", "buffer: 5 ")
    with pytest.raises(DecisionError, match=rf"changed again since: buffer 4 -> 5 \(change {second}, channels.yaml"):
        undo_rules(office.ws, first, actor="ann", reason="a slip")
    other = office.edit("buffer: 5 ", "percent: 90\n      buffer: 5 ")
    assert preview_rules_undo(office.ws, second).former == {"buffer": 4}
    assert other > second


def test_a_file_that_says_something_else_by_now_is_left_alone(office: Office) -> None:
    number = office.edit("buffer: 2 ", "buffer: 4 ")
    office.file.write_text(office.file.read_text().replace("buffer: 4 ", "buffer: 6 "))
    with pytest.raises(DecisionError, match=r"channels\.yaml doesn't have the rules of change"):
        undo_rules(office.ws, number, actor="ann", reason="a slip")
    assert "buffer: 6" in office.file.read_text()


def test_a_file_that_can_not_be_written_says_what_to_write(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    number = office.edit("buffer: 2 ", "buffer: 4 ")

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(
        DecisionError, match=r"Read-only file system\): write `buffer: 2` under `rules:` of channel 'desk'"
    ):
        undo_rules(office.ws, number, actor="ann", reason="a slip")
    with office.engine.connect() as connection:
        assert rule_changes(connection)[0].number == number
        undone = operator_actions.select().where(operator_actions.c.action == "rules undone")
        assert connection.execute(undone).all() == []


def test_listings_rules_are_taken_back_with_their_import(office: Office) -> None:
    with write_transaction(office.engine) as connection:
        office.map(connection, maximum=9)
    with office.engine.connect() as connection:
        number = rule_changes(connection)[0].number
    with pytest.raises(DecisionError, match="`invsync imports undo 7` takes it back"):
        preview_rules_undo(office.ws, number)


def test_what_is_no_change_of_rules_says_so(office: Office) -> None:
    for number in (1, 999):
        with pytest.raises(DecisionError, match=f"change {number} is no change of rules"):
            preview_rules_undo(office.ws, number)


def test_a_change_is_undone_once(office: Office) -> None:
    number = office.edit("buffer: 2 ", "buffer: 4 ")
    undo_rules(office.ws, number, actor="ann", reason="a slip")
    with pytest.raises(DecisionError, match=f"change {number} was undone already: ann decided at"):
        undo_rules(office.ws, number, actor="bob", reason="a slip")
