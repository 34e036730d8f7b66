"""Errors of the libraries behind fsspec become our own errors."""

from __future__ import annotations

import errno

import pytest

from session_manager.domain.errors import StorageDenied, StorageError, StorageMissing, StorageUnavailable
from session_manager.storage.errors import translate


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (PermissionError(errno.EACCES, "no"), StorageDenied),
        (OSError("Forbidden: b\nno"), StorageDenied),
        (FileNotFoundError("b"), StorageMissing),
        (OSError(errno.ENOSPC, "full"), StorageError),
        (TimeoutError(), StorageUnavailable),
        (ConnectionResetError(), StorageUnavailable),
        (ValueError("Bad Request: x"), StorageError),
    ],
    ids=repr,
)
def test_the_error_of_a_library_is_translated(error: Exception, ours: type[StorageError]):
    assert type(translate(error, "gs://bucket")) is ours
