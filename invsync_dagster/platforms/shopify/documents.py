"""The GraphQL documents that we send to Shopify's Admin API, valid in 2026-04, 2026-07 and 2026-10.

Sizes of nested lists keep each query under Shopify's ceiling of 1,000 points a query; an order with more parts than
these is fetched part by part.
"""

from __future__ import annotations

ORDERS_A_PAGE = 3
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

_SET_QUANTITIES_FIELD = SET_QUANTITIES[SET_QUANTITIES.index("\n") + 1 : SET_QUANTITIES.rindex("}")]

LISTINGS_A_PAGE = 11
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

READ_ALL = """\
query AllLevels {
  inventoryItems {
    edges {
      node {
        id
        inventoryLevels {
          edges {
            node {
              id
              item { id tracked }
              location { id }
              quantities(names: ["available"]) { name quantity }
            }
          }
        }
      }
    }
  }
}
"""

# Grouped objects would take Shopify longer, and each level names its item itself.
RUN_IN_BULK = """\
mutation RunInBulk($query: String!) {
  bulkOperationRunQuery(query: $query, groupObjects: false) {
    bulkOperation { id }
    userErrors { code field message }
  }
}
"""

BULK_OPERATION = """\
query BulkOperationState($id: ID!) {
  bulkOperation(id: $id) { id status errorCode url partialDataUrl }
}
"""

CHECK_ACCESS = """\
query CheckAccess {
  currentAppInstallation { accessScopes { handle } }
}
"""

SUBSCRIPTIONS_A_PAGE = 100

_SUBSCRIPTION = """\
fragment Sent on WebhookSubscription {
  id
  topic
  uri
  format
  filter
  includeFields
}
"""

SUBSCRIPTIONS = (
    """\
query Subscriptions($topics: [WebhookSubscriptionTopic!]!, $address: String!, $count: Int!) {
  webhookSubscriptions(first: $count, topics: $topics, uri: $address) { nodes { ...Sent } }
}
"""
    + _SUBSCRIPTION
)

SUBSCRIBE = (
    """\
mutation Subscribe($topic: WebhookSubscriptionTopic!, $address: String!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: {uri: $address, format: JSON}) {
    webhookSubscription { ...Sent }
    userErrors { field message }
  }
}
"""
    + _SUBSCRIPTION
)

MEND_SUBSCRIPTION = (
    """\
mutation MendSubscription($id: ID!, $address: String!) {
  webhookSubscriptionUpdate(
    id: $id
    webhookSubscription: {uri: $address, format: JSON, filter: "", includeFields: []}
  ) {
    webhookSubscription { ...Sent }
    userErrors { field message }
  }
}
"""
    + _SUBSCRIPTION
)

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
  fulfillmentOrders(first: $parts, displayable: true) {
    nodes {
      id
      status
      assignedLocation { location { id } }
      lineItems(first: $lines) { nodes { totalQuantity lineItem { id } } pageInfo { hasNextPage } }
    }
    pageInfo { hasNextPage }
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

# Those that were closed because their lines were moved elsewhere aren't displayable.
ASSIGNMENTS = """\
query Assignments($id: ID!, $lines: Int!, $after: String) {
  node(id: $id) {
    ... on Order {
      fulfillmentOrders(first: $lines, after: $after, displayable: true) {
        nodes { id status assignedLocation { location { id } } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""

ASSIGNED_LINES = """\
query AssignedLines($id: ID!, $lines: Int!, $after: String) {
  node(id: $id) {
    ... on FulfillmentOrder {
      lineItems(first: $lines, after: $after) {
        nodes { totalQuantity lineItem { id } }
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


def activate_levels(levels: int, *, quantities: bool) -> str:
    """Return the mutation that stocks `levels` items at locations: variables `item0`, `at0`, `available0`, `key0` and so on.

    `quantities`: it sets those of other levels first, as `SET_QUANTITIES` does. Mutations of one call are done in turn.
    """
    variables = ["$input: InventorySetQuantitiesInput!, $key: String!"] if quantities else []
    variables += [f"$item{n}: ID!, $at{n}: ID!, $available{n}: Int!, $key{n}: String!" for n in range(levels)]
    fields = "".join(
        f"""\
  activate{n}: inventoryActivate(inventoryItemId: $item{n}, locationId: $at{n}, available: $available{n})
    @idempotent(key: $key{n}) {{
    inventoryLevel {{ id quantities(names: ["available"]) {{ name quantity }} }}
    userErrors {{ field message }}
  }}
"""
        for n in range(levels)
    )
    return f"mutation ActivateLevels({', '.join(variables)}) {{\n{_SET_QUANTITIES_FIELD * quantities}{fields}}}\n"


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
