"""Walks through the Compose set-up of docs/production.md on a Docker engine: `python -m tests.compose_live`.

As root, in a clone of its own, under a project name, an image name and ports of its own: what runs on this machine is left
alone. The shops are stand-ins in a container beside the code server. Prints what was seen, and removes all that it made. Some
three minutes, and what building the image and getting `postgres:17` takes.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invsync_dagster.demo.dagster_api import Dagster
from tests.production.deployed import ROOT

OWNER = 10001  # the containers' user
LOCATION = "gid://shopify/Location/1"
SKUS = [f"SKU-{number:02}" for number in range(20)]
# What is awkward in env files and in SQL.
PASSWORD = f'p$w"# {secrets.token_hex(8)}'

CHANNELS = """\
channels:
  - name: shop
    platform: shopify
    environment: sandbox
    settings:
      shop_url: http://127.0.0.1:8790/shop
      access_token_env: SHOP_TOKEN
      webhook_secret_env: SHOP_WEBHOOK
  - name: desk
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:8790/desk
      api_key_env: DESK_KEY
      signing_secret_env: DESK_SIGNING
      webhook_secret_env: DESK_WEBHOOK
"""

# The stand-ins speak on loopback alone, so whoever calls them shares the code server's network; they reach the receiver.
BESIDE = """\
services:
  upgrade: { image: PROJECT }
  code: { image: PROJECT, networks: [stock, webhooks] }
  daemon: { image: PROJECT }
  webserver: { image: PROJECT, ports: !override ["127.0.0.1::3000"] }
  viewer: { image: PROJECT }
  receiver: { image: PROJECT, ports: !override ["127.0.0.1::8791"] }
  runner: { image: PROJECT, networks: !reset [], network_mode: "service:code" }
  standins:
    image: PROJECT
    pull_policy: never
    env_file: [receiver.env, invsync.env]
    command: [python, -m, invsync_dagster.sandbox.server, --catalogue=data/sample, "--receiver=http://receiver:8791"]
    volumes: ["./data:/srv/invsync/data", "./channels:/etc/invsync:ro"]
    network_mode: "service:code"
