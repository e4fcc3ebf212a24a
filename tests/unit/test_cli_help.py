"""What `--help` shows, and what a shell completes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from invsync_dagster.cli import main
from invsync_dagster.cli.common import CHANNEL

ENTRY = "  - {{name: {name}, platform: erp, environment: sandbox}}\n"


def commands(group: click.Group = main, name: str = "") -> Iterator[tuple[str, click.Command]]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}".strip())
        else:
            yield f"{name} {word}".strip(), command


def examples(command: click.Command) -> list[str]:
    """Return the lines behind `Examples:` in a command's help."""
    with click.Context(command, info_name="invsync") as context:
        shown = command.get_help(context)
    lines = shown.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    return [line.strip() for line in lines]


@pytest.mark.parametrize(("name", "command"), [pytest.param(*one, id=one[0]) for one in commands()])
def test_the_help_of_a_command_has_examples_that_its_parser_takes(name: str, command: click.Command) -> None:
    shown = examples(command)
    assert shown, f"give {name} an example in its docstring"
    for line in shown:
        words = [word for word in shlex.split(line) if not word.startswith("INVSYNC_")]
        assert words[: 1 + len(name.split())] == ["invsync", *name.split()]
        command.make_context(name, words[1 + len(name.split()) :])


def test_an_example_stands_on_a_line_of_its_own_however_narrow_the_terminal_is() -> None:
    shown = CliRunner().invoke(main, ["listings", "pause", "--help"], terminal_width=60).stdout
    assert '\n    invsync listings pause OCT00-SAN-S --reason "recalled"\n' in shown


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("INVSYNC_CHANNELS", raising=False)
    monkeypatch.setenv("INVSYNC_ROOT", str(tmp_path))
    names = ("shopify_main", "shopify_eu", "erp_main")
    (tmp_path / "channels.yaml").write_text("channels:\n" + "".join(ENTRY.format(name=name) for name in names))
    return tmp_path


def completed(*words: str) -> list[str]:
    *before, incomplete = words
    return [one.value for one in ShellComplete(main, {}, "invsync", "X").get_completions(before, incomplete)]


def test_commands_options_and_the_channels_of_the_file_are_completed(root: Path) -> None:
    assert completed("st") == ["status"]
    assert "--channel" in completed("explain", "A-1", "--")
    assert completed("preview", "shop") == ["shopify_main", "shopify_eu"]
    assert completed("explain", "A-1", "--channel", "") == ["shopify_main", "shopify_eu", "erp_main"]
    assert completed("channels", "check", "erp_main", "shopify_e") == ["shopify_eu"]
    assert [path.name for path in root.iterdir()] == ["channels.yaml"]


def test_the_variables_of_the_env_file_say_where_the_channels_are(root: Path) -> None:
    (root / "channels.yaml").rename(root / "shops.yaml")
    assert completed("preview", "") == []
    (root / ".env").write_text("INVSYNC_CHANNELS=shops.yaml\n")
    assert completed("preview", "e") == ["erp_main"]


def test_a_file_that_can_not_be_read_completes_nothing_and_says_nothing(root: Path) -> None:
    (root / "channels.yaml").write_text("channels: [\n")
    assert completed("preview", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script_and_its_answers(shell: str, root: Path) -> None:
    def ask(instruction: str, **variables: str) -> str:
        environment = {"_INVSYNC_COMPLETE": f"{shell}_{instruction}", **variables}
        result = CliRunner().invoke(main, env=environment, prog_name="invsync")
        assert result.exit_code == 0
        return result.stdout

    assert "_INVSYNC_COMPLETE" in ask("source")
    cursor = "erp" if shell == "fish" else "2"
    assert "erp_main" in ask("complete", COMP_WORDS="invsync preview erp", COMP_CWORD=cursor)


def test_every_parameter_that_takes_a_channel_completes_it() -> None:
    for name, command in commands():
        for parameter in command.params:
            if parameter.name == "channel" or "--channel" in parameter.opts:
                assert parameter.type is CHANNEL, f"{name}: give {parameter.opts} the type CHANNEL"
