"""`invsync discover` in the terminal: from a walk over a corrected file to levels."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from invsync_dagster.inventory.database import open_database
from invsync_dagster.inventory.tables import inventory_levels
from invsync_dagster.platforms.transport import Request, Response
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.world import World
from invsync_dagster.settings import Home
from tests.unit.commands import ERP_MAIN, MAPPING_HEADER, invoke, migrated, own_root, stand_ins

CHANNELS = f"channels:\n{ERP_MAIN}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """An installation with three SKUs and no mapping, before an ERP that lists `0071`, `a-1` and `GIFT`."""
    home = migrated(own_root(monkeypatch, tmp_path))
    home.channels_file.write_text(CHANNELS.format(port=9))
    (tmp_path / "inventory.csv").write_text("sku,quantity\n0071,10\nA-1,5\nB,2\n")
    assert invoke("channels", "sync").exit_code == 0
    assert invoke("import", tmp_path / "inventory.csv").exit_code == 0
    articles = {"erp_main": [Article("0071", 10), Article("a-1", 5), Article("GIFT", 1)]}
    with stand_ins(home, CHANNELS, articles):
        yield home


def levels(home: Home) -> dict[str, str]:
    engine = open_database(home.database_url)
    with engine.connect() as connection:
        found = dict(connection.execute(select(inventory_levels.c.item_id, inventory_levels.c.central_sku)).all())
    engine.dispose()
    return found


def test_discover_correct_and_import_makes_levels(home: Home) -> None:
    result = invoke("discover", "erp_main", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    totals = document["totals"]
    assert (totals["listings"], totals["unmapped"], totals["unlisted_skus"]) == (3, 3, 3)
    assert (totals["matched"], totals["similar"], totals["unmatched"]) == (1, 1, 1)
    assert (document["problem"], len(document["first"])) == ("", 3)
    assert levels(home) == {}
    file = Path(document["mapping_file"])
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    corrected = [{**row, "central_sku": row["central_sku"] or row["proposed_sku"]} for row in rows]
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(corrected)
    imported = invoke("import", file)
    assert imported.exit_code == 1, imported.output
    assert imported.stdout.startswith("applied in part: 2 of 3 rows; ")
    assert "2 added" in imported.stdout
    assert levels(home) == {"0071": "0071", "a-1": "A-1"}


def test_the_mapping_file_opens_in_excel_and_goes_in_as_it_was_written(home: Home) -> None:
    file = Path(json.loads(invoke("discover", "erp_main", "--json").stdout)["mapping_file"])
    assert file.read_bytes().startswith(b"\xef\xbb\xbfcentral_sku,channel,")
    imported = invoke("import", file)
    assert "SKUs" not in imported.stdout
    assert "listings: 1 added" in imported.stdout
    assert levels(home) == {"0071": "0071"}


def test_the_words_name_each_case_and_say_what_to_do_with_the_file(home: Home) -> None:
    words = invoke("discover", "erp_main").stdout
    assert "erp_main: 3 cases" in words
    assert "like 'A-1' but for case" in words
    assert "3 listings, 0 mapped levels; 3 not mapped (1 have a SKU of the same text, 1 a similar one" in words
    assert "copy proposed_sku there where you agree" in words
    (file,) = home.reports.glob("cli-*/mapping_erp_main.csv")
    assert str(file) in words


def test_a_vanished_listing_is_no_success(home: Home) -> None:
    mapping = home.root / "mapping.csv"
    mapping.write_text(f"{MAPPING_HEADER}0071,erp_main,0071,0071,\nB,erp_main,B,B,\n")
    assert invoke("import", mapping).exit_code == 0
    result = invoke("discover", "erp_main")
    assert result.exit_code == 1
    assert "! 1 levels are gone or moved there, and stopped until you retire or map them anew" in result.stdout


def test_the_wrong_shop_is_refused_in_one_line(home: Home) -> None:
    mapping = home.root / "mapping.csv"
    mapping.write_text(f"{MAPPING_HEADER}A-1,erp_main,A-1,other-1,\nB,erp_main,B,other-2,\n")
    assert invoke("import", mapping).exit_code == 0
    result = invoke("discover", "erp_main")
    assert result.exit_code == 2
    assert "this looks like the wrong shop" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(home.reports.glob("*/*.csv"))


@pytest.mark.parametrize("command", ["discover", "preview"])
def test_a_channel_that_refuses_us_is_named_with_the_variables_and_the_page(
    home: Home, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    if command == "preview":
        mapping = home.root / "mapping.csv"
        mapping.write_text(f"{MAPPING_HEADER}0071,erp_main,0071,0071,\n")
        assert invoke("import", mapping).exit_code == 0
    with monkeypatch.context() as patch:
        patch.setenv("ERP_KEY", "another key")
        refused = invoke(command, "erp_main")
    assert (refused.exit_code, refused.stderr.startswith("invsync: erp_main: unauthorized: ")) == (2, True)
    mend = "; its keys are in ERP_KEY, ERP_SIGNING; what this means: docs/errors/re-authenticate.md\n"
    assert refused.stderr.endswith(f" [re-authenticate]{mend}")
    assert "another key" not in refused.output
    assert invoke(command, "erp_main").exit_code == 0


def test_a_web_page_instead_of_an_answer_names_the_channel_and_its_page(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(world: World, name: str, request: Request) -> Response:
        return Response(200, {"content-type": "text/html"}, b"<html>Maintenance</html>")

    with monkeypatch.context() as patch:
        patch.setattr(World, "handle", page)
        refused = invoke("discover", "erp_main")
    assert (refused.exit_code, refused.stderr.startswith("invsync: erp_main: malformed_answer: ")) == (2, True)
    assert refused.stderr.endswith("; what this means: docs/errors/retry.md\n")
    assert invoke("discover", "erp_main").exit_code == 0


def test_an_unknown_channel_is_refused_with_the_known_ones(home: Home) -> None:
    result = invoke("discover", "erp")
    assert result.exit_code == 2
    assert "erp_main" in result.stderr


def test_a_disk_that_is_full_when_the_mapping_file_is_written_is_said_in_one_line(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused = invoke("discover", "erp_main")
    assert refused.exit_code == 2
    assert refused.stderr == "invsync: the disk is full: free space, and give the command again\n"
    assert list(home.reports.rglob("mapping_*")) == []
    again = invoke("discover", "erp_main", "--json")
    assert Path(json.loads(again.stdout)["mapping_file"]).exists()
