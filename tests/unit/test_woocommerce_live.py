"""The walk through a real store: what it refuses before anything is sent, and that it clears up what it made."""

from __future__ import annotations

import pytest

from tests.woocommerce_live import RefusedError, Store, main

URL = "http://127.0.0.1:9"
KEYS = {"WOO_KEY": "ck_1", "WOO_SECRET": "cs_1"}


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (["--url", URL], KEYS, "say --test-store"),
        (["--url", URL, "--test-store"], {"WOO_KEY": "ck_1"}, "set WOO_KEY and WOO_SECRET"),
        (["--test-store"], KEYS, "--url"),
    ],
)
def test_a_store_that_is_not_said_to_be_for_tests_is_refused(
    arguments: list[str], environ: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments, environ)
    assert refused.value.code == 2
    assert words in capsys.readouterr().err


def test_what_was_made_is_deleted_the_last_first_and_what_stays_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def call(self: Store, method: str, path: str, document: object = None, **query: str) -> dict[str, int]:
        asked.append((method, path))
        if (method, path) == ("DELETE", "/products/1"):
            raise RefusedError("DELETE /products/1: HTTP 500")
        return {"id": len(asked)}

    monkeypatch.setattr(Store, "call", call)
    store = Store(URL, "ck_1", "cs_1")
    store.make("/products", {})
    store.make("/orders", {})
    assert store.clear() == ["DELETE /products/1: HTTP 500"]
    assert asked[2:] == [("DELETE", "/orders/2"), ("DELETE", "/products/1")]
