"""The command in the terminal: what it prints, what it decides, and how it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from invsync_dagster.cli.common import print_table
from invsync_dagster.clock import SystemClock
from invsync_dagster.inventory import holds
from invsync_dagster.inventory.database import open_database, write_transaction
from invsync_dagster.inventory.tables import central_inventory, inventory_levels, operator_actions, platform_mapping
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.world import World
from invsync_dagster.settings import Home
from tests import databases
from tests.unit.commands import ERP_MAIN, invoke, migrated, own_root, stand_ins

CHANNELS = f"channels:\n{ERP_MAIN}    rules: {{{{buffer: 2}}}}\n"

INVENTORY = """\
sku,product_name,quantity,reserved_quantity,status
0071,Tea towel,10,0,active
A-1,Mug,5,1,active
"""

MAPPING = """\
central_sku,channel,platform_sku,platform_item_id,platform_location_id
0071,erp_main,0071,0071,
A-1,erp_main,A-1,A-1,
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each_database: str) -> Home:
    """An installation in a folder of its own, migrated, with one ERP channel and nothing in stock."""
    home = own_root(monkeypatch, tmp_path)
    (tmp_path / "channels.yaml").write_text(CHANNELS.format(port=9))
    (tmp_path / "inventory.csv").write_text(INVENTORY)
    (tmp_path / "mapping.csv").write_text(MAPPING)
    if each_database == "postgresql":
        monkeypatch.setenv("INVSYNC_DATABASE_URL", databases.fresh_url(tmp_path))
        return Home.from_environment()
    return migrated(home)


@pytest.fixture
def stocked(home: Home) -> Home:
    """The installation with two SKUs in stock, both listed at the ERP."""
    assert invoke("channels", "sync").exit_code == 0
    assert invoke("import", home.root / "inventory.csv").exit_code == 0
    assert invoke("import", home.root / "mapping.csv").exit_code == 0
    return home


@pytest.fixture
def erp(stocked: Home) -> Iterator[World]:
    """The stand-in ERP behind the channel; it shows 10 and 5, where 8 and 2 are wanted."""
    articles = {"erp_main": [Article("0071", 10), Article("A-1", 5)]}
    with stand_ins(stocked, CHANNELS, articles) as world:
        yield world


def shown(world: World) -> dict[str, int]:
    return {row.sku: row.quantity for row in world.books("erp_main")}


def test_a_database_that_is_not_there_is_refused_in_one_line_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_root(monkeypatch, tmp_path)
    result = invoke("status")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"invsync: the stock's database can't be used: there is no such file ({tmp_path}/data/invsync.db)"
    )
    assert result.stderr.endswith("if there never was one: `make setup`\n")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_status_counts_listings_and_says_what_waits_for_a_person(stocked: Home) -> None:
    words = invoke("status").stdout
    assert "2 SKUs (0 inactive), 15 units on hand, 1 reserved" in words
    assert "! erp_main: not approved, its first push waits for a preview and an approval" in words


def test_status_as_json_has_the_channels_and_the_configuration_problems(stocked: Home) -> None:
    stocked.channels_file.write_text(CHANNELS.format(port=9) + "  - name: shop\n    platform: none\n")
    document = json.loads(invoke("status", "--json").stdout)
    assert document["channels"][0]["channel"] == "erp_main"
    assert document["channels"][0]["active"] == 2
    assert any("shop" in problem for problem in document["configuration_problems"])


def test_explain_walks_the_rules_in_words_and_as_json(stocked: Home) -> None:
    assert "0071" in invoke("explain", "0071").stdout
    document = json.loads(invoke("explain", "0071", "--channel", "erp_main", "--json").stdout)
    assert document["quantity"] == 10
    assert [listing["desired"] for listing in document["listings"]] == [8]


def test_an_import_is_undone_after_it_was_shown(stocked: Home) -> None:
    newest = next(one for one in json.loads(invoke("imports", "list", "--json").stdout) if one["kind"] == "inventory")
    shown = invoke("imports", "undo", newest["id"]).stdout
    assert shown.endswith("do it: the same with --reason …\n")
    assert json.loads(invoke("explain", "0071", "--json").stdout)["quantity"] == 10
    done = invoke("imports", "undo", newest["id"], "--reason", "the wrong file").stdout
    assert done.splitlines()[:-1] == shown.splitlines()[:-1]
    assert json.loads(invoke("explain", "0071", "--json").stdout)["quantity"] == 0
    again = invoke("imports", "undo", newest["id"], "--reason", "the wrong file")
    assert again.exit_code == 2
    assert "is undone, not applied" in again.stderr


