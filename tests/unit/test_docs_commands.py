"""The commands that the documentation names: there, with their options, and they do what they are named for in a small home."""

from __future__ import annotations

import random
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import select

from invsync_dagster.cli import main
from invsync_dagster.clock import SystemClock
from invsync_dagster.inventory.database import migrate, open_database
from invsync_dagster.inventory.deciding import holds_now
from invsync_dagster.inventory.looks import Look
from invsync_dagster.inventory.rule_changes import rule_changes
from invsync_dagster.inventory.tables import imports
from invsync_dagster.sandbox.faces import Article
from invsync_dagster.settings import Home
from invsync_dagster.sync.intake import apply_inbox
from invsync_dagster.sync.workspace import Workspace
from invsync_dagster.webhooks.inbox import Inbox, SegmentWriter
from invsync_dagster.webhooks.segments import Delivery
from tests.unit.commands import ERP_MAIN, own_root, stand_ins

ROOT = Path(__file__).parents[2]
# Not the decisions: they also name what was not taken.
PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh-CN.md",
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs").glob("errors/*.md"),
]
NAMED = re.compile(r"`invsync ([a-z][^`]*)`")
# In docs/commands.md each row's first cell names commands without the program; several subcommands share a group's name.
ROW = re.compile(r"^\| (`.+?) \|", re.MULTILINE)
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"^(?:\.venv/bin/)?invsync (.+)$", re.MULTILINE)

# Parsed only; each is run by the tests that are named.
NOT_RUN = {
    "upgrade": "starts Dagster's own migration, a process of many seconds: test_cli_keeping.py",
    "move-database": "needs a second, empty database: test_cli_keeping.py",
    "restore": "needs an empty home: test_cli_restore.py",
    "alerts test": "sends to messengers: test_cli_alerts.py",
}
CHANNELS = (
    """\
settings:
  import_limits: {{ zeroed_minimum: 0, zeroed_share: 0.6 }}
  change_limits: {{ minimum: 0, zeroed_share: 0.1 }}
channels:
"""
    + ERP_MAIN
)
INVENTORY = "sku,product_name,quantity\nHELD,Tea towel,10\nPAUSED,Mug,5\nSOLD,Bowl,7\n"
MAPPING = (
    "central_sku,channel,platform_sku,platform_item_id,platform_location_id\n"
    "HELD,erp_main,HELD,HELD,\nPAUSED,erp_main,PAUSED,PAUSED,\nSOLD,erp_main,SOLD,SOLD,\n"
)
NOTHING_SHOWN = (
    "central_sku,channel,platform_sku,platform_item_id,platform_location_id,percent\nHELD,erp_main,HELD,HELD,,0\n"
)


def named() -> list[str]:
    found = {command for page in PAGES for command in NAMED.findall(page.read_text(encoding="utf-8"))}
    for cell in ROW.findall((ROOT / "docs" / "commands.md").read_text(encoding="utf-8")):
        first, *others = re.findall(r"`([^`]+)`", cell)
        found.add(first)
        group = first.split()[0]
        # `resume C` after `channels pause C` is the group's, `--reason R` is an option of them all.
        found |= {one if one.split()[0] in main.commands else f"{group} {one}" for one in others if one[0] != "-"}
    for page in PAGES:
        for block in FENCED.findall(page.read_text(encoding="utf-8")):
            found |= set(TYPED.findall(block))
    return sorted(found)


def resolved(words: list[str]) -> tuple[str, click.Command, list[str]]:
    """Return the command that the words name, with its name, and the words behind that."""
    command: click.Command = main
    name: list[str] = []
    while isinstance(command, click.Group) and words:
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        name.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    return " ".join(name), command, words


def words_of(text: str) -> list[str]:
    return shlex.split(text.replace("[", " ").replace("]", " ").replace("|", " "), comments=True)


@pytest.mark.parametrize("text", named())
def test_a_command_of_the_documentation_is_there_with_its_options(text: str) -> None:
    _, command, words = resolved(words_of(text))
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} - {"--json"} <= options


def test_every_command_is_in_the_list_of_commands() -> None:
    listed = {" ".join(one.split()[:2]) for one in named()}
    for name, command in main.commands.items():
        subcommands = command.commands if isinstance(command, click.Group) else {"": command}
        for subcommand in subcommands:
            wanted = f"{name} {subcommand}".strip()
            assert any(one == wanted or one.split()[0] == wanted for one in listed), wanted


@dataclass(frozen=True)
class Prepared:
    """A home that has one of everything that a command may be about."""

    home: Home
    held_import: str
    applied_import: str
    quarantined: str
    hold: str
    change: str
    look: str


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("home")
        home = own_root(patch, root)
        articles = {"erp_main": [Article("HELD", 10), Article("PAUSED", 5), Article("SOLD", 7)]}
        with stand_ins(home, CHANNELS, articles):
            yield prepare(home)


def prepare(home: Home) -> Prepared:
    engine = open_database(home.database_url, make=True)
    migrate(engine)
    Inbox(home.inbox).prepare(SystemClock().now())
    (home.root / "inventory.csv").write_text(INVENTORY)
    (home.root / "mapping.csv").write_text(MAPPING)
    (home.root / "nothing_shown.csv").write_text(NOTHING_SHOWN)
    (home.root / "empty.csv").write_text("sku,quantity\nHELD,0\nPAUSED,0\nSOLD,0\n")
    now = SystemClock().now()
    for command in (
        "channels sync",
        "import inventory.csv",
        "import mapping.csv",
        'approve erp_main --reason "it may"',
        "sync HELD PAUSED SOLD",
        "listings pause PAUSED --reason recalled",
    ):
        assert invoke(home, *shlex.split(command)).exit_code == 0, command
    home.channels_file.write_text(home.channels_file.read_text() + "    rules:\n      buffer: 1\n")
    assert invoke(home, "channels", "sync").exit_code == 0
    assert invoke(home, "sync", "HELD", "SOLD").exit_code == 0
    assert invoke(home, "import", "nothing_shown.csv").exit_code == 1
    assert invoke(home, "import", "empty.csv", "--as-of", now.isoformat()).exit_code == 1
    broken = Delivery("erp_main", "stock", now, {}, b"[]")
    SegmentWriter(home.inbox, SystemClock(), random.Random(1)).write([broken])
    ws = Workspace.open(home)
    apply_inbox(ws, run_id="run")
    ws.close()
    with engine.connect() as connection:
        states = dict(connection.execute(select(imports.c.state, imports.c.id).order_by(imports.c.id.desc())).all())
        (hold,), change = holds_now(connection), next(one for one in rule_changes(connection) if not one.listings)
        numbers = str(hold.number), str(change.number), str(Look.at_present(connection))
    engine.dispose()
    (quarantined,) = Inbox(home.inbox).quarantine.entries()
    return Prepared(home, states["held"], states["applied"], quarantined.path.name, *numbers)


def invoke(home: Home, *arguments: str) -> click.testing.Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INVSYNC_ROOT", str(home.root))
        patch.chdir(home.root)
        return CliRunner().invoke(main, list(arguments))


SAMPLE_CHANNELS = re.findall(r"- name: (\w+)", (ROOT / "channels.yaml").read_text(encoding="utf-8"))
STANDS_FOR = {
    **dict.fromkeys(("C", "CHANNEL", *SAMPLE_CHANNELS), "erp_main"),
    **dict.fromkeys(("SKU", "SKUS", "OCT00-SAN-S"), "HELD"),
    **dict.fromkeys(("T", "TIME"), "2026-01-01T00:00:00+00:00"),
    **dict.fromkeys(("ID", "IMPORT_ID"), "ID"),
    **dict.fromkeys(("HOLD", "CHANGE", "1234"), "NUMBER"),
    **dict.fromkeys(("LOOK", "1240-56789"), "LOOK"),
    "WHAT": "erp_main",
    "stock.csv": "inventory.csv",
    **dict.fromkeys(("R", ""), "for a reason"),
}


def filled_in(text: str) -> tuple[str, ...] | None:
    """Return the words of a command with what stands in the home for what they leave open, and with what must be given; None
    for a page that speaks of `invsync imports` as a whole."""
    name, command, words = resolved(words_of(text))
    if isinstance(command, click.Group):
        return None
    given = [STANDS_FOR.get(word.rstrip("…"), word.rstrip("…")) for word in words]
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and parameter.required and (not given or given[0].startswith("--")):
            given.insert(0, STANDS_FOR.get(str(parameter.name).upper(), "FILE"))
        elif isinstance(parameter, click.Option) and parameter.required and not set(parameter.opts) & set(given):
            given += [parameter.opts[0], "for a reason"]
    return (*name.split(), *given)


def runs() -> list[object]:
    """Return what is to be run, each once, whatever its placeholders are called."""
    texts = [text for text in named() if resolved(words_of(text))[0] not in NOT_RUN]
    return [
        pytest.param(words, id=" ".join(words)) for words in sorted({filled_in(text) or () for text in texts} - {()})
    ]


@pytest.mark.parametrize("words", runs())
def test_a_command_of_the_documentation_works_in_a_small_home(
    words: tuple[str, ...], prepared: Prepared, tmp_path: Path
) -> None:
    there = {
        "ID": prepared.applied_import if "undo" in words else prepared.held_import,
        "FILE": prepared.quarantined if words[0] == "inbox" else "inventory.csv",
        "HELD": {"resume": "PAUSED", "sync": "SOLD"}.get(words[1] if words[0] == "listings" else words[0], "HELD"),
        "NUMBER": prepared.change if "rules" in words else prepared.hold,
        "LOOK": prepared.look,
    }
    root = shutil.copytree(prepared.home.root, tmp_path / "home")
    result = invoke(Home.from_environment({"INVSYNC_ROOT": str(root)}), *(there.get(word, word) for word in words))
    assert result.exit_code == 0, result.output
    assert result.stdout


def test_what_is_started_with_make_or_python_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE):
            assert target in targets, (page.name, target)
        for module in re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)", text):
            assert find_spec(module) is not None, (page.name, module)
