"""The proxy of `deploy/caddy`, run as it stands: who gets to which service, under which name, and what the world reaches."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import yaml

from tests.production.deployed import BIN, DEPLOY, compose, free_port, units

CADDY = BIN / "caddy"
# What every certificate authority would ask for, and no test can have: names and ports of the world.
ON_LOOPBACK = """\
{
	admin off
	skip_install_trust
	auto_https disable_redirects
}
import Site
"""
MUTATION = "mutation { terminateRuns(runIds: []) { __typename } }"


class _Service(BaseHTTPRequestHandler):
    """Stands for a webserver or the receiver: says which one it is, and what it was asked."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        told = {
            "name": self.server.name,  # type: ignore[attr-defined]
            "path": self.path,
            "users": self.headers.get_all("x-invsync-user") or [],
            "authorization": self.headers.get("authorization"),
            "signature": self.headers.get("x-signature"),
            "body": self.rfile.read(length).decode("latin-1"),
        }
        answer = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Proxy:
    ui: str
    webhooks: str
    authority: Path

    def ask(
        self, address: str, path: str, *, user: str = "", password: str = "pw", body: str = "", **headers: str
    ) -> requests.Response:
        method = "POST" if body else "GET"
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        with requests.Session() as session:
            session.trust_env = False
            request = requests.Request(method, address, data=body or None, headers=given)
            request.auth = (user, password) if user else None
            prepared = session.prepare_request(request)
            prepared.url = address + path  # as it stands: `..` is not taken out
            return session.send(prepared, verify=str(self.authority), timeout=20)


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, str]]:
    """A stand-in of each service behind the proxy, by its name: where it listens."""
    servers = []
    for name in ("webserver", "viewer", "receiver"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
        server.name = name  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    yield {server.name: f"127.0.0.1:{server.server_port}" for server in servers}  # type: ignore[attr-defined]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The proxy's folder as people fill it in: ann and bob may change something, vic may look."""
    made = tmp_path_factory.mktemp("caddy")
    shutil.copy(DEPLOY / "caddy" / "Caddyfile", made / "Site")
    (made / "Caddyfile").write_text(ON_LOOPBACK)
    command = [str(CADDY), "hash-password", "--plaintext", "pw", "--bcrypt-cost", "4"]
    word = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    people = "".join(f"{name} {word}\n" for name in ("ann", "bob", "vic"))
    (made / "users").write_text((DEPLOY / "caddy" / "users.example").read_text() + people)
    return made


@pytest.fixture(scope="module")
def proxy(folder: Path, services: dict[str, str]) -> Iterator[Proxy]:
    ui, webhooks = (f"https://localhost:{free_port()}" for _ in range(2))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "INVSYNC_UI_HOST": ui,
        "INVSYNC_WEBHOOK_HOST": webhooks,
        "INVSYNC_OPERATORS": "ann bob",
        "INVSYNC_UI": services["webserver"],
        "INVSYNC_VIEWER": services["viewer"],
        "INVSYNC_RECEIVER": services["receiver"],
    }
    log = folder / "caddy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(CADDY), "run", "--config", "Caddyfile"], cwd=folder, env=environment, stdout=output, stderr=output
        )
    made = Proxy(ui, webhooks, folder / "caddy" / "pki" / "authorities" / "local" / "root.crt")
    try:
        until = time.monotonic() + 30
        while not _is_ready(made):
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.1)
        yield made
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(proxy: Proxy) -> bool:
    try:
        return proxy.authority.exists() and proxy.ask(proxy.webhooks, "/").status_code == 404
    except (requests.ConnectionError, ssl.SSLError):
        return False


def test_nobody_gets_to_the_ui_without_a_login(proxy: Proxy) -> None:
    assert proxy.ask(proxy.ui, "/runs").status_code == 401
    assert proxy.ask(proxy.ui, "/graphql", body=MUTATION).status_code == 401
    assert proxy.ask(proxy.ui, "/runs", user="ann", password="wrong").status_code == 401
    assert proxy.ask(proxy.ui, "/runs", user="eve").status_code == 401
    assert proxy.ask(proxy.ui, "/runs", X_Invsync_User="ann").status_code == 401


@pytest.mark.parametrize(("user", "service"), [("ann", "webserver"), ("bob", "webserver"), ("vic", "viewer")])
def test_operators_get_the_full_ui_and_all_others_the_read_only_one(proxy: Proxy, user: str, service: str) -> None:
    for path, body in (("/runs/1?page=2", ""), ("/graphql", MUTATION), ("/asset/push_results", "")):
        answer = proxy.ask(proxy.ui, path, user=user, body=body).json()
        assert (answer["name"], answer["path"], answer["body"]) == (service, path, body)


