"""Files are taken apart as exact text, and what can't be is named with file, line, column, reason and mend."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from datetime import date, time
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invsync_dagster.inventory.imports.inventory_file import InventoryRow
from invsync_dagster.inventory.imports.inventory_rows import read_inventory
from invsync_dagster.inventory.imports.mapping_file import MappingRow
from invsync_dagster.inventory.imports.mapping_rows import read_mapping
from invsync_dagster.inventory.imports.mapping_spool import MappingSpool
from invsync_dagster.inventory.imports.reading import Hints, open_source
from invsync_dagster.inventory.imports.refusals import FileError, Rejection
from invsync_dagster.inventory.imports.spool import Spool

INVENTORY_HEADER = ["sku", "product_name", "quantity", "reserved_quantity", "status"]
MAPPING_HEADER = ["central_sku", "channel", "platform_sku", "platform_item_id", "platform_location_id"]
RULES_HEADER = ["platform_variant_id", "status", "buffer", "percent", "minimum", "maximum", "dead_band"]


def write_csv(path: Path, rows: list[list[str]], *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def write_excel(path: Path, rows: Sequence[Sequence[object]], formats: dict[str, str] | None = None) -> Path:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in rows:
        sheet.append(list(row))
    for cell, number_format in (formats or {}).items():
        sheet[cell].number_format = number_format
    book.save(path)
    return path


def inventory_of(path: Path, decimal_mark: str = "") -> tuple[list[InventoryRow], list[Rejection]]:
    with open_source(path, hints=Hints(decimal_mark=decimal_mark)) as source:
        assert source.kind == "inventory"
        with Spool(path.name) as spool:
            rejections = read_inventory(path.name, source, spool)
            return sorted((row for part in spool.chunks() for row in part), key=lambda row: row.line), rejections


def mapping_of(path: Path, channels=("shop", "erp"), unknown=()) -> tuple[list[MappingRow], list[Rejection]]:
    with open_source(path) as source:
        assert source.kind == "mapping"
        return kept_mapping(path.name, source, channels, lambda skus: set(skus) - set(unknown))


def kept_mapping(name: str, source, channels, known) -> tuple[list[MappingRow], list[Rejection]]:
    with MappingSpool(name) as spool:
        rejections = read_mapping(name, source, spool, channels=channels, known=known, contradicted=lambda rows: [])
        rows = [row for part in spool.by_item() for row in part]
        assert spool.count == len(rows)
        return sorted(rows, key=lambda row: row.line), rejections


def only(rejections: list[Rejection]) -> Rejection:
    assert len(rejections) == 1, rejections
    return rejections[0]


# A SKU may be any text without spaces around it, without control or invisible characters, and not a rounded number of a
# spreadsheet.
skus = (
    st.text(
        st.characters(exclude_categories=["Cc", "Cf", "Cs"], exclude_characters="\u2028\u2029"),
        min_size=1,
        max_size=255,
    )
    .filter(lambda text: text == text.strip())
    .filter(lambda text: "E+" not in text)
)


@settings(deadline=None)
@given(sku=skus, delimiter=st.sampled_from([",", ";", "\t"]), encoding=st.sampled_from(["utf-8", "utf-8-sig"]))
def test_any_sku_survives_csv_as_exact_text(tmp_path_factory, sku, delimiter, encoding):
    path = tmp_path_factory.mktemp("csv") / "stock.csv"
    write_csv(path, [["sku", "quantity"], [sku, "3"]], delimiter=delimiter, encoding=encoding)
    rows, rejections = inventory_of(path)
    assert [(row.sku, row.quantity) for row in rows] == [(sku, 3)]
    assert rejections == []


@settings(deadline=None, max_examples=50)
@given(
    sku=skus.filter(
        lambda text: not text.startswith("=") and "_x" not in text and "\ufffe" not in text and "\uffff" not in text
    )
)
def test_any_text_sku_survives_excel(tmp_path_factory, sku):
    path = write_excel(tmp_path_factory.mktemp("excel") / "stock.xlsx", [["sku", "quantity"], [sku, 3]])
    rows, rejections = inventory_of(path)
    assert [(row.sku, row.quantity) for row in rows] == [(sku, 3)]
    assert rejections == []


def test_leading_zeros_and_long_ids_survive_csv(tmp_path):
    gid = "gid://shopify/InventoryItem/9007199254740993123"
    row = ["007", "shop", "000123", gid, "8446744073709551617"]
    rows, rejections = mapping_of(write_csv(tmp_path / "m.csv", [MAPPING_HEADER, row]))
    assert rejections == []
    assert (rows[0].central_sku, rows[0].platform_sku) == ("007", "000123")
    assert (rows[0].item_id, rows[0].location_id) == (gid, "8446744073709551617")


def test_skus_that_differ_in_case_are_two(tmp_path):
    rows, rejections = inventory_of(write_csv(tmp_path / "s.csv", [["sku", "quantity"], ["a", "1"], ["A", "2"]]))
    assert [(row.sku, row.quantity) for row in rows] == [("a", 1), ("A", 2)]
    assert rejections == []


@pytest.mark.parametrize("sku", [" A", "A ", "A\u00a0", "\tA"])
def test_a_sku_with_a_space_around_it_is_rejected_and_not_stripped(tmp_path, sku):
    rows, rejections = inventory_of(write_csv(tmp_path / "s.csv", [["sku", "quantity"], [sku, "1"], ["A", "2"]]))
    assert [row.sku for row in rows] == ["A"]
    assert "space" in only(rejections).reason
    assert only(rejections).value == sku


def test_all_cells_of_an_inventory_row_are_read(tmp_path):
    path = write_csv(tmp_path / "s.csv", [INVENTORY_HEADER, ["A", " Mug, 'red' ", "12", "3", "Inactive"]])
    rows, _ = inventory_of(path)
    assert rows == [InventoryRow(2, "A", 12, "Mug, 'red'", 3, "inactive")]


def test_empty_cells_state_nothing(tmp_path):
    rows, _ = inventory_of(write_csv(tmp_path / "s.csv", [INVENTORY_HEADER, ["A", "", "12", "", ""]]))
    assert rows == [InventoryRow(2, "A", 12, None, None, None)]


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        ("", "absent"),
        ("  ", "absent"),
        ("-1", "negative"),
        ("-1.5", "negative"),
        ("1.5", "fractional"),
        ("1,5", "fractional"),
        ("1.000", "thousands"),
        ("ten", "whole number"),
        ("1e3", "whole number"),
        ("²", "whole number"),
        ("٣", "whole number"),
        ("1000000001", "above"),
        ("9" * 5000, "above"),
    ],
)
def test_a_quantity_that_is_no_whole_number_of_units_is_rejected(tmp_path, cell, word):
    path = write_csv(tmp_path / "stock.csv", [["sku", "quantity"], ["A", "1"], ["B", cell], ["C", "0"]])
    rows, rejections = inventory_of(path)
    assert [(row.sku, row.quantity) for row in rows] == [("A", 1), ("C", 0)]
    found = only(rejections)
    assert (found.file, found.line, found.column) == ("stock.csv", 3, "quantity")
    assert word in found.reason
    assert found.mend


def test_a_row_without_a_sku_is_rejected_with_its_line(tmp_path):
    rows, rejections = inventory_of(write_csv(tmp_path / "s.csv", [["sku", "quantity"], ["", "1"], ["B", "2"]]))
    assert [row.sku for row in rows] == ["B"]
    assert (only(rejections).line, only(rejections).column) == (2, "sku")


def test_texts_of_more_than_255_characters_are_rejected(tmp_path):
    data = [
        INVENTORY_HEADER,
        ["x" * 255, "n" * 255, "1", "", ""],
        ["y" * 256, "", "1", "", ""],
        ["z", "n" * 256, "1", "", ""],
    ]
    rows, rejections = inventory_of(write_csv(tmp_path / "s.csv", data))
    assert [row.line for row in rows] == [2]
    assert [(one.line, one.column) for one in rejections] == [(3, "sku"), (4, "product_name")]


@pytest.mark.parametrize("sku", ["A\nB", "A\x00B", "A\x1bB"])
def test_control_characters_in_a_sku_are_rejected(tmp_path, sku):
    rows, rejections = inventory_of(write_csv(tmp_path / "s.csv", [["sku", "quantity"], [sku, "1"], ["B", "1"]]))
    assert [row.sku for row in rows] == ["B"]
    assert "control character" in only(rejections).reason


@pytest.mark.parametrize("sku", ["A\u200b", "\ufeffA", "A\u00adB", "A\u2060B", "\u202eA"])
def test_a_character_that_nobody_sees_makes_no_sku_of_its_own(tmp_path, sku):
    rows, rejections = inventory_of(write_csv(tmp_path / "s.csv", [["sku", "quantity"], ["B", "1"], [sku, "1"]]))
    assert [row.sku for row in rows] == ["B"]
    assert "invisible character" in only(rejections).reason


@pytest.mark.parametrize("cell", ["0" * 5000, "0" * 4999 + "5", "-" + "0" * 5000])
def test_a_number_with_thousands_of_leading_zeros_stops_no_other_row(tmp_path, cell):
    rows, _ = inventory_of(write_csv(tmp_path / "s.csv", [["sku", "quantity"], ["A", cell], ["B", "1"]]))
    assert rows[-1].sku == "B"


@pytest.mark.parametrize("item", ["4.30001E+13", "1E+11"])
def test_a_number_that_a_spreadsheet_has_rounded_is_rejected(tmp_path, item):
    row = ["A", "shop", "A", item, ""]
    rows, rejections = mapping_of(write_csv(tmp_path / "m.csv", [MAPPING_HEADER, row]))
    assert rows == []
    assert only(rejections).column == "platform_item_id"
    assert "lost digits" in only(rejections).reason


def test_an_unknown_status_is_rejected(tmp_path):
    data = [INVENTORY_HEADER, ["A", "", "1", "", "gone"]]
    rows, rejections = inventory_of(write_csv(tmp_path / "s.csv", data))
    assert rows == []
    assert "active, inactive" in only(rejections).mend


def test_a_sku_that_is_there_twice_with_the_same_values_goes_in_once(tmp_path):
    data = [["sku", "quantity"], ["A", "1"], ["A", "1"]]
    rows, rejections = inventory_of(write_csv(tmp_path / "s.csv", data))
    assert [(row.sku, row.line) for row in rows] == [("A", 2)]
    assert only(rejections).line == 3


def test_a_sku_that_is_there_with_different_values_does_not_go_in_at_all(tmp_path):
    data = [["sku", "quantity"], ["A", "1"], ["B", "7"], ["A", "2"], ["A", "1"]]
    rows, rejections = inventory_of(write_csv(tmp_path / "s.csv", data))
    assert [row.sku for row in rows] == ["B"]
    assert [one.line for one in rejections] == [2, 4, 5]


def test_lines_are_counted_in_the_file_through_texts_with_line_breaks_and_empty_lines(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text('\n\nsku,product_name,quantity\n"A","two\nlines",1\n\n  \nB,ok,-1\nC,ok,1\n', encoding="utf-8")
    rows, rejections = inventory_of(path)
    assert [(row.sku, row.line, row.product_name) for row in rows] == [("A", 4, "two lines"), ("C", 9, "ok")]
    assert [(one.line, one.column) for one in rejections] == [(8, "quantity")]


def test_a_row_that_is_cut_off_is_rejected(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("sku,quantity,status\nA,150,active\nB,1", encoding="utf-8")
    rows, rejections = inventory_of(path)
    assert [row.sku for row in rows] == ["A"]
    assert (only(rejections).line, only(rejections).column) == (3, "status")


def test_a_row_with_a_cell_too_many_is_rejected(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("sku,product_name,quantity\nA,Mug, red,5\nB,Mug,5,\n", encoding="utf-8")
    rows, rejections = inventory_of(path)
    assert [row.sku for row in rows] == ["B"]
    assert only(rejections).line == 2


def test_a_broken_quote_rejects_its_line_only(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text('sku,product_name,quantity\nA,"24" monitor",5\nB,24" monitor,5\n', encoding="utf-8")
    rows, rejections = inventory_of(path)
    assert [(row.sku, row.product_name) for row in rows] == [("B", '24" monitor')]
    assert only(rejections).line == 2


def test_a_quote_that_is_never_closed_refuses_the_file(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text('sku,product_name,quantity\nA,x,5\nB,"y,5\nC,z,5\n', encoding="utf-8")
    with pytest.raises(FileError, match=r"s\.csv line 3: a quote is opened and never closed"):
        inventory_of(path)


def test_columns_come_in_any_order_and_spelling_of_case(tmp_path):
    rows, _ = inventory_of(write_csv(tmp_path / "s.csv", [[" Quantity", "Product Name", "SKU "], ["4", "Mug", "A"]]))
    assert rows == [InventoryRow(2, "A", 4, "Mug", None, None)]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["sku", "product_name"], r"s\.csv line 1 column 'quantity': the column is missing"),
        (["sku", "quantity", "quantitty"], r"line 1 column 'quantitty': unknown column .* did you mean 'quantity'\?"),
        (["sku", "quantity", "colour"], r"column 'colour': unknown column .* leave it out"),
        (["sku", "quantity", "sku"], r"column 'sku': the column is there twice"),
        (["a", "b"], "the header names none of the known columns"),
    ],
)
def test_a_wrong_header_refuses_the_file_with_column_and_mend(tmp_path, header, message):
    with pytest.raises(FileError, match=message):
        inventory_of(write_csv(tmp_path / "s.csv", [header, ["A", "1", "2"]]))


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_an_empty_file_is_refused(tmp_path, content):
    (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(FileError, match="the file is empty"):
        inventory_of(tmp_path / "s.csv")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_refused_with_the_mend(tmp_path, encoding):
    path = write_csv(tmp_path / "s.csv", [["sku", "quantity"], ["Ü1", "2"]], encoding=encoding)
    with pytest.raises(FileError, match="save it as 'CSV UTF-8'"):
        inventory_of(path)


@pytest.mark.parametrize("encoding", ["windows-1252", "gb18030", "shift_jis"])
def test_a_utf8_file_that_is_declared_to_be_another_is_refused(tmp_path, encoding):
    path = write_csv(tmp_path / "s.csv", [["sku", "quantity"], ["Größe-3", "1"]])
    with (
        pytest.raises(FileError, match=f"declared as {encoding}, but it is UTF-8"),
        open_source(path, hints=Hints(encoding=encoding)),
    ):
        pass
    plain = write_csv(tmp_path / "plain.csv", [["sku", "quantity"], ["A", "1"]])
    with open_source(plain, hints=Hints(encoding=encoding)) as source:
        assert len(list(source.rows)) == 1


def test_excel_numbers_become_the_text_that_their_author_sees(tmp_path):
    rows: list[list[object]] = [["sku", "quantity"], [42, 7.0], ["042", 1], [42, 2], [123456789012345, 3]]
    path = write_excel(tmp_path / "s.xlsx", rows, {"A4": "00000"})
    found, rejections = inventory_of(path)
    assert [(row.sku, row.quantity) for row in found] == [("42", 7), ("042", 1), ("00042", 2), ("123456789012345", 3)]
    assert rejections == []


@pytest.mark.parametrize(
    "value",
    [
        9007199254740993.0,
        1234567890123450,
        1.23456789012345e18,
        True,
        date(2026, 3, 1),
        time(1, 2),
    ],
)
def test_an_excel_cell_that_the_program_turned_into_something_else_is_rejected(tmp_path, value):
    path = write_excel(tmp_path / "s.xlsx", [["sku", "quantity"], [value, 1], ["B", 2]])
    rows, rejections = inventory_of(path)
    assert [row.sku for row in rows] == ["B"]
    assert (only(rejections).line, only(rejections).column) == (2, "sku")
    assert "as text" in only(rejections).mend


def test_an_excel_fraction_and_an_error_cell_are_rejected(tmp_path):
    path = write_excel(tmp_path / "s.xlsx", [["sku", "quantity"], ["A", 1.5], ["B", "#N/A"], ["C", 1]])
    rows, rejections = inventory_of(path)
    assert [row.sku for row in rows] == ["C"]
    assert [one.line for one in rejections] == [2, 3]


@pytest.mark.parametrize("mark", ["", ".", ","])
def test_no_decimal_mark_makes_units_of_a_fraction_that_excel_keeps(tmp_path, mark):
    book: list[list[object]] = [["sku", "quantity"], ["A", 1.234], ["B", 12.375], ["C", 12.5], ["D", 12.0], [1.1, 3]]
    rows, rejections = inventory_of(write_excel(tmp_path / "s.xlsx", book), decimal_mark=mark)
    assert [(row.sku, row.quantity) for row in rows] == [("D", 12)]
    assert [(one.line, one.column, one.reason) for one in rejections] == [
        (2, "quantity", "the program keeps the number 1.234, which is not whole"),
        (3, "quantity", "the program keeps the number 12.375, which is not whole"),
        (4, "quantity", "the program keeps the number 12.5, which is not whole"),
        (6, "sku", "the program keeps the number 1.1, which is not whole"),
    ]


def test_a_sku_of_which_one_row_cannot_be_used_does_not_go_in_by_another(tmp_path):
    text = [["sku", "quantity"], ["A", "abc"], ["A", "5"], ["B", "1"], ["C", "2"], ["C", "two"]]
    rows, rejections = inventory_of(write_csv(tmp_path / "s.csv", text))
    assert [(row.sku, row.quantity) for row in rows] == [("B", 1)]
    assert [(one.line, one.reason) for one in rejections] == [
        (2, "this is not a whole number"),
        (3, "the SKU is also on line 2, in a row that can't be used: neither goes in"),
        (5, "the SKU is also on line 6, in a row that can't be used: neither goes in"),
        (6, "this is not a whole number"),
    ]


def with_values(path: Path, values: dict[str, str]) -> Path:
    """Give formulas of a workbook values, as a program does that calculates: `{"1+1": '"n"><f>1+1</f><v>2</v>'}`."""
    content = io.BytesIO()
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(content, "w") as after:
        for name in before.namelist():
            text = before.read(name)
            for formula, cell in values.items():
                text = re.sub(rb"><f>%s</f><v ?/?>(</v>)?" % re.escape(formula.encode()), f" t={cell}".encode(), text)
            after.writestr(name, text)
    path.write_bytes(content.getvalue())
    return path


def test_a_formula_that_nothing_has_calculated_is_told_as_such(tmp_path):
    book: list[list[object]] = [
        ["sku", "quantity", "product_name"],
        ["A", "=1+1"],
        ["B", 2],
        ["C", None],
        ["=D1", 3],
        [],
        ["E", 4, "=1+2"],
    ]
    found, rejections = inventory_of(write_excel(tmp_path / "s.xlsx", book, {"B4": "0"}))
    assert [(row.sku, row.quantity) for row in found] == [("B", 2)]
    lacking = ("a formula without its value", "open the file in Excel and save it, which calculates it")
    assert [(one.line, one.column, one.value, one.reason, one.mend) for one in rejections if one.line != 4] == [
        (2, "quantity", "=1+1", *lacking),
        (5, "sku", "=D1", *lacking),
        (7, "product_name", "=1+2", *lacking),
    ]
    assert [one.reason for one in rejections if one.line == 4] == ["the quantity is absent"]


def test_a_formula_goes_in_with_the_value_that_its_program_has_calculated(tmp_path):
    book = [["sku", "quantity", "product_name"], ["A", "=1+1", "=B9"], ["B", "=1+2"]]
    values = {"1+1": '"n"><f>1+1</f><v>2</v>', "B9": '"str"><f>B9</f><v></v>'}
    found, rejections = inventory_of(with_values(write_excel(tmp_path / "s.xlsx", book), values))
    assert [(row.sku, row.quantity, row.product_name) for row in found] == [("A", 2, None)]
    assert [(one.line, one.reason) for one in rejections] == [(3, "a formula without its value")]


def test_empty_cells_at_the_end_of_an_excel_row_are_empty_cells(tmp_path):
    path = write_excel(tmp_path / "s.xlsx", [INVENTORY_HEADER, ["A", "Mug", 3], [None] * 5, ["B", None, 4, 1]])
    rows, rejections = inventory_of(path)
    assert rows == [InventoryRow(2, "A", 3, "Mug", None, None), InventoryRow(4, "B", 4, None, 1, None)]
    assert rejections == []


def test_a_workbook_with_two_filled_sheets_is_refused(tmp_path):
    book = openpyxl.Workbook()
    book.worksheets[0].append(["sku", "quantity"])
    book.create_sheet("old").append(["sku", "quantity"])
    book.save(tmp_path / "s.xlsx")
    with pytest.raises(FileError, match=r"several filled sheets \('Sheet', 'old'\)"):
        inventory_of(tmp_path / "s.xlsx")


def test_a_file_that_is_no_workbook_is_refused(tmp_path):
    (tmp_path / "s.xlsx").write_text("sku,quantity\n")
    with pytest.raises(FileError, match="no readable Excel workbook"):
        inventory_of(tmp_path / "s.xlsx")


def test_a_missing_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(FileError, match=r"gone\.csv: the file can't be read"):
        inventory_of(tmp_path / "gone.csv")


def test_rules_of_a_mapping_row_are_read_and_empty_ones_are_the_channels(tmp_path):
    data = [MAPPING_HEADER + RULES_HEADER, ["A", "shop", "", "i1", "l1", "v1", "paused", "2", "80", "", "50", "0"]]
    rows, rejections = mapping_of(write_csv(tmp_path / "m.csv", data))
    assert rejections == []
    assert rows == [MappingRow(2, "A", "shop", "", "i1", "l1", "v1", "paused", 2, 80, None, 50, 0)]


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ({"percent": "101"}, "percent"),
        ({"buffer": "-1"}, "buffer"),
        ({"minimum": "x"}, "minimum"),
        ({"channel": "shopp"}, "channel"),
        ({"channel": "Shop"}, "channel"),
        ({"central_sku": "nobody"}, "central_sku"),
        ({"central_sku": ""}, "central_sku"),
        ({"platform_item_id": ""}, "platform_item_id"),
        ({"status": "needs_review"}, "status"),
    ],
)
def test_a_mapping_row_that_can_not_be_used_is_rejected(tmp_path, cells, column):
    header = MAPPING_HEADER + RULES_HEADER
    good = dict.fromkeys(header, "") | {"central_sku": "A", "channel": "shop", "platform_item_id": "i1"}
    bad = good | {"platform_item_id": "i2"} | cells
    path = write_csv(tmp_path / "m.csv", [header, list(good.values()), list(bad.values())])
    rows, rejections = mapping_of(path, unknown={"nobody"})
    assert [row.item_id for row in rows] == ["i1"]
    assert (only(rejections).line, only(rejections).column) == (3, column)


def test_two_skus_on_one_level_do_not_go_in(tmp_path):
    data = [
        MAPPING_HEADER,
        ["A", "shop", "a", "i1", "l1"],
        ["B", "shop", "b", "i1", "l1"],
        ["B", "erp", "b", "i1", "l1"],
    ]
    rows, rejections = mapping_of(write_csv(tmp_path / "m.csv", data))
    assert [(row.channel, row.central_sku) for row in rows] == [("erp", "B")]
    assert [one.line for one in rejections] == [2, 3]
    assert "two SKUs" in rejections[0].reason


def test_two_listings_of_one_sku_may_share_a_level(tmp_path):
    data = [MAPPING_HEADER, ["A", "shop", "a", "i1", "l1"], ["A", "shop", "a2", "i1", "l1"]]
    rows, rejections = mapping_of(write_csv(tmp_path / "m.csv", data))
    assert [row.platform_sku for row in rows] == ["a", "a2"]
    assert rejections == []


def test_one_listing_twice_goes_in_once_if_it_says_the_same_and_else_not(tmp_path):
    header = [*MAPPING_HEADER, "buffer"]
    data = [header, ["A", "shop", "a", "i1", "", "1"], ["A", "shop", "a", "i1", "", "1"],
            ["B", "shop", "b", "i2", "", "1"], ["B", "shop", "b", "i2", "", "2"]]  # fmt: skip
    rows, rejections = mapping_of(write_csv(tmp_path / "m.csv", data))
    assert [row.line for row in rows] == [2]
    assert [one.line for one in rejections] == [3, 4, 5]


def test_the_sample_files_have_no_row_to_reject():
    sample = Path(__file__).parents[3] / "data" / "sample"
    rows, rejections = inventory_of(sample / "inventory.csv")
    assert (len(rows), rejections) == (2000, [])
    channels = (
        "shopify_main",
        "shopify_outlet",
        "shopify_eu",
        "woo_main",
        "amazon_eu",
        "ebay_main",
        "alibaba_main",
        "erp_main",
    )
    known = {row.sku for row in rows}
    with open_source(sample / "mapping.csv") as source:
        listings, rejections = kept_mapping("mapping.csv", source, channels, known.intersection)
    assert rejections == []
    listed = [sum(row.channel == channel for row in listings) for channel in channels]
    assert listed == [1600, 700, 1100, 1175, 445, 544, 227, 2000]
    assert len({row.level for row in listings}) == len(listings)
