"""A bad day on sockets: what would empty or flood the shops is held or refused with the reason, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.bad_input_stage import IN_STOCK, OTHER, SHOWN, SKUS, Desk, desk_in


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with pytest.MonkeyPatch.context() as environment, desk_in(tmp_path, environment) as opened:
        yield opened


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One installation for what leaves it as it was; it ends before the others begin."""
    root = tmp_path_factory.mktemp("standing")
    with pytest.MonkeyPatch.context() as environment, desk_in(root, environment) as opened:
        yield opened


@pytest.mark.parametrize(
    ("quantities", "state", "reason"),
    [
        pytest.param(
            {},
            "rejected",
            "no row of the file can go in: it has a header and no rows - export it again",
            id="an empty source",
        ),
        pytest.param(
            dict.fromkeys(SKUS, 0),
            "held",
            "60 of 60 SKUs that can be sold would go to 0 (limit 20%); 600 units would move, of 600 on hand (limit 10%)",
            id="all zero",
        ),
        pytest.param(
            dict.fromkeys(SKUS[:30], IN_STOCK),
            "held",
            "stock.csv brings 30 SKUs, and brought 60 on ",
            id="half the SKUs",
        ),
        pytest.param(
            dict.fromkeys(SKUS, "10,000"),
            "rejected",
            "no row of the file can go in; 60 of 60 rows are like line 2 column 'quantity': the ',' may be a thousands mark "
            '(10000) or a decimal mark (10,000) - declare the file\'s mark, as decimal_mark: "," in its sidecar or '
            "--decimal-mark, or write digits only",
            id="a decimal mark",
        ),
        pytest.param(dict.fromkeys(SKUS, 1), "held", "540 units would move, of 600 on hand (limit 10%)", id="a tenth"),
        pytest.param(
            dict.fromkeys(SKUS, 10_000), "held", "599400 units would move, of 600 on hand (limit 10%)", id="all 10,000"
        ),
    ],
)
def test_a_bad_file_reaches_no_shop(standing: Desk, quantities: dict[str, object], state: str, reason: str) -> None:
    result = standing.count(standing.stock_file(quantities), exit_code=1)
    assert result["state"] == state
    assert result["reason"].rpartition(".csv: ")[2].startswith(reason)
    assert standing.untouched()


def test_a_rule_that_makes_everything_0_is_held_and_undone(desk: Desk) -> None:
    before = desk.home.channels_file.read_text()
    desk.edit("buffer: 1   ", "buffer: 100 ")
    assert desk.untouched()
    (hold,) = desk.json("held", "list")["holds"]
    assert "would set to 0 60 of 60 listings on woo_main; 20 may pass unseen" in hold["reason"]
    (change,) = [one for one in desk.json("rules", "list") if one["after"] == {"buffer": 100}]
    previewed = desk.run("rules", "undo", change["number"])
    assert "buffer 100 -> 1" in previewed
    assert "0 listings on woo_main show another number" in previewed
    assert "buffer: 100 " in desk.home.channels_file.read_text()
    desk.run("rules", "undo", change["number"], "--reason", "a slip", "--actor", "ann")
    assert desk.home.channels_file.read_text() == before
    assert desk.json("held", "list")["levels"] == []
    assert desk.untouched()
    again = desk.run("rules", "undo", change["number"], "--reason", "a slip", "--actor", "bob", exit_code=2)
    assert f"change {change['number']} was undone already: ann decided at" in again


def test_a_rule_that_raises_everything_is_held(desk: Desk) -> None:
    desk.edit("maximum: 5", "maximum: 10000")
    assert desk.untouched()
    assert "would raise 60 of 60 listings on woo_main" in desk.run("held", "list")


def test_an_approval_of_what_has_changed_since_is_refused_and_says_what_to_do(desk: Desk) -> None:
    held = desk.count(desk.stock_file(dict.fromkeys(SKUS, 0)), exit_code=1)
    desk.edit("maximum: 5", "maximum: 4")
    assert desk.push() == len(SKUS)  # that rule alone: it lowers, and zeroes nothing
    refused = desk.run("imports", "approve", held["import_id"], "--reason", "yes", exit_code=2)
    assert "was not approved, since the stock isn't what was seen any more: channel configured" in refused
    assert f"invsync imports show {held['import_id']}" in refused
    assert desk.push() == 0
    seen = desk.json("imports", "show", held["import_id"])
    assert seen["preview"]["zeroed"] == 60
    desk.run("imports", "approve", held["import_id"], "--seen", seen["seen"], "--reason", "closing down")
    desk.push()
    assert desk.shown() == {"woo_main": {0}, "erp_main": {0}}


def test_an_approval_of_a_rule_whose_stock_was_imported_since_is_refused(desk: Desk) -> None:
    desk.edit("maximum: 5", "maximum: 10000")
    (hold,) = desk.json("held", "list")["holds"]
    desk.count(desk.stock_file(dict.fromkeys(SKUS, 12)))
    refused = desk.run("held", "approve", hold["number"], "--reason", "yes", exit_code=2)
    assert "nothing was approved, since it isn't what was seen any more: import" in refused
    assert desk.shown()["woo_main"] == {SHOWN["woo_main"]}


def test_of_two_operators_at_once_one_decides_and_the_other_is_told(desk: Desk) -> None:
    held = desk.count(desk.stock_file(dict.fromkeys(SKUS, 0)), exit_code=1)["import_id"]
    desk.run("imports", "drop", held, "--reason", "wrong export", "--actor", "ann")
    late = desk.run("imports", "approve", held, "--reason", "go", "--actor", "bob", exit_code=2)
    assert "is dropped, not held" in late
    assert "import dropped by ann at" in late
    assert late.rstrip().endswith(": wrong export)")
    assert desk.untouched()


def test_files_that_zero_a_few_each_stop_at_the_limit(desk: Desk) -> None:
    states = []
    for first in range(0, 28, 4):
        quantities: dict[str, object] = dict.fromkeys(SKUS, IN_STOCK)
        quantities |= dict.fromkeys(SKUS[: first + 4], 0)
        states.append(desk.count(desk.stock_file(quantities), exit_code=first >= 20)["state"])
    assert states == ["applied"] * 5 + ["held"] * 2
    desk.push()
    assert sum(row.quantity == 0 for row in desk.world.books("woo_main")) == 20


def test_mappings_that_zero_a_few_each_stop_at_the_limit(desk: Desk) -> None:
    for first in range(0, 28, 4):
        desk.run("import", desk.mapping_file(SKUS[first : first + 4], percent=0), exit_code=first >= 20)
    desk.push()
    assert sum(row.quantity == 0 for row in desk.world.books("woo_main")) == 20
    assert len(desk.json("held", "list")["holds"]) == 2


def test_a_channel_pointed_at_another_shop_writes_to_neither_until_it_is_pointed_back(desk: Desk) -> None:
    desk.edit("/woo_main\n", "/woo_other\n")
    assert desk.count(desk.stock_file({SKUS[0]: 1}, "shelf.csv"))["state"] == "applied"
    said = desk.run("sync", *SKUS, "--channel", "woo_main", "--json", exit_code=1)
    assert "listings are unknown at woo_main: are address, credentials or mapping those of another shop?" in said
    assert desk.world.written == 0
    assert desk.shown() == {"woo_main": {5}, "erp_main": {10}}
    desk.edit("/woo_other\n", "/woo_main\n")
    desk.run("sync", *SKUS)
    assert desk.shown() == {"woo_main": {0, 5}, "erp_main": {1, 10}}
    assert {row.quantity for row in desk.world.books(OTHER)} == {7}
