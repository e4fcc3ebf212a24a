"""The pages for sellers: one order of sections a platform, entries that the loader takes, links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from invsync_dagster.channels import Configuration, load
from invsync_dagster.platforms.registry import VENDORS
from invsync_dagster.settings import Home

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]

SECTIONS = [
    "What you need",
    "Credentials",
    "Rehearse in a sandbox",
    "channels.yaml and .env",
    "Check that it lets us in",
    "Webhooks",
    "Map the listings",
    "The first push",
    "How a quantity gets there",
    "What its orders mean",
    "What you may read, and what to do",
]


def of_platform(platform: str) -> str:
    return (ROOT / "docs" / f"{platform}.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, without what they are indented by."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def is_of_channels_yaml(block: str) -> bool:
    """Tell a part of channels.yaml from the file beside an import, the configuration of a job, and other programs' files."""
    content = yaml.safe_load(block)
    return isinstance(content, list) or bool(content.keys() & {"settings", "channels"})


def snippets() -> list[object]:
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "yaml"))
        if is_of_channels_yaml(block)
    ]


def variables(block: str) -> set[str]:
    return set(re.findall(r"_env: *([A-Z][A-Z0-9_]+)", re.sub(r"^\s*#.*$", "", block, flags=re.MULTILINE)))


def loaded(block: str, root: Path) -> Configuration:
    """Load a block as channels.yaml: whole, or the entry of a channel, or settings alone."""
    content = yaml.safe_load(block)
    if isinstance(content, list):
        block = f"channels:\n{block}"
    elif "channels" not in content:
        block = f"{block}\nchannels: []\n"
    (root / "channels.yaml").write_text(block, encoding="utf-8")
    environ = dict.fromkeys(variables(block), "a-secret-of-more-than-thirty-two-letters")
    return load(Home.from_environment({"INVSYNC_ROOT": str(root)}), environ)


@pytest.mark.parametrize("block", snippets())
def test_an_entry_of_the_documentation_is_taken_by_the_loader(block: str, tmp_path: Path) -> None:
    configuration = loaded(block, tmp_path)
    assert configuration.problems == ()
    assert all(channel.disabled_reason == "" for channel in configuration.channels)


@pytest.mark.parametrize("platform", VENDORS)
def test_a_platforms_page_has_the_sections_of_all_in_their_order(platform: str) -> None:
    assert re.findall(r"^## (.+)$", of_platform(platform), re.MULTILINE) == SECTIONS


@pytest.mark.parametrize("platform", VENDORS)
def test_a_platforms_page_has_its_entry_and_names_each_variable(platform: str, tmp_path: Path) -> None:
    text = of_platform(platform)
    entries = blocks(text, "yaml")
    channels = [channel for entry in entries for channel in loaded(entry, tmp_path).channels]
    assert {(channel.platform, channel.environment) for channel in channels} == {(platform, "production")}
    (env,) = [block for block in blocks(text, "sh") if block.startswith("# .env")]
    assert set(re.findall(r"^([A-Z0-9_]+)=$", env, re.MULTILINE)) == set().union(*map(variables, entries))
    for command in ("channels check", "discover", "preview", "approve"):
        assert f"invsync {command} {channels[0].name}" in text


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "")).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("platform", VENDORS)
def test_what_a_platforms_page_says_of_a_code_is_said_of_one_that_the_errors_pages_know(platform: str) -> None:
    section = of_platform(platform).partition(f"## {SECTIONS[-1]}\n")[2]
    codes = {
        code for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for code in re.findall(r"[\w.-]+", row)
    }
    errors = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "errors").glob("*.md"))
    rows = "".join(re.findall(rf"^\| (?:{platform}|every channel) \|.*$", errors, re.MULTILINE))
    assert len(codes) > 4
    assert {code for code in codes if f"`{code}`" not in rows} == set()
