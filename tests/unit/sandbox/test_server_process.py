"""The server as a process: its second start, its port, its catalogue, its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from invsync_dagster.sandbox.faces import Article
from invsync_dagster.sandbox.server import SandboxServer, loopback_socket, main
from invsync_dagster.sandbox.world import read_catalogue
from tests.unit.sandbox.stage import ENVIRON, Receiver, Stage, a_world, in_the_shop, until


def test_a_shop_goes_on_where_it_stopped(tmp_path: Path, receiver: Receiver) -> None:
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        order = Stage(server).post("shop/buy", {"lines": [{"sku": "SOCKS", "quantity": 2}]})["order"]
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        stage = Stage(server)
        assert in_the_shop(stage) == {"SOCKS": 7, "HATS": 0}
        assert stage.post("shop/open_orders") == [order]


def test_a_second_start_goes_on_with_the_books_and_the_undelivered_webhooks(tmp_path: Path, receiver: Receiver) -> None:
    receiver.refusals = 1_000
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        stage = Stage(server)
        stage.write("A-1", 3, "key-1")
        stage.post("erp_main/restock", {"sku": "A-1", "quantity": 5})
        assert stage.post("save") == {"saved": True}
    receiver.refusals = 0
    with SandboxServer(a_world(tmp_path, receiver)) as server:
        stage = Stage(server)
        (row,) = [row for row in stage.get("erp_main/books") if row["sku"] == "A-1"]
        assert (row["quantity"], row["on_hand"]) == (3, 15)
        ((_, headers, body),) = receiver.wait_for(1)
        assert stage.door.parse(headers, body).counts[0].quantity == 15


def test_a_state_file_that_cannot_be_read_is_named(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "state.json").write_text("{half")
    with pytest.raises(ValueError, match=r"state\.json"):
        a_world(tmp_path, receiver)


def test_a_port_in_use_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INVSYNC_ROOT", str(tmp_path))
    taken = loopback_socket(0)
    try:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    finally:
        taken.close()
    assert capsys.readouterr().err == f"sandbox: port {port} can't be used: Address already in use\n"


def test_the_process_serves_the_sandbox_channels_and_keeps_the_books_when_ended(tmp_path: Path) -> None:
    free = loopback_socket(0)
    port = free.getsockname()[1]
    free.close()
    (tmp_path / "channels.yaml").write_text(
        "channels:\n"
        "  - {name: erp_main, platform: erp, environment: sandbox, settings: {base_url: 'http://127.0.0.1/erp_main',\n"
        "      api_key_env: KEY, signing_secret_env: SIGNING, webhook_secret_env: WEBHOOK}}\n"
        "  - {name: real, platform: erp, environment: production, settings: {base_url: 'https://erp.example.com',\n"
        "      api_key_env: KEY, signing_secret_env: SIGNING, webhook_secret_env: WEBHOOK}}\n"
    )
    (tmp_path / "inventory.csv").write_text("sku,product_name,quantity\n007,Socks,12\n")
    (tmp_path / "mapping.csv").write_text(
        "central_sku,channel,platform_sku,platform_item_id,platform_location_id\n007,erp_main,007,007,\n"
    )
    environ = {**os.environ, **ENVIRON, "INVSYNC_ROOT": str(tmp_path), "INVSYNC_DATA": "", "INVSYNC_CHANNELS": ""}
    arguments = [sys.executable, "-m", "invsync_dagster.sandbox.server", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/_sandbox"
    for units in (11, 10):
        process = subprocess.Popen([*arguments, "--catalogue", str(tmp_path)], env=environ, stderr=subprocess.PIPE)
        try:
            until(lambda: is_up(f"{url}/health"))
            assert requests.get(f"{url}/health", timeout=10).json()["names"] == ["erp_main"]
            bought = {"lines": [{"sku": "007", "quantity": 1}]}
            assert requests.post(f"{url}/erp_main/buy", json=bought, timeout=10).json()["lines"] == bought["lines"]
            (row,) = requests.get(f"{url}/erp_main/books", timeout=10).json()
            assert row["on_hand"] == units
            process.terminate()
            _, told = process.communicate(timeout=20)
        finally:
            process.kill()
        assert (process.returncode, b"Traceback" in told) == (0, False)


def is_up(url: str) -> bool:
    try:
        return requests.get(url, timeout=10).status_code == 200
    except requests.ConnectionError:
        return False


def test_the_catalogue_is_read_as_each_channel_lists_it(tmp_path: Path) -> None:
    (tmp_path / "inventory.csv").write_text("sku,product_name,quantity\n007,Socks,12\n008,Hats,3\n")
    (tmp_path / "mapping.csv").write_text(
        "central_sku,channel,platform_sku,platform_item_id,platform_location_id,platform_variant_id\n"
        "007,shop,S-7,item-7,place-1,variant-7\n008,shop,S-8,item-8,place-1,\n007,erp_main,007,007,,\n"
    )
    assert read_catalogue(tmp_path) == {
        "shop": [Article("S-7", 12, "item-7", "place-1", "variant-7"), Article("S-8", 3, "item-8", "place-1", "")],
        "erp_main": [Article("007", 12, "007", "", "")],
    }
