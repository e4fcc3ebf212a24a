"""How columns are called in reports that come both as sellers' files and by an API, in each language and encoding."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

# What declares an encoding, and what reads it: Windows writes Shift-JIS with its own additions, UTF-8 with a mark; what is
# called GBK may hold a sign that only GB18030 has, which reads all of GBK alike.
DECODERS = {"utf-8": "utf-8-sig", "shift_jis": "cp932", "gbk": "gb18030"}

# Amazon writes the header in the language of the account or of the report's locale, and the text in UTF-8 or in the
# encoding of the marketplace or language: Windows-1252, in Japan Shift-JIS, in Chinese GB18030 (reports API:
# preferredReportDocumentLocale). The names are those that public readers of these reports know; Japan's 在庫数, which stands
# beside 数量, is the pending quantity.
AMAZON_LISTINGS: Mapping[str, tuple[str, ...]] = {
    "sku": (
        "seller_sku",
        "händler_sku",
        "sku_vendeur",
        "出品者sku",
        "sku_venditore",
        "sku_del_vendedor",
        "sku_sprzedawcy",
        "卖家_sku",
        "seller_sku_(satıcı_sku)",
        "sku_البائع",
    ),
    "quantity": (
        "quantity",
        "menge",
        "quantité",
        "数量",
        "quantità",
        "cantidad",
        "ilość",
        "quantity_(adet)",
        "الكمية",
    ),
    "fulfilment": (
        "fulfillment_channel",
        "fulfilment_channel",
        "versender",
        "canal_traitement",
        "フルフィルメント・チャンネル",
        "canale_di_gestione",
        "canal_de_gestión_logística",
        "kanał_realizacji",
        "配送渠道",
        "fulfillment_channel_(dağıtım_kanalı)",
        "قناة_الشحن",
    ),
    "title": (
        "item_name",
        "artikelbezeichnung",
        "nom_produit",
        "商品名",
        "nome_dell'articolo",
        "título_del_producto",
        "nazwa_produktu",
        "商品名称",
        "item_name_(ürün_adı)",
        "اسم_المنتج",
    ),
    "listing": ("listing_id", "angebotsnummer", "id_offre", "出品id", "listing_id_(liste_kaydı_numarası)", "رقم_العرض"),
}
# A header that isn't UTF-8 is of the first of these under which its columns are known, and one in plain letters of the last,
# that of the West. In each language a column that must be known has letters that the other encodings read as others.
AMAZON_ENCODINGS = ("shift_jis", "gb18030", "windows-1252")


def column_name(cell: str) -> str:
    """A column's name for comparing: in small letters, one form of accents, and `_` for spaces and hyphens."""
    return re.sub(r"[\s-]+", "_", unicodedata.normalize("NFC", cell).strip().lower())


def kept_by_amazon(fulfilment: str) -> bool:
    """Tell whether Amazon keeps a listing's stock (FBA) by its fulfilment channel: `AMAZON_EU`; the seller's is `DEFAULT`."""
    return fulfilment.strip().upper().startswith("AMAZON")
