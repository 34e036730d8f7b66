"""The form of ids. Sessions have UUIDs of version 4, messages of version 7."""

from __future__ import annotations

UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"  # the id of a session


def uuid7(milliseconds: int, random: bytes) -> str:
    """Return the UUID of version 7 for a Unix time and 10 random bytes, of which 74 bits are used.

    Such ids grow with time, so they are added at the end of an index. Their order has no meaning: clocks differ and
    jump.
    """
    at, text = f"{milliseconds:012x}", random.hex()
    variant = "89ab"[random[0] & 3]
    return f"{at[:8]}-{at[8:]}-7{text[2:5]}-{variant}{text[5:8]}-{text[8:]}"
