"""Files as they come on bad days: a sentence with the mend, nothing lost, nothing zeroed."""

from __future__ import annotations

import errno
import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from sqlalchemy import event

from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.folder import process_file
from invsync_dagster.inventory.imports.importing import preview
from invsync_dagster.inventory.imports.reading import open_source
from invsync_dagster.inventory.imports.refusals import FileError, FullDiskError
from invsync_dagster.inventory.tables import imports
from tests.unit.imports.stock import NOW, OF_SHOP, import_file, many, raw

FULL = Path("/dev/full")

needs_full_device = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def test_an_empty_file_zeroes_nothing(stock):
    stock.load(many(10))
    result = import_file(stock.basis, stock.file(""))
    assert (result.state, result.reason) == (
        "rejected",
        "stock.csv: the file is empty - export it again, with its header line",
    )
    assert set(stock.quantities().values()) == {10}


def test_an_all_zero_file_is_held(stock):
    stock.load(many(10))
    result = import_file(stock.basis, stock.file(many(0)))
    assert (result.state, result.reason) == ("held", "10 of 10 SKUs that can be sold would go to 0 (limit 20%)")
    assert set(stock.quantities().values()) == {10}
    assert result.kept_file.exists()


def test_a_file_of_half_the_skus_leaves_the_others_and_says_so(stock):
    stock.load(many(10))
    result = import_file(stock.basis, stock.file(many(11, count=5)))
    assert result.state == "applied"
    assert stock.quantities() == {f"S{number}": 11 if number < 5 else 10 for number in range(10)}
    assert "5 SKUs of the stock are not in the file, and stay as they are" in result.render()


@pytest.mark.parametrize("broken", ["A", "A,9", "A,9,Mug,more", ",9,Mug,A"])
def test_a_sku_of_which_one_row_has_too_few_or_too_many_cells_does_not_go_in_by_another(stock, broken):
    stock.load("sku,quantity\nA,10\nB,10\n")
    result = import_file(stock.basis, stock.file(f"sku,quantity,product_name\nA,11,Mug\n{broken}\nB,12,Cup\n"))
    named = broken.startswith("A")
    assert stock.quantities() == {"A": 10 if named else 11, "B": 12}
    assert [one.line for one in result.rejections] == ([2, 3] if named else [3])
    if named:
        assert result.rejections[0].reason == "the SKU is also on line 3, in a row that can't be used: neither goes in"


def test_a_sku_of_which_one_row_has_an_error_of_excel_in_any_cell_does_not_go_in_by_another(stock):
    book = openpyxl.Workbook()
    for row in (["sku", "quantity", "product_name"], ["A", 11, "Mug"], ["A", 9, "#N/A"], ["B", 12, "Cup"]):
        book.worksheets[0].append(row)
    book.save(stock.files / "stock.xlsx")
    result = import_file(stock.basis, stock.files / "stock.xlsx", Declaration(as_of=NOW))
    assert stock.quantities() == {"B": 12}
    assert [(one.line, one.column) for one in result.rejections] == [(2, "sku"), (3, "product_name")]


def test_a_sku_of_which_one_row_of_an_export_is_misshapen_does_not_go_in_by_another(stock):
    text = "ID,Type,SKU,Name,In stock?,Stock\n1,simple,A,Mug,1,11\n2,simple,A,Mug, red,1,9\n3,simple,B,Cup,1,12\n"
    result = import_file(stock.basis, stock.file(text), OF_SHOP)
    assert stock.quantities() == {"B": 12}
    assert [one.line for one in result.rejections] == [2, 3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"sku\0,quantity\nA,3\n",
            "stock.csv line 1 column 'sku\u2400': unknown column in a file of kind inventory - ",
        ),
        (b"sku,quantity\nA\0,3\n", "there is a line break or control character (U+0000) in it - remove it"),
        (
            b"sku,quantity\nA,3\0\n",
            "stock.csv: no row of the file can go in; 1 of 1 rows are like line 2 column 'quantity'",
        ),
        (b"central_sku,channel,platform_sku,platform_item_id,platform_location_id\nA,\0,A,i1,\n", "column 'channel'"),
    ],
)
def test_a_file_with_a_null_character_is_refused_with_its_reason_from_the_folder_too(stock, content, said):
    given = import_file(stock.basis, raw(stock, content))
    dropped = process_file(stock.at(minutes=1), raw(stock, content).rename(stock.basis.folder / "stock.csv"))
    assert (given.state, dropped.state) == ("rejected", "rejected")
    assert said in given.reason
    assert said in dropped.reason
    assert stock.rows(imports.c.id, imports.c.reason)[1][1] == dropped.reason


