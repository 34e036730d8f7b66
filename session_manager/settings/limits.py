"""Rate limits per caller."""

from __future__ import annotations

from dataclasses import dataclass

from limits import RateLimitItem, parse

from session_manager.settings.declared import setting
from session_manager.settings.kinds import TEN_YEARS, Kind

MOST = 1_000_000_000  # requests


def _rate(text: str) -> RateLimitItem | None:
    if text.lower() == "off":
        return None
    rate = parse(text)
    if not (1 <= rate.amount <= MOST and 1 <= rate.get_expiry() <= TEN_YEARS):
        raise ValueError
    return rate


RATE: Kind[RateLimitItem | None] = Kind("rate", "for example 100/minute or off", _rate)


@dataclass(frozen=True, slots=True)
class LimitSettings:
    create: RateLimitItem | None = setting("RATE_LIMIT_CREATE", RATE, _rate("100/minute"), "POST /session/create.")
    wake: RateLimitItem | None = setting("RATE_LIMIT_WAKE", RATE, _rate("50/minute"), "POST …/wake.")
    chat: RateLimitItem | None = setting("RATE_LIMIT_CHAT", RATE, _rate("100/minute"), "POST …/chat.")
    delete: RateLimitItem | None = setting("RATE_LIMIT_DELETE", RATE, _rate("50/minute"), "DELETE /session/{id}.")
    default: RateLimitItem | None = setting("RATE_LIMIT_DEFAULT", RATE, _rate("3000/minute"), "Every other route.")
