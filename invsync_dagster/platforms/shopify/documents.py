"""The GraphQL documents that we send to Shopify's Admin API, valid in 2026-04, 2026-07 and 2026-10.

Sizes of nested lists keep each query under Shopify's ceiling of 1,000 points a query; an order with more parts than
these is fetched part by part.
"""

from __future__ import annotations

ORDERS_A_PAGE = 10
LINES_AN_ORDER = 5
PARTS_AN_ORDER = 3
LINES_A_CALL = 100
PARTS_A_CALL = 250

SET_QUANTITIES = """\
mutation SetQuantities($input: InventorySetQuantitiesInput!, $key: String!) {
  inventorySetQuantities(input: $input) @idempotent(key: $key) {
    inventoryAdjustmentGroup { id }
    userErrors { code field message }
  }
}
"""

LISTINGS_A_PAGE = 25
LOCATIONS_A_LISTING = 10

LISTINGS = """\
query Listings($after: String, $variants: Int!, $locations: Int!) {
  productVariants(first: $variants, after: $after, sortKey: ID) {
    nodes {
      id
      sku
      displayName
      product { id }
      inventoryItem {
        id
        tracked
        inventoryLevels(first: $locations) {
          nodes { location { id } quantities(names: ["available"]) { quantity } }
        }
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""

CHECK_ACCESS = """\
query CheckAccess {
  currentAppInstallation { accessScopes { handle } }
}
"""

_LINE = """\
fragment Line on LineItem {
  id
  quantity
  currentQuantity
  unfulfilledQuantity
  sku
  variant { id inventoryItem { id tracked } }
}
"""

# An order's fulfilments and refunds are plain lists without a cursor: a full list may have more behind it.
_ORDER = (
    """\
fragment Whole on Order {
  id
  createdAt
  updatedAt
  cancelledAt
  lineItems(first: $lines) { nodes { ...Line } pageInfo { hasNextPage } }
  fulfillments(first: $parts) {
    id
    createdAt
    status
    fulfillmentLineItems(first: $lines) { nodes { quantity lineItem { id } } pageInfo { hasNextPage } }
  }
  refunds(first: $parts) {
    id
    createdAt
    refundLineItems(first: $lines) { nodes { quantity restockType lineItem { id } } pageInfo { hasNextPage } }
  }
}
"""
    + _LINE
)

ORDERS_CHANGED = (
    """\
query OrdersChanged($query: String!, $after: String, $orders: Int!, $lines: Int!, $parts: Int!) {
  orders(first: $orders, after: $after, query: $query, sortKey: UPDATED_AT) {
    nodes { ...Whole }
    pageInfo { hasNextPage endCursor }
  }
}
"""
    + _ORDER
)

ORDERS_BY_ID = (
    """\
query OrdersById($ids: [ID!]!, $lines: Int!, $parts: Int!) {
  nodes(ids: $ids) { ... on Order { ...Whole } }
}
"""
    + _ORDER
)

ORDER_LINES = (
    """\
query OrderLines($id: ID!, $lines: Int!, $after: String) {
  node(id: $id) {
    ... on Order {
      lineItems(first: $lines, after: $after) { nodes { ...Line } pageInfo { hasNextPage endCursor } }
    }
  }
}
"""
    + _LINE
)

ORDER_PARTS = """\
query OrderParts($id: ID!, $parts: Int!) {
  node(id: $id) {
    ... on Order {
      id
      createdAt
      updatedAt
      cancelledAt
      fulfillments(first: $parts) { id createdAt status }
      refunds(first: $parts) { id createdAt }
    }
  }
}
"""

FULFILLMENT_LINES = """\
query FulfillmentLines($id: ID!, $lines: Int!, $after: String) {
  node(id: $id) {
    ... on Fulfillment {
      fulfillmentLineItems(first: $lines, after: $after) {
        nodes { quantity lineItem { id } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""

REFUND_LINES = """\
query RefundLines($id: ID!, $lines: Int!, $after: String) {
  node(id: $id) {
    ... on Refund {
      refundLineItems(first: $lines, after: $after) {
        nodes { quantity restockType lineItem { id } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""


def read_levels(locations: int) -> str:
    """Return the query that reads items at each of `locations` locations: variables `ids0`, `at0`, `ids1` and so on.

    `inventoryLevel` takes one location, so levels are grouped by location and each group has its alias.
    """
    groups = range(locations)
    variables = ", ".join(f"$ids{group}: [ID!]!, $at{group}: ID!" for group in groups)
    aliases = "\n".join(
        f"""\
  at{group}: nodes(ids: $ids{group}) {{
    ... on InventoryItem {{
      id
      sku
      tracked
      variant {{ id }}
      inventoryLevel(locationId: $at{group}) {{ quantities(names: ["available"]) {{ name quantity }} }}
    }}
  }}"""
        for group in groups
    )
    return f"query ReadLevels({variables}) {{\n{aliases}\n}}\n"
