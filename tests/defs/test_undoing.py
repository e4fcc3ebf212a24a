"""An import or a change of rules is shown and taken back by a job, with a name and a reason."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import select

from invsync_dagster.inventory.rule_changes import rule_changes
from invsync_dagster.inventory.tables import imports
from tests.defs.conftest import Installation
from tests.defs.test_deciding import SKUS, failure


def undone(home: Installation, tags: dict[str, str] | None = None, **config: Any) -> dg.ExecuteInProcessResult:
    return home.run("undo_change", run_config={"ops": {"undo": {"config": config}}}, tags=tags or {})


def words(result: dg.ExecuteInProcessResult) -> str:
    (output,) = (one for one in result.all_events if one.is_successful_output)
    return str(output.step_output_data.metadata["undone"].value)


def latest(home: Installation) -> tuple[str, str]:
    """Return the number of the latest change of rules, and the id of the latest import ("" for none)."""
    ws = home.open()
    try:
        with ws.engine.connect() as connection:
            ids = connection.execute(select(imports.c.id).order_by(imports.c.id.desc())).scalars().all()
            changes = rule_changes(connection)
    finally:
        ws.close()
    return str(changes[0].number if changes else ""), ids[0] if ids else ""


@pytest.fixture
def home(install: Callable[..., Installation]) -> Installation:
    made = install("one")
    made.stock(dict.fromkeys(SKUS[:15], 7), ["one"])
    assert made.run("incremental").success
    return made


def test_a_change_of_rules_is_shown_and_then_taken_back_in_the_file_and_at_the_shop(home: Installation) -> None:
    file = home.home.channels_file
    before = file.read_text()
    file.write_text(before + "    rules: { buffer: 2 }\n")
    assert home.run("incremental").success
    assert set(home.platforms["one"].shown.values()) == {5}
    number = latest(home)[0]
    look = undone(home, what=number)
    assert f"change {number} of one: buffer 2 -> 0" in words(look)
    assert "15 listings on one show another number: 0 go to 0, 15 rise" in words(look)
    assert "nothing was changed" in words(look)
    assert "buffer: 2" in file.read_text()
    refused = undone(home, what=number, dry_run=False, reason="a slip")
    assert "say who decides" in failure(refused)
    refused = undone(home, what=number, dry_run=False, actor="ann")
    assert "say why" in failure(refused)
    assert "buffer: 2" in file.read_text()
    done = undone(home, {"user": "bea"}, what=number, dry_run=False, reason="a slip")
    assert "undone; the next push" in words(done)
    assert "buffer: 2" not in file.read_text()
    assert "was undone already: bea decided at" in failure(undone(home, what=number))


def test_an_import_is_shown_and_then_taken_back(home: Installation) -> None:
    home.clock.advance(60)
    (home.home.imports / "new.csv").write_text("sku,quantity\nS00,9\n")
    assert home.run("import_files").success
    assert home.platforms["one"].shown["S00"] == 9
    number = latest(home)[1]
    assert "nothing was changed" in words(undone(home, what=number))
    assert undone(home, what=number, dry_run=False, actor="ann", reason="last year's").success
    assert home.run("incremental").success
    assert home.platforms["one"].shown["S00"] == 7


@pytest.mark.parametrize("what", ["", "one", "9" * 30, "20260101T000000-nope", "999"])
def test_what_is_neither_fails_with_one_sentence_that_says_where_to_look(home: Installation, what: str) -> None:
    result = undone(home, what=what, dry_run=False, actor="ann", reason="a slip")
    assert not result.success
    assert "invsync rules list" in failure(result) or "there is no import" in failure(result)