def test_one_row_with_a_null_character_is_refused_and_the_others_go_in(stock):
    result = import_file(stock.basis, raw(stock, b"sku,quantity\nA,3\0\nB,4\n"))
    assert (result.state, stock.quantities()) == ("applied", {"B": 4})
    assert [(one.line, one.column) for one in result.rejections] == [(2, "quantity")]


def test_a_wrong_decimal_mark_multiplies_nothing(stock):
    stock.load(many(10))
    path = stock.file("sku;quantity\n" + "".join(f"S{number};1.000\n" for number in range(10)))
    result = import_file(stock.basis, path, Declaration(decimal_mark=","))
    assert (result.state, result.reason) == ("held", "9900 units would move, of 100 on hand (limit 50%)")
    undeclared = import_file(stock.basis, stock.file(path.read_text(encoding="utf-8"), "other.csv"))
    assert undeclared.state == "rejected"
    assert {one.reason for one in undeclared.rejections} == {
        "the '.' may be a thousands mark (1000) or a decimal mark (1.000)"
    }
    assert set(stock.quantities().values()) == {10}


@needs_full_device
def test_a_rejects_file_that_cannot_be_written_lets_nothing_in_and_loses_nothing(stock):
    stock.load(many(10))
    path = stock.file(many(20) + ",3\n", folder=stock.basis.folder)
    path.with_name("stock.csv.rejects.csv.part").symlink_to(FULL)
    before = (stock.quantities(), stock.entries(), stock.states())
    with pytest.raises(FileError) as raised:
        process_file(stock.basis, path)
    assert str(raised.value) == (
        "stock.csv.rejects.csv: the rejected rows can't be written (No space left on device) - free space in imports/ or"
        " make it writable, and give the file again; nothing of it went in"
    )
    assert (stock.quantities(), stock.entries(), stock.states()) == before
    assert path.exists()
    assert process_file(stock.at(seconds=1), path).state == "applied"


@needs_full_device
def test_a_copy_that_cannot_be_kept_lets_nothing_in(stock):
    stock.load(many(10))
    path = stock.file(many(12))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    copy = stock.basis.folder / "done" / f"{NOW:%Y%m%dT%H%M%S}-{digest}-stock.csv.part"
    copy.symlink_to(FULL)
    with pytest.raises(FileError, match="the disk of the database or of the import folder is full - free space, and"):
        import_file(stock.basis, path)
    assert set(stock.quantities().values()) == {10}
    assert not copy.is_symlink(), "half a copy would keep the disk full"
    assert import_file(stock.basis, path).state == "applied"
    stock.prove()


@needs_full_device
@pytest.mark.parametrize("text", ["sku,quantity\nA,x\n", "name,price\nA,1\n"], ids=["no good row", "header"])
def test_a_rejected_file_whose_copy_cannot_be_kept_stays_where_it_is(stock, text):
    path = stock.file(text, folder=stock.basis.folder)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    copy = stock.basis.folder / "rejected" / f"{NOW:%Y%m%dT%H%M%S}-{digest}-stock.csv.part"
    copy.parent.mkdir()
    copy.symlink_to(FULL)
    with pytest.raises(FullDiskError) as raised:
        process_file(stock.basis, path)
    assert str(raised.value) == (
        "stock.csv: the disk of the database or of the import folder is full - free space, and give the file again;"
        " nothing of it went in"
    )
    assert (stock.states(), path.exists()) == ([], True)
    assert not copy.is_symlink(), "half a copy would keep the disk full"
    assert process_file(stock.basis, path).state == "rejected"
    assert not path.exists()


def test_a_full_folder_of_temporary_files_is_no_fault_of_the_file(stock, monkeypatch):
    path = stock.file(many(12, count=5000), folder=stock.basis.folder)
    connect = sqlite3.connect

    def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        database = connect(*arguments, **options)
        if arguments == ("",):
            database.execute("PRAGMA max_page_count=10")
        return database

    with (
        monkeypatch.context() as patch,
        pytest.raises(FullDiskError, match=r"free space in the folder of temporary files"),
    ):
        patch.setattr(sqlite3, "connect", small)
        process_file(stock.basis, path)
    assert (stock.states(), path.exists()) == ([], True)
    assert process_file(stock.basis, path).state == "applied"


