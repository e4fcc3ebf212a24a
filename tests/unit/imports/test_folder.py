"""Files dropped into the watched folder go in once, as their sidecars declare them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from invsync_dagster.inventory.imports import folder as watched
from invsync_dagster.inventory.imports import importing
from invsync_dagster.inventory.imports.declaration import sidecar_of
from invsync_dagster.inventory.imports.folder import waiting_files
from invsync_dagster.inventory.imports.importing import preview
from invsync_dagster.inventory.imports.refusals import FileError
from invsync_dagster.inventory.tables import (
    imports,
)
from tests.unit.imports.stock import MAPPING_HEADER, NOW, drop, many, process_file


def test_the_folder_shows_finished_files_only_inventories_first(stock):
    folder = stock.basis.folder
    stock.file(f"{MAPPING_HEADER}\n", "a-mapping.csv", folder=folder)
    stock.file("sku,quantity\n", "z-inventory.csv", folder=folder)
    passed_over = ("x.csv.part", ".hidden.csv", "~$book.xlsx", "z-inventory.csv.yaml", "old.csv.rejects.csv")
    for name in (*passed_over, "Thumbs.db", "desktop.ini"):
        stock.file("sku,quantity\n", name, folder=folder)
    (folder / "done").mkdir()
    written = max(path.stat().st_ctime for path in folder.iterdir())
    late = datetime.fromtimestamp(written, UTC) + timedelta(seconds=3)
    assert [path.name for path in waiting_files(folder, late)] == ["z-inventory.csv", "a-mapping.csv"]
    assert waiting_files(folder, late - timedelta(seconds=2.5)) == []
    assert waiting_files(folder / "nowhere", late) == []


def test_a_processed_file_leaves_the_folder_with_its_sidecar_and_is_kept_with_its_rejects(stock):
    folder = stock.basis.folder
    path = stock.file("sku,quantity\nA,10\nB,x\n", folder=folder)
    stock.file("as_of: 2026-07-01T08:00:00+02:00\n", "stock.csv.yaml", folder=folder)
    result = process_file(stock.basis, path)
    assert result.state == "applied"
    assert [one.name for one in folder.iterdir() if one.is_file()] == []
    assert result.rejects_file == result.kept_file.with_name(result.kept_file.name + ".rejects.csv")
    assert result.rejects_file.exists()
    _, summary = stock.rows(imports.c.id, imports.c.summary)[0]
    assert summary["declaration"]["as_of"] == "2026-07-01T06:00:00+00:00"
    assert sidecar_of(result.kept_file).read_text() == "as_of: 2026-07-01T08:00:00+02:00\n"


def test_a_refused_file_put_back_as_it_was_kept_has_its_time_and_its_declaration(stock):
    folder, counted = stock.basis.folder, NOW - timedelta(hours=6)
    kept = process_file(stock.basis, stock.file("Art,Menge\nA,10\n", at=counted, folder=folder)).kept_file
    assert (kept.parent.name, kept.stat().st_mtime) == ("rejected", counted.timestamp())
    stock.file("basis: available\n", "stock.csv.yaml", folder=folder)
    stock.load(many(10), NOW - timedelta(hours=8))
    held = process_file(stock.basis, stock.file(many(0), at=counted, folder=folder))
    assert held.state == "held"
    kept = drop(stock.at(minutes=1), held.import_id, "wrong").kept_file
    assert kept.stat().st_mtime == counted.timestamp()
    assert sidecar_of(kept).read_text() == "basis: available\n"
    assert not sidecar_of(held.kept_file).exists()


@pytest.mark.parametrize("rename", [True, False])
def test_a_file_put_in_the_place_of_one_that_is_being_imported_goes_in_next(stock, monkeypatch, rename):
    folder = stock.basis.folder
    path = stock.file("sku,quantity\nA,10\n", at=NOW - timedelta(hours=6), folder=folder)
    newer, apply = "sku,quantity\nA,3\n", importing._apply

    def slow(*given):
        if rename:
            stock.file(newer, ".arriving", at=NOW - timedelta(hours=1), folder=folder).replace(path)
        else:
            stock.file(newer, at=NOW - timedelta(hours=1), folder=folder)
        return apply(*given)

    monkeypatch.setattr(importing, "_apply", slow)
    with pytest.raises(FileError, match="it was changed while it was read - nothing of it went in"):
        process_file(stock.basis, path)
    monkeypatch.undo()
    assert (stock.quantities(), [*(folder / "done").iterdir()]) == ({}, [])
    result = process_file(stock.at(minutes=1), path)
    assert (stock.quantities(), result.kept_file.read_text(), path.exists()) == ({"A": 3}, newer, False)


def test_what_arrives_once_the_copy_is_made_stays_for_the_next_run(stock, monkeypatch):
    folder = stock.basis.folder
    path = stock.file("sku,quantity\nA,10\n", at=NOW - timedelta(hours=6), folder=folder)

    def import_file(*given):
        result = importing.import_file(*given)
        stock.file("basis: available\n", "stock.csv.yaml", folder=folder)  # before its file, as the page says
        stock.file("sku,quantity\nA,3\n", ".arriving", at=NOW - timedelta(hours=1), folder=folder).replace(path)
        return result

    monkeypatch.setattr(watched, "import_file", import_file)
    assert process_file(stock.basis, path).state == "applied"
    monkeypatch.undo()
    assert (stock.quantities(), path.exists(), sidecar_of(path).exists()) == ({"A": 10}, True, True)
    assert process_file(stock.at(minutes=1), path).preview.counts.startswith("counts units available")
    assert (stock.quantities(), path.exists(), sidecar_of(path).exists()) == ({"A": 3}, False, False)


def test_a_file_whose_clock_is_ahead_waits_no_longer_than_others(stock):
    path = stock.file("sku,quantity\nA,10\n", folder=stock.basis.folder)
    written = datetime.fromtimestamp(path.stat().st_ctime, UTC)
    os.utime(path, (0, (written + timedelta(days=3000)).timestamp()))
    assert waiting_files(stock.basis.folder, written + timedelta(seconds=1)) == []
    assert waiting_files(stock.basis.folder, written + timedelta(seconds=4)) == [path]


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        ("basis: onhand\n", "stock.csv.yaml line 1 column 'basis': unknown basis 'onhand'"),
        ("basis: on_hand\nas_of: 2026-07-01T08:00:00\n", "line 2 column 'as_of': this is no time with a time zone"),
        ("contain: [shop]\n", "column 'contain': unknown key"),
        ("contains: shop\n", "column 'contains': this is no list"),
        ("lag_seconds: -1\n", "column 'lag_seconds': this is no number of seconds"),
        ("lag_seconds: 1\nlag_seconds: 2\n", "stock.csv.yaml line 2"),
        ("[", "the file is no YAML"),
        ("text", "no list of keys"),
    ],
)
def test_a_wrong_sidecar_rejects_its_file(stock, sidecar, words):
    path = stock.file("sku,quantity\nA,10\n", folder=stock.basis.folder)
    stock.file(sidecar, "stock.csv.yaml", folder=stock.basis.folder)
    result = process_file(stock.basis, path)
    assert result.state == "rejected"
    assert words in result.reason
    assert not path.exists()
    assert stock.quantities() == {}


def test_a_process_that_died_before_the_file_left_is_made_good_by_the_next(stock, monkeypatch):
    path = stock.file("sku,quantity\nA,10\n", folder=stock.basis.folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", _die)
        process_file(stock.basis, path)
    assert stock.quantities() == {"A": 10}
    assert path.exists()
    assert process_file(stock.at(minutes=1), path).state == "already_imported"
    assert not path.exists()
    assert stock.quantities() == {"A": 10}


def test_of_two_files_with_the_same_content_both_are_kept(stock):
    def given(name: str, text: str, hours: int = 0) -> list[str]:
        at = NOW + timedelta(hours=hours)
        result = process_file(stock.at(hours=hours), stock.file(text, name, at, stock.basis.folder))
        assert result.kept_file.read_text(encoding="utf-8") == text
        beside = [result.rejects_file] if result.rejects_file else []
        return [str(path.relative_to(stock.basis.folder)) for path in (result.kept_file, *beside)]

    text = many(10) + "X,-1\n"
    first, rejects = given("stock.csv", text)
    (import_id, _), *_ = stock.rows(imports.c.id, imports.c.state)
    assert (first, rejects) == (f"done/{import_id}-stock.csv", f"done/{import_id}-stock.csv.rejects.csv")
    for name in ("copy.csv", "stock.csv", "stock.csv", long_name(200)):
        again = f"done/{import_id}-again-{name}"
        assert given(name, text) == [again, f"{again}.rejects.csv"]
    (held,) = given("stock.csv", many(0), hours=1)
    assert held.startswith("held/")
    held_id = held.removeprefix("held/").removesuffix("-stock.csv")
    assert given("copy.csv", many(0), hours=2) == [f"rejected/{held_id}-again-copy.csv"]
    assert [path.name for path in stock.basis.folder.iterdir() if path.is_file()] == []
    assert len(list((stock.basis.folder / "done").iterdir())) == 8


def _die(path: Path, missing_ok: bool = False) -> None:
    if path.name == "stock.csv":
        raise KeyboardInterrupt


def long_name(length: int) -> str:
    return "库" * ((length - 4) // 3) + "s" * ((length - 4) % 3) + ".csv"


def test_a_name_that_nothing_can_be_kept_under_is_told_with_the_mend_and_leaves_all_as_it_was(stock):
    folder = stock.basis.folder
    goes = stock.file("sku,quantity\nA,10\nB,x\n", long_name(200), NOW - timedelta(hours=1), folder)
    result = process_file(stock.basis, goes)
    assert (result.state, goes.exists(), stock.quantities()) == ("applied", False, {"A": 10})
    assert result.rejects_file.read_text(encoding="utf-8-sig").count("\n") == 2
    for name in (long_name(201), long_name(255)):
        path = stock.file("sku,quantity\nA,11\n", name, folder=folder)
        with pytest.raises(FileError, match=r"^库+…: its name has 2\d\d bytes, more than 200 - give it a shorter one$"):
            process_file(stock.basis, path)
        assert path.exists()
    path = stock.file("sku,quantity\nA,12\n", os.fsdecode("库存.csv".encode("gbk")), folder=folder)
    with pytest.raises(FileError, match=r"^\\udcbf\\udce2\\udcb4\\udce6\.csv: its name is no UTF-8.* - rename it$"):
        process_file(stock.basis, path)
    with pytest.raises(FileError, match="rename it"):
        preview(stock.basis, path)
    assert process_file(stock.basis, path.rename(folder / "库存.csv")).state == "applied"
    assert stock.quantities() == {"A": 12}


def test_a_file_that_is_no_table_is_set_aside_with_a_reason_and_the_others_are_found(stock):
    folder = stock.basis.folder
    products = stock.file(
        json.dumps({"products": [{"id": number} for number in range(30_000)]}), "p.csv", folder=folder
    )
    other = stock.file("sku,quantity\nA,1\n", folder=folder)
    late = datetime.fromtimestamp(max(path.stat().st_ctime for path in folder.iterdir()), UTC) + timedelta(seconds=3)
    assert waiting_files(folder, late) == [other, products]
    result = process_file(stock.basis, products)
    assert result.state == "rejected"
    assert result.reason == "p.csv: it is JSON, and no table - export it as CSV"
