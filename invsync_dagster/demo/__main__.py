"""`make demo`: prepares, starts everything, and either goes on until Ctrl-C or, with --once, checks itself and ends."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random, SystemRandom

import requests
from rich.console import Console
from rich.text import Text

from invsync_dagster.channels import load
from invsync_dagster.demo.house import House, Ports, running
from invsync_dagster.demo.services import DemoError, check_port
from invsync_dagster.demo.smoke import smoke
from invsync_dagster.demo.stage import Say, Stage, set_stage
from invsync_dagster.demo.street import Street
from invsync_dagster.demo.view import View
from invsync_dagster.demo.watch import Watch
from invsync_dagster.environment import load_env_file
from invsync_dagster.inventory.schema import SchemaError
from invsync_dagster.sandbox.buyers import Buyers
from invsync_dagster.settings import Home
from invsync_dagster.setup import DagsterStorageError, set_up

SALES = 40
LOOK_EVERY_SECONDS = 0.5

DIFFERENT = 1
REFUSED = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the demo. Returns 0; 1 if a book differs from the stock after --once; 2, with one line, if it can't run."""
    given = _parser().parse_args(arguments)
    console = Console()
    root = Path.cwd().resolve()
    # SIGINT as well: a shell starts what it puts into the background with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    began = time.monotonic()

    def say(words: str) -> None:
        console.print(Text.assemble((f"{time.monotonic() - began:6.1f} s  ", "dim"), words), soft_wrap=True)

    try:
        home, stage, environ, ports = prepare(root, given, say)
        with running(home, stage, ports, environ, _random(given.seed), say) as house:
            say(f"all is running after {time.monotonic() - began:.0f} s; Dagster at {house.dagster.address}")
            watch = Watch.open(home, stage.channels)
            try:
                same = _once(house, watch, given, say) if given.once else _go_on(house, watch, given, console)
            finally:
                watch.close()
    except (DemoError, DagsterStorageError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return REFUSED
    except requests.RequestException as error:
        print(f"demo: one of its services doesn't answer: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        say("ended; the next start goes on from here")
        return 0
    say(f"done after {time.monotonic() - began:.0f} s")
    return 0 if same else DIFFERENT


def prepare(root: Path, given: argparse.Namespace, say: Say) -> tuple[Home, Stage, dict[str, str], Ports]:
    """Set the home up, and check ports and configuration before anything starts. Raises `DemoError`."""
    load_env_file(root)
    try:
        for sentence in set_up(root, os.environ):
            say(sentence)
    except OSError as error:
        raise DemoError(f"{error.filename or root} can't be written: {error.strerror}") from error
    except SchemaError as error:
        raise DemoError(str(error)) from error
    load_env_file(root)
    environ = dict(os.environ)
    home = Home.from_environment(environ)
    stage = set_stage(home, load(home, environ))
    ports = Ports(given.sandbox_port or stage.sandbox_port, given.receiver_port or _receiver_port(environ), given.port)
    check_port(ports.sandbox, "the stand-in shops", "--sandbox-port")
    check_port(ports.receiver, "the receiver", "--receiver-port")
    check_port(ports.webserver, "Dagster's webserver", "--port")
    environ |= {"INVSYNC_RECEIVER_HOST": "127.0.0.1", "INVSYNC_RECEIVER_PORT": str(ports.receiver)}
    if ports.sandbox != stage.sandbox_port:
        home = replace(home, channels_file=move_shops(home, stage.sandbox_port, ports.sandbox))
        environ["INVSYNC_CHANNELS"] = str(home.channels_file)
        stage = set_stage(home, load(home, environ))
    return home, stage, environ, ports


def move_shops(home: Home, old: int, new: int) -> Path:
    """Write a copy of channels.yaml whose stand-ins listen on another port, and return it."""
    copy = home.data / "demo" / "channels.yaml"
    copy.parent.mkdir(parents=True, exist_ok=True)
    text = home.channels_file.read_text(encoding="utf-8")
    copy.write_text(text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}"), encoding="utf-8")
    return copy


def _once(house: House, watch: Watch, given: argparse.Namespace, say: Say) -> bool:
    return smoke(house, watch, given.sales, _random(given.seed), say)


def _go_on(house: House, watch: Watch, given: argparse.Namespace, console: Console) -> bool:
    """Let buyers buy until Ctrl-C, and show it."""
    random = _random(given.seed)
    street, buyers = Street(house.stage, house.shops, random), Buyers(random)
    if house.approved:
        house.dagster.launch("incremental", {"invsync/cause": "by_hand"})
    next_at = time.monotonic()
    with View(console, house.dagster.address) as view:
        while True:
            house.services.keep_running(view.notice)
            if time.monotonic() >= next_at:
                next_at = time.monotonic() + buyers.gap(given.per_minute)
                event = street.step()
                if event is not None:
                    view.event(event)
            view.pushes(watch.new_pushes())
            view.figures(watch.figures, watch.out_of_step(house.ws.clock.now()), street.counts["sale"])
            time.sleep(LOOK_EVERY_SECONDS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m invsync_dagster.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="a fixed number of sales amid faults, then compare and end")
    parser.add_argument("--sales", type=int, default=SALES, help="how many sales with --once (default: %(default)s)")
    parser.add_argument(
        "--per-minute", type=float, default=20.0, help="what happens a minute without --once (%(default)s)"
    )
    parser.add_argument("--seed", type=int, help="the same buyers again (faults are drawn by the stand-ins themselves)")
    parser.add_argument("--port", type=int, default=3000, help="of Dagster's webserver (default: %(default)s)")
    parser.add_argument("--receiver-port", type=int, help="of the receiver (default: INVSYNC_RECEIVER_PORT, else 8791)")
    parser.add_argument("--sandbox-port", type=int, help="of the stand-in shops (default: as channels.yaml says)")
    return parser


def _receiver_port(environ: Mapping[str, str]) -> int:
    text = environ.get("INVSYNC_RECEIVER_PORT") or "8791"
    if not text.isdecimal():
        raise DemoError(f"INVSYNC_RECEIVER_PORT is {text!r}: give a port, such as 8791")
    return int(text)


def _random(seed: int | None) -> Random:
    # Buyers and their baskets: nothing here is secret.
    return SystemRandom() if seed is None else Random(seed)  # noqa: S311


def _interrupt(number: int, frame: object) -> None:
    """Begin to end, once: a second Ctrl-C must not leave processes behind."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
