"""What WooCommerce's product export calls its columns: it writes them in the language of whoever exports."""

from __future__ import annotations

from collections.abc import Sequence

from invsync_dagster.columns import column_name

FIELDS = ("id", "type", "sku", "title", "in_stock", "quantity")

# By language, in the order of FIELDS; what its versions called differently stands side by side. Source: WooCommerce's language
# packs of 2018 to 2026 on translate.wordpress.org (Plugins - WooCommerce - Stable), in which none of these names is that of
# another column of the export.
NAMES = {
    "en": ("ID", "Type", "SKU", "Name", "In stock?", "Stock"),
    "da": ("ID", "Type", "Varenummer", "Navn", "På lager?", "Lager"),
    "de": ("ID", "Typ", "Artikelnummer", "Name", "Vorrätig?", "Bestand|Lager"),
    "el": ("ID", "Τύπος", "Κωδικός προϊόντος", "Όνομα", "Σε απόθεμα;", "Απόθεμα"),
    "es": ("ID", "Tipo", "SKU", "Nombre", "¿Existencias?|¿En inventario?", "Inventario"),
    "fi": ("ID", "Laji", "Tuotetunnus (SKU)", "Nimi", "Varasto?", "Varasto"),
    "fr": ("ID", "Type", "UGS", "Nom", "En stock ?", "Stock"),
    "hr": ("ID", "Vrsta", "SKU", "Naziv", "Na zalihi?", "Zalihe"),
    "id": ("ID", "Tipe", "SKU", "Nama", "Stok tersedia?", "Stok"),
    "it": ("ID", "Tipo", "SKU|COD", "Nome", "In stock?", "Magazzino"),
    "ja": ("ID", "タイプ", "SKU", "名前", "在庫の有無", "在庫"),
    "ko": ("ID", "형식", "SKU", "이름", "재고가 있나요?", "재고"),
    "nb": ("ID", "Type", "Produktnr|Varenummer", "Navn", "På lager?", "Lager"),
    "nl": ("ID", "Type", "SKU|Artikelnummer", "Naam", "Op voorraad?", "Voorraad"),
    "pl": ("ID", "Typ", "SKU", "Nazwa", "W magazynie?", "Stan magazynowy|Magazyn"),
    "pt_BR": ("ID", "Tipo", "SKU|REF", "Nome", "Em estoque?", "Estoque"),
    "pt_PT": ("ID", "Tipo", "REF", "Nome", "Em stock?", "Stock"),
    "ru": ("ID", "Тип", "Артикул", "Имя", "В наличии?", "Запасы"),
    "sv": ("ID", "Typ", "Artikelnummer|Artikelnr", "Namn", "I lager?", "Lager|Lagersaldo"),
    "th": ("ID", "ชนิด", "รหัสสินค้า", "ชื่อ", "มีสินค้าในคลังสินค้า?", "คลังสินค้า"),
    "tr": ("Kimlik", "Tür", "Stok kodu (SKU)", "İsim", "Stokta?", "Stok"),
    "uk": ("ID", "Тип", "Артикул", "Назва|Ім'я", "В наявності?", "Запаси|Запас"),
    "vi": ("ID", "Loại", "Mã sản phẩm", "Tên", "Còn hàng?", "Kho"),
    "zh_CN": ("ID", "类型", "SKU", "名称", "有货？", "库存"),
    "zh_TW": ("代碼", "類型", "貨號", "名稱", "有庫存？", "庫存"),
}
# What `Type` says is not translated; further words may follow, as in "simple, virtual" (WC_Product_CSV_Exporter).
TYPES = ("simple", "variable", "variation", "grouped", "external")

COLUMNS = {
    field: tuple(dict.fromkeys(column_name(one) for names in NAMES.values() for one in names[position].split("|")))
    for position, field in enumerate(FIELDS)
}


def is_woocommerce_row(header: Sequence[str], cells: Sequence[str]) -> bool:
    """Tell by its form whether a row is of the export in whatever language: the id comes first, and then the type."""
    if len(header) < 2 or len(cells) < 2 or header[0] not in COLUMNS["id"]:
        return False
    return cells[0].isdigit() and cells[1].partition(",")[0].strip() in TYPES