def test_explain_tells_of_a_past_moment(stocked: Home) -> None:
    assert "it had no listing then" in invoke("explain", "0071", "--at", "2020-01-01T00:00:00Z").stdout
    assert json.loads(invoke("explain", "0071", "--at", "2999-01-01T00:00:00Z", "--json").stdout)["quantity"] == 10
    result = invoke("explain", "0071", "--at", "2026-07-01T06:00:00")
    assert result.exit_code == 2
    assert "--at '2026-07-01T06:00:00' has no time zone; write it as 2026-07-01T06:00:00+00:00" in result.stderr
    result = invoke("explain", "0071", "--at", "2026-07-01")
    assert "'2026-07-01' has no time zone; write it as 2026-07-01T00:00:00+00:00 if it is UTC" in result.stderr


def test_an_unknown_sku_is_refused_with_near_ones(stocked: Home) -> None:
    result = invoke("explain", "a-1")
    assert result.exit_code == 2
    assert result.stderr == "invsync: there is no SKU 'a-1' in the stock; did you mean 'A-1'?\n"


def test_a_preview_of_an_import_changes_nothing(home: Home) -> None:
    document = json.loads(invoke("import", home.root / "inventory.csv", "--preview", "--json").stdout)
    assert (document["added"], document["units_after"]) == (2, 15)
    assert json.loads(invoke("status", "--json").stdout)["skus"] == 0


def test_an_import_beyond_the_limits_is_held_and_goes_in_once_approved(stocked: Home) -> None:
    settings = "settings:\n  import_limits: { zeroed_minimum: 0, zeroed_share: 0.1 }\n"
    stocked.channels_file.write_text(settings + CHANNELS.format(port=9))
    (stocked.root / "empty.csv").write_text(INVENTORY.replace(",10,", ",0,").replace(",5,1,", ",0,0,"))
    now = SystemClock().now().isoformat()

    held = invoke("import", stocked.root / "empty.csv", "--as-of", now, "--json")
    assert held.exit_code == 1
    document = json.loads(held.stdout)
    assert document["state"] == "held"
    assert quantities(stocked) == {"0071": 10, "A-1": 5}

    listed = json.loads(invoke("imports", "list", "--held", "--json").stdout)
    assert [one["id"] for one in listed] == [document["import_id"]]
    approved = invoke("imports", "approve", document["import_id"], "--actor", "ada", "--reason", "sold up")
    assert approved.exit_code == 0
    assert quantities(stocked) == {"0071": 0, "A-1": 0}
    assert json.loads(invoke("imports", "list", "--held", "--json").stdout) == []


def test_a_held_import_that_is_dropped_changes_nothing_and_cannot_be_approved_any_more(stocked: Home) -> None:
    settings = "settings:\n  import_limits: { zeroed_minimum: 0, zeroed_share: 0.1 }\n"
    stocked.channels_file.write_text(settings + CHANNELS.format(port=9))
    (stocked.root / "empty.csv").write_text(INVENTORY.replace(",10,", ",0,"))
    now = SystemClock().now().isoformat()
    import_id = json.loads(invoke("import", stocked.root / "empty.csv", "--as-of", now, "--json").stdout)["import_id"]
    assert invoke("imports", "drop", import_id, "--reason", "wrong export").exit_code == 0
    assert quantities(stocked) == {"0071": 10, "A-1": 5}
    again = invoke("imports", "approve", import_id, "--reason", "after all")
    assert (again.exit_code, "not held" in again.stderr) == (2, True)


def test_a_time_without_a_zone_is_refused_with_the_mend(home: Home) -> None:
    result = invoke("import", home.root / "inventory.csv", "--as-of", "2026-07-01T06:00:00")
    assert result.exit_code == 2
    assert "2026-07-01T06:00:00+00:00" in result.stderr