def test_a_file_that_cannot_be_read_is_told_from_one_whose_reader_fails(stock):
    with pytest.raises(OSError, match="of the caller"), open_source(stock.file(many(3))):
        raise OSError(errno.ENOSPC, "of the caller")
    with pytest.raises(FileError) as raised, open_source(stock.file(many(3))) as source:
        next(source.rows)
        raise FileError("stock.csv", "a reason", "a mend")
    assert raised.value.reason == "a reason"
    folder = stock.files / "folder.csv"
    folder.mkdir()
    with (
        pytest.raises(FileError, match=r"folder.csv: the file can't be read \(Is a directory\) - check"),
        open_source(folder),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(
            "sku;quantity\nA;x\n" + "".join(f"S{number};{number}.000\n" for number in range(1, 41)),
            "stock.csv: no row of the file can go in; 40 of 41 rows are like line 3 column 'quantity': the '.' may be a "
            'thousands mark (1000) or a decimal mark (1.000) - declare the file\'s mark, as decimal_mark: "," in its sidecar '
            "or --decimal-mark, or write digits only",
            id="a mark",
        ),
        pytest.param(
            "sku,quantity\nA,1,2\n",
            "stock.csv: no row of the file can go in; 1 of 1 rows are like line 2: the row has 3 cells, the header 2 - put text "
            "that contains the separator in quotes",
            id="no column",
        ),
        pytest.param(
            "seller-sku\tquantity\tfulfillment-channel\nA\t\tAMAZON_EU\nB\t\tAMAZON_EU\n",
            "stock.csv: no row of the file can go in; 2 rows left out: stock is kept by Amazon (FBA)",
            id="left out",
        ),
        pytest.param(
            "sku,quantity\n",
            "stock.csv: no row of the file can go in: it has a header and no rows - export it again",
            id="no rows",
        ),
    ],
)
def test_a_file_without_a_good_row_is_rejected_with_its_commonest_mistake_and_the_mend(stock, text, reason):
    stock.load(many(10))
    result = import_file(stock.basis, stock.file(text))
    assert (result.state, result.reason) == ("rejected", reason)
    assert set(stock.quantities().values()) == {10}


@pytest.mark.parametrize("each_database", ["sqlite"], indirect=True)
def test_a_full_database_disk_lets_nothing_in(stock):
    stock.load(many(10))
    path = stock.file(many(12, count=5000))

    def limit(connection: Any, *_: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")

    event.listen(stock.basis.engine, "checkout", limit)
    with pytest.raises(FileError, match=r"is full - free space, and give the file again; nothing of it went in"):
        import_file(stock.basis, path)
    event.remove(stock.basis.engine, "checkout", limit)
    assert stock.quantities() == {f"S{number}": 10 for number in range(10)}
    stock.prove()


def test_a_preview_leaves_no_trace_even_of_a_file_beyond_the_limits(stock):
    stock.load(many(10))
    before = (stock.quantities(), stock.entries(), stock.states())
    assert preview(stock.basis, stock.file(many(0))).beyond
    assert (stock.quantities(), stock.entries(), stock.states()) == before


def test_a_file_of_more_rows_than_are_applied_at_once_goes_in_whole(stock):
    """Also its SKUs that are there twice, far apart, and its progress."""
    count = 45_000
    told: list[tuple[str, int]] = []
    basis = stock.basis.__class__(
        stock.basis.engine, stock.basis.folder, stock.basis.limits, NOW, "ann", progress=lambda *step: told.append(step)
    )
    text = many(3, count=count) + "S7,3\nS8,4\n"
    result = import_file(basis, stock.file(text))
    assert (result.state, result.preview.rows, result.preview.added) == ("applied", count - 1, count - 1)
    assert [(one.line, one.reason) for one in result.rejections] == [
        (10, f"the SKU is also on line {count + 3}, with other values: neither goes in"),
        (count + 2, "the SKU is already on line 9, the same"),
        (count + 3, "the SKU is also on line 10, with other values: neither goes in"),
    ]
    assert len(stock.quantities()) == count - 1
    assert ("read", 40_000) in told
    assert told[-1] == ("applied", count - 1)
    stock.prove()
