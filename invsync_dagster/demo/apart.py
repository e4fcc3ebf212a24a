"""An installation of its own for the demo, in any folder and on ports of its own: for measurements and drills."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from invsync_dagster.channels import load
from invsync_dagster.demo.__main__ import move_shops
from invsync_dagster.demo.house import Ports
from invsync_dagster.demo.services import free_port
from invsync_dagster.demo.stage import Stage, set_stage
from invsync_dagster.environment import read_env_file
from invsync_dagster.settings import Home
from invsync_dagster.setup import set_up

PROJECT = Path(__file__).resolve().parents[2]


def installation(root: Path) -> tuple[Home, Stage, Ports, dict[str, str]]:
    """Set up an installation in the empty folder `root`; nothing of the caller's own installation is used."""
    for name in ("channels.yaml", "dagster.yaml"):
        shutil.copy(PROJECT / name, root / name)
    shutil.copytree(PROJECT / "data" / "sample", root / "data" / "sample")
    ours = ("INVSYNC_", "DAGSTER_", "SHOPIFY_", "WOO_", "AMAZON_", "EBAY_", "ALIBABA_", "ERP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    set_up(root, kept)
    ports = Ports(free_port(), free_port(), free_port())
    environ = {
        **kept,
        **read_env_file(root),
        "INVSYNC_DATA": str(root / "data"),
        "INVSYNC_RECEIVER_HOST": "127.0.0.1",
        "INVSYNC_RECEIVER_PORT": str(ports.receiver),
        "PYTHONPATH": str(PROJECT),
    }
    home = Home.from_environment(environ)
    stage = set_stage(home, load(home, environ))
    home = replace(home, channels_file=move_shops(home, stage.sandbox_port, ports.sandbox))
    environ["INVSYNC_CHANNELS"] = str(home.channels_file)
    return home, set_stage(home, load(home, environ)), ports, environ
