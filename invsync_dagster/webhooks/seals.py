"""The seal of what lies in the inbox: AES-256-GCM under keys from the environment; without a key nothing is sealed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VARIABLE = "INVSYNC_INBOX_KEY"
KEY_BYTES = 32
# 96 random bits, as NIST SP 800-38D has them: under one key for 2**32 seals, a hundred a second for a year.
NONCE_BYTES = 12
_FIRST = b"invsync-sealed 1 "


class InboxKeyError(Exception):
    """INVSYNC_INBOX_KEY holds something that is no key; the message never repeats it."""


class SealedError(Exception):
    """Something sealed that can't be opened; the message says what is missing."""


class Seals:
    """Seals with the first of the keys and opens with any of them, so that a new one is put before the old."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        """Take keys of 32 bytes. Raises `InboxKeyError`."""
        if any(len(key) != KEY_BYTES for key in keys):
            raise InboxKeyError(
                f"{VARIABLE}: a key has {KEY_BYTES} bytes, as `openssl rand -base64 {KEY_BYTES}` makes one"
            )
        self._keys = {_name_of(key): key for key in keys}
        self._first = _name_of(keys[0]) if keys else b""
        self._ciphers: dict[bytes, AESGCM] = {}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read INVSYNC_INBOX_KEY: keys in base64, the newest first, with commas between. Raises `InboxKeyError`."""
        try:
            keys = [
                base64.b64decode(text.strip(), validate=True) for text in environ.get(VARIABLE, "").split(",") if text
            ]
        except binascii.Error:
            raise InboxKeyError(f"{VARIABLE}: a key is not in base64") from None
        return cls(keys)

    def __repr__(self) -> str:
        return f"Seals({len(self._keys)} keys)"

    @property
    def has_key(self) -> bool:
        """Whether anything is sealed."""
        return bool(self._first)

    def seal(self, content: bytes) -> bytes:
        """Return the content sealed; unchanged where there is no key."""
        if not self._first:
            return content
        first_line = _FIRST + self._first + b"\n"
        nonce = os.urandom(NONCE_BYTES)
        return first_line + nonce + self._cipher(self._first).encrypt(nonce, content, first_line)

    def open(self, content: bytes) -> bytes:
        """Return what was sealed; content that isn't sealed comes back as it is. Raises `SealedError`."""
        if not content.startswith(_FIRST):
            return content
        from cryptography.exceptions import InvalidTag

        end = content.find(b"\n") + 1
        first_line, name = content[:end], content[len(_FIRST) : end - 1]
        if name not in self._keys:
            raise SealedError(
                f"it is sealed with the key {name.decode('ascii', 'replace')}, which {VARIABLE} doesn't hold"
            )
        nonce, sealed = content[end : end + NONCE_BYTES], content[end + NONCE_BYTES :]
        try:
            return self._cipher(name).decrypt(nonce, sealed, first_line)
        except (InvalidTag, ValueError):  # ValueError: too short for a nonce
            raise SealedError("its seal is broken: the file isn't what was written") from None

    def _cipher(self, name: bytes) -> AESGCM:
        # Imported here: 40 ms that who has no key doesn't pay.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if name not in self._ciphers:
            self._ciphers[name] = AESGCM(self._keys[name])
        return self._ciphers[name]


NO_SEALS = Seals()


def _name_of(key: bytes) -> bytes:
    """Return what a sealed file calls its key by: it tells nothing of it."""
    return hashlib.sha256(b"invsync inbox key " + key).hexdigest()[:8].encode()
