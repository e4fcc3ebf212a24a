"""Shopify's inventory exports of several locations: a SKU goes in with all its locations, or not at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import openpyxl
import pytest

from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.settings import ImportSource
from tests.unit.imports.stock import NOW, OF_SHOP, import_file, names

SHOPIFY_BY_LOCATION = "Handle,Title,Option1 Name,Option1 Value,SKU,HS Code,COO,Studio,Market stall\n"
BEANIES = (
    "beanie,Merino Beanie,Size,S,B-S,,,9,3\n"
    "beanie,Merino Beanie,Size,L,B-L,,,0,not stocked\n"
    "scarf,Wool Scarf,,,SCARF,6214,GB,-2,5\n"
)


@pytest.mark.parametrize(
    ("locations", "expected", "left_out"),
    [
        (("all",), {"B-S": 12, "B-L": 0, "SCARF": 3}, {"not stocked at the location": 1}),
        (
            ("Market stall",),
            {"B-S": 3, "SCARF": 5},
            {"at another location": 3, "not stocked at the location": 1},
        ),
    ],
)
def test_shopifys_older_inventory_export_counts_the_columns_of_the_declared_locations(
    stock, locations, expected, left_out
):
    result = import_file(stock.basis, stock.file(SHOPIFY_BY_LOCATION + BEANIES), replace(OF_SHOP, locations=locations))
    assert (stock.quantities(), result.rejections) == (expected, ())
    assert names(stock)["B-S"] == "Merino Beanie"
    assert result.preview.source == "Shopify's inventory export"
    assert dict(result.preview.left_out) == left_out


def test_shopifys_older_inventory_export_of_one_location_needs_no_declaration_and_is_no_count_of_units_on_hand(stock):
    text = 'Handle,Title,SKU,HS Code,COO,"High Street 1, Leeds"\nmug,Mug,007,,,7\n'
    on_hand = import_file(stock.basis, stock.file(text), replace(OF_SHOP, basis="on_hand"))
    assert "it has no column 'On hand', which a count of basis on_hand needs" in on_hand.reason
    import_file(stock.basis, stock.file(text), OF_SHOP)
    assert stock.quantities() == {"007": 7}


def test_shopifys_older_inventory_export_of_undeclared_or_wrong_locations_is_refused(stock):
    path = stock.file(SHOPIFY_BY_LOCATION + BEANIES)
    undeclared = import_file(stock.basis, path, OF_SHOP)
    assert undeclared.reason.startswith("stock.csv: it counts at 2 locations: 'Market stall', 'Studio' - declare")
    gone = import_file(stock.basis, path, replace(OF_SHOP, locations=("Attic",)))
    assert "it has no row of the declared location 'Attic' - its locations: 'Market stall', 'Studio'" in gone.reason
    twice = import_file(stock.basis, stock.file("Handle,Title,SKU,COO,Hall,Hall\na,A,A,,1,2\n"), OF_SHOP)
    assert twice.reason == (
        "stock.csv line 1 column 'Hall': the location's column is there twice - keep the right one of the two"
    )
    unnamed = import_file(stock.basis, stock.file("Handle,Title,SKU,COO,,Hall\na,A,A,,1,2\n"), OF_SHOP)
    assert "column 5, among the locations, has no name - name it as its location" in unnamed.reason
    assert stock.quantities() == {}


def test_a_row_of_shopifys_older_inventory_export_goes_in_with_all_its_locations_or_not_at_all(stock):
    rows = "a,A,,,A,,,4,?\nb,B,,,B,,,1\nc,C,,,C,,,1,2,3\nd,D,,, D,,,1,2\n\ne,E,,,E,,,1,2\n"
    path = stock.file(SHOPIFY_BY_LOCATION + rows)
    result = import_file(stock.basis, path, replace(OF_SHOP, locations=("all",)))
    assert stock.quantities() == {"E": 3}
    assert [(one.line, one.column, one.value) for one in result.rejections] == [
        (2, "quantity", "?"),
        (2, "sku", "A"),
        (3, "Market stall", ""),
        (4, "", "3"),
        (5, "sku", " D"),
    ]


def test_a_date_at_one_location_of_a_workbook_rejects_the_row(stock, tmp_path):
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.append(["Handle", "Title", "SKU", "HS Code", "COO", "Hall", "Shop"])
    sheet.append(["mug", "Mug", "A", "", "", 4, date(2026, 7, 1)])
    sheet.append(["cup", "Cup", "B", None, None, 1, "not stocked"])
    book.save(tmp_path / "stock.xlsx")
    result = import_file(stock.basis, tmp_path / "stock.xlsx", replace(OF_SHOP, as_of=NOW, locations=("all",)))
    assert stock.quantities() == {"B": 1}
    assert [(one.line, one.column) for one in result.rejections] == [(2, "Shop")]


def test_an_export_with_a_location_column_is_never_one_with_a_column_for_each(stock):
    result = import_file(stock.basis, stock.file("Handle,Title,SKU,COO,Location,Incoming\na,A,A,,Hall,2\n"), OF_SHOP)
    assert (result.state, stock.quantities()) == ("rejected", {})


def test_a_suppliers_list_that_looks_like_shopifys_older_export_is_refused_until_its_kind_is_declared(stock):
    ours = ImportSource(columns={"sku": "SKU", "quantity": "Studio"})
    basis = replace(stock.basis, sources={"acme": ours})
    path = stock.file(SHOPIFY_BY_LOCATION + BEANIES)
    assert "the header fits 2 kinds of files: shopify_inventory, acme" in import_file(basis, path).reason
    declared = Declaration(kind="shopify_inventory", contains=("shop",), locations=("Studio",))
    import_file(basis, path, declared)
    assert stock.quantities() == {"B-S": 9, "B-L": 0, "SCARF": -2}


def test_a_row_of_one_location_that_cannot_be_taken_apart_takes_its_sku_out(stock, tmp_path):
    header = ["Handle", "Title", "SKU", "Location", "Available"]
    cut = "mug,Mug,A,Hall,4\ncup,Cup,B,Hall,1\npot,Pot,C,Hall,2\npot,Pot,C,Shop,2,9\nmug,Mug,A,Sh\n"
    result = import_file(stock.basis, stock.file(",".join(header) + "\n" + cut), replace(OF_SHOP, locations=("all",)))
    assert stock.quantities() == {"B": 1}
    assert [(one.line, one.column) for one in result.rejections] == [(2, "sku"), (4, "sku"), (5, ""), (6, "Available")]
    assert "the SKU's row on line 6, of another location, can't be used" in result.rejections[0].reason
    book = openpyxl.Workbook()
    sheet: Any = book.active
    for row in (header, ["mug", "Mug", "A", "Hall", 4], ["mug", "Mug", "A", "Shop", date(2026, 7, 1)]):
        sheet.append(row)
    sheet.append(["jar", "Jar", "D", "Hall", 3])
    book.save(tmp_path / "stock.xlsx")
    dated = import_file(stock.basis, tmp_path / "stock.xlsx", replace(OF_SHOP, as_of=NOW, locations=("all",)))
    assert stock.quantities() == {"B": 1, "D": 3}
    assert [(one.line, one.column) for one in dated.rejections] == [(2, "sku"), (3, "Available")]


BY_ROW = "Handle,Title,SKU,Location,Available\n"


@pytest.mark.parametrize("broken", ['cup,"Cup"x,A1,Paris,-7', 'cup,"Cup"x,A2,Paris,7', "cup,Cu"])
def test_a_row_that_tells_no_sku_refuses_an_export_whose_locations_are_added_up(stock, broken):
    text = f"{BY_ROW}cup,Cup,A1,Berlin,5\n{broken}\n"
    result = import_file(stock.basis, stock.file(text), replace(OF_SHOP, locations=("all",)))
    assert (result.state, stock.quantities()) == ("rejected", {})
    assert "stock.csv line 3: " in result.reason
    assert "it doesn't tell whose units it counts, and a SKU's locations are added up" in result.reason


def test_a_space_at_a_sku_takes_the_sku_out_that_is_meant(stock):
    text = f"{BY_ROW}cup,Cup,A1,Berlin,5\ncup,Cup,A1 ,Paris,7\nmug,Mug,B1,Berlin,2\n"
    result = import_file(stock.basis, stock.file(text), replace(OF_SHOP, locations=("all",)))
    assert (result.state, stock.quantities()) == ("applied", {"B1": 2})
    assert {one.line for one in result.rejections} == {2, 3}
