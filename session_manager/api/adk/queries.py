"""What may be asked for in the query of ADK's routes; ADK itself takes none of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel, Field

Recent = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="Only the last N events; 0 for none.")]
AfterTimestamp = Annotated[float, Query(ge=0, allow_inf_nan=False, description="Only events since (Unix seconds).")]
Stored = Annotated[
    bool,
    Query(description="For services: state and events as they are kept, with ADK's own metadata and with credentials."),
]
Seconds = Annotated[float | None, Field(ge=0, allow_inf_nan=False)]


class ListQuery(BaseModel):
    """``limit``: without it all sessions are listed. Times are Unix seconds of the last update."""

    limit: int | None = Field(None, ge=1, le=500, description="Sessions of a page; all of them where it is not given.")
    cursor: str | None = Field(None, description="X-Next-Cursor of the page before.")
    updated_since: Seconds = Field(None, description="Only sessions that changed at that Unix time or later.")
    stored: bool = Field(False, description="For services: the state as it is kept, with credentials.")
    updated_before: Seconds = Field(None, description="Only sessions that did not change at that Unix time or later.")


async def _query(query: Annotated[ListQuery, Query()]) -> ListQuery:
    return query


Listing = Annotated[ListQuery, Depends(_query)]
