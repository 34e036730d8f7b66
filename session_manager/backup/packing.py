"""Packing a backup as a stream of blocks: measure, compress, encrypt. Memory stays bounded whatever the size.

Backups are encrypted with a key of the user's own, by AES-256-GCM. An encrypted object is ``MAGIC``, 32 random bytes,
then blocks of 64 KiB of plain text with a tag of 16 bytes each. Each object has its own key: HKDF-SHA256 of the user's
key, salted with the random bytes and with the name of the backup, so that no object can take the place of another. The
nonce is the number of the block and a byte that is 1 in the last block only, so that a missing end is noticed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from session_manager.domain.errors import BackupDamaged, BackupNotForUs, StartupFailure

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK = 1024 * 1024
CIPHER = "AES-256-GCM"
MAGIC = b"SMBACKUP1\n"
_SALT = 32
_PLAIN = 64 * 1024  # bytes in an encrypted block
_TAG = 16
_LEVEL = 3  # messages in JSON shrink to a tenth; a higher level takes longer than the upload


class Meter:
    """Measures the size and the SHA-256 of a stream passing through it. ``progress`` is called after each block."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def __call__(self, blocks: Iterable[bytes], progress: Callable[[], None] | None = None) -> Iterator[bytes]:
        for block in blocks:
            self._hash.update(block)
            self.size += len(block)
            yield block
            if progress is not None:
                progress()


def read_file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def compress(blocks: Iterable[bytes]) -> Iterator[bytes]:
    compressor = zstd.ZstdCompressor(level=_LEVEL)
    for block in blocks:
        if packed := compressor.compress(block):
            yield packed
    yield compressor.flush()


def decompress(blocks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Raises BackupDamaged if the stream is not zstd, is cut off, or unpacks to more than ``limit`` bytes."""
    decompressor = zstd.ZstdDecompressor()
    size = 0
    try:
        for block in blocks:
            for plain in _unpack(decompressor, block):
                size += len(plain)
                if size > limit:
                    raise BackupDamaged("The backup unpacks to more than its manifest says")
                yield plain
    except (zstd.ZstdError, EOFError):
        raise BackupDamaged("The backup cannot be unpacked") from None
    if not decompressor.eof:
        raise BackupDamaged("The backup is cut off")


def _unpack(decompressor: zstd.ZstdDecompressor, block: bytes) -> Iterator[bytes]:
    plain = decompressor.decompress(block, BLOCK)
    while plain:
        yield plain
        if decompressor.eof or decompressor.needs_input:
            return
        plain = decompressor.decompress(b"", BLOCK)


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """``id`` is public, ``secret`` has 32 bytes."""

    id: str
    secret: bytes


class Keys:
    """Several keys: the first one encrypts, and each one decrypts its own backups."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._keys = {key.id: key for key in keys}
        self.first = keys[0] if keys else None

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Parse keys of 32 bytes in base64, separated by commas. Raises StartupFailure, which does not repeat them."""
        return cls([_parse(part.strip()) for part in text.split(",") if part.strip()])

    def sign(self, content: bytes) -> str | None:
        """Return what proves that ``content`` was written with the first key, or None without keys."""
        return _proof(self.first, content) if self.first is not None else None

    def proves(self, proof: str | None, key_id: str | None, content: bytes) -> bool:
        """Return True if the key of that id, which is among these, signed the content."""
        key = self._keys.get(key_id or "")
        return key is not None and proof is not None and hmac.compare_digest(_proof(key, content), proof)

    def find(self, key_id: str) -> Key:
        if key_id not in self._keys:
            raise BackupNotForUs(
                f"The backup is encrypted with the key {key_id}, which is not among BACKUP_ENCRYPTION_KEYS"
            )
        return self._keys[key_id]


def _parse(text: str) -> Key:
    try:
        secret = base64.b64decode(text, validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != 32:
        raise StartupFailure(
            "BACKUP_ENCRYPTION_KEYS: invalid key; expected 32 random bytes in base64 (openssl rand -base64 32)"
        )
    return Key(_derive(secret, b"", b"session-manager backup key id")[:8].hex(), secret)


def _proof(key: Key, content: bytes) -> str:
    return hmac.digest(_derive(key.secret, b"", b"session-manager backup manifest"), content, "sha256").hex()


def encrypt(key: Key, name: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Encrypt ``blocks`` of any size as one object of the backup ``name``."""
    salt = secrets.token_bytes(_SALT)
    cipher = _cipher(key, salt, name)
    yield MAGIC + salt
    for number, (block, last) in enumerate(_even(blocks, _PLAIN)):
        yield cipher.encrypt(_nonce(number, last=last), block, None)


def decrypt(key: Key, name: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Undo ``encrypt``. Raises BackupDamaged at the first block that was altered, and if the last block is missing."""
    stream, start, head = iter(blocks), b"", len(MAGIC) + _SALT
    while len(start) < head and (block := next(stream, b"")):
        start += block
    if not start.startswith(MAGIC) or len(start) < head:
        raise BackupDamaged("The backup is not encrypted as its manifest says")
    cipher = _cipher(key, start[len(MAGIC) : head], name)
    try:
        for number, (block, last) in enumerate(_even(chain([start[head:]], stream), _PLAIN + _TAG)):
            yield cipher.decrypt(_nonce(number, last=last), block, None)
    except InvalidTag:
        raise BackupDamaged("The backup was altered or cut off after it was encrypted") from None


def _even(blocks: Iterable[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the same bytes in blocks of ``size``. True marks the last block, which may be shorter or empty."""
    waiting = bytearray()
    for block in blocks:
        waiting += block
        start = 0
        while len(waiting) - start > size:  # a full block may still be the last one
            yield bytes(waiting[start : start + size]), False
            start += size
        del waiting[:start]
    yield bytes(waiting), True


def _cipher(key: Key, salt: bytes, name: str) -> AESGCM:
    return AESGCM(_derive(key.secret, salt, b"session-manager backup " + name.encode()))


def _derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(secret)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
