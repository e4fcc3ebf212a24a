"""A file that is no table, though its name says so, is told what it is and what to do."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import pytest

from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.settings import ImportSource
from tests.unit.imports.stock import import_file, raw

TABLE = "sku,quantity\r\nA,1\r\n"
CHINESE = "货号,库存\r\nA,1\r\n"


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("stock.csv", TABLE)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *(
            (
                text.encode(encoding),
                "the file is UTF-16, without the mark that says so - save it as 'CSV UTF-8' or as .xlsx",
            )
            for encoding in ("utf-16-le", "utf-16-be")
            for text in (TABLE, CHINESE)
        ),
        (
            archive(),
            "it is an archive, as .zip and .xlsx are, under another name - let a workbook's name end with .xlsx, and unpack any"
            " other",
        ),
        *(
            (
                text.encode(),
                "it is a web page, or XML, and no table - export it again as CSV; a page comes instead where one is to log in",
            )
            for text in ("<!DOCTYPE html>\n<p>Log in</p>", "\ufeff\n <HTML>", "<?xml version='1.0'?><stock/>")
        ),
        *(
            (text.encode(), "it is JSON, and no table - export it as CSV")
            for text in ('{"error": "x"}\n', '\ufeff[\n  {"sku": "A"}]', "{}", "[]")
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["", "gbk"])
def test_a_file_that_is_no_table_is_told_what_it_is(stock, content, reason, encoding):
    result = import_file(stock.basis, raw(stock, content), Declaration(encoding=encoding))
    assert (result.state, result.reason) == ("rejected", f"stock.csv: {reason}")
    assert stock.quantities() == {}


def test_a_table_whose_columns_are_named_in_brackets_is_one(stock):
    ours = ImportSource(columns={"sku": "[Art]", "quantity": "<Stock>"})
    other = ImportSource(columns={"sku": "PK", "quantity": "{Units}"})
    basis = replace(stock.basis, sources={"ours": ours, "other": other})
    assert import_file(basis, raw(stock, b"[Art],<Stock>\nA,1\n")).state == "applied"
    assert import_file(basis, raw(stock, b"{Units},PK\n2,B\n")).state == "applied"
    assert import_file(basis, raw(stock, b"PK,{Units}\nC,3\n")).state == "applied"
    assert stock.quantities() == {"A": 1, "B": 2, "C": 3}
