"""A header that is nearly one of an export is refused with what is wrong with it and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from invsync_dagster.inventory.imports.declaration import Declaration
from tests.unit.imports.stock import OF_SHOP, SUPPLIER, import_file

TWICE = [
    ("Handle,SKU,Location,Available,Available\nmug,A,Hall,5,99\n", "available", "the column is there twice"),
    (
        "Handle,SKU,Location,Available,Available (not editable)\nmug,A,Hall,5,99\n",
        "available_(not_editable)",
        "'available' and this column say the same thing",
    ),
    ("seller-sku\tquantity\tlisting-id\tquantity\nA\t5\tL1\t99\n", "quantity", "the column is there twice"),
    ("ID,Type,SKU,Name,In stock?,Stock,SKU\n1,simple,A,Mug,1,5,B\n", "sku", "the column is there twice"),
    ("Art.-Nr.;Bezeichnung;Bestand;Preis;Bestand\n007;Tasse;5;1,00;99\n", "bestand", "the column is there twice"),
]


@pytest.mark.parametrize(("text", "column", "reason"), TWICE)
def test_a_column_that_is_needed_and_there_twice_is_refused_since_nobody_can_say_which_is_meant(
    stock, text, column, reason
):
    basis = replace(stock.basis, sources={"acme": SUPPLIER})
    result = import_file(basis, stock.file(text), replace(OF_SHOP, encoding="utf-8"))
    assert (result.state, stock.quantities()) == ("rejected", {})
    assert result.reason == f"stock.csv line 1 column '{column}': {reason} - keep the right one of the two"


def test_a_column_that_is_there_twice_and_not_needed_does_no_harm(stock):
    basis = replace(stock.basis, sources={"acme": SUPPLIER})
    text = "Art.-Nr.;Bezeichnung;Preis;Bestand;Preis\n007;Tasse;5;1;99\n"
    import_file(basis, stock.file(text), Declaration(encoding="utf-8"))
    assert stock.quantities() == {"007": 1}


NAME_THEM = "or name those it has in channels.yaml, under settings.imports"
SEVERAL = (
    "use Shopify's inventory export (Products > Inventory > Export): the product export of a shop with several"
    " locations has no quantities"
)
ANEW = f"export it again with all its columns, {NAME_THEM}"
KNOWN = f"export all columns in a language that is known (docs/imports.md), as English, {NAME_THEM}"
LACKING = [
    (
        "Handle,Title,Vendor,Variant SKU,Variant Inventory Tracker,Variant Price,Status\nmug,Mug,V,A,shopify,1,active\n",
        "it looks like Shopify's product export, but has no column 'variant inventory qty'",
        SEVERAL,
    ),
    (
        "Title,URL handle,SKU,Inventory tracker,Price,Status\nMug,mug,A,shopify,1,Active\n",
        "it looks like Shopify's product export, but has no column 'variant inventory qty'",
        SEVERAL,
    ),
    (
        "Handle,Variant SKU,Status\nmug,A,active\n",
        "it looks like Shopify's product export, but has no columns 'variant inventory qty', 'variant inventory tracker'",
        SEVERAL,
    ),
    (
        "Handle,Title,SKU,HS Code,COO,Location,Incoming\nmug,Mug,A,,,Hall,1\n",
        "it looks like Shopify's inventory export, but has no column 'available (not editable)' or 'on hand (current)'",
        ANEW,
    ),
    (
        "Handle,Title,Option1 Name,Option1 Value,SKU,Leeds\nmug,Mug,,,A,7\n",
        "it looks like Shopify's inventory export, but has no columns 'location',"
        " 'available (not editable)' or 'on hand (current)'",
        ANEW,
    ),
    (
        "seller-sku\tquantity\tprice\nA\t5\t1\n",
        "it looks like Amazon's all-listings report, but has no column 'fulfillment channel' or 'listing id'",
        ANEW,
    ),
    (
        "ID,Type,SKU,Name,Published\n1,simple,A,Mug,1\n",
        "it looks like WooCommerce's product export, but has no columns 'stock', 'in stock?'",
        KNOWN,
    ),
    (
        "ID,Typ,Artikelnummer,Name,Vorrätig?,Saldo\n1,simple,A,Mug,1,5\n",
        "it looks like WooCommerce's product export, but has no column 'stock'",
        KNOWN,
    ),
    (
        'ID,Tip,SKU,Nume,În stoc?,Stoc\n1,"simple, virtual",A,Mug,1,5\n',
        "it looks like WooCommerce's product export, but has no columns 'type', 'stock', 'in stock?'",
        KNOWN,
    ),
    (
        "Art.-Nr.;Bezeichnung;Lagerbestand\n007;Tasse;5\n",
        "it looks like file 'acme' of channels.yaml, but has no column 'bestand'",
        ANEW,
    ),
]


@pytest.mark.parametrize(("text", "reason", "mend"), LACKING)
def test_an_export_that_lacks_columns_is_told_which_of_which_export_and_what_to_do(stock, text, reason, mend):
    basis = replace(stock.basis, sources={"acme": SUPPLIER})
    result = import_file(basis, stock.file(text), Declaration(contains=(), encoding="utf-8"))
    assert (result.state, stock.quantities()) == ("rejected", {})
    assert result.reason == f"stock.csv line 1: {reason} - {mend}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sku,quantity,price\nA,5,1\n", "column 'price': unknown column in a file of kind inventory - leave it out"),
        ("sku,quantitiy\nA,5\n", "column 'quantitiy': unknown column in a file of kind inventory - did you mean"),
        ("sku,handle,quantity\nA,a,5\n", "column 'handle': unknown column in a file of kind inventory - leave it out"),
        ("sku,product_name\nA,5\n", "column 'quantity': the column is missing in a file of kind inventory"),
    ],
)
def test_a_file_of_our_own_with_a_wrong_column_is_not_taken_for_an_export(stock, text, words):
    assert words in import_file(stock.basis, stock.file(text)).reason
