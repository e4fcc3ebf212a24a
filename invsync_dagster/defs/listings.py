"""What each channel lists, against the mapping: one asset a channel, with its check and the file of proposals."""

# No `from __future__ import annotations`: Dagster compares the annotation of `context` as it stands, not as text.

from collections.abc import Iterator
from typing import Any

import dagster as dg

from invsync_dagster.channels import Channel, Configuration
from invsync_dagster.defs.metadata import cause_of, failing, tag_failed, worst_rows
from invsync_dagster.defs.names import OWNERS, RECONCILIATION, listings_key, platform_kinds, platform_tags
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.inventory.discovery import Kind
from invsync_dagster.sync.discover import Discovery, discover

CHECK = "listings_mapped"

# What a person does about a case, in the order in which to look.
_MEND = {
    Kind.VANISHED: "gone from the channel: retire them, or map what took their place",
    Kind.DOUBLY_MAPPED: "doubly mapped: retire all but the right one",
    Kind.RENAMED: "rows of renamed ones: import the new name if it is still the same goods",
    Kind.MOVED: "rows of moved ones, in review: import the level that holds their number now",
    Kind.UNDRIVABLE: "without a number at the channel: let it track their stock",
    Kind.RETURNED: "listed again since they were gone: make them active",
}


def build_listings(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """Return one asset a channel."""
    return [_asset(channel) for channel in configuration.channels]


def _asset(channel: Channel) -> dg.AssetsDefinition:
    key, name = listings_key(channel.name), channel.name

    @dg.asset(
        key=key,
        pool=f"listings_{name}",
        group_name=RECONCILIATION,
        owners=OWNERS,
        kinds=platform_kinds(channel),
        tags=platform_tags(channel),
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=key,
                description="All that the channel lists is mapped once, and all that is mapped is listed. Red: correct the "
                "mapping file of the run, and import it.",
            )
        ],
        description=(
            f"All that **{channel.title}** lists, compared with its mapping: what isn't mapped (with the SKU that it may "
            "be), doubly mapped, renamed and gone. Nothing is mapped by it: it writes a mapping file to correct and import "
            "(docs/mapping.md). A mapped listing that is gone is stopped, and waits in review.\n\n"
            "*Red* means that the channel couldn't be asked, or that its answer can't be true: it lists nothing, or another "
            "shop's goods. Then nothing was changed: look at its entry in channels.yaml and at its account. *A red check* counts "
            "what a person has to look at: correct the mapping file of the run, and import it."
        ),
    )
    def listings_asset(context: dg.AssetExecutionContext, invsync: Invsync) -> Iterator[Any]:
        cause_of(context)
        with failing(context, name):
            report = discover(invsync.workspace, name, run_id=context.run.run_id)
        if report.problem:
            tag_failed(context, [name])
            yield _check(key, report)
            raise dg.Failure(f"{name}: {report.problem}", metadata=_file(report), allow_retries=False)
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={
                "dagster/row_count": report.listings,
                **report.totals(),
                "api_calls": report.api_calls,
                "duration_s": round(report.seconds, 3),
                **worst_rows(report.first),
                **_file(report),
            },
            check_results=[_check(key, report)],
        )

    return listings_asset


def _file(report: Discovery) -> dict[str, dg.MetadataValue[Any]]:
    return {"mapping_file": dg.MetadataValue.path(report.mapping_file)} if report.mapping_file else {}


def _check(key: dg.AssetKey, report: Discovery) -> dg.AssetCheckResult:
    cases = [f"{report.found[kind]} {words}" for kind, words in _MEND.items() if report.found[kind]]
    if report.unmapped:
        cases.append(f"{report.unmapped} not mapped: {report.found[Kind.MATCHED]} of them need no more than the import")
    words = "; ".join(cases) or f"All {report.listings} listings are mapped once, and all that is mapped is there."
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=CHECK,
        passed=not (cases or report.problem),
        severity=dg.AssetCheckSeverity.ERROR if report.problem else dg.AssetCheckSeverity.WARN,
        description=report.problem or words,
        metadata={"unmapped": report.unmapped, **{str(kind): report.found[kind] for kind in _MEND}},
    )