def test_the_services_learn_who_is_logged_in_and_not_what_the_client_says_or_the_password(proxy: Proxy) -> None:
    for user in ("ann", "vic"):
        answer = proxy.ask(proxy.ui, "/graphql", user=user, body=MUTATION, X_Invsync_User="root").json()
        assert (answer["users"], answer["authorization"]) == ([user], None)


def test_the_status_page_is_behind_the_login_and_the_rest_of_the_receiver_is_not_there(proxy: Proxy) -> None:
    assert proxy.ask(proxy.ui, "/status.html").status_code == 401
    for user in ("ann", "vic"):
        assert proxy.ask(proxy.ui, "/status.html", user=user).json()["name"] == "receiver"
    for path in ("/status", "/metrics", "/healthz", "/webhooks/shopify_main", "/inventory-webhook"):
        assert proxy.ask(proxy.ui, path, user="ann").json()["name"] == "webserver"


def test_a_foreign_page_can_not_use_the_login_of_whoever_looks_at_it(proxy: Proxy) -> None:
    link = f"/graphql?query={MUTATION}"
    for site in ("cross-site", "same-site"):
        assert proxy.ask(proxy.ui, link, user="ann", Sec_Fetch_Site=site).status_code == 403
    for origin in ("https://evil.example", "null", proxy.webhooks):
        assert proxy.ask(proxy.ui, "/graphql", user="ann", body=MUTATION, Origin=origin).status_code == 403
    for what in ("materialization", "check", "observation"):
        forged = f"/report_asset_{what}/database_backup?check_name=restores&passed=true"
        assert proxy.ask(proxy.ui, forged, user="ann", Sec_Fetch_Site="cross-site").status_code == 403
    own = proxy.ask(proxy.ui, "/graphql", user="ann", body=MUTATION, Origin=proxy.ui, Sec_Fetch_Site="same-origin")
    assert own.json()["name"] == "webserver"
    # A link in an alert's mail.
    assert proxy.ask(proxy.ui, "/runs/1", user="ann", Sec_Fetch_Site="cross-site").json()["path"] == "/runs/1"


@pytest.mark.parametrize("path", ["/webhooks/shopify_main", "/webhooks/a?challenge_code=1", "/inventory-webhook"])
def test_webhooks_reach_the_receiver_with_their_bytes_and_signature(proxy: Proxy, path: str) -> None:
    body = '{"sku": "0071",  "quantity":1}\n'
    answer = proxy.ask(proxy.webhooks, path, body=body, X_Signature="abc=").json()
    assert (answer["name"], answer["path"], answer["body"], answer["signature"]) == ("receiver", path, body, "abc=")


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "/healthz",
            "/status",
            "/status.html",
            "/metrics",
            "/graphql",
            "/runs",
            "/server_info",
            "/inventory-webhook/x",
            "/webhooks",
        ),
        *("/webhooks/../metrics", "/webhooks/%2e%2e/metrics", "//metrics", "/webhooks/..%2fmetrics/../../status"),
    ],
)
def test_nothing_else_of_the_receiver_and_nothing_of_the_ui_is_open_to_the_world(proxy: Proxy, path: str) -> None:
    assert proxy.ask(proxy.webhooks, path).status_code == 404
    assert proxy.ask(proxy.webhooks, path, user="ann", body="{}").status_code == 404


def test_without_operators_everybody_only_looks(folder: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "INVSYNC_OPERATORS": ""}
    environment |= {"INVSYNC_UI_HOST": "stock.example.com", "INVSYNC_WEBHOOK_HOST": "sync.example.com"}
    adapted = subprocess.run(
        [str(CADDY), "adapt", "--config", str(folder / "Site"), "--adapter", "caddyfile"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert adapted.returncode == 0, adapted.stderr
    said = json.loads(adapted.stdout)
    assert '{"vars": {"{http.auth.user.id}": [":"]}}' in json.dumps(said)  # no login can hold a colon
    # As systemd runs it: every upstream is the port of its unit.
    dialled = {one for one in json.dumps(said).split('"') if one.startswith("127.0.0.1:")}
    ports = {name: unit["Service"]["ExecStart"].partition("--port ")[2].split()[:1] for name, unit in units().items()}
    assert dialled == {
        f"127.0.0.1:{ports['invsync-webserver'][0]}",
        f"127.0.0.1:{ports['invsync-viewer'][0]}",
        "127.0.0.1:8791",
    }


def test_the_proxy_of_compose_has_the_same_configuration_and_asks_the_services_by_name() -> None:
    proxy = compose()["services"]["proxy"]
    assert "./caddy:/etc/caddy:ro" in proxy["volumes"]
    assert proxy["env_file"] == "proxy.env"
    for place in proxy["environment"].values():
        name, port = place.split(":")
        assert f"--port={port}" in str(compose()["services"][name]["command"]) or name == "receiver"
    version = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["proxy"]["image"].partition(":")[2]
    told = subprocess.run([str(CADDY), "version"], capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"v{version}.")
