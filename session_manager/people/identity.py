"""Who calls, and for whom: one place yields the actor of a request; handlers never read it from a path or a body.

A key is either a service's (it acts for any user, or for the one it names in X-User-Id) or bound to one user
(``name@user:key``).  Without any key configured the server only listens on loopback, and the caller is trusted like a
service, but not a web page of another origin or a name that merely resolves here.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from session_manager.domain.access import EVERYTHING, NOTHING, Access, OneSession, OwnedBy
from session_manager.domain.errors import Forbidden, InvalidInput, Unauthenticated
from session_manager.people.tokens import Grant
from session_manager.settings.kinds import Network
from session_manager.settings.server import ApiKey

MAX_USER_ID = 128
LOCAL = "local"
ANONYMOUS = "anonymous"
POD = "pod"
Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Actor:
    """``caller``: the key's name, ``local`` without keys. ``user``: whom it acts for; None: a service, for anybody.

    ``grant``: the caller is a pod that showed the token of its turn, and may do what that is good for, nothing else.
    """

    caller: str
    user: str | None
    address: str
    grant: Grant | None = None

    @property
    def access(self) -> Access:
        """The sessions that this caller may reach."""
        if self.caller == ANONYMOUS:
            return NOTHING
        if self.grant is not None:
            return OneSession(*self.grant)
        return EVERYTHING if self.user is None else OwnedBy(self.user)

    def limit_key(self, scope: str) -> str:
        """What the limits count: a user, else a service within ``scope`` (a session), else a client's address."""
        if self.grant is not None:
            return f"{POD}|{self.grant.session}"
        if self.caller == ANONYMOUS:
            return f"{ANONYMOUS}|{self.address}"
        if self.user is not None:
            return f"{self.caller}|user|{self.user}"
        if self.caller == LOCAL:
            return f"{LOCAL}|{self.address}"
        return f"{self.caller}|{scope}"


def valid_user_id(value: object) -> str:
    """1 to 128 printable characters, trimmed. InvalidInput that names the field otherwise."""
    if not isinstance(value, str):
        raise InvalidInput("user_id: must be a string", "user_id")
    trimmed = value.strip()
    if not 1 <= len(trimmed) <= MAX_USER_ID or not trimmed.isprintable():
        raise InvalidInput(f"user_id: must be 1 to {MAX_USER_ID} printable characters", "user_id")
    return trimmed


class Identity:
    """``trusted_proxies``: networks whose X-Forwarded-For is believed."""

    def __init__(self, keys: Collection[ApiKey], trusted_proxies: Collection[Network] = ()) -> None:
        self._by_digest = {_digest(key.secret.get_secret_value().encode()): (key.caller, key.user) for key in keys}
        self._proxies = trusted_proxies

    @property
    def open(self) -> bool:
        """No key is configured."""
        return not self._by_digest

    def actor(self, headers: Headers, peer: str) -> Actor:
        """Unauthenticated without a known key; Forbidden when a bound key names another user."""
        caller, bound = self._caller(headers)
        named = headers.get(b"x-user-id")
        user = bound
        if named is not None:
            user = valid_user_id(_text(named))
            if bound is not None and user != bound:
                raise Forbidden("this key acts for one user only, and X-User-Id names another")
        return Actor(caller, user, self.client_address(headers, peer))

    def anonymous(self, headers: Headers, peer: str) -> Actor:
        """Somebody without a key, on a path that needs none. ``user`` is nobody's."""
        return Actor(ANONYMOUS, "", self.client_address(headers, peer))

    def pod(self, grant: Grant, headers: Headers, peer: str) -> Actor:
        """A pod that works on a turn."""
        return Actor(POD, None, self.client_address(headers, peer), grant)

    def _caller(self, headers: Headers) -> tuple[str, str | None]:
        if self.open:
            return LOCAL, None
        key = _bearer(headers.get(b"authorization", b"")) or headers.get(b"x-api-key", b"")
        found = self._by_digest.get(_digest(key)) if key else None
        if found is None:
            raise Unauthenticated("send a valid key as 'Authorization: Bearer …' or 'X-API-Key: …'")
        return found

    def client_address(self, headers: Headers, peer: str) -> str:
        """The nearest address that is no trusted proxy."""
        forwarded = headers.get(b"x-forwarded-for")
        if not self._proxies or forwarded is None:
            return peer
        hops = [*(hop.strip() for hop in forwarded.decode("latin-1").split(",")), peer]
        for hop in reversed(hops):
            if not self._trusted(hop):
                return hop
        return hops[0]

    def _trusted(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped  # as a socket for both families writes it
        return any(ip in network for network in self._proxies)


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:  # replaced, two users could become one
        raise InvalidInput("X-User-Id: must be UTF-8", "X-User-Id") from None


def _bearer(value: bytes) -> bytes:
    scheme, _, key = value.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _digest(key: bytes) -> bytes:
    # Looked up by digest, so that comparing tells nothing of a key.
    return hashlib.sha256(key).digest()


LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def refuse_foreign_page(headers: Headers) -> None:
    """Without keys: only a caller that named this machine, and no web page of another origin."""
    host = headers.get(b"host", b"").decode("latin-1")
    if _host_name(host) not in LOOPBACK_NAMES:
        raise Forbidden("without SESSION_API_KEYS only requests to localhost are answered")
    origin = headers.get(b"origin")
    if origin is not None and _origin_host(origin.decode("latin-1")) != host.lower():
        raise Forbidden("without SESSION_API_KEYS no page of another origin is answered")
    # What a page embeds comes without an Origin. A link that a person follows is no request of that page.
    elsewhere = headers.get(b"sec-fetch-site") in {b"cross-site", b"same-site"}
    if elsewhere and headers.get(b"sec-fetch-mode") != b"navigate":
        raise Forbidden("without SESSION_API_KEYS no page of another origin is answered")


def _host_name(host: str) -> str:
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


def _origin_host(origin: str) -> str:
    return origin.lower().partition("://")[2]


ONCE = frozenset({b"authorization", b"host", b"origin", b"x-api-key", b"x-session-token", b"x-user-id"})
LISTS = frozenset({b"accept", b"prefer", b"x-forwarded-for"})


def header_map(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Raw ASGI headers by lower-case name. Of a repeated one the last counts; a list is joined in its order.

    InvalidInput where who asks would hang on which of two counts: a proxy in front may have looked at the other one.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in headers:
            if name in ONCE:
                raise InvalidInput(f"{name.decode()}: must stand once")
            if name in LISTS:
                headers[name] += b", " + value
                continue
        headers[name] = value
    return headers
