"""The steps of docs/upgrading.md: they are complete and in order, and git's run in clones of a server's state."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.production.deployed import ETC, HOME, ROOT

PAGE = (ROOT / "docs" / "upgrading.md").read_text(encoding="utf-8")
WAYS = ["A clone that you start by hand", "A server with systemd", "A server with Compose"]
# What people fill in and what the services write, in a clone and beside it; see docs/production.md.
THEIRS = [
    ".env",
    "data/channels.yaml",
    "data/inbox/2026-01-01/1.segment",
    "deploy/invsync.env",
    "deploy/receiver.env",
    "deploy/postgres.env",
    "deploy/proxy.env",
    "deploy/channels/channels.yaml",
    "deploy/data/invsync.db",
    "deploy/caddy/users",
]


def commands(heading: str) -> list[str]:
    """Return the lines of the fenced blocks of a section, in order."""
    section = re.split(r"^## ", PAGE.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    blocks = re.findall(r"^ *(?:\d\. )?```\w*\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    who = ["-c", "user.name=test", "-c", "user.email=test@invsync.invalid"]
    return subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True)  # noqa: S607


def written(*arguments: str, folder: Path) -> str:
    done = git(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A clone of this version with what a server's people and services write; a version 9.9.9 has come out since."""
    released = tmp_path / "released"
    released.mkdir()
    for name in ("channels.yaml", ".gitignore", "deploy", "data/sample", "requirements"):
        source, target = ROOT / name, released / name
        target.parent.mkdir(exist_ok=True)
        kept = shutil.ignore_patterns("*.env", "users", "channels", "data", ".env")
        if source.is_dir():
            shutil.copytree(source, target, ignore=kept)
        else:
            shutil.copy(source, target)
    written("init", "-q", "--initial-branch=main", folder=released)
    written("add", "--all", folder=released)
    written("commit", "-qm", "this version", folder=released)
    clone = tmp_path / "server"
    written("clone", "-q", str(released), str(clone), folder=tmp_path)
    for name in THEIRS:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("theirs\n")
    for changed in ("channels.yaml", "deploy/compose.yaml", "deploy/systemd/invsync-code.service"):
        with (released / changed).open("a") as file:
            file.write("# of 9.9.9\n")
    written("commit", "-qam", "the next version", folder=released)
    written("tag", "9.9.9", folder=released)
    return clone


def run_gits_steps(way: str, folder: Path) -> list[subprocess.CompletedProcess[str]]:
    steps = [shlex.split(line.replace("<version>", "9.9.9")) for line in commands(way) if line.startswith("git ")]
    assert steps
    return [git(folder, *step[1:]) for step in steps]


@pytest.mark.parametrize("way", WAYS)
def test_the_next_version_is_checked_out_over_what_people_and_services_have_written(server: Path, way: str) -> None:
    assert written("status", "--porcelain", folder=server) == ""
    done = run_gits_steps(way, server)
    assert [one.returncode for one in done] == [0] * len(done), [one.stderr for one in done]
    assert (server / "channels.yaml").read_text().endswith("# of 9.9.9\n")
    assert (server / "deploy" / "systemd" / "invsync-code.service").read_text().endswith("# of 9.9.9\n")
    assert {(server / name).read_text() for name in THEIRS} == {"theirs\n"}
    assert written("status", "--porcelain", folder=server) == ""


@pytest.mark.parametrize("way", WAYS)
def test_a_tracked_file_that_was_edited_is_refused_by_git_and_the_page_says_what_to_do(server: Path, way: str) -> None:
    (server / "channels.yaml").write_text("channels: []\n")
    assert any("would be overwritten" in one.stderr for one in run_gits_steps(way, server))
    assert "would be overwritten" in PAGE
    copy, back = commands("A channels file in the clone")
    assert copy.startswith("install ") and copy.endswith(f" channels.yaml {ETC}/channels.yaml")
    written(*shlex.split(back)[1:], folder=server)
    assert all(one.returncode == 0 for one in run_gits_steps(way, server))


def test_the_differences_of_the_examples_are_shown(server: Path) -> None:
    *_, shown = run_gits_steps("A server with systemd", server)
    assert "+# of 9.9.9" in shown.stdout


def test_the_steps_of_a_server_with_systemd_are_all_there_and_in_order() -> None:
    page = PAGE.partition("## A server with systemd\n")[2].partition("\n## ")[0]
    steps = [
        "systemctl stop invsync.target",
        "pg_dump",
        "git checkout <version>",
        "pip install",
        "compileall",
        "cp deploy/systemd/* /etc/systemd/system/",
        "systemctl daemon-reload",
        "Migrate: `invsync upgrade`",
        "systemctl start invsync.target",
    ]
    places = [page.find(step) for step in steps]
    assert min(places) >= 0, steps[places.index(-1)]
    assert places == sorted(places)
    installed = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    for line in commands("A server with systemd"):
        if "pip install" in line or "compileall" in line:
            assert line in installed
    assert f"in `{HOME}`" in page


def test_the_steps_of_a_server_with_compose_are_all_there_and_in_order() -> None:
    verbs = [line.replace("docker compose -f deploy/compose.yaml ", "") for line in commands("A server with Compose")]
    assert verbs == ["down", "git fetch --tags", "git checkout <version>", "up --detach --build", "logs upgrade"]
