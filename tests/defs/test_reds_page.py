"""docs/reds.md says of every check and alert what it means, docs/daily.md of every schedule and sensor what it is for."""

import ast
import re
from pathlib import Path

from invsync_dagster.alerts import conditions
from invsync_dagster.channels import load
from invsync_dagster.defs import alerting
from invsync_dagster.defs.build import build
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.settings import Home

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reds.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_page_names_every_check_and_no_other(tmp_path: Path) -> None:
    home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    home.channels_file.write_bytes((ROOT / "channels.yaml").read_bytes())
    keys = build(home, load(home, {}), Invsync()).resolve_asset_graph().asset_check_keys
    # A channel's assets are named by it: shopify_main stands for all.
    there = {("/".join(key.asset_key.path).replace("/shopify_main", "/<channel>"), key.name) for key in keys}
    others = {(asset, check) for asset, check in there if "/" in asset and "<channel>" not in asset}
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", section("Checks"), re.MULTILINE)
    assert {(asset, check) for asset, check, _, _ in rows} == there - others
    assert len(rows) == len(there - others)


def titles(source: str) -> set[str]:
    """Return the fixed words of the titles of all causes that a module makes."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Cause":
            for part in ast.walk(node.args[3]):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found.add(part.value.strip(" :"))
    return found - {""}


def test_the_page_names_every_alert() -> None:
    said = {words for module in (conditions, alerting) for words in titles(Path(str(module.__file__)).read_text())}
    assert len(said) > 8
    assert {words for words in said if words not in section("Alerts")} == set()


def test_the_page_of_daily_work_says_what_each_schedule_and_sensor_is_for(tmp_path: Path) -> None:
    home = Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})
    home.channels_file.write_bytes((ROOT / "channels.yaml").read_bytes())
    definitions = build(home, load(home, {}), Invsync())
    names = {one.name for one in [*(definitions.schedules or []), *(definitions.sensors or [])]}
    daily = (ROOT / "docs" / "daily.md").read_text(encoding="utf-8").partition("\n## Schedules and sensors")[2]
    told = set(re.findall(r"`(\w+_(?:schedule|sensor))`", daily.partition("\n\nTo stop")[0]))
    assert names == told, "each has a row in docs/daily.md that says what is missed without it"
