"""The commands that the documentation names are there, with the options that it gives them."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from invsync_dagster.cli import main

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


def named() -> list[str]:
    found = {command for page in PAGES for command in NAMED.findall(page.read_text(encoding="utf-8"))}
    for cell in ROW.findall((ROOT / "docs" / "commands.md").read_text(encoding="utf-8")):
        first, *others = re.findall(r"`([^`]+)`", cell)
        found.add(first)
        group = first.split()[0]
        # `resume C` after `channels pause C` is the group's, `--reason R` is an option of them all.
        found |= {one if one.split()[0] in main.commands else f"{group} {one}" for one in others if one[0] != "-"}
    return sorted(found)


def resolved(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the words name, and the words behind its name."""
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("text", named())
def test_a_command_of_the_documentation_is_there_with_its_options(text: str) -> None:
    command, words = resolved(text.replace("[", " ").replace("]", " ").replace("|", " ").split())
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} - {"--json"} <= options


def test_every_command_is_in_the_list_of_commands() -> None:
    listed = {" ".join(one.split()[:2]) for one in named()}
    for name, command in main.commands.items():
        subcommands = command.commands if isinstance(command, click.Group) else {"": command}
        for subcommand in subcommands:
            wanted = f"{name} {subcommand}".strip()
            assert any(one == wanted or one.split()[0] == wanted for one in listed), wanted
