"""Exports come in the language and the encoding of whoever asks for them."""

from __future__ import annotations

import pytest

from invsync_dagster.inventory.imports.declaration import Declaration
from tests.unit.imports.stock import OF_SHOP, import_file, names, raw

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