"""


class Walk:
    """One walk in `folder`, a clone; `failed` are the steps that didn't show what they should."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = f"invsync-walk-{secrets.token_hex(3)}"
        self.failed: list[str] = []

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run `docker compose …` and return what it prints. Raises CalledProcessError."""
        files = ["-f", "deploy/compose.yaml", "-f", "deploy/beside.yaml"]
        command = ["docker", "compose", "-p", self.project, *files, *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=1200)
        if check and done.returncode:
            print(done.stdout[-2000:], done.stderr[-4000:], file=sys.stderr)
            done.check_returncode()
        return done.stdout + done.stderr

    def invsync(self, *arguments: str) -> str:
        return self.compose("exec", "-T", "code", "python", "-m", "invsync_dagster.cli", *arguments, check=False)

    def shops(self, expression: str) -> Any:
        """Return what an expression over the stand-ins, `shops`, comes to."""
        shops = "import json; from invsync_dagster.demo.shops import Shops; shops = Shops('http://127.0.0.1:8790')"
        code = f"{shops}; print(json.dumps({expression}))"
        return json.loads(self.compose("exec", "-T", "standins", "python", "-c", code).splitlines()[-1])

    def shown(self, channel: str) -> dict[str, int]:
        books: dict[str, int] = self.shops(f"{{one.sku: one.quantity for one in shops.books('{channel}')}}")
        return books

    def see(self, what: str, seen: bool, more: str = "") -> None:
        print(f"{'ok    ' if seen else 'FAILED'} {what}{f': {more}' if more else ''}", flush=True)
        if not seen:
            self.failed.append(what)

    def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                return False
            time.sleep(1)
        return True

    def prepare(self) -> None:
        """Write what a person fills in."""
        deploy = self.folder / "deploy"
        (deploy / "beside.yaml").write_text(BESIDE.replace("PROJECT", self.project))
        (deploy / "channels").mkdir()
        (deploy / "channels" / "channels.yaml").write_text(CHANNELS)
        mine = {
            "invsync": {
                "PGPASSWORD": PASSWORD,
                **{name: secrets.token_hex(20) for name in ("SHOP_TOKEN", "DESK_KEY", "DESK_SIGNING")},
            },
            "receiver": {name: secrets.token_hex(20) for name in ("SHOP_WEBHOOK", "DESK_WEBHOOK")},
            "postgres": {"POSTGRES_PASSWORD": secrets.token_hex(20), "INVSYNC_PASSWORD": PASSWORD},
        }
        for name, values in mine.items():
            filled = (deploy / f"{name}.env.example").read_text()
            filled += "".join(f"{key}='{value}'\n" for key, value in values.items())
            (deploy / f"{name}.env").write_text(filled)
        rows = [f"{sku},Name of {sku},10,0,active" for sku in SKUS]
        listed = [f"{sku},desk,{sku},{sku},," for sku in SKUS]
        listed += [
            f"{sku},shop,{sku},gid://shopify/InventoryItem/{number},{LOCATION},gid://shopify/ProductVariant/{number}"
            for number, sku in enumerate(SKUS, 1)
        ]
        sample = deploy / "data" / "sample"
        sample.mkdir(parents=True)
        for name in ("inbox", "status", "sandbox"):
            (deploy / "data" / name).mkdir()
        head = "sku,product_name,quantity,reserved_quantity,status"
        (sample / "inventory.csv").write_text("\n".join([head, *rows, ""]))
        head = "central_sku,channel,platform_sku,platform_item_id,platform_location_id,platform_variant_id"
        (sample / "mapping.csv").write_text("\n".join([head, *listed, ""]))
        for path in [deploy / "data", *(deploy / "data").rglob("*")]:
            shutil.chown(path, OWNER, OWNER)

    def walk(self) -> None:
        """Start, move in, sell, lose the database server, start again, restore."""
        self.compose("up", "--detach", "--build", "--wait")
        said = self.compose("logs", "--no-log-prefix", "upgrade")
        self.see("a new database is made", "stock: made in postgresql" in said)
        self.see("its password is nowhere in what that said", PASSWORD not in said)
        channels = self.invsync("channels", "sync")
        self.see("the channels are brought in", "registered: shop, desk" in channels, channels.strip())
        self.see("each lets us in", self.invsync("channels", "check").count("works") == 2)
        for file in ("inventory", "mapping"):
            self.see(f"{file}.csv is imported", "applied" in self.invsync("import", f"data/sample/{file}.csv"))
        for name in ("shop", "desk"):
            self.invsync("approve", name, "--reason", "a walk")

        address = self.compose("port", "webserver", "3000").strip()
        dagster = Dagster(f"http://{address}")
        self.see("the UI has loaded the code", self.until(lambda: dagster.is_ready(["invsync"]), 60), address)
        dagster.switch_on()
        for job in ("incremental", "backup"):
            run = dagster.launch(job, {})
            self.see(f"the job {job} succeeds", self.until(lambda run=run: dagster.run_status(run) == "SUCCESS", 120))  # type: ignore[misc]

        self.shops("shops.order('shop', {'SKU-03': 2})")
        began = time.monotonic()
        shown = self.until(lambda: self.shown("desk")["SKU-03"] == 8, 60)
        self.see("a sale is shown by the other channel", shown, f"within {time.monotonic() - began:.0f} s")

        self.compose("kill", "--signal", "KILL", "postgres")
        self.shops("shops.order('shop', {'SKU-04': 1})")
        self.compose("up", "--detach", "--wait")
        shown = self.until(lambda: self.shown("desk")["SKU-04"] == 9, 400)
        self.see("what was sold without a database is shown once it is back", shown)
        self.see(
            "a second start changes nothing", "stock: up to date" in self.compose("logs", "--no-log-prefix", "upgrade")
        )

        (backup,) = sorted((self.folder / "deploy/data/backups").glob("invsync-*"))[-1:]
        self.compose("stop", "code", "daemon", "runner", "webserver", "viewer")
        self.compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-c", "ALTER DATABASE invsync RENAME TO lost")
        self.compose(
            "exec",
            "-T",
            "postgres",
            "createdb",
            "-U",
            "postgres",
            "--owner=invsync",
            "--encoding=UTF8",
            "--template=template0",
            "invsync",
        )
        self.compose("up", "--detach", "postgres", "receiver", "upgrade")
        restored = self.compose(
            "run", "--rm", "-T", "code", "python", "-m", "invsync_dagster.cli", "restore", f"data/backups/{backup.name}"
        )
        lines = [line for line in restored.splitlines() if line.startswith(("applied:", "books:"))]
        self.see("the backup is restored, and the sales since then", "books: 0 differences" in lines, "; ".join(lines))
        self.compose("up", "--detach", "--wait")
        audit = self.invsync("audit")
        self.see("the books are proven", "books: 0 differences" in audit, audit.strip().splitlines()[0])


def main() -> int:
    """Walk; 0 where all was as it should be."""
    with tempfile.TemporaryDirectory(prefix="invsync-") as folder:
        clone = Path(folder) / "invsync"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)  # noqa: S607
        walk = Walk(clone)
        walk.prepare()
        try:
            walk.walk()
        finally:
            walk.compose("down", "--volumes", "--rmi", "local", "--timeout", "5", check=False)
            subprocess.run(["docker", "image", "rm", walk.project], capture_output=True, check=False)  # noqa: S607
    print(f"{len(walk.failed)} failed")
    return 1 if walk.failed else 0


if __name__ == "__main__":
    sys.exit(main())
