"""What the platforms notify us of: one asset a channel, which mends what is missing or off, and hears whether anything comes."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

from collections import Counter

import dagster as dg

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.clock import age_in_words
from invsync_dagster.defs.metadata import cause_of, plain
from invsync_dagster.defs.names import OWNERS, RECONCILIATION, platform_kinds, platform_tags, subscriptions_key
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.sync.hearing import hear
from invsync_dagster.sync.subscriptions import Watch, watch_subscriptions
from invsync_dagster.sync.workspace import Workspace

SUBSCRIBED = "subscribed"
HEARD = "heard"


def build_subscriptions(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """Return one asset a channel."""
    return [_asset(channel) for channel in configuration.channels]


def _asset(channel: Channel) -> dg.AssetsDefinition:
    key, name = subscriptions_key(channel.name), channel.name

    @dg.asset(
        key=key,
        group_name=RECONCILIATION,
        owners=OWNERS,
        kinds=platform_kinds(channel),
        tags=platform_tags(channel),
        check_specs=[
            dg.AssetCheckSpec(
                SUBSCRIBED,
                asset=key,
                description="The platform notifies us of all that we need. Red: what is missing or off, and why it could not "
                "be mended (docs/webhooks.md).",
            ),
            dg.AssetCheckSpec(
                HEARD,
                asset=key,
                description="Nothing happened there that the channel's notifications should have told of long ago. Red: look at "
                "the receiver, its address, and the secret that signs (docs/webhooks.md).",
            ),
        ],
        description=(
            f"What **{channel.title}** notifies us of. Hourly it is compared with what we need; what is missing is "
            "subscribed to, what the platform has paused or disabled is switched on again.\n\n"
            "*A red check* says what is left to a person. Look at its words, then run `invsync webhooks sync` "
            "(docs/webhooks.md). Meanwhile nothing is lost: the orders changed are listed in every cycle, so a sale is heard "
            "minutes later instead of seconds."
        ),
    )
    def subscriptions_asset(context: dg.AssetExecutionContext, invsync: Invsync) -> dg.MaterializeResult:
        cause_of(context)
        ws = invsync.workspace
        watch = watch_subscriptions(ws, name, mend=True)
        done = Counter(one.done for one in watch.topics)
        table = [dg.TableRecord(plain(one)) for one in watch.topics]
        return dg.MaterializeResult(
            asset_key=key,
            metadata={
                **({"topics": dg.MetadataValue.table(table)} if table else {}),
                "needed": len(watch.topics),
                "active": watch.active,
                "made": done["made"],
                "mended": done["mended"],
                "api_calls": watch.api_calls,
            },
            check_results=[_subscribed(key, watch), _heard(key, ws, name)],
        )

    return subscriptions_asset


def _subscribed(key: dg.AssetKey, watch: Watch) -> dg.AssetCheckResult:
    mended = [f"{one.topic} was {one.found}: {one.done}" for one in watch.topics if one.done]
    words = [*watch.problems, *mended] or [watch.unwatched or f"All {len(watch.topics)} are active."]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=SUBSCRIBED,
        passed=not watch.problems,
        severity=dg.AssetCheckSeverity.WARN,
        description="\n".join(words),
        metadata={"needed": len(watch.topics), "active": watch.active},
    )


def _heard(key: dg.AssetKey, ws: Workspace, name: str) -> dg.AssetCheckResult:
    if ws.channel(name).disabled_reason:
        return dg.AssetCheckResult(asset_key=key, check_name=HEARD, passed=True, description="The channel is disabled.")
    unheard, now = hear(ws, name), ws.clock.now()
    last = unheard.last_delivery_at
    age: dict[str, float] = {}
    if last is not None:
        age["last_delivery_age_s"] = round((now - last).total_seconds(), 1)
        words = f"The last delivery came {age_in_words(age['last_delivery_age_s'])} ago."
    elif unheard.subscribed_at is not None:
        waited = age_in_words((now - unheard.subscribed_at).total_seconds())
        words = f"No delivery has come since all was subscribed to, {waited} ago."
    else:
        words = "No delivery has ever come, and nothing is subscribed to: orders are heard from lists."
    if unheard.since is not None:
        first = age_in_words((now - unheard.since).total_seconds())
        words += f" Since then lists alone told of {unheard.changes} orders or counts, the first one of {first} ago."
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=HEARD,
        passed=unheard.since is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=words,
        metadata={"changes_unheard": unheard.changes, **age},
    )
