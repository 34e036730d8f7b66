"""A conditional object in S3, replaced under If-Match and If-None-Match."""

from __future__ import annotations

from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from session_manager.storage.conditional import Contended, Versioned
from session_manager.storage.places import Place

# ConditionalRequestConflict: another conditional write of the object is in progress.
_CONTENDED = {"PreconditionFailed", "ConditionalRequestConflict", "412"}


class S3Object:
    """``timeout`` in seconds per call. Region, endpoint and credentials come from where AWS programs find them."""

    def __init__(self, place: Place, name: str, timeout: float) -> None:
        bucket, _, key = place.path(name).partition("/")
        self._where = {"Bucket": bucket, "Key": key}
        self._errors = place.errors
        config = Config(connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1})
        with self._errors():
            self._client: Any = Session().create_client("s3", config=config)

    def read(self) -> Versioned | None:
        with self._errors():
            try:
                answer = self._client.get_object(**self._where)
            except self._client.exceptions.NoSuchKey:
                return None
            return Versioned(answer["Body"].read(), answer["ETag"])

    def replace(self, content: bytes, version: str | None) -> str:
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        with self._errors():
            try:
                answer = self._client.put_object(
                    **self._where, **condition, Body=content, ContentType="application/json", CacheControl="no-store"
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _CONTENDED:
                    raise Contended from None
                raise
        return str(answer["ETag"])

    def close(self) -> None:
        self._client.close()
