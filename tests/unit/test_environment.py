from __future__ import annotations

from pathlib import Path

import pytest

from invsync_dagster.channels import load, load_for_webhooks
from invsync_dagster.defs.resources import Invsync
from invsync_dagster.environment import EmptySecretFileError, Environment, SecretFileError, readable
from invsync_dagster.inventory.database import migrate, open_database
from invsync_dagster.settings import Home
from invsync_dagster.webhooks.gates import gates_of
from invsync_dagster.webhooks.seals import Seals

CHANNELS = """\
settings:
  alerts:
    - url_env: ALERTS
channels:
  - name: {name}
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:9
      api_key_env: KEY
      signing_secret_env: SIGNING
      webhook_secret_env: WEBHOOK
      webhook_previous_secret_env: PREVIOUS
  - name: other
    platform: erp
    environment: sandbox
    settings:
      base_url: http://127.0.0.1:9
      api_key_env: OTHER
      signing_secret_env: OTHER
      webhook_secret_env: OTHER
"""
OTHERS = {"SIGNING": "signing", "WEBHOOK": "webhook", "OTHER": "other", "ALERTS": "json://127.0.0.1"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "channels.yaml").write_text(CHANNELS.format(name="erp_main"))
    return Home.from_environment({"INVSYNC_ROOT": str(tmp_path)})


def secret(folder: Path, name: str, value: str) -> str:
    path = folder / name
    path.write_text(value)
    return str(path)


def test_a_variable_is_taken_from_the_file_that_is_named_in_its_place(tmp_path: Path) -> None:
    environ = Environment({"A": "1", "B": "", "B_FILE": secret(tmp_path, "b", " two \r\n"), "C_FILE": ""})
    assert (environ["A"], environ["B"], environ.get("C"), environ.get("B_FILE")) == (
        "1",
        " two ",
        None,
        str(tmp_path / "b"),
    )
    assert sorted(environ) == ["A", "B", "B_FILE", "C_FILE"]
    assert Environment(environ)["B"] == " two "
    assert "two" not in repr(environ)


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    environ = Environment({"A_FILE": secret(tmp_path, "a", "old")})
    assert environ["A"] == "old"
    secret(tmp_path, "a", "new\n")
    assert environ["A"] == "new"


def test_a_file_that_gives_no_secret_is_one_sentence_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    environ = Environment(
        {
            "A_FILE": str(tmp_path / "none"),
            "B_FILE": secret(tmp_path, "b", "\n"),
            "C_FILE": str(tmp_path / "bytes"),
            "D": "secret-d",
            "D_FILE": secret(tmp_path, "d", "secret-e"),
        }
    )
    for name, said in (
        ("A", f"A_FILE names {tmp_path / 'none'}, which can't be read: No such file or directory"),
        ("B", f"B_FILE names {tmp_path / 'b'}, which is empty"),
        ("C", "is no text in UTF-8"),
        ("D", "D and D_FILE are both set"),
    ):
        with pytest.raises(SecretFileError, match=said) as caught:
            environ.get(name)
        assert "secret-" not in str(caught.value)
        assert readable(environ, name) == ""
    with pytest.raises(EmptySecretFileError):
        environ.get("B")


def test_a_channel_whose_secret_file_fails_is_disabled_alone_and_says_why(home: Home, tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    loaded = load(home, Environment({**OTHERS, "KEY_FILE": missing, "ALERTS": "", "ALERTS_FILE": missing}))
    first, other = loaded.channels
    assert other.disabled_reason == ""
    said = f"KEY_FILE names {missing}, which can't be read: No such file or directory"
    assert said in first.disabled_reason
    alerts = [problem for problem in loaded.problems if "ALERTS_FILE" in problem]
    assert len(alerts) == 1 and "nobody is alerted there until then" in alerts[0]


def test_a_channel_has_its_secrets_from_files(home: Home, tmp_path: Path) -> None:
    environ = Environment({**OTHERS, "KEY_FILE": secret(tmp_path, "key", "abc\n")})
    channel, _ = load(home, environ).channels
    assert channel.disabled_reason == ""
    assert channel.secrets(environ)["api_key_env"] == "abc"


def test_a_previous_secret_may_be_an_empty_file(home: Home, tmp_path: Path) -> None:
    path = secret(tmp_path, "previous", "before")
    environ = Environment({**OTHERS, "KEY": "key", "PREVIOUS_FILE": path})
    channel, _ = load_for_webhooks(home, environ).channels
    assert channel.door_secrets(environ)["webhook_previous_secret_env"] == "before"
    secret(tmp_path, "previous", "")
    assert "webhook_previous_secret_env" not in channel.door_secrets(environ)


def test_a_door_whose_file_goes_between_two_looks_is_closed_with_the_reason(home: Home, tmp_path: Path) -> None:
    path = secret(tmp_path, "webhook", "abc")
    environ = Environment({**OTHERS, "WEBHOOK": "", "WEBHOOK_FILE": path, "KEY": "key"})
    configuration = load_for_webhooks(home, environ)
    assert set(gates_of(configuration, environ).doors) == {"erp_main", "other"}
    Path(path).unlink()
    gates = gates_of(configuration, environ)
    assert set(gates.doors) == {"other"}
    assert "WEBHOOK_FILE" in gates.closed["erp_main"]


def test_the_databases_url_and_the_inboxs_key_come_from_files_and_never_silently_from_nothing(tmp_path: Path) -> None:
    url = secret(tmp_path, "url", "postgresql://a:b@c/d\n")
    assert Home.from_environment({"INVSYNC_DATABASE_URL_FILE": url}).database_url == "postgresql://a:b@c/d"
    secret(tmp_path, "url", "")
    with pytest.raises(SecretFileError, match="INVSYNC_DATABASE_URL_FILE"):
        Home.from_environment({"INVSYNC_DATABASE_URL_FILE": url})
    with pytest.raises(SecretFileError, match="INVSYNC_INBOX_KEY_FILE"):
        Seals.from_environment(Environment({"INVSYNC_INBOX_KEY_FILE": url}))


def test_the_next_run_of_the_same_process_works_with_the_new_secret(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warm runner and the code server live on: each run opens its workspace by itself."""
    for name, value in {**OTHERS, "INVSYNC_ROOT": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KEY_FILE", secret(tmp_path, "key", "old"))
    engine = open_database(home.database_url, make=True)
    migrate(engine)
    engine.dispose()
    seen = []
    for value in ("old", "new"):
        secret(tmp_path, "key", value)
        ws = Invsync().open_workspace()
        try:
            seen.append(ws.channel("erp_main").secrets(ws.environ)["api_key_env"])
        finally:
            ws.close()
    assert seen == ["old", "new"]
