"""The stock: its tables, ledger, orders, counts, rules and levels. Imports no Dagster, no HTTP, no platform."""
