"""The seal of a backup's files: AES-256-GCM over a stream of chunks, under keys from the environment; without one, none.

Each chunk is sealed with its number and with whether it is the last, so that chunks can be neither cut off, left out nor
swapped. Every file has a key of its own, derived from the given one with a salt in its head: numbers never meet again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Self

from invsync_dagster.inventory.copies import BackupError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VARIABLE = "INVSYNC_BACKUP_KEY"
KEY_BYTES = 32
SALT_BYTES = 16
CHUNK_BYTES = 1024 * 1024
_TAG_BYTES = 16
_FIRST = b"invsync-backup 1 "
_NAME_DIGITS = 8
_HEAD_BYTES = len(_FIRST) + _NAME_DIGITS + 1 + SALT_BYTES


class BackupKeyError(Exception):
    """INVSYNC_BACKUP_KEY holds something that is no key, or not the key of a backup; the message never repeats it."""


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """What bytes are written to."""

    def write(self, content: bytes, /) -> object: ...


class BackupKeys:
    """Seals with the first of the keys and opens with any of them, so that a new one is put before the old."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        """Take keys of 32 bytes. Raises `BackupKeyError`."""
        if any(len(key) != KEY_BYTES for key in keys):
            raise BackupKeyError(
                f"{VARIABLE}: a key has {KEY_BYTES} bytes, as `openssl rand -base64 {KEY_BYTES}` makes one"
            )
        self._keys = {_name_of(key): key for key in keys}
        self.name = _name_of(keys[0]) if keys else ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read INVSYNC_BACKUP_KEY: keys in base64, the newest first, with commas between. Raises `BackupKeyError`."""
        given = [text.strip() for text in environ.get(VARIABLE, "").split(",")]
        try:
            return cls([base64.b64decode(text, validate=True) for text in given if text])
        except binascii.Error:
            raise BackupKeyError(f"{VARIABLE}: a key is not in base64") from None

    def __repr__(self) -> str:
        return f"BackupKeys({len(self._keys)} keys)"

    def sealing(self, file: Writable) -> Sealing | Plain:
        """Return what seals into `file` what is written to it; to be ended with `finish`."""
        if not self.name:
            return Plain(file)
        salt = os.urandom(SALT_BYTES)
        head = _FIRST + self.name.encode() + b"\n" + salt
        file.write(head)
        return Sealing(file, _cipher(self._keys[self.name], salt), head)

    def opening(self, file: Readable) -> Readable:
        """Return what reads the content of `file`, sealed or not.

        Raises `BackupKeyError` if none of the keys opens it; its `read` raises `BackupError` where it isn't what was
        written.
        """
        head = file.read(_HEAD_BYTES)
        if not head.startswith(_FIRST):
            return _Resumed(head, file)
        name = head[len(_FIRST) :][:_NAME_DIGITS].decode("ascii", "replace")
        if name not in self._keys:
            held = "doesn't hold" if self._keys else "has to hold (it is not set)"
            raise BackupKeyError(f"the backup is sealed with the key {name}, which {VARIABLE} {held}")
        return _Opening(file, _cipher(self._keys[name], head[-SALT_BYTES:]), head)


class Plain:
    """Writes what isn't sealed."""

    def __init__(self, file: Writable) -> None:
        self._file = file

    def write(self, content: bytes) -> None:
        self._file.write(content)

    def finish(self) -> None:
        """Nothing has to follow."""


class Sealing:
    """Seals what is written, a chunk at a time."""

    def __init__(self, file: Writable, cipher: AESGCM, head: bytes) -> None:
        self._file = file
        self._cipher = cipher
        self._head = head
        self._chunks = 0
        self._waiting = bytearray()

    def write(self, content: bytes) -> None:
        self._waiting += content
        # A chunk more than full is not the last one.
        while len(self._waiting) > CHUNK_BYTES:
            self._seal(bytes(self._waiting[:CHUNK_BYTES]), last=False)
            del self._waiting[:CHUNK_BYTES]

    def finish(self) -> None:
        """Seal what waits as the last chunk."""
        self._seal(bytes(self._waiting), last=True)

    def _seal(self, content: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._chunks, last), content, self._head))
        self._chunks += 1


class _Opening:
    """Reads what was sealed."""

    def __init__(self, file: Readable, cipher: AESGCM, head: bytes) -> None:
        self._file = file
        self._cipher = cipher
        self._head = head
        self._chunks = 0
        self._ahead = _read(file, CHUNK_BYTES + _TAG_BYTES)
        self._content = memoryview(b"")
        self._ended = False

    def read(self, size: int, /) -> bytes:
        parts: list[bytes] = []
        while size > 0 and (self._content or not self._ended):
            if not self._content:
                self._open_next()
            parts.append(bytes(self._content[:size]))
            size -= len(parts[-1])
            self._content = self._content[len(parts[-1]) :]
        return b"".join(parts)

    def _open_next(self) -> None:
        from cryptography.exceptions import InvalidTag

        sealed, self._ahead = self._ahead, _read(self._file, CHUNK_BYTES + _TAG_BYTES)
        self._ended = not self._ahead
        try:
            content = self._cipher.decrypt(_nonce(self._chunks, self._ended), sealed, self._head)
        except (InvalidTag, ValueError):  # ValueError: too short for a tag
            raise BackupError("its seal is broken: it was cut off or changed since it was made") from None
        self._content = memoryview(content)
        self._chunks += 1


class _Resumed:
    """Reads a file whose first bytes were read already."""

    def __init__(self, first: bytes, file: Readable) -> None:
        self._first = first
        self._file = file

    def read(self, size: int, /) -> bytes:
        first, self._first = self._first[:size], self._first[size:]
        return first or self._file.read(size)


def _read(file: Readable, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end."""
    parts: list[bytes] = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _nonce(chunk: int, last: bool) -> bytes:
    return chunk.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    # Imported here: 40 ms that who has no key doesn't pay.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, b"a file of a backup of invsync").derive(key))


def _name_of(key: bytes) -> str:
    """Return what a sealed file calls its key by: it tells nothing of it."""
    return hashlib.sha256(b"invsync backup key " + key).hexdigest()[:_NAME_DIGITS]