def test_nothing_is_written_before_the_first_push_is_approved(erp: World) -> None:
    result = invoke("sync", "0071", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["approval_missing"] is True
    assert shown(erp) == {"0071": 10, "A-1": 5}


def test_a_channel_is_previewed_approved_and_then_given_skus_are_pushed_alone(erp: World) -> None:
    preview = json.loads(invoke("preview", "erp_main", "--json").stdout)
    assert preview["totals"]["lowered"] == 2
    assert {row["sku"]: row["move"] for row in preview["changes"]} == {"0071": -2, "A-1": -3}
    assert shown(erp) == {"0071": 10, "A-1": 5}

    assert invoke("approve", "erp_main", "--actor", "ada", "--reason", "looks right").exit_code == 0
    result = invoke("sync", "0071", "--json")
    assert result.exit_code == 0
    assert shown(erp) == {"0071": 8, "A-1": 5}


def test_unknown_skus_and_channels_are_not_pushed_to(erp: World) -> None:
    assert invoke("sync", "nothing").exit_code == 2
    other = invoke("sync", "0071", "--channel", "shop")
    assert (other.exit_code, "there are: erp_main" in other.stderr) == (2, True)


def test_a_dead_channel_is_reported_in_one_line_without_its_secrets(stocked: Home) -> None:
    result = invoke("preview", "erp_main")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "secret-of" not in result.output


def test_a_platform_that_lets_us_in_works_and_nothing_is_changed_there(erp: World) -> None:
    result = invoke("channels", "check")
    assert (result.exit_code, "works" in result.stdout) == (0, True)
    assert json.loads(invoke("channels", "check", "erp_main", "--json").stdout) == [
        {"channel": "erp_main", "works": True, "answer": ""}
    ]
    assert shown(erp) == {"0071": 10, "A-1": 5}


def test_a_platform_that_refuses_us_is_named_with_its_words_the_variables_and_the_page(
    erp: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERP_KEY", "another key")
    result = invoke("channels", "check")
    assert result.exit_code == 1
    assert "unauthorized: " in result.stdout and "[re-authenticate]" in result.stdout
    assert (
        "! erp_main: its keys are in ERP_KEY, ERP_SIGNING; what this means: docs/errors/re-authenticate.md\n"
        in result.stdout
    )
    assert "another key" not in result.output


def test_a_platform_that_is_not_reached_or_not_configured_does_not_work(
    stocked: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (refused,) = json.loads(invoke("channels", "check", "--json").stdout)
    assert (refused["works"], refused["answer"].startswith("not_reached: ")) == (False, True)
    monkeypatch.delenv("ERP_KEY")
    (disabled,) = json.loads(invoke("channels", "check", "--json").stdout)
    assert "the environment variable ERP_KEY is not set" in disabled["answer"]
    named = invoke("channels", "check", "erp_main")
    assert (named.exit_code, "ERP_KEY is not set" in named.stderr) == (2, True)


def test_a_channel_is_paused_resumed_and_retired_with_who_and_why(stocked: Home) -> None:
    for command, state in (("pause", "paused"), ("resume", "active"), ("retire", "retired")):
        assert invoke("channels", command, "erp_main", "--actor", "ada", "--reason", "stocktaking").exit_code == 0
        (row,) = json.loads(invoke("channels", "list", "--json").stdout)
        assert row["status"] == state
    engine = open_database(stocked.database_url)
    with engine.connect() as connection:
        query = (
            select(operator_actions.c.action).where(operator_actions.c.actor == "ada").order_by(operator_actions.c.id)
        )
        actions = list(connection.execute(query).scalars())
    engine.dispose()
    assert actions == ["channel paused", "channel active", "channel retired"]


def test_before_the_channels_are_brought_in_each_command_says_how_to(home: Home) -> None:
    assert invoke("import", home.root / "inventory.csv").exit_code == 0
    mapped = invoke("import", home.root / "mapping.csv")
    mend = "bring it in from channels.yaml: `invsync channels sync`"
    assert (mapped.exit_code, f"unknown channel 'erp_main' - {mend}" in mapped.output) == (1, True)
    approved = invoke("approve", "erp_main", "--reason", "looked at")
    said = "invsync: the stock has no channel 'erp_main'; `invsync channels sync` brings in those of channels.yaml\n"
    assert (approved.exit_code, approved.stderr) == (2, said)


def test_an_unknown_channel_cannot_be_paused(stocked: Home) -> None:
    result = invoke("channels", "pause", "shop", "--reason", "none")
    said = "invsync: the stock has no channel 'shop'; `invsync channels sync` brings in those of channels.yaml\n"
    assert (result.exit_code, result.stderr) == (2, said)


def test_a_file_that_is_not_in_quarantine_cannot_be_replayed(home: Home) -> None:
    result = invoke("inbox", "replay", "123-0.json")
    assert (result.exit_code, "there is no such file" in result.stderr) == (2, True)


def quantities(home: Home) -> dict[str, int]:
    engine = open_database(home.database_url)
    with engine.connect() as connection:
        rows = connection.execute(select(central_inventory.c.sku, central_inventory.c.quantity)).all()
    engine.dispose()
    return dict(rows)


def test_a_table_shows_brackets_and_colons_of_foreign_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    cells = ("answer_lost: cut [settle]", "[/red] mug :gift:")
    print_table("Rows", ("problem", "product"), [cells])
    shown = capsys.readouterr().out
    assert all(cell in shown for cell in cells)


def test_a_narrow_terminal_gets_a_line_a_column(stocked: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    header = invoke("status").stdout.splitlines()[2]
    assert "channel" in header and "out of step" in header
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # what rich takes for a terminal
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = invoke("status").stdout.splitlines()
    assert any("channel" in line and "erp_main" in line for line in lines)
    assert any("out of step" in line and "2" in line and "held" not in line for line in lines)


def held_skus() -> list[str]:
    return [row["sku"] for row in json.loads(invoke("held", "list", "--json").stdout)["levels"]]


def test_a_mapping_that_would_zero_a_channel_is_held_and_says_so(home: Home) -> None:
    skus = [f"S{number}" for number in range(30)]
    rows = "".join(f"{sku},,10,0,active\n" for sku in skus)
    (home.root / "many.csv").write_text("sku,product_name,quantity,reserved_quantity,status\n" + rows)
    header = "central_sku,channel,platform_sku,platform_item_id,platform_location_id,percent\n"
    (home.root / "all.csv").write_text(header + "".join(f"{sku},erp_main,{sku},{sku},,\n" for sku in skus))
    (home.root / "none.csv").write_text(header + "".join(f"{sku},erp_main,{sku},{sku},,0\n" for sku in skus))
    invoke("channels", "sync")
    assert invoke("import", home.root / "many.csv").exit_code == 0
    assert invoke("import", home.root / "all.csv").exit_code == 0
    engine = open_database(home.database_url)
    with write_transaction(engine) as connection:
        connection.execute(update(inventory_levels).values(acknowledged_quantity=8, expected=8, effective_quantity=8))
    engine.dispose()
    told = invoke("import", home.root / "none.csv")
    assert told.exit_code == 1
    assert "too many listings of a channel at once: 30 are held at their number" in told.stdout
    assert "30 of 30 listings on erp_main" in invoke("held", "list").stdout


def test_held_listings_are_listed_with_the_reason_and_approved_by_a_person(stocked: Home) -> None:
    engine = open_database(stocked.database_url)
    with write_transaction(engine) as connection:
        level = inventory_levels.c
        connection.execute(update(inventory_levels).values(acknowledged_quantity=level.desired - 1))
        ids = list(connection.execute(select(level.id)).scalars())
        now = SystemClock().now()
        holds.hold(
            connection,
            dict.fromkeys(ids, holds.Before(0, 0)),
            zeroes=False,
            reason="change 9 would raise 2 of 2 listings",
            actor="breaker",
            now=now,
        )
    engine.dispose()
    words = invoke("held", "list").stdout
    assert "change 9 would raise 2 of 2 listings" in words
    assert "Held: 2" in words
    assert held_skus() == ["0071", "A-1"]
    assert "1 listings approved" in invoke("held", "approve", "erp_main", "A-1", "--reason", "right").stdout
    assert held_skus() == ["0071"]
    refused = invoke("held", "approve", "erp_main", "A-1", "--reason", "again")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("invsync: nothing is held on 'erp_main' of A-1: ")
    assert "levels approved: right" in refused.stderr
    assert "1 listings stay at what they show" in invoke("held", "drop", "erp_main", "--reason", "a slip").stdout
    assert "stays so" in invoke("held", "list").stdout


def states(home: Home) -> dict[str, str]:
    engine = open_database(home.database_url)
    with engine.connect() as connection:
        rows = connection.execute(select(platform_mapping.c.central_sku, platform_mapping.c.status)).all()
    engine.dispose()
    return dict(rows)


def test_a_sku_is_paused_nothing_is_written_and_it_is_read_first_when_it_goes_on(stocked: Home, erp: World) -> None:
    invoke("approve", "erp_main", "--reason", "looked")
    assert invoke("sync", "0071", "A-1").exit_code == 0
    assert shown(erp) == {"0071": 8, "A-1": 2}
    told = invoke("listings", "pause", "0071", "--actor", "ada", "--reason", "recall")
    assert (told.exit_code, told.stdout) == (0, "1 listings: paused\n")
    assert states(stocked) == {"0071": "paused", "A-1": "active"}
    (stocked.root / "inventory.csv").write_text(INVENTORY.replace(",10,0", ",7,0").replace(",5,1", ",4,1"))
    assert invoke("import", stocked.root / "inventory.csv").exit_code == 0
    invoke("sync", "0071", "A-1")
    assert shown(erp) == {"0071": 8, "A-1": 1}
    assert "paused: the channel's number is left as it is" in invoke("explain", "0071").stdout
    assert invoke("listings", "resume", "0071", "--channel", "erp_main", "--reason", "over").exit_code == 0
    (report,) = json.loads(invoke("sync", "0071", "--json").stdout)
    assert report["read"] + report["pushed"] > 0
    assert shown(erp) == {"0071": 5, "A-1": 1}


def test_what_is_not_paused_cannot_be_resumed_and_an_unknown_sku_is_named(stocked: Home) -> None:
    told = invoke("listings", "resume", "0071", "--reason", "none")
    assert (told.exit_code, told.stderr) == (2, "invsync: 0071 has no listing that is paused\n")
    told = invoke("listings", "pause", "0071", "0072", "--reason", "none")
    assert (told.exit_code, "0071" in told.stderr) == (2, True)
    assert set(states(stocked).values()) == {"active"}
