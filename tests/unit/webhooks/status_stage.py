"""A status document as an installation of seven channels would write it, all well; tests change what they are about."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tests.unit.webhooks.serving import NOW

CHANNELS = {
    "shopify_main": "shopify",
    "shopify_outlet": "shopify",
    "woo_main": "woocommerce",
    "amazon_eu": "amazon",
    "ebay_main": "ebay",
    "alibaba_main": "alibaba",
    "erp_main": "erp",
}


def channel(name: str, platform: str, now: datetime = NOW, **changes: Any) -> dict[str, Any]:
    ago = {key: (now - timedelta(seconds=seconds)).isoformat() for key, seconds in (("a", 8), ("b", 40))}
    return {
        "channel": name,
        "platform": platform,
        "environment": "production",
        "rehearses": False,
        "state": "active",
        "reason": "",
        "active": 12_480,
        "in_step": 12_477,
        "out_of_step": 3,
        "uncertain": 1,
        "held": 0,
        "held_decided": 0,
        "stopped": 0,
        "review": 0,
        "paused": 0,
        "excluded": 0,
        "oldest_change_seconds": 2.4,
        "last_push_at": ago["a"],
        "last_success_at": ago["a"],
        "last_delivery_at": ago["b"],
        "last_full_run_at": (now - timedelta(hours=9)).isoformat(),
        "failed_batches": [],
        "silent_since": None,
        "syncs_last_hour": 1_204,
        "failed_last_hour": 3,
        "success_rate_last_hour": 0.9975,
        "unresolved_lines": 0,
        "unclear_orders": 0,
        "latency": {"p50": 0.71, "p95": 1.34, "changes": 1_190},
        "budget": {"points": 1_612.0, "burst": 2_000.0, "blocked_seconds": 0.0},
        "writes_a_day": 250 if platform == "ebay" else 0,
        "waiting_for_day_limit": 0,
        "held_why": [],
        "held_levels": [],
        "in_review": [],
    } | changes


def document(now: datetime = NOW, **changes: Any) -> dict[str, Any]:
    """Return a document of `now`."""
    begin = datetime.fromtimestamp(now.timestamp() // 300 * 300, now.tzinfo)
    times = [(begin - timedelta(minutes=5 * step)).isoformat() for step in reversed(range(288))]
    totals = [4 + (step * 7) % 23 + (160 if 190 < step < 200 else 0) for step in range(288)]
    return {
        "version": 1,
        "written_at": now.isoformat(),
        "at": now.isoformat(),
        "ui_url": "https://stock.example.com",
        "time_zone": "Europe/Berlin",
        "problems": [],
        "notes": [],
        "skus": 12_480,
        "inactive": 210,
        "units": 301_220,
        "reserved": 1_844,
        "negative": 0,
        "quarantined": 0,
        "ledger_sequence": 981_223,
        "out_of_step": 21,
        "open_cases": 0,
        "waits_for_people": 0,
        "channels": [channel(name, platform, now) for name, platform in CHANNELS.items()],
        "held_imports": [],
        "oldest_delivery_seconds": None,
        "backup": {"at": (now - timedelta(minutes=34)).isoformat(), "kept": 48, "verified": True},
        "trend": {
            "step_seconds": 300,
            "at": times,
            "out_of_step": totals,
            "channels": {name: [total // 7 for total in totals] for name in CHANNELS},
        },
    } | changes


def problem(title: str, **changes: Any) -> dict[str, Any]:
    return {
        "cause": f"check:{title}",
        "severity": "error",
        "channel": "",
        "title": title,
        "message": "It is so.",
        "since": None,
        "page": "",
    } | changes


def in_trouble(now: datetime = NOW) -> dict[str, Any]:
    """Return a document with a dead channel, held and reviewed listings, a held import, and foreign text everywhere."""
    script = "<script>document.title = 'taken over'</script>"
    told = document(now)
    since = (now - timedelta(minutes=47)).isoformat()
    why = f"the answer was 401 Unauthorized: [API] Invalid API key or access token {script} [re-authenticate]"
    told["channels"][0] |= {"state": "stopped", "reason": why, "out_of_step": 214, "in_step": 12_266, "latency": None}
    told["channels"][0] |= {"oldest_change_seconds": 2_820.0, "success_rate_last_hour": 0.0, "syncs_last_hour": 40}
    told["channels"][1] |= {"state": "paused", "reason": "stocktaking until Monday", "paused": 800}
    told["channels"][3] |= {
        "held": 41,
        "held_why": [{"reason": "one change would set 41 of 60 listings to 0", "levels": 41}],
        "held_levels": [{"sku": f"MUG-{n:03d}{script}", "shows": 90 - n, "wanted": 0} for n in range(5)],
    }
    told["channels"][4] |= {
        "review": 2,
        "budget": {"points": 0.0, "burst": 5_000.0, "blocked_seconds": 95.0},
        "waiting_for_day_limit": 12,
        "in_review": [
            {
                "sku": "马克杯-蓝色-超长的库存编号-0123456789",
                "platform_sku": "x",
                "reason": "not found",
                "since": since,
            },
            {"sku": "A" * 60, "platform_sku": "x", "reason": f"{script} its variations differ", "since": since},
        ],
    }
    told["problems"] = [
        problem(
            "shopify_main refuses us",
            channel="shopify_main",
            since=since,
            message=f"{why}. Nothing is written to shopify_main until that is mended; put the new keys into "
            "SHOPIFY_MAIN_ACCESS_TOKEN (in .env) and start Dagster again (docs/errors/re-authenticate.md).",
            page="assets/push_results/shopify_main",
        ),
        problem(
            "amazon_eu: changes are held",
            severity="warning",
            channel="amazon_eu",
            since=since,
            message="The breaker holds 41 levels of amazon_eu: one change would set 41 of 60 listings to 0.",
            page="assets/inventory_changes?view=checks",
        ),
    ]
    told["notes"] = ["woo_main: 3 order lines belong to no listing; import their mapping."]
    told["held_imports"] = [
        {
            "import_id": "imp-20261103-0001",
            "kind": "inventory",
            "file_name": f"stock{script}.csv",
            "rows": 12_480,
            "reason": "it would set 9,120 of 12,480 SKUs to 0",
            "held_seconds": 2_820.0,
        }
    ]
    return told | {"open_cases": 46, "waits_for_people": 44, "out_of_step": 235, "oldest_delivery_seconds": 12.0}
