"""Ids in paths."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator

SESSION_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"

MESSAGE_PATTERN = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

SessionId = Annotated[
    str, Path(pattern=SESSION_PATTERN, examples=["3f2b8a52-6f0e-4c53-9a0e-5c8f3f0f8d11"]), AfterValidator(str.lower)
]
MessageId = Annotated[
    str, Path(pattern=MESSAGE_PATTERN, examples=["01a1fe32-927a-79a2-8a12-9a85cc0c4483"]), AfterValidator(str.lower)
]
