"""Rules are written into channels.yaml; everything else stays as people wrote it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from invsync_dagster.channels_file import NotWrittenError, write_rules
from invsync_dagster.yaml_lines import read_yaml

ROOT = Path(__file__).parents[2]

FILE = """\
# All that we have.
settings: { low_stock: 3 }   # few

channels:
- name: shop      # the first one
  platform: shopify
  rules:
    buffer: 2     # kept back
    maximum: 7
  # goes on
  environment: sandbox
- name: 'other'
  platform: shopify
"""


def lines_changed(before: str, after: str) -> list[tuple[str, str]]:
    pairs = zip(before.splitlines(), after.splitlines(), strict=True)
    return [(old.split("#")[0].strip(), new.split("#")[0].strip()) for old, new in pairs if old != new]


def test_one_line_of_the_file_changes_and_its_comment_stays(tmp_path: Path) -> None:
    path = tmp_path / "channels.yaml"
    before = (ROOT / "channels.yaml").read_text()
    path.write_text(before)
    write_rules(path, "shopify_outlet", {"percent": 80})
    assert lines_changed(before, path.read_text()) == [("percent: 50", "percent: 80")]
    assert "share of what is left after the buffer" in path.read_text()


def test_a_file_in_another_style_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "channels.yaml"
    path.write_text(FILE)
    path.chmod(0o640)
    write_rules(path, "shop", {"buffer": 0})
    after = path.read_text()
    assert lines_changed(FILE, after) == [("buffer: 2", "buffer: 0")]
    assert "# goes on" in after
    assert path.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["channels.yaml"]


def test_none_takes_a_line_out_and_what_is_missing_is_added(tmp_path: Path) -> None:
    path = tmp_path / "channels.yaml"
    path.write_text(FILE)
    write_rules(path, "shop", {"maximum": None, "percent": 50})
    write_rules(path, "other", {"buffer": 4})
    shop, other = read_yaml(path.read_bytes()).value["channels"]
    assert (shop["rules"], other["rules"]) == ({"buffer": 2, "percent": 50}, {"buffer": 4})


def test_the_file_stays_its_owners_though_an_administrator_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "channels.yaml"
    path.write_text(FILE)
    if os.getuid() == 0:  # nobody else can give a file away
        os.chown(path, 1234, 1235)
    before = path.stat()
    write_rules(path, "shop", {"buffer": 0})
    assert (path.stat().st_uid, path.stat().st_gid) == (before.st_uid, before.st_gid)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "channels.yaml"
    real.write_text(FILE)
    link.symlink_to(real)
    write_rules(link, "shop", {"buffer": 0})
    assert link.is_symlink()
    assert "buffer: 0" in real.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FILE.replace("'other'", "shop"), "it has 2 channels of the name 'shop'"),
        (FILE.replace("shop ", "store "), "it has 0 channels of the name 'shop'"),
        (FILE + "\tx", "can't be written"),
        (FILE.replace("rules:", "rules: &few") + "  rules: *few\n", "shared with other places"),
    ],
)
def test_what_can_not_be_written_says_what_to_write_by_hand(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "channels.yaml"
    path.write_text(text)
    with pytest.raises(NotWrittenError, match=words) as told:
        write_rules(path, "shop", {"buffer": 3, "maximum": None})
    assert "write `buffer: 3` and take out `maximum` under `rules:` of channel 'shop' by hand" in str(told.value)
    assert path.read_text() == text
