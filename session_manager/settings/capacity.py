"""The connections, requests, streams and bytes that a front door holds for its callers, and for how long."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from session_manager.settings.kinds import Group, Seconds, UpTo100000, expects

MiB = 2**20
LARGEST_BODY = 8 * MiB
MOST = 16 * 1024 * MiB

Bytes = Annotated[
    int, Field(ge=LARGEST_BODY, le=MOST), expects("number of bytes", f"a whole number from {LARGEST_BODY} to {MOST}")
]


class CapacitySettings(Group):
    """Limits of one front door, for all callers together and for each of them.

    A caller is a user's key, a user or a session of a service, and without a key an address.
    """

    buffer_bytes: Bytes = Field(128 * MiB, alias="BUFFER_BYTES")
    """Bytes of bodies, unfinished heads and unread answers, for all callers. A quarter of the chart's memory limit."""
    buffer_bytes_per_caller: Bytes = Field(32 * MiB, alias="BUFFER_BYTES_PER_CALLER")
    """The same for each caller: four of the largest bodies (8 MiB) at once."""
    max_connections: UpTo100000 = Field(8192, alias="MAX_CONNECTIONS")
    """Open connections. At least 256 files of the process stay free for everything else."""
    max_connections_per_address: UpTo100000 = Field(2048, alias="MAX_CONNECTIONS_PER_ADDRESS")
    """Open connections of one address, or of one IPv6 /64; TRUSTED_PROXIES have no such limit."""
    max_requests_per_caller: UpTo100000 = Field(128, alias="MAX_REQUESTS_PER_CALLER")
    """Requests of one caller at the same time, without streams. A browser sends 6."""
    max_streams_per_caller: UpTo100000 = Field(32, alias="MAX_STREAMS_PER_CALLER")
    """Open streams of one caller: live feeds, and chats that stream their reply."""
    head_timeout: Seconds = Field(15.0, alias="HEAD_TIMEOUT")
    """Seconds for the head of a request to arrive in full, or 408. A head is small on any line."""
    write_timeout: Seconds = Field(30.0, alias="WRITE_TIMEOUT")
    """Seconds in which a client must read something of an answer that waits for it, or it is cut off."""
