"""What the stand-in store's REST API shows of its books: products, variations, orders and refunds as JSON values."""

from __future__ import annotations

from typing import Any

from invsync_dagster.platforms.woocommerce.sandbox_books import Article, Books, Order, RefundRecord


def article_view(books: Books, article: Article) -> dict[str, Any]:
    """Return a product or variation; the stock of a variation that its product keeps is shown with `"parent"`."""
    keeper = books.keeper(article.number)
    managed: bool | str = keeper is not None if keeper in (None, article) else "parent"
    quantity = books.shown(article.number)
    backorders = keeper is not None and keeper.backorders
    status = "instock" if quantity is None or quantity > 0 else "onbackorder" if backorders else "outofstock"
    view: dict[str, Any] = {
        "id": article.number,
        "name": article.name or article.sku,
        "type": article.kind,
        "status": article.status,
        "sku": books.sku(article.number),
        "manage_stock": managed,
        "stock_quantity": quantity,
        "stock_status": status,
        "backorders": "yes" if backorders else "no",
    }
    if article.parent:
        view["parent_id"] = article.parent
    return view


def order_view(order: Order, include_meta: str = "") -> dict[str, Any]:
    """Return an order as the REST API and the webhooks show it; its refunds by id and total only.

    `include_meta`: the keys, between commas, that its meta is cut down to; that of its lines is not.
    """
    meta = {"is_vat_exempt": "no"}
    if order.trashed_from:
        meta["_wp_trash_meta_status"] = f"wc-{order.trashed_from}"
    if include_meta:
        meta = {key: value for key, value in meta.items() if key in include_meta.split(",")}
    return {
        "id": order.number,
        "number": str(order.number),
        "status": order.status,
        "date_created_gmt": order.created,
        "date_modified_gmt": order.modified,
        "date_paid_gmt": order.paid,
        "date_completed_gmt": order.completed,
        "meta_data": [{"id": order.number, "key": key, "value": value} for key, value in meta.items()],
        "line_items": [
            {
                "id": line.line,
                "name": line.sku,
                "product_id": line.product,
                "variation_id": line.variation,
                "quantity": line.quantity,
                "sku": line.sku,
                "total": "10.00",
                "meta_data": [
                    {
                        "id": line.line * 10,
                        "key": "_reduced_stock",
                        "value": str(line.reduced),
                        "display_key": "_reduced_stock",
                        "display_value": str(line.reduced),
                    }
                ]
                if line.reduced
                else [],
            }
            for line in order.lines.values()
        ],
        "refunds": [{"id": refund.number, "reason": "", "total": "-10.00"} for refund in order.refunds],
    }


def refund_view(order: Order, refund: RefundRecord) -> dict[str, Any]:
    """Return a refund with its lines: negative quantities, the order's line in their meta."""
    return {
        "id": refund.number,
        "parent_id": order.number,
        "date_created_gmt": refund.created,
        "amount": "10.00",
        "line_items": [
            {
                "id": refund.number * 100 + index,
                "quantity": -units,
                "meta_data": [{"id": refund.number * 100 + index, "key": "_refunded_item_id", "value": str(line)}],
            }
            for index, (line, units) in enumerate(refund.units.items())
        ],
    }
