"""Exports of platforms and files of suppliers are taken as they are: recognised, decoded, and counted as what they state."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from invsync_dagster.inventory import channels as stock_channels
from invsync_dagster.inventory.database import write_transaction
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.folder import process_file, waiting_files
from invsync_dagster.inventory.imports.importing import preview
from invsync_dagster.inventory.rules import Rules
from invsync_dagster.inventory.tables import central_inventory, imports
from invsync_dagster.settings import ImportSource
from tests.unit.imports.stock import NOW, Stock, approve, import_file

# The header of the test's channels: both `shop` and `erp` are of the platform Shopify.
OF_SHOP = Declaration(contains=("shop",))

SHOPIFY = (
    "Handle,Title,Option1 Name,Option1 Value,SKU,HS Code,COO,Location,Incoming (not editable),"
    "Unavailable (not editable),Committed (not editable),Available (not editable),On hand (current),On hand (new)\n"
)
SHOPIFY_BEFORE = (
    "Handle,Title,Option1 Name,Option1 Value,SKU,HS Code,COO,Location,"
    "Incoming,Unavailable,Committed,Available,On hand\n"
)
SHOPIFY_BY_LOCATION = "Handle,Title,Option1 Name,Option1 Value,SKU,HS Code,COO,Studio,Market stall\n"
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


def names(stock: Stock) -> dict[str, str]:
    return dict(stock.rows(central_inventory.c.sku, central_inventory.c.product_name))


def raw(stock: Stock, content: bytes, name: str = "stock.csv") -> Path:
    path = stock.file("", name)
    path.write_bytes(content)
    return path


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
        "stock.csv: it counts at 2 locations: 'Hall', 'Shop' - declare in stock.csv.yaml which are sold from,"
        " as locations: all, or locations: [Hall]"
    )
    gone = import_file(stock.basis, stock.file(SHOPIFY + LOCATIONS), replace(OF_SHOP, locations=("Attic",)))
    assert "it has no row of the declared location 'Attic' - its locations: 'Hall', 'Shop'" in gone.reason


def test_a_sku_of_which_one_location_cannot_be_used_does_not_go_in_with_too_low_a_sum(stock):
    text = SHOPIFY + "mug,Mug,,,A,,,Hall,,,,4,5,\nmug,Mug,,,A,,,Shop,,,,?,2,\ncup,Cup,,,B,,,Hall,,,,1,1,\n"
    result = import_file(stock.basis, stock.file(text), replace(OF_SHOP, locations=("all",)))
    assert stock.quantities() == {"B": 1}
    assert [(one.line, one.column) for one in result.rejections] == [(2, "sku"), (3, "quantity")]
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


AMAZON_LANGUAGES = {
    "ja": (
        "商品名\t出品ID\t出品者SKU\t価格\t数量\t商品ID\t在庫数\tフルフィルメント・チャンネル\n",
        "{title}\tL\t{sku}\t900\t{units}\tP\t99\t{channel}\n",
        ("utf-8", "cp932"),
    ),
    "zh": (
        "商品名称\t商品描述\t商品编码\t卖家 SKU\t价格\t数量\t不适用项目\t不适用项目\t商品编码\t等待购买数量\t配送渠道\n",
        "{title}\tx\tL\t{sku}\t9.90\t{units}\t\t\tP\t99\t{channel}\n",
        ("utf-8", "gb18030"),
    ),
    "tr": (
        "item-name (ürün adı)\tlisting-id (liste kaydı numarası)\tseller-sku (satıcı sku)\tquantity (adet)\t"
        "pending-quantity (bekleyen adet)\tfulfillment-channel (dağıtım kanalı)\n",
        "{title}\tL\t{sku}\t{units}\t99\t{channel}\n",
        ("utf-8",),
    ),
    "ar": (
        "اسم-المنتج\tرقم-العرض\tsku-البائع\tالسعر\tالكمية\tكمية-منتظرة\tقناة-الشحن\n",
        "{title}\tL\t{sku}\t9.90\t{units}\t99\t{channel}\n",
        ("utf-8",),
    ),
    "es": (
        "Título del producto\tIdentificador del listing\tSKU del vendedor\tCantidad\tCantidad pendiente\t"
        "Canal de gestión logística\n",
        "{title}\tL\t{sku}\t{units}\t99\t{channel}\n",
        ("utf-8", "cp1252"),
    ),
    "it": (
        "Nome dell'articolo\tNumero offerta\tSKU venditore\tQuantità\tQuantità in sospeso\tCanale di gestione\n",
        "{title}\tL\t{sku}\t{units}\t99\t{channel}\n",
        ("utf-8", "cp1252"),
    ),
}


@pytest.mark.parametrize(
    ("language", "encoding"), [(one, encoding) for one, form in AMAZON_LANGUAGES.items() for encoding in form[2]]
)
def test_amazons_report_is_read_in_the_encodings_of_its_languages(stock, language, encoding):
    header, row, _ = AMAZON_LANGUAGES[language]
    title, sku = {"ja": ("マグカップ①", "電球-1"), "zh": ("茶杯", "灯泡-1")}.get(language, ("Cup", "Ñ-1"))
    if encoding == "utf-8" and language in ("tr", "ar"):
        title = {"tr": "Çay bardağı", "ar": "كوب"}[language]
    text = (
        header
        + row.format(title=title, sku=sku, units=5, channel="DEFAULT")
        + row.format(title="Lamp", sku="FBA", units=7, channel="AMAZON_EU")
    )
    result = import_file(stock.basis, raw(stock, text.encode(encoding), "report.txt"), OF_SHOP)
    assert (stock.quantities(), names(stock)) == ({sku: 5}, {sku: title})
    assert dict(result.preview.left_out) == {"stock is kept by Amazon (FBA)": 1}


@pytest.mark.parametrize(("language", "encoding"), [("ar", "cp1256"), ("tr", "cp1254"), ("ja", "euc_jp")])
def test_a_report_in_an_encoding_that_its_header_does_not_prove_is_refused(stock, language, encoding):
    header, row, _ = AMAZON_LANGUAGES[language]
    text = header + row.format(title="Cup", sku="A", units=5, channel="DEFAULT")
    result = import_file(stock.basis, raw(stock, text.encode(encoding), "report.txt"), OF_SHOP)
    assert "the file is not UTF-8 (from line 1 on)" in result.reason
    assert stock.quantities() == {}


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
    assert [(one.line, one.column) for one in result.rejections] == [(6, "sku")]


WOO_LANGUAGES = {
    "de": "ID,Typ,Artikelnummer,Name,Veröffentlicht,Vorrätig?,Bestand,Geringe Lagermenge",
    "de, older": "ID,Typ,Artikelnummer,Name,Veröffentlicht,Vorrätig?,Lager,Geringe Lagermenge",
    "es": "ID,Tipo,SKU,Nombre,Publicado,¿Existencias?,Inventario,Cantidad de bajo inventario",
    "es, older": "ID,Tipo,SKU,Nombre,Publicado,¿En inventario?,Inventario,Cantidad de bajo inventario",
    "fr": "ID,Type,UGS,Nom,Publié,En stock\u00a0?,Stock,Montant de stock faible",
    "it": "ID,Tipo,COD,Nome,Pubblicato,In stock?,Magazzino,Quantità in magazzino bassa",
    "nl": "ID,Type,Artikelnummer,Naam,Gepubliceerd,Op voorraad?,Voorraad,Lage voorraad",
    "pl": "ID,Typ,SKU,Nazwa,Opublikowano,W magazynie?,Stan magazynowy,Niski stan magazynowy",
    "pt_BR": "ID,Tipo,SKU,Nome,Publicado,Em estoque?,Estoque,Quantidade baixa de estoque",
    "sv": "ID,Typ,Artikelnummer,Namn,Publicerad,I lager?,Lager,Lågt lagerantal",
    "tr": "Kimlik,Tür,Stok kodu (SKU),İsim,Yayımlanmış,Stokta?,Stok,Düşük stok miktarı",
    "ja": "ID,タイプ,SKU,名前,公開済み,在庫の有無,在庫,在庫量わずか",
}


@pytest.mark.parametrize("header", WOO_LANGUAGES.values(), ids=WOO_LANGUAGES)
def test_woocommerces_export_is_known_in_the_languages_that_it_is_written_in(stock, header):
    rows = (
        '1,"simple, virtual",007,Mug,1,1,5,9\n2,variable,V,Shirt,1,1,,9\n'
        "3,variation,V-S,Shirt S,1,1,parent,9\n4,simple,B,Cup,1,backorder,'-2,9\n"
    )
    path = raw(stock, (header + "\n" + rows).encode("utf-8-sig"))
    result = import_file(stock.basis, path, Declaration(contains=()))
    assert (stock.quantities(), result.rejections) == ({"007": 5, "B": -2}, ())
    assert names(stock) == {"007": "Mug", "B": "Cup"}
    assert dict(result.preview.left_out) == {
        "stock is not managed by the shop": 1,
        "variation whose stock is kept by its product": 1,
    }


def test_a_woocommerce_export_with_two_columns_that_may_be_the_stock_is_refused(stock):
    text = "ID,Typ,Artikelnummer,Name,Vorrätig?,Bestand,Lager\n1,simple,A,Mug,1,5,99\n"
    result = import_file(stock.basis, stock.file(text), Declaration(contains=()))
    assert result.reason == (
        "stock.csv line 1 column 'lager': 'bestand' and this column say the same thing - keep the right one of the two"
    )


SUPPLIER = ImportSource(
    columns={"sku": "Art.-Nr.", "quantity": "Bestand", "product_name": "Bezeichnung"},
    decimal_mark=",",
    encoding="windows-1252",
    contains=("shop",),
)


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


@pytest.mark.parametrize("encoding", ["gb18030", "windows-1252"])
def test_a_file_that_is_no_utf8_names_the_line_and_is_read_once_its_encoding_is_declared(stock, encoding):
    content = "sku,product_name,quantity\nA,Mug,1\nB,Thé ±,2\n".encode(encoding)
    refused = import_file(stock.basis, raw(stock, content))
    assert refused.state == "rejected"
    assert refused.reason == (
        "stock.csv: the file is not UTF-8 (from line 3 on) - save it as 'CSV UTF-8' or as .xlsx, or declare its"
        " encoding, as encoding: windows-1252"
    )
    import_file(stock.basis, raw(stock, content), Declaration(encoding=encoding))
    assert names(stock) == {"A": "Mug", "B": "Thé ±"}


def test_a_header_of_two_kinds_is_refused_until_one_is_declared(stock):
    ours = ImportSource(columns={"sku": "SKU", "quantity": "Stock"})
    basis = replace(stock.basis, sources={"acme": ours})
    path = stock.file(WOO + "1,simple,A,,Mug,1,1,5,,0,\n")
    refused = import_file(basis, path)
    assert refused.reason == (
        "stock.csv line 1: the header fits 2 kinds of files: woocommerce_products, acme - declare one of them in"
        " stock.csv.yaml, as kind: woocommerce_products"
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
    assert (result.reason, [(one.line, one.value) for one in result.rejections]) == ("", [(3, "50")])
    assert set(stock.quantities()) == {"A-1"}


def test_a_sku_that_contradicts_itself_at_two_locations_is_rejected_with_all_its_rows(stock):
    header = "Handle,Title,SKU,Location,On hand (current),Available (not editable)\n"
    rows = "a,A,A,L1,1,1\na,A,A,L1,2,2\na,A,A,L2,3,3\na,A,A,L2,4,4\nb,B,B,L1,7,7\nb,B,B,L2,1,1\n"
    path = stock.file(header + rows)
    result = import_file(stock.basis, path, Declaration(contains=("shop",), locations=("all",)))
    assert sorted(one.line for one in result.rejections) == [2, 3, 4, 5]
    assert stock.quantities() == {"B": 8}


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
    assert import_file(stock.basis, path, OF_SHOP).reason == (
        "stock.csv: it counts at 2 locations: 'Market stall', 'Studio' - declare in stock.csv.yaml which are sold from,"
        " as locations: all, or locations: [Market stall]"
    )
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
        "it looks like Shopify's inventory export, but has no columns 'location', 'available (not editable)' or 'on hand (current)'",
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


def test_a_row_of_one_location_that_cannot_be_taken_apart_takes_its_sku_out(stock, tmp_path):
    header = ["Handle", "Title", "SKU", "Location", "Available"]
    cut = "mug,Mug,A,Hall,4\ncup,Cup,B,Hall,1\npot,Pot,C,Hall,2\npot,Pot,C,Shop,2,9\nmug,Mug,A,Sh\n"
    result = import_file(stock.basis, stock.file(",".join(header) + "\n" + cut), replace(OF_SHOP, locations=("all",)))
    assert stock.quantities() == {"B": 1}
    assert [(one.line, one.column) for one in result.rejections] == [(2, "sku"), (4, "sku"), (5, ""), (6, "available")]
    assert "the SKU's row on line 6, of another location, can't be used" in result.rejections[0].reason
    book = openpyxl.Workbook()
    sheet: Any = book.active
    for row in (header, ["mug", "Mug", "A", "Hall", 4], ["mug", "Mug", "A", "Shop", date(2026, 7, 1)]):
        sheet.append(row)
    sheet.append(["jar", "Jar", "D", "Hall", 3])
    book.save(tmp_path / "stock.xlsx")
    dated = import_file(stock.basis, tmp_path / "stock.xlsx", replace(OF_SHOP, as_of=NOW, locations=("all",)))
    assert stock.quantities() == {"B": 1, "D": 3}
    assert [(one.line, one.column) for one in dated.rejections] == [(2, "sku"), (3, "available")]
