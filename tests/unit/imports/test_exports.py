"""Exports of platforms and files of suppliers are taken as they are: recognised, decoded, and counted as what they state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from invsync_dagster.inventory import channels as stock_channels
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.folder import process_file, waiting_files
from invsync_dagster.inventory.imports.importing import preview
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.tables import imports
from invsync_dagster.settings import ImportSource
from tests.unit.imports.stock import NOW, OF_SHOP, SUPPLIER, approve, import_file, names, raw

SHOPIFY = (
    "Handle,Title,Option1 Name,Option1 Value,SKU,HS Code,COO,Location,Incoming (not editable),"
    "Unavailable (not editable),Committed (not editable),Available (not editable),On hand (current),On hand (new)\n"
)
SHOPIFY_BEFORE = (
    "Handle,Title,Option1 Name,Option1 Value,SKU,HS Code,COO,Location,"
    "Incoming,Unavailable,Committed,Available,On hand\n"
)
PRODUCTS = (
    "Handle,Title,Vendor,Variant SKU,Variant Inventory Tracker,Variant Inventory Qty,Variant Price,Image Src,Status\n"
)
PRODUCTS_NOW = "Title,URL handle,Vendor,SKU,Inventory tracker,Inventory quantity,Price,Product image URL,Status\n"
AMAZON = (
    "item-name\titem-description\tlisting-id\tseller-sku\tprice\tquantity\topen-date\tfulfillment-channel\tstatus\n"
)
AMAZON_DE = "Artikelbezeichnung\tAngebotsnummer\tHändler-SKU\tPreis\tMenge\tVersender\tStatus\n"
AMAZON_FR = "nom-produit\tid-offre\tsku-vendeur\tprix\tquantité\tcanal-traitement\tétat\n"
AMAZON_JP = "商品名\t出品ID\t出品者SKU\t価格\t数量\tフルフィルメント・チャンネル\tステータス\n"
WOO = "ID,Type,SKU,GTIN,Name,Published,In stock?,Stock,Low stock amount,Backorders allowed?,Parent\n"


def test_shopifys_inventory_export_counts_what_is_available_with_its_shops_orders(stock):
    text = SHOPIFY + "mug,Mug,Size,S,007,,,Shelf,0,1,2,7,10,\nmug,Mug,Size,L,B,,,Shelf,0,0,3,-3,0,\n"
    found = preview(stock.basis, stock.file(text), OF_SHOP)
    assert found.source == "Shopify's inventory export"
    assert "units available as of 2026-07-01 12:00:00 UTC; orders already in it: shop" in found.render()
    assert import_file(stock.basis, stock.file(text), OF_SHOP).state == "applied"
    assert stock.quantities() == {"007": 7, "B": -3}
    assert names(stock) == {"007": "Mug", "B": "Mug"}


@pytest.mark.parametrize(("basis", "units"), [("available", 7), ("on_hand", 10)])
def test_the_declared_basis_decides_which_column_of_the_older_export_counts(stock, basis, units):
    path = stock.file(SHOPIFY_BEFORE + "mug,Mug,Size,S,007,,,Shelf,0,1,2,7,10\n")
    import_file(stock.basis, path, replace(OF_SHOP, basis=basis))
    assert stock.quantities() == {"007": units}


def test_a_number_typed_for_shopify_that_the_shop_has_not_taken_is_no_count(stock):
    rows = "mug,Mug,,,A,,,Hall,,,,9,10,99\ncup,Cup,,,B,,,Hall,,,,5,6,6\njar,Jar,,,C,,,Hall,,,,4,4,\n"
    result = import_file(stock.basis, stock.file(SHOPIFY + rows), OF_SHOP)
    assert stock.quantities() == {"B": 5, "C": 4}
    [rejection] = result.rejections
    assert (rejection.line, rejection.column, rejection.value) == (2, "On hand (new)", "99")
    assert rejection.reason.startswith(
        "'99' is typed where the shop has '10', and no count until the shop has taken it"
    )
    assert rejection.mend.startswith("import the file at Shopify, and give what it exports then")


@pytest.mark.parametrize(
    ("locations", "expected", "refused"), [(("all",), {"B": 6}, [2, 5]), (("Hall",), {"A": 4, "B": 5}, [])]
)
def test_a_typed_number_at_a_location_that_counts_keeps_all_of_the_sku_out(stock, locations, expected, refused):
    rows = (
        "mug,Mug,,,A,,,Shop,,,,not stocked,not stocked,7\ncup,Cup,,,B,,,Hall,,,,5,5,\n"
        "cup,Cup,,,B,,,Shop,,,,1,1,\nmug,Mug,,,A,,,Hall,,,,4,4,\n"
    )
    result = import_file(stock.basis, stock.file(SHOPIFY + rows), replace(OF_SHOP, locations=locations))
    assert (stock.quantities(), [one.line for one in result.rejections]) == (expected, refused)


LOCATIONS = (
    "mug,Mug,,,A,,,Hall,,,,4,5,\nmug,Mug,,,A,,,Shop,,,,2,2,\n"
    "cup,Cup,,,B,,,Hall,,,,1,1,\ncup,Cup,,,B,,,Shop,,,,not stocked,not stocked,\n"
)


@pytest.mark.parametrize(
    ("locations", "expected"),
    [(("all",), {"A": 6, "B": 1}), (("Hall", "Shop"), {"A": 6, "B": 1}), (("Shop",), {"A": 2})],
)
def test_the_declared_locations_are_added_up(stock, locations, expected):
    import_file(stock.basis, stock.file(SHOPIFY + LOCATIONS), replace(OF_SHOP, locations=locations))
    assert stock.quantities() == expected


def test_several_locations_that_are_not_declared_are_refused(stock):
    result = import_file(stock.basis, stock.file(SHOPIFY + LOCATIONS), OF_SHOP)
    assert result.state == "rejected"
    assert result.reason == (
        "stock.csv: it counts at 2 locations: 'Hall', 'Shop' - declare which are sold from, as locations: all or"
        ' locations: ["Hall"] in stock.csv.yaml, or as --location all or --location "Hall"'
    )
    gone = import_file(stock.basis, stock.file(SHOPIFY + LOCATIONS), replace(OF_SHOP, locations=("Attic",)))
    assert "it has no row of the declared location 'Attic' - its locations: 'Hall', 'Shop'" in gone.reason


def test_a_sku_of_which_one_location_cannot_be_used_does_not_go_in_with_too_low_a_sum(stock):
    text = SHOPIFY + "mug,Mug,,,A,,,Hall,,,,4,5,\nmug,Mug,,,A,,,Shop,,,,?,2,\ncup,Cup,,,B,,,Hall,,,,1,1,\n"
    result = import_file(stock.basis, stock.file(text), replace(OF_SHOP, locations=("all",)))
    assert stock.quantities() == {"B": 1}
    assert [(one.line, one.column) for one in result.rejections] == [(2, "sku"), (3, "Available (not editable)")]
    assert "the sum would be too low" in result.rejections[0].reason


@pytest.mark.parametrize(
    "text",
    [
        PRODUCTS
        + "mug,Mug,V,A,shopify,5,1.00,x.jpg,active\nmug,,V,B,shopify,-1,1.00,,\nmug,,,,,,,y.jpg,\ncup,Cup,V,C,,0,2,,draft\n",
        PRODUCTS_NOW
        + "Mug,mug,V,A,shopify,5,1.00,x.jpg,Active\n,mug,V,B,shopify,-1,1.00,,\n,mug,,,,,,y.jpg,\nCup,cup,V,C,,0,2,,Draft\n",
    ],
)
def test_shopifys_product_export_counts_tracked_variants(stock, text):
    result = import_file(stock.basis, stock.file(text), OF_SHOP)
    assert stock.quantities() == {"A": 5, "B": -1}
    assert names(stock) == {"A": "Mug", "B": "Mug"}
    assert dict(result.preview.left_out) == {
        "further picture of a product, or a variant without SKU": 1,
        "stock is not tracked by the shop": 1,
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "windows-1252"])
@pytest.mark.parametrize("header", [AMAZON, AMAZON_DE, AMAZON_FR])
def test_amazons_report_is_known_in_several_languages_and_encodings(stock, header, encoding):
    columns = [name.lower() for name in header.strip().split("\t")]
    place = {name: position for position, name in enumerate(columns)}

    def row(**cells: str) -> str:
        values = ["x"] * len(columns)
        for names_of, value in cells.items():
            values[next(place[name] for name in FIELDS[names_of] if name in place)] = value
        return "\t".join(values) + "\n"

    text = (
        header
        + row(title='Übertopf 24" weiß', sku="00A", quantity="5", channel="DEFAULT")
        + row(title="Fée", sku="FBA", quantity="", channel="AMAZON_EU")
        + row(title="Cup", sku="C", quantity="", channel="DEFAULT")
    )
    result = import_file(stock.basis, raw(stock, text.encode(encoding), "report.txt"), OF_SHOP)
    assert stock.quantities() == {"00A": 5}
    assert names(stock) == {"00A": 'Übertopf 24" weiß'}
    assert dict(result.preview.left_out) == {"stock is kept by Amazon (FBA)": 1}
    assert [(one.line, one.reason) for one in result.rejections] == [(4, "the quantity is absent")]


FIELDS = {
    "title": ("item-name", "artikelbezeichnung", "nom-produit"),
    "sku": ("seller-sku", "händler-sku", "sku-vendeur"),
    "quantity": ("quantity", "menge", "quantité"),
    "channel": ("fulfillment-channel", "versender", "canal-traitement"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "cp932"])
def test_amazons_japanese_report_is_read_in_both_its_encodings(stock, encoding):
    text = AMAZON_JP + "マグカップ①\t1\tJP-1\t900\t12\tDEFAULT\tActive\n"
    import_file(stock.basis, raw(stock, text.encode(encoding), "report.txt"), OF_SHOP)
    assert (stock.quantities(), names(stock)) == ({"JP-1": 12}, {"JP-1": "マグカップ①"})


def test_an_export_contains_the_orders_of_the_one_channel_of_its_platform(stock):
    with write_transaction(stock.basis.engine) as connection:
        stock_channels.register(connection, "amazon_eu", "amazon", "sandbox", True, Rules(), NOW, NOW)
    import_file(stock.basis, stock.file(AMAZON + "Mug\t\t1\tA\t1\t3\t\tDEFAULT\tActive\n", "report.txt"))
    _, summary = stock.rows(imports.c.id, imports.c.summary)[0]
    assert (summary["declaration"]["basis"], summary["declaration"]["contains"]) == ("available", ["amazon_eu"])


def test_an_export_that_may_be_of_several_channels_has_to_say_of_which(stock):
    result = import_file(stock.basis, stock.file(SHOPIFY + LOCATIONS))
    assert result.reason == (
        "stock.csv: Shopify's inventory export may be of erp or shop - declare which, as contains: [erp] in"
        " stock.csv.yaml or --contains erp"
    )


def test_woocommerces_export_counts_managed_stock_only(stock):
    text = (
        WOO
        + '1,simple,007,,"Mug, red &amp; <b>big</b>",1,1,5,,0,\n2,variable,V,,Shirt,1,1,,,0,\n'
        + "3,variation,V-S,,Shirt S,1,1,parent,,0,id:2\n"
        + "4,simple,'+1,,'=Cup,1,backorder,'-2,,notify,\n5,simple,,,No SKU,1,1,4,,0,\n"
    )
    result = import_file(stock.basis, stock.file(text), Declaration(contains=()))
    assert stock.quantities() == {"+1": -2, "007": 5}
    assert names(stock) == {"+1": "=Cup", "007": "Mug, red & <b>big</b>"}
    assert dict(result.preview.left_out) == {
        "stock is not managed by the shop": 1,
        "variation whose stock is kept by its product": 1,
    }
    assert [(one.line, one.column) for one in result.rejections] == [(6, "SKU")]


def test_a_suppliers_list_is_read_by_the_columns_that_the_channels_file_names(stock):
    basis = replace(stock.basis, sources={"acme": SUPPLIER})
    path = raw(stock, "Art.-Nr.;Bezeichnung;EK;Bestand\n007;Töpfchen;1,20;1.234\nB;Tasse;2,00;12,0\n".encode("cp1252"))
    found = preview(basis, path)
    assert found.source == "file 'acme' of channels.yaml"
    import_file(basis, path)
    assert stock.quantities() == {"007": 1234, "B": 12}
    assert names(stock)["007"] == "Töpfchen"
    _, summary = stock.rows(imports.c.id, imports.c.summary)[0]
    assert (summary["declaration"]["basis"], summary["declaration"]["contains"]) == ("on_hand", ["shop"])


def test_a_suppliers_list_in_the_folder_comes_before_the_mappings(stock):
    basis = replace(stock.basis, sources={"acme": replace_encoding(SUPPLIER, "gb18030")})
    stock.file("central_sku,channel,platform_sku,platform_item_id,platform_location_id\n", "a.csv", folder=basis.folder)
    path = stock.file("", "b.csv", folder=basis.folder)
    path.write_bytes("Art.-Nr.,Bezeichnung,Bestand\n007,茶杯,7\n".encode("gb18030"))
    later = stock.at(hours=1).now.replace(year=2100)
    found = waiting_files(basis.folder, later, basis.sources)
    assert [one.name for one in found] == ["b.csv", "a.csv"]
    assert process_file(basis, path).state == "applied"
    assert names(stock) == {"007": "茶杯"}


def replace_encoding(source: ImportSource, encoding: str) -> ImportSource:
    return ImportSource.model_validate(source.model_dump() | {"encoding": encoding})


@pytest.mark.parametrize("encoding", ["gb18030", "gbk", "windows-1252"])
def test_a_file_that_is_no_utf8_names_the_line_and_is_read_once_its_encoding_is_declared(stock, encoding):
    content = "sku,product_name,quantity\nA,Mug,1\nB,Thé ±,2\n".encode(encoding)
    refused = import_file(stock.basis, raw(stock, content))
    assert refused.state == "rejected"
    assert refused.reason == (
        "stock.csv: the file is not UTF-8 (from line 3 on) - save it as 'CSV UTF-8' or as .xlsx, or declare what it is, as"
        " encoding: … in stock.csv.yaml or --encoding …, and look at the preview: windows-1252 (Western Europe, the Americas),"
        " gbk or gb18030 (China), shift_jis (Japan); the wrong one makes other names and SKUs of it"
    )
    import_file(stock.basis, raw(stock, content), Declaration(encoding=encoding))
    assert names(stock) == {"A": "Mug", "B": "Thé ±"}


@pytest.mark.parametrize("declared", ["gbk", "gb18030"])
def test_a_sign_that_only_gb18030_has_is_read_in_a_file_that_is_called_gbk(stock, declared):
    content = "sku,product_name,quantity\nA,棉T恤𠮷㐂,1\n".encode("gb18030")
    refused = import_file(stock.basis, raw(stock, content), Declaration(encoding="shift_jis"))
    assert (refused.state, names(stock)) == ("rejected", {})
    assert import_file(stock.basis, raw(stock, content), Declaration(encoding=declared)).state == "applied"
    assert names(stock) == {"A": "棉T恤𠮷㐂"}


def test_a_file_in_utf_16_is_to_be_saved_anew_and_no_other_encoding_is_offered(stock):
    refused = import_file(stock.basis, raw(stock, "sku,quantity\nA,1\n".encode("utf-16")))
    assert (refused.state, refused.reason) == (
        "rejected",
        "stock.csv: the file is UTF-16 - save it as 'CSV UTF-8' or as .xlsx",
    )


def test_a_header_of_two_kinds_is_refused_until_one_is_declared(stock):
    ours = ImportSource(columns={"sku": "SKU", "quantity": "Stock"})
    basis = replace(stock.basis, sources={"acme": ours})
    path = stock.file(WOO + "1,simple,A,,Mug,1,1,5,,0,\n")
    refused = import_file(basis, path)
    assert refused.reason == (
        "stock.csv line 1: the header fits 2 kinds of files: woocommerce_products, acme - declare one of them, as"
        " kind: woocommerce_products in stock.csv.yaml or --kind woocommerce_products"
    )
    assert import_file(basis, path, Declaration(kind="acme")).preview.source == "file 'acme' of channels.yaml"
    unknown = import_file(basis, path, Declaration(kind="acne"))
    assert "it is declared as an unknown kind 'acne' - known: shopify_inventory" in unknown.reason
    wrong = import_file(basis, path, Declaration(kind="amazon_listings"))
    assert "it is declared as amazon_listings, but has not its columns - known by Amazon's" in wrong.reason


def test_a_header_of_no_kind_says_what_was_looked_for(stock):
    result = import_file(stock.basis, stock.file("a,b\n1,2\n"))
    assert result.reason.startswith(
        "stock.csv line 1: the header names none of the known columns - inventory files have"
    )
    for words in ("Shopify's inventory export", "Shopify's product", "Amazon's all-listings", "WooCommerce's product"):
        assert words in result.reason


def test_an_export_without_the_column_of_the_declared_basis_is_refused(stock):
    text = "Handle,Title,SKU,Location,On hand\nmug,Mug,A,Hall,3\n"
    result = import_file(stock.basis, stock.file(text), OF_SHOP)
    assert "it has no column 'Available', which a count of basis available needs" in result.reason
    assert import_file(stock.basis, stock.file(text), replace(OF_SHOP, basis="on_hand")).state == "applied"


NUMBERS = [
    ("1.234", "", None),
    ("1,234", "", None),
    ("1.234", ",", 1234),
    ("1,234", ".", 1234),
    ("1,000", ",", 1),
    ("1 234", "", 1234),
    ("1\u00a0234\u202f567", "", 1_234_567),
    ("1'234", "", 1234),
    ("12,0", "", 12),
    ("12,0", ".", None),
    ("12,5", "", None),
    ("1.234,0", "", 1234),
    ("1,234.00", "", 1234),
    ("1.234,0", ".", None),
    ("1.234.567", "", 1_234_567),
    ("1.234.567", ".", None),
    ("12.34.567", "", None),
    ("1234.000", "", 1234),
    ("0.500", "", None),
    ("1,23,456", "", None),
    ("1,2 34", "", None),
]


@pytest.mark.parametrize(("cell", "mark", "units"), NUMBERS)
def test_numbers_with_marks_are_read_where_they_can_mean_one_thing_only(stock, cell, mark, units):
    path = stock.file(f"sku;quantity\nA;{cell}\nB;1\n")
    import_file(stock.basis, path, Declaration(decimal_mark=mark))
    assert stock.quantities() == {"B": 1} | ({"A": units} if units is not None else {})


def test_an_ambiguous_number_says_how_to_declare_the_mark(stock):
    (rejection,) = import_file(stock.basis, stock.file('sku,quantity\nA,"1.234"\nB,1\n')).rejections
    assert rejection.reason == "the '.' may be a thousands mark (1234) or a decimal mark (1.234)"
    assert rejection.mend.startswith('declare the file\'s mark, as decimal_mark: "," in its sidecar or --decimal-mark')


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        ("decimal_mark: ;", "column 'decimal_mark': this is no decimal mark"),
        ("encoding: latin", "column 'encoding': unknown encoding 'latin'"),
        ("locations: []", "column 'locations': this is no list of locations"),
        ("kind: 7", "column 'kind': this is no name of a kind"),
    ],
)
def test_a_wrong_declaration_names_its_key(stock, sidecar, words):
    path = stock.file("sku,quantity\nA,10\n", folder=stock.basis.folder)
    stock.file(sidecar, "stock.csv.yaml", folder=stock.basis.folder)
    assert words in process_file(stock.basis, path).reason


def test_a_held_export_is_approved_as_it_was_declared(stock):
    rows = "".join(f"m,M,,,S{number},,,Hall,,,,10,10,\n" for number in range(10))
    import_file(stock.basis, stock.file(SHOPIFY + rows, at=NOW.replace(hour=10)), OF_SHOP)
    zeros = rows.replace(",10,10,", ",0,0,")
    held = import_file(stock.basis, stock.file(SHOPIFY + zeros), replace(OF_SHOP, locations=("all",)))
    assert held.state == "held"
    assert approve(stock.at(hours=1), held.import_id, "closed").preview.source == "Shopify's inventory export"
    assert set(stock.quantities().values()) == {0}


def test_a_row_of_an_export_with_a_cell_too_many_is_rejected_and_not_shifted(stock):
    header = "Handle,Title,SKU,Location,On hand (current),Available (not editable)\n"
    path = stock.file(header + "a,A,A-1,Main,5,5\nb,B,B, 1,Main,50,50\n")
    result = import_file(stock.basis, path, Declaration(contains=("shop",)))
    assert (result.state, [(one.line, one.value) for one in result.rejections]) == ("applied", [(3, "50")])
    assert result.reason.startswith(
        "1 of 2 rows; of the others 1 of 1 rows are like line 3: the row has 7 cells, the header 6"
    )
    assert set(stock.quantities()) == {"A-1"}


def test_a_sku_that_contradicts_itself_at_two_locations_is_rejected_with_all_its_rows(stock):
    header = "Handle,Title,SKU,Location,On hand (current),Available (not editable)\n"
    rows = "a,A,A,L1,1,1\na,A,A,L1,2,2\na,A,A,L2,3,3\na,A,A,L2,4,4\nb,B,B,L1,7,7\nb,B,B,L2,1,1\n"
    path = stock.file(header + rows)
    result = import_file(stock.basis, path, Declaration(contains=("shop",), locations=("all",)))
    assert sorted(one.line for one in result.rejections) == [2, 3, 4, 5]
    assert stock.quantities() == {"B": 8}


def test_units_that_others_keep_are_left_out_of_shopifys_product_export_by_name(stock):
    rows = (
        "mug,Mug,V,A,shopify,5,1.00,x.jpg,active\n"
        "cup,Cup,V,B,amazon_marketplace_web,9,1.00,,active\n"
        "pot,Pot,V,C,amazon_marketplace_web,2,1.00,,active\n"
        "jar,Jar,V,D,What is this?,2,1.00,,active\n"
    )
    result = import_file(stock.basis, stock.file(PRODUCTS + rows), OF_SHOP)
    assert stock.quantities() == {"A": 5}
    assert dict(result.preview.left_out) == {
        "stock is kept by amazon_marketplace_web, not by the shop": 2,
        "stock is kept by another service, not by the shop": 1,
    }
