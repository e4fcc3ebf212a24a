"""The seal of a backup's files: what was written comes back, and nothing else does."""

from __future__ import annotations

import base64
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from invsync_dagster.backups import sealing
from invsync_dagster.backups.sealing import VARIABLE, BackupKeyError, BackupKeys
from invsync_dagster.inventory.copies import BackupError

NEW, OLD = bytes(range(32)), bytes(range(32, 64))
CHUNK = 16


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "CHUNK_BYTES", CHUNK)
        yield


def sealed(content: bytes, keys: BackupKeys, step: int = 7) -> bytes:
    file = BytesIO()
    seal = keys.sealing(file)
    for start in range(0, len(content), step):
        seal.write(content[start : start + step])
    seal.finish()
    return file.getvalue()


def opened(content: bytes, keys: BackupKeys, step: int = 5) -> bytes:
    file = keys.opening(BytesIO(content))
    parts = []
    while part := file.read(step):
        parts.append(part)
    return b"".join(parts)


@given(content=st.binary(max_size=5 * CHUNK), step=st.integers(1, 3 * CHUNK))
def test_what_was_sealed_comes_back_however_it_is_written_and_read(content: bytes, step: int) -> None:
    assume(not content.startswith(b"invsync-backup"))  # nothing that is backed up does, unless it is sealed
    keys = BackupKeys([NEW])
    assert opened(sealed(content, keys, step), keys, step) == content
    assert opened(sealed(content, BackupKeys(), step), keys, step) == content


def test_nothing_of_the_content_is_seen_and_no_two_files_are_alike() -> None:
    keys = BackupKeys([NEW])
    once, again = sealed(b"Anna Buyer" * 3, keys), sealed(b"Anna Buyer" * 3, keys)
    assert b"Anna" not in once
    assert once[-20:] != again[-20:]


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_changed_bit_anywhere_is_noticed(place: int, bit: int) -> None:
    keys = BackupKeys([NEW])
    content = bytes(range(3 * CHUNK))
    damaged = bytearray(sealed(content, keys))
    damaged[place % len(damaged)] ^= 1 << bit
    with suppress(BackupError, BackupKeyError):
        # A head that is none any more makes it a file that isn't sealed; the hash in the manifest is for that.
        assert opened(bytes(damaged), keys) == bytes(damaged)


@given(length=st.integers(0, 200))
def test_a_file_that_was_cut_anywhere_is_noticed_also_between_two_chunks(length: int) -> None:
    keys = BackupKeys([NEW])
    whole = sealed(bytes(3 * CHUNK), keys)
    cut = whole[: min(length, len(whole) - 1)]
    with suppress(BackupError, BackupKeyError):
        assert opened(cut, keys) == cut  # too short to be known as sealed
        assert len(cut) < len(b"invsync-backup 1 ")


def test_chunks_that_are_left_out_swapped_or_of_another_file_are_noticed() -> None:
    keys = BackupKeys([NEW])
    head, size = sealing._HEAD_BYTES, CHUNK + 16
    whole, other = sealed(bytes(3 * CHUNK), keys), sealed(bytes(3 * CHUNK), keys)
    first, second, last = (whole[head + size * n : head + size * (n + 1)] for n in range(3))
    for forged in (first + last, second + first + last, first + other[head + size : head + 2 * size] + last, last):
        with pytest.raises(BackupError, match="its seal is broken: it was cut off or changed"):
            opened(whole[:head] + forged, keys)
    assert opened(whole[:head] + first + second + last, keys) == bytes(3 * CHUNK)


def test_the_newest_key_seals_and_each_opens() -> None:
    both = BackupKeys([NEW, OLD])
    assert opened(sealed(b"stock", BackupKeys([OLD])), both) == b"stock"
    assert opened(sealed(b"stock", both), BackupKeys([NEW])) == b"stock"
    for without in (BackupKeys([OLD]), BackupKeys()):
        with pytest.raises(BackupKeyError, match=f"sealed with the key {both.name}, which {VARIABLE} ") as caught:
            opened(sealed(b"stock", both), without)
        assert "stock" not in str(caught.value)


def test_keys_come_from_the_environment_and_are_never_repeated() -> None:
    texts = [base64.b64encode(key).decode() for key in (NEW, OLD)]
    keys = BackupKeys.from_environment({VARIABLE: f"{texts[0]}, {texts[1]}"})
    assert keys.name == BackupKeys([NEW]).name
    assert BackupKeys.from_environment({}).name == ""
    assert repr(keys) == "BackupKeys(2 keys)"
    for wrong, reason in (("no base64!", "a key is not in base64"), (texts[0][:20], "a key has 32 bytes")):
        with pytest.raises(BackupKeyError, match=reason) as caught:
            BackupKeys.from_environment({VARIABLE: wrong})
        assert wrong not in str(caught.value)
