"""The caller of a request, and the user for whom it acts. Nothing else reads the headers of identity.

A key is a service's, which acts for any user or for the one it names in X-User-Id, or it is bound to one user
(``name@user:key``).  Without any configured key the server listens on loopback only, and trusts its callers like a
service, except for web pages of another origin and names that merely resolve to this machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from session_manager.domain.access import Caller, Local, Person, PodTurn, Service, UserCaller
from session_manager.domain.errors import Forbidden, InvalidInput, Unauthenticated
from session_manager.domain.values import valid_user_id
from session_manager.people.addresses import Proxies
from session_manager.people.tokens import Tokens
from session_manager.settings.kinds import Network
from session_manager.settings.server import ApiKey

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
Headers = Mapping[bytes, bytes]


class Identity:
    """``trusted_proxies``: networks whose X-Forwarded-For is believed. ``origins``: those whose pages may call.

    ``classes``: the SessionClasses of keys, by their name, for those that do not see all.
    """

    def __init__(
        self,
        keys: Collection[ApiKey],
        trusted_proxies: Collection[Network],
        tokens: Tokens,
        origins: Collection[bytes] = frozenset(),
        classes: Mapping[str, frozenset[str]] = MappingProxyType({}),
    ) -> None:
        self._by_digest = {_digest(key.secret.get_secret_value().encode()): key for key in keys}
        self._proxies = Proxies(trusted_proxies)
        self._tokens = tokens
        self._origins = origins
        self._classes = classes

    async def caller(self, headers: Headers, peer: str, *, pods: bool) -> Caller:
        """Return the caller of a route. ``pods``: the route takes a turn's token.

        Raises Unauthenticated without a valid credential, InvalidInput with two of them, Forbidden for a token on a
        route that does not take one, for a key that names another user than its own, and for a foreign web page where
        no key is configured.
        """
        if not self._by_digest:
            reject_foreign_page(headers, self._origins)
        token = headers.get(b"x-session-token")
        if token is None:
            return self.keyed(headers, peer)
        if b"authorization" in headers or b"x-api-key" in headers:
            raise InvalidInput("X-Session-Token: send one credential, not a key as well")
        if not pods:
            raise Forbidden("the token of a turn reads its session and appends to it, nothing else")
        grant = await self._tokens.verify(token.decode("latin-1"))
        return PodTurn(*grant, self.client_address(headers, peer))

    def keyed(self, headers: Headers, peer: str) -> UserCaller:
        """Return the caller by its key. Raises Unauthenticated, and Forbidden when a bound key names another user."""
        address = self.client_address(headers, peer)
        named = headers.get(b"x-user-id")
        if not self._by_digest:
            return Local("local", address, _user(named))
        key = self._key_of(headers)
        user, classes = _user(named), self._classes.get(key.caller)
        if key.user is None:
            return Service(key.caller, address, user, classes)
        if user not in (None, key.user):
            raise Forbidden("this key acts for one user only, and X-User-Id names another")
        return Person(key.caller, address, key.user, classes)

    def _key_of(self, headers: Headers) -> ApiKey:
        """Return the key of a request. Raises Unauthenticated, InvalidInput."""
        authorization, key = headers.get(b"authorization"), headers.get(b"x-api-key")
        if authorization is not None:
            if key is not None:
                raise InvalidInput("Authorization and X-API-Key: send the key in one of them")
            key = _bearer(authorization)
        elif key is None:
            raise Unauthenticated("send a key as 'Authorization: Bearer …' or 'X-API-Key: …'")
        found = self._by_digest.get(_digest(key))
        if found is None:
            raise Unauthenticated("the key is not valid; send one of SESSION_API_KEYS", tried=True)
        return found

    def client_address(self, headers: Headers, peer: str) -> str:
        """Return the caller's address, for limits and logs."""
        return self._proxies.caller(headers.get(b"x-forwarded-for"), peer)


def _user(named: bytes | None) -> str | None:
    if named is None:
        return None
    try:
        return valid_user_id(named.strip(b" \t").decode("utf-8"), "X-User-Id")
    except UnicodeDecodeError:  # with replacement characters, two users could become one
        raise InvalidInput("X-User-Id: must be UTF-8", "X-User-Id") from None


def _bearer(value: bytes) -> bytes:
    scheme, _, key = value.partition(b" ")
    if scheme.lower() != b"bearer":
        raise Unauthenticated("Authorization: invalid scheme; expected 'Bearer' and a key", tried=True)
    return key.strip()


def _digest(key: bytes) -> bytes:
    # Keys are looked up by digest, so that the time of a comparison reveals nothing about a key.
    return hashlib.sha256(key).digest()


def reject_foreign_page(headers: Headers, origins: Collection[bytes] = frozenset()) -> None:
    """Raise Forbidden unless the request names this machine, and comes from no web page of an origin not listed."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    if name not in LOOPBACK_NAMES:
        raise Forbidden("without SESSION_API_KEYS only requests to localhost are answered")
    origin = headers.get(b"origin")
    if origin in origins:
        return
    if origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host:
        raise Forbidden("without SESSION_API_KEYS no page of another origin is answered")
    # What a page embeds comes without an Origin. A link that a person follows is not a request of that page.
    elsewhere = headers.get(b"sec-fetch-site") in {b"cross-site", b"same-site"}
    if elsewhere and headers.get(b"sec-fetch-mode") != b"navigate":
        raise Forbidden("without SESSION_API_KEYS no page of another origin is answered")


ONCE = frozenset({b"authorization", b"host", b"origin", b"x-api-key", b"x-session-token", b"x-user-id"})
# A repeated traceparent is malformed, and so is the joined one.
LISTS = frozenset({b"accept", b"prefer", b"traceparent", b"tracestate", b"x-forwarded-for"})


def header_map(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return ASGI headers by lower-case name. The last of a repeated header wins; lists are joined in their order.

    Raises InvalidInput for a repeated header of identity: a proxy in front may have looked at the other one.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in headers:
            if name in ONCE:
                raise InvalidInput(f"{name.decode()}: header must not be repeated")
            if name in LISTS:
                headers[name] += b", " + value
                continue
        headers[name] = value
    return headers
