"""`invsync import`: what is declared of a file, beside it or by options, and what it says of files on bad days."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from invsync_dagster.settings import Home
from tests.unit.commands import invoke, migrated, own_root

CHANNELS = """\
settings:
  imports:
    acme:
      columns: {sku: sku, quantity: quantity, status: status}
channels:
  - name: woo_main
    platform: woocommerce
    environment: sandbox
    settings:
      store_url: http://127.0.0.1:9/woo_main
      consumer_key_env: WOO_KEY
      consumer_secret_env: WOO_SECRET
      webhook_secret_env: WOO_WEBHOOK
"""

TWO_LOCATIONS = "Handle,Title,SKU,Location,Available\nmug,Mug,M-1,Hall,3\nmug,Mug,M-1,Shop,2\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An installation in a folder of its own, with a WooCommerce channel and nothing in stock."""
    home = migrated(own_root(monkeypatch, tmp_path, "WOO_KEY", "WOO_SECRET", "WOO_WEBHOOK"))
    home.channels_file.write_text(CHANNELS)
    assert invoke("channels", "sync").exit_code == 0
    return home


def put(home: Home, name: str, content: str | bytes) -> Path:
    path = home.root / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def previewed(path: Path, *options: str) -> dict[str, Any]:
    result = invoke("import", path, "--preview", "--json", *options)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_the_file_beside_an_import_declares_it_and_options_win_key_by_key(home: Home) -> None:
    path = put(home, "stock.csv", "sku,product_name,quantity\nA,Mug,3\n")
    put(
        home,
        "stock.csv.yaml",
        "basis: available\nas_of: 2026-07-01T06:00:00+02:00\ncontains: [woo_main]\n",
    )
    assert previewed(path)["counts"] == (
        "counts units available as of 2026-07-01 04:00:00 UTC; orders already in it: woo_main"
    )
    assert previewed(path, "--basis", "on_hand")["counts"] == (
        "counts units on hand as of 2026-07-01 04:00:00 UTC; orders already in it: woo_main"
    )
    assert "as of 2026-07-02 00:00:00 UTC" in previewed(path, "--as-of", "2026-07-02T00:00:00+00:00")["counts"]
    done = invoke("import", path)
    assert (done.exit_code, "counts units available as of 2026-07-01 04:00:00 UTC" in done.stdout) == (0, True)
    assert path.exists(), "what a person keeps elsewhere isn't taken away"


@pytest.mark.parametrize("options", [[], ["--preview"]])
def test_a_broken_file_beside_an_import_is_named_and_nothing_goes_in(home: Home, options: list[str]) -> None:
    path = put(home, "stock.csv", "sku,product_name,quantity\nA,Mug,3\n")
    put(home, "stock.csv.yaml", "basis: onhand\n")
    refused = invoke("import", path, *options)
    assert refused.exit_code == 2
    assert refused.stderr == (
        "invsync: stock.csv.yaml line 1 column 'basis': unknown basis 'onhand' - write on_hand or available\n"
    )
    assert json.loads(invoke("imports", "list", "--json").stdout) == []


def test_the_preview_of_a_file_of_which_nothing_can_go_in_says_so_as_its_import_does(home: Home) -> None:
    path = put(home, "stock.csv", "sku,quantity\nA,1.234\nB,5.678\n")
    shown = invoke("import", path, "--preview")
    said = invoke("import", path)
    assert (shown.exit_code, said.exit_code) == (1, 1)
    assert shown.stdout.splitlines()[0] == said.stdout.splitlines()[0]
    assert shown.stdout.startswith(
        "rejected: stock.csv: no row of the file can go in; 2 of 2 rows are like line 2 column 'quantity': "
    )


def test_a_refusal_over_locations_is_mended_as_it_says_in_the_file_beside_or_by_the_option(home: Home) -> None:
    path = put(home, "side.csv", TWO_LOCATIONS)
    refused = invoke("import", path, "--preview")
    assert refused.exit_code == 2
    assert 'locations: all or locations: ["Hall"] in side.csv.yaml, or as --location all' in refused.stderr
    assert previewed(path, "--location", "all")["units_after"] == 5
    put(home, "side.csv.yaml", "locations: all\n")
    assert previewed(path)["units_after"] == 5
    assert previewed(path, "--location", "Hall")["units_after"] == 3


def test_a_refusal_over_two_kinds_is_mended_by_either_of_the_kinds_that_it_names(home: Home) -> None:
    path = put(home, "stock.csv", "sku,quantity,status\nA,3,active\n")
    refused = invoke("import", path, "--preview")
    assert (
        "fits 2 kinds of files: acme, inventory - declare one of them, as kind: acme in stock.csv.yaml or --kind acme"
        in (refused.stderr)
    )
    assert previewed(path, "--kind", "acme")["source"] == "file 'acme' of channels.yaml"
    assert previewed(path, "--kind", "inventory")["source"] == ""


@pytest.mark.parametrize("encoding", ["gbk", "GBK", "gb18030"])
def test_a_file_of_chinese_windows_goes_in_under_the_name_that_people_know(home: Home, encoding: str) -> None:
    path = put(home, "stock.csv", "sku,product_name,quantity\n杯子-1,杯子,3\n".encode("gbk"))
    refused = invoke("import", path, "--preview")
    assert refused.exit_code == 2
    assert "as encoding: … in stock.csv.yaml or --encoding …" in refused.stderr
    assert "gbk or gb18030 (China)" in refused.stderr
    (move,) = previewed(path, "--encoding", encoding)["largest"]
    assert (move["sku"], move["product_name"], move["quantity_after"]) == ("杯子-1", "杯子", 3)
    put(home, "stock.csv.yaml", "encoding: gbk\n")
    assert previewed(path)["largest"] == [move]


def test_a_file_that_goes_in_in_part_says_so_first_with_the_mend_and_exits_1_until_its_rows_are_in(home: Home) -> None:
    path = put(home, "stock.csv", 'sku,quantity\nA,"1,500"\nB,"2,250"\nC,6\nC,6\nD,7\n')
    done = invoke("import", path)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == (
        "applied in part: 2 of 5 rows; of the others 2 of 3 rows are like line 2 column 'quantity': the ',' may be a thousands "
        'mark (1500) or a decimal mark (1,500) - declare the file\'s mark, as decimal_mark: "," in its sidecar or '
        "--decimal-mark, or write digits only"
    )
    again = invoke("import", path)
    assert (again.exit_code, again.stdout.split(" at ")[0]) == (1, "already_imported: already imported")
    assert "2 of 3 rows are like line 2 column 'quantity'" in again.stdout.splitlines()[0]
    put(home, "stock.csv", 'sku,quantity\nA,"1,500"\nB,"2,250"\nC,6\nD,7\n')
    assert invoke("import", path).exit_code == 1
    whole = invoke("import", path, "--decimal-mark", ".", "--json")
    assert (whole.exit_code, json.loads(whole.stdout)["state"], json.loads(whole.stdout)["reason"]) == (
        0,
        "applied",
        "",
    )
    known = invoke("import", path, "--decimal-mark", ".")
    assert (known.exit_code, known.stdout.split(" at ")[0]) == (0, "already_imported: already imported")
    listed = json.loads(invoke("imports", "list", "--json").stdout)
    assert [(one["applied_rows"], one["rejected_rows"], one["reason"][:11]) for one in listed] == [
        (4, 0, ""),
        (2, 2, "2 of 4 rows"),
        (2, 3, "2 of 5 rows"),
    ]
