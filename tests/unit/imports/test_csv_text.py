"""CSV as spreadsheets and shops write it: a line that names the separator, titles, texts with pictures, and Excel's mark."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace

import openpyxl
import pytest
from openpyxl.worksheet.worksheet import Worksheet

from invsync_dagster.inventory.imports import csv_text
from invsync_dagster.settings import ImportSource
from tests.unit.imports.stock import SUPPLIER, import_file, raw

BELOW = "below other text - delete the lines above it: the header must be the first line"


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nsku;quantity\nA,1;3\nB;x\n",
        '"sep=;"\r\nsku;quantity\r\nA,1;3\r\nB;x\r\n',
        "\ufeffSEP=|\nsku|quantity\nA,1|3\nB|x\n",
        "sep=\t\nsku\tquantity\nA,1\t3\nB\tx\n",
    ],
)
def test_a_first_line_that_names_the_separator_is_followed_and_lines_are_counted_with_it(stock, text):
    result = import_file(stock.basis, stock.file(text))
    assert stock.quantities() == {"A,1": 3}
    assert [(one.line, one.value) for one in result.rejections] == [(4, "x")]


def test_a_named_separator_hides_no_declared_kind_in_an_encoding_of_its_own(stock):
    acme = ImportSource(columns={"sku": "Größe", "quantity": "Bestand"}, encoding="windows-1252")
    path = stock.file("")
    path.write_bytes("sep=;\nGröße;Bestand\nÄ;3\n".encode("windows-1252"))
    assert import_file(replace(stock.basis, sources={"acme": acme}), path).state == "applied"
    assert stock.quantities() == {"Ä": 3}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Stock of ACME, as of today,\n,,\n\nsku,quantity,product_name\nA,3,Mug\n", 4),
        ("ACME GmbH\n\nsku;quantity\nA;3\n", 3),
        ('"ACME GmbH";"";""\n"SKU";"Quantity";"Product name"\n"A";"3";"Mug"\n', 2),
        ("Export\nID,Type,SKU,Name,In stock?,Stock\n1,simple,A,Mug,1,5\n", 2),
    ],
)
def test_titles_above_the_header_are_refused_by_the_line_where_the_header_is(stock, text, line):
    result = import_file(stock.basis, stock.file(text))
    assert (result.state, result.reason) == ("rejected", f"stock.csv line 1: its header is on line {line}, {BELOW}")
    kept = text.splitlines(keepends=True)[line - 1 :]
    assert import_file(stock.basis, stock.file("".join(kept))).state == "applied"


def test_titles_in_the_encoding_of_a_declared_kind_are_refused_in_the_same_way(stock):
    basis = replace(stock.basis, sources={"acme": SUPPLIER})
    text = "Preisliste Firma Müller;;\nStand: 01.07.2026;;\n;;\nArt.-Nr.;Bezeichnung;Bestand\nA;Schlüssel;1.200\n"
    result = import_file(basis, raw(stock, text.encode("windows-1252")))
    assert (result.state, result.reason) == ("rejected", f"stock.csv line 1: its header is on line 4, {BELOW}")
    kept = "".join(text.splitlines(keepends=True)[3:])
    assert import_file(basis, raw(stock, kept.encode("windows-1252"))).state == "applied"
    assert stock.quantities() == {"A": 1200}


def test_titles_in_a_workbook_are_refused_in_the_same_way(stock):
    book = openpyxl.Workbook()
    sheet = book.active
    assert isinstance(sheet, Worksheet)
    for row in (["Stock of ACME"], [], ["sku", "quantity"], ["A", 3]):
        sheet.append(row)
    path = stock.files / "stock.xlsx"
    book.save(path)
    assert import_file(stock.basis, path).reason == f"stock.xlsx line 1: its header is on line 3, {BELOW}"


def test_a_file_without_any_header_is_told_what_headers_are_known(stock):
    reason = import_file(stock.basis, stock.file("Stock of ACME\nA,3\nB,4\n")).reason
    assert reason.startswith("stock.csv line 1: the header names none of the known columns - inventory files have sku,")
    empty_above = import_file(stock.basis, stock.file("\n\nsku,quantity,colour\nA,3,red\n")).reason
    assert empty_above.startswith("stock.csv line 3 column 'colour': unknown column in a file of kind inventory")


def test_a_product_whose_description_holds_a_picture_goes_in(stock):
    picture = '<img src=""data:image/png;base64,' + "A" * 1_000_000 + '"">'
    text = f'ID,Type,SKU,Name,Description,In stock?,Stock\n1,simple,A,Mug,"{picture}",1,5\n2,simple,B,Cup,,1,6\n'
    assert import_file(stock.basis, stock.file(text)).rejections == ()
    assert stock.quantities() == {"A": 5, "B": 6}


@pytest.fixture
def short_texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = csv.field_size_limit()
    monkeypatch.setattr(csv_text, "LONGEST_TEXT", 1000)
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("short_texts")
def test_a_quote_that_swallows_what_follows_lets_nothing_in(stock):
    rows = "".join(f"S{number},{number},name\n" for number in range(1000))
    result = import_file(stock.basis, stock.file(f'sku,quantity,product_name\nA,1,x\nB,2,"12 inch\n{rows}'))
    assert (result.state, result.reason) == (
        "rejected",
        'stock.csv line 3: a quote is opened and not closed within 1000 characters - write a quote inside a text twice ("")',
    )
    assert stock.quantities() == {}


@pytest.mark.usefixtures("short_texts")
def test_a_first_line_that_no_header_is_as_long_as_is_no_table(stock):
    result = import_file(stock.basis, stock.file("sku,quantity," + "x" * 1000 + "\nA,1,\n"))
    assert (result.state, result.reason) == (
        "rejected",
        "stock.csv line 1: its first line has over 1000 characters - export it as CSV: this is no table, whose lines are rows",
    )


def test_of_a_refused_cell_the_beginning_is_told(stock):
    result = import_file(stock.basis, stock.file(f"sku,quantity\n{'A' * 5000},1\nB,{'9' * 150}\nC,1\n"))
    assert [len(one.value) for one in result.rejections] == [201, 150]
    assert result.rejections[0].reason == "the text has 5000 characters, at most 255 are taken"


def test_a_row_that_is_wrong_as_a_whole_names_its_line_and_no_column(stock):
    result = import_file(stock.basis, stock.file("sku,quantity\nA,1,234\nB,x\nC,1\n"))
    assert [str(one) for one in result.rejections] == [
        "stock.csv line 2: the row has 3 cells, the header 2 - put text that contains the separator in quotes",
        "stock.csv line 3 column 'quantity': this is not a whole number - write digits only, as 12",
    ]


def test_the_list_of_rejected_rows_opens_in_excel_as_it_was_written_and_can_be_read_back(stock):
    result = import_file(stock.basis, stock.file("sku,quantity,product_name\nA,1,x\n杯子,zwölf,杯子\n"))
    content = result.rejects_file.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf" + b"file,line,column,value,reason,mend\r\n")
    (row,) = csv.DictReader(content.decode("utf-8-sig").splitlines())
    assert (row["file"], row["line"], row["value"]) == ("stock.csv", "3", "zwölf")
