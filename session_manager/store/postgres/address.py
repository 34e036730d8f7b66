"""PostgreSQL addresses as people, libpq and SQLAlchemy write them, converted for asyncpg without a change of meaning.

Connections over a network use TLS. Without ``sslmode`` it is required, and a weaker mode is rejected, unless each host
is this machine (loopback or a socket) or one of those that the settings allow without TLS.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

import certifi

from session_manager.domain.errors import StartupFailure

_WITH_TLS = frozenset({"require", "verify-ca", "verify-full"})
_MODES = _WITH_TLS | {"disable", "allow", "prefer"}
# The places that libpq tries without a host. They are named because PGHOST could silently point elsewhere.
_LOCAL = "/run/postgresql,/var/run/postgresql,/tmp,localhost"
# libpq knows these; asyncpg would send them to the server as settings, and the server would reject them.
_IGNORED = frozenset({"connect_timeout", "gssencmode", "sslcompression", "sslsni", "fallback_application_name"})
_OWN_ROOT = Path("~/.postgresql/root.crt")  # libpq and asyncpg use it if no file is named
SETTING = "SESSION_DB_URI"
INVALID = "{} is not a valid PostgreSQL address; write special characters of a password as %XX"
_SHOWN = ("host", "port", "sslmode", "target_session_attrs")


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """``uri``, with secrets, is for asyncpg, ``shown`` for people. ``hosts``: names, IP addresses, socket folders."""

    uri: str = field(repr=False)
    shown: str
    hosts: tuple[str, ...]
    database: str

    @classmethod
    def parse(cls, uri: str, plain_hosts: str = "", name: str = SETTING) -> PostgresAddress:
        """Parse an address. ``plain_hosts`` are comma-separated hosts that may be used without TLS, ``*`` for all.

        Raises StartupFailure if the address, which the text calls ``name``, is invalid or not allowed.
        """
        parts, query = _split(uri, name)
        login, _, place = parts.netloc.rpartition("@")
        hosts = tuple(_host(each) for each in (place or query.get("host", _LOCAL)).split(","))
        query = _with_tls(query, hosts, plain_hosts, name)
        shown = {name: query[name] for name in _SHOWN if query.get(name, _LOCAL) != _LOCAL}
        if not place:
            query.setdefault("host", _LOCAL)
        database = unquote(parts.path[1:]) or query.get("dbname") or query.get("database") or ""
        whole = parts._replace(scheme="postgresql", netloc=_requoted(login) + place, query=urlencode(query))
        return cls(whole.geturl(), _shown(place, parts.path, shown), hosts, database)


def with_password(uri: str, password: str) -> str:
    """Return an address with this password, unless it contains one. An invalid address is returned as it is."""
    scheme, separator, rest = uri.partition("://")
    netloc, slash, path = rest.partition("/")
    login, _, place = netloc.rpartition("@")
    if not separator or ":" in login or re.search("[?&]password=", path):
        return uri
    return f"{scheme}://{login}:{quote(password, safe='')}@{place}{slash}{path}"


def _split(uri: str, name: str) -> tuple[SplitResult, dict[str, str]]:
    try:
        parts = urlsplit(uri)
        query = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise StartupFailure(INVALID.format(name)) from None
    if parts.fragment or parts.path.count("/") > 1:
        raise StartupFailure(INVALID.format(name))
    return parts, _known(query, name)


def _known(query: dict[str, str], name: str) -> dict[str, str]:
    """Return the parameters by libpq's names, without those that only tune libpq itself."""
    known = {key: value for key, value in query.items() if key not in _IGNORED and not key.startswith("keepalives")}
    if "ssl" in known:  # SQLAlchemy's name for asyncpg
        known.setdefault("sslmode", known.pop("ssl"))
    if known.pop("channel_binding", "prefer") == "require":
        raise StartupFailure(
            f"{name} requires channel_binding, which asyncpg does not support; use sslmode=verify-full instead"
        )
    if "service" in known:
        raise StartupFailure(
            f"{name} names a service file, which is not supported; write the host and the database instead"
        )
    return known


def _requoted(login: str) -> str:
    """Return user and password with all special characters escaped, including those that a person did not escape."""
    if not login:
        return ""
    user, colon, password = login.partition(":")
    return quote(unquote(user), safe="") + colon + quote(unquote(password), safe="") + "@"


def _host(place: str) -> str:
    """Return a host without its port. A socket folder like ``/cloudsql/project:region:instance`` contains colons."""
    name = unquote(place)
    if name.startswith("/"):
        return name
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _with_tls(query: dict[str, str], hosts: Iterable[str], plain_hosts: str, name: str) -> dict[str, str]:
    mode = query.get("sslmode")
    if mode is not None and mode not in _MODES:
        raise StartupFailure(f"invalid sslmode {mode!r} in {name}; expected one of {', '.join(sorted(_MODES))}")
    allowed = frozenset(host.strip() for host in plain_hosts.split(","))
    if "*" not in allowed and not all(_is_local(host) or host in allowed for host in hosts):
        if mode is not None and mode not in _WITH_TLS:
            raise StartupFailure(
                f"{name} points to another machine with sslmode={mode}, so the data could be read on the way; use "
                "sslmode=require or verify-full, or list the host in SESSION_DB_PLAIN_HOSTS"
            )
        query = {**query, "sslmode": mode or "require"}
    return _with_root(query, name)


def _is_local(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _with_root(query: dict[str, str], name: str) -> dict[str, str]:
    """Use this machine's certificates for ``sslrootcert=system``, and for ``verify-full`` without a file."""
    root = query.get("sslrootcert")
    verifies = query.get("sslmode") in {"verify-ca", "verify-full"}
    if root == "system" or (root is None and verifies and not _OWN_ROOT.expanduser().exists()):
        root = ssl.get_default_verify_paths().cafile or certifi.where()
        return {**query, "sslrootcert": root}
    for key in ("sslrootcert", "sslcert", "sslkey"):
        if key in query and not os.access(query[key], os.R_OK):
            raise StartupFailure(f"the file of {key} in {name} cannot be read")
    return query


def _shown(place: str, path: str, shown: dict[str, str]) -> str:
    query = "&".join(f"{name}={value}" for name, value in shown.items())
    return f"postgresql://{place}{path}" + (f"?{query}" if query else "")
