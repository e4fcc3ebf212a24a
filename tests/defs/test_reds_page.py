"""docs/reds.md says of every check and of every alert what it means and what to do."""

import ast
import re
from pathlib import Path

from invsync_dagster.alerts import conditions
from invsync_dagster.defs import alerting
from tests.defs.conftest import Installation

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reds.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_page_names_every_check_and_no_other(install) -> None:
    home: Installation = install("one")
    graph = home.definitions().resolve_asset_graph()
    there = {(key.asset_key.to_user_string().replace("/one", "/<channel>"), key.name) for key in graph.asset_check_keys}
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", section("Checks"), re.MULTILINE)
    assert {(asset, check) for asset, check, _, _ in rows} == there
    assert len(rows) == len(there)


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
