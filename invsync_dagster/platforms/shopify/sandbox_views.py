"""How the stand-in shop shows its orders and articles: GraphQL nodes for the API, REST bodies for webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from invsync_dagster.platforms.shopify.sandbox_books import Article, Books, Fulfilment, Order, RefundRecord, SoldLine


def gid(kind: str, number: int) -> str:
    """Return a gid of Shopify."""
    return f"gid://shopify/{kind}/{number}"


def number_of(text: Any, kind: str) -> int | None:
    """Return the number of a gid of this kind, None if it isn't one."""
    prefix = f"gid://shopify/{kind}/"
    if not isinstance(text, str) or not text.startswith(prefix) or not text[len(prefix) :].isdecimal():
        return None
    return int(text[len(prefix) :])


def item_node(article: Article, location: int) -> dict[str, Any]:
    """Return an InventoryItem as `ReadLevels` selects it."""
    level = None
    if location in article.available:
        level = {"quantities": [{"name": "available", "quantity": article.available[location]}]}
    return {
        "id": gid("InventoryItem", article.item),
        "sku": article.sku,
        "tracked": article.tracked,
        "variant": {"id": gid("ProductVariant", article.variant)},
        "inventoryLevel": level,
    }


def level_node(article: Article, location: int) -> dict[str, Any]:
    """Return an InventoryLevel as `activate_levels` selects it."""
    return {
        # The number of a level is its own; what follows it names the item.
        "id": f"{gid('InventoryLevel', location)}?inventory_item_id={article.item}",
        "quantities": [{"name": "available", "quantity": article.available[location]}],
    }


def variant_node(article: Article, locations: int) -> dict[str, Any]:
    """Return a ProductVariant as `Listings` selects it; each article is a product with one variant."""
    levels = [
        {"location": {"id": gid("Location", location)}, "quantities": [{"quantity": quantity}]}
        for location, quantity in article.available.items()
    ]
    return {
        "id": gid("ProductVariant", article.variant),
        "sku": article.sku,
        "displayName": f"{article.sku} - Default Title",
        "product": {"id": gid("Product", article.variant)},
        "inventoryItem": {
            "id": gid("InventoryItem", article.item),
            "tracked": article.tracked,
            "inventoryLevels": {"nodes": levels[:locations]},
        },
    }


