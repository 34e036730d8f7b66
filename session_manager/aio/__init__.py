"""Helpers for asyncio: waiting for several things at once, retrying, a clock."""
