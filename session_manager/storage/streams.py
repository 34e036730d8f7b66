"""Streams of blocks of bytes: read, measure, compress, decompress. Memory stays bounded whatever the size."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from session_manager.domain.errors import BackupDamaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK = 1024 * 1024
_LEVEL = 3  # messages in JSON shrink to a tenth; a higher level takes longer than the upload
Progress = Callable[[int], None]
"""Called with the number of bytes done since the last call. An exception from it ends the work."""


class Meter:
    """Measures the size and the SHA-256 of a stream that passes through it."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def __call__(self, blocks: Iterable[bytes], progress: Progress | None = None) -> Iterator[bytes]:
        for block in blocks:
            self._hash.update(block)
            self.size += len(block)
            yield block
            if progress is not None:
                progress(len(block))


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