def variants_page(books: Books, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return a page of all variants in the order of their ids; the cursor is the last one's id."""
    after = int(variables["after"] or 0)
    articles = sorted(
        (article for article in books.articles.values() if article.variant > after), key=lambda article: article.variant
    )
    page = articles[: variables["variants"]]
    return {
        "nodes": [variant_node(article, variables["locations"]) for article in page],
        "pageInfo": {"hasNextPage": len(articles) > len(page), "endCursor": str(page[-1].variant) if page else None},
    }


def order_node(books: Books, order: Order, lines: int, parts: int) -> dict[str, Any]:
    """Return an Order as the fragment `Whole` selects it, each list cut to its size."""
    return {
        **order_head(order, parts),
        "lineItems": connection([line_node(books, line) for line in order.lines.values()], lines),
        "fulfillments": [
            {**_fulfilment_head(part), "fulfillmentLineItems": connection(fulfilment_lines(part), lines)}
            for part in order.fulfilments[:parts]
        ],
        "refunds": [
            {**_refund_head(part), "refundLineItems": connection(refund_lines(part), lines)}
            for part in order.refunds[:parts]
        ],
        "fulfillmentOrders": connection(
            [
                {**assignment, "lineItems": connection(assigned_lines(order, place), lines)}
                for place, assignment in assignments(order).items()
            ],
            parts,
        ),
    }


def assignments(order: Order) -> dict[int, dict[str, Any]]:
    """Return the FulfillmentOrders of an order by location, without their lines: what is shipped together."""
    found = {}
    for number, place in enumerate(dict.fromkeys(line.location for line in order.lines.values())):
        left = any(line.unfulfilled for line in order.lines.values() if line.location == place)
        found[place] = {
            "id": gid("FulfillmentOrder", order.number * 100 + number),
            "status": "OPEN" if left else "CLOSED",
            "assignedLocation": {"location": {"id": gid("Location", place)}},
        }
    return found


def assigned_lines(order: Order, place: int) -> list[dict[str, Any]]:
    """Return the nodes of the `lineItems` of a FulfillmentOrder."""
    return [
        {"totalQuantity": line.quantity - line.released, "lineItem": {"id": gid("LineItem", line.line)}}
        for line in order.lines.values()
        if line.location == place
    ]


def order_head(order: Order, parts: int) -> dict[str, Any]:
    """Return an Order as `OrderParts` selects it."""
    return {
        "id": gid("Order", order.number),
        "createdAt": order.created_at,
        "updatedAt": order.updated_at,
        "cancelledAt": order.cancelled_at,
        "fulfillments": [_fulfilment_head(part) for part in order.fulfilments[:parts]],
        "refunds": [_refund_head(part) for part in order.refunds[:parts]],
    }


def line_node(books: Books, line: SoldLine) -> dict[str, Any]:
    """Return a LineItem as the fragment `Line` selects it."""
    article = books.articles[line.item]
    return {
        "id": gid("LineItem", line.line),
        "quantity": line.quantity,
        "currentQuantity": line.current,
        "unfulfilledQuantity": line.unfulfilled,
        "sku": article.sku,
        "variant": {
            "id": gid("ProductVariant", article.variant),
            "inventoryItem": {"id": gid("InventoryItem", article.item), "tracked": article.tracked},
        },
    }


def fulfilment_lines(part: Fulfilment) -> list[dict[str, Any]]:
    """Return the nodes of `fulfillmentLineItems`."""
    return [{"quantity": quantity, "lineItem": {"id": gid("LineItem", line)}} for line, quantity in part.units.items()]


def refund_lines(part: RefundRecord) -> list[dict[str, Any]]:
    """Return the nodes of `refundLineItems`."""
    return [
        {"quantity": quantity, "restockType": part.restock_type.upper(), "lineItem": {"id": gid("LineItem", line)}}
        for line, quantity in part.units.items()
    ]


def connection(
    nodes: Sequence[dict[str, Any]], size: int, after: str | None = None, *, cursor: bool = False
) -> dict[str, Any]:
    """Return one page of a connection; `cursor` adds the `endCursor` that pages on."""
    start = int(after) if after else 0
    page = list(nodes[start : start + size])
    info: dict[str, Any] = {"hasNextPage": start + size < len(nodes)}
    if cursor:
        info["endCursor"] = str(start + len(page)) if page else None
    return {"nodes": page, "pageInfo": info}


def order_body(books: Books, order: Order) -> dict[str, Any]:
    """Return an order as the webhooks `orders/*` state it."""
    return {
        "id": order.number,
        "admin_graphql_api_id": gid("Order", order.number),
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "cancelled_at": order.cancelled_at,
        "test": False,
        "line_items": [_line_body(books, line) for line in order.lines.values()],
        "fulfillments": [
            {
                "id": part.number,
                "created_at": part.created_at,
                "status": part.status,
                "line_items": [{"id": line, "quantity": quantity} for line, quantity in part.units.items()],
            }
            for part in order.fulfilments
        ],
        "refunds": [refund_body(order, part) for part in order.refunds],
    }


def refund_body(order: Order, part: RefundRecord) -> dict[str, Any]:
    """Return a refund as the webhook `refunds/create` states it."""
    return {
        "id": part.number,
        "order_id": order.number,
        "created_at": part.created_at,
        "refund_line_items": [
            {"id": part.number + line, "line_item_id": line, "quantity": quantity, "restock_type": part.restock_type}
            for line, quantity in part.units.items()
        ],
    }


def _line_body(books: Books, line: SoldLine) -> dict[str, Any]:
    article = books.articles[line.item]
    return {
        "id": line.line,
        "variant_id": article.variant,
        "sku": article.sku,
        "quantity": line.quantity,
        "current_quantity": line.current,
        "fulfillable_quantity": line.unfulfilled,
        "variant_inventory_management": "shopify" if article.tracked else None,
    }


def _fulfilment_head(part: Fulfilment) -> dict[str, Any]:
    return {"id": gid("Fulfillment", part.number), "createdAt": part.created_at, "status": part.status.upper()}


def _refund_head(part: RefundRecord) -> dict[str, Any]:
    return {"id": gid("Refund", part.number), "createdAt": part.created_at}
