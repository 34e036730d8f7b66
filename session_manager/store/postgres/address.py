"""A PostgreSQL address as people, libpq and SQLAlchemy write it, made into one that asyncpg takes as it is meant.

What goes over a network goes through TLS: without ``sslmode`` it is required, and a weaker one is refused, unless every
host is this machine (loopback or a socket) or stands among those that the settings allow without.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

import certifi

from session_manager.domain.errors import StartupFailure

_WITH_TLS = frozenset({"require", "verify-ca", "verify-full"})
_MODES = _WITH_TLS | {"disable", "allow", "prefer"}
# Where libpq and its kin look without a host. Named, since PGHOST could lead elsewhere unnoticed.
_LOCAL = "/run/postgresql,/var/run/postgresql,/tmp,localhost"
# What libpq knows and asyncpg would take for a setting of the server, which refuses it.
_IGNORED = frozenset({"connect_timeout", "gssencmode", "sslcompression", "sslsni", "fallback_application_name"})
_OWN_ROOT = Path("~/.postgresql/root.crt")  # what libpq and asyncpg take when no file is named
_SHOWN = ("host", "port", "sslmode", "target_session_attrs")
_WRONG = "SESSION_DB_URI is not a valid PostgreSQL address; special characters of a password are written as %XX"


@dataclass(frozen=True, slots=True)
class Address:
    """``uri`` for asyncpg, with its secrets; ``shown`` for people. ``hosts``: names, addresses, socket folders."""

    uri: str
    shown: str
    hosts: tuple[str, ...]
    database: str

    @classmethod
    def parse(cls, uri: str, plain_hosts: str = "") -> Address:
        """``plain_hosts``: comma-separated hosts without TLS, ``*`` for all. StartupFailure: wrong, or not allowed."""
        parts, query = _split(uri)
        login, _, place = parts.netloc.rpartition("@")
        hosts = _hosts(place or query.get("host", _LOCAL))
        query = _with_tls(query, hosts, plain_hosts)
        shown = {name: query[name] for name in _SHOWN if query.get(name, _LOCAL) != _LOCAL}
        if not place:
            query.setdefault("host", _LOCAL)
        database = unquote(parts.path[1:]) or query.get("dbname") or query.get("database") or ""
        whole = parts._replace(scheme="postgresql", netloc=_requoted(login) + place, query=urlencode(query))
        return cls(whole.geturl(), _told(place, parts.path, shown), hosts, database)


def _split(uri: str) -> tuple[SplitResult, dict[str, str]]:
    try:
        parts = urlsplit(uri)
        query = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise StartupFailure(_WRONG) from None
    if parts.fragment or parts.path.count("/") > 1:
        raise StartupFailure(_WRONG)
    return parts, _known(query)


def _known(query: dict[str, str]) -> dict[str, str]:
    """As libpq calls them, without those that only tune libpq itself."""
    known = {name: value for name, value in query.items() if name not in _IGNORED and not name.startswith("keepalives")}
    if "ssl" in known:  # SQLAlchemy's word for asyncpg
        known.setdefault("sslmode", known.pop("ssl"))
    if known.pop("channel_binding", "prefer") == "require":
        raise StartupFailure(
            "SESSION_DB_URI asks for channel_binding, which asyncpg does not know: sslmode=verify-full says as much"
        )
    if "service" in known:
        raise StartupFailure("SESSION_DB_URI names a service file; write host and database out instead")
    return known


def _requoted(login: str) -> str:
    """User and password with every special character escaped, also where a person left one as it is."""
    if not login:
        return ""
    user, colon, password = login.partition(":")
    return quote(unquote(user), safe="") + colon + quote(unquote(password), safe="") + "@"


def _hosts(places: str) -> tuple[str, ...]:
    """Hosts without their ports. A socket folder like ``/cloudsql/project:region:instance`` has colons of its own."""
    return tuple(_host(place) for place in places.split(","))


def _host(place: str) -> str:
    name = unquote(place)
    if name.startswith("/"):
        return name
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _with_tls(query: dict[str, str], hosts: Iterable[str], plain_hosts: str) -> dict[str, str]:
    mode = query.get("sslmode")
    if mode is not None and mode not in _MODES:
        raise StartupFailure(f"sslmode in SESSION_DB_URI is none of {', '.join(sorted(_MODES))}")
    allowed = frozenset(name.strip() for name in plain_hosts.split(","))
    if "*" not in allowed and not all(_is_local(host) or host in allowed for host in hosts):
        if mode is not None and mode not in _WITH_TLS:
            raise StartupFailure(
                f"SESSION_DB_URI leads to another machine with sslmode={mode}, and could be read on the way: use "
                "sslmode=require or verify-full, or name the host in SESSION_DB_PLAIN_HOSTS"
            )
        query = {**query, "sslmode": mode or "require"}
    return _with_root(query)


def _is_local(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _with_root(query: dict[str, str]) -> dict[str, str]:
    """``sslrootcert=system`` means what this machine trusts; ``verify-full`` without a file of its own does as well."""
    root = query.get("sslrootcert")
    verifies = query.get("sslmode") in {"verify-ca", "verify-full"}
    if root == "system" or (root is None and verifies and not _OWN_ROOT.expanduser().exists()):
        root = ssl.get_default_verify_paths().cafile or certifi.where()
        return {**query, "sslrootcert": root}
    for name in ("sslrootcert", "sslcert", "sslkey"):
        if name in query and not os.access(query[name], os.R_OK):
            raise StartupFailure(f"The file that {name} in SESSION_DB_URI names cannot be read")
    return query


def _told(place: str, path: str, shown: dict[str, str]) -> str:
    query = "&".join(f"{name}={value}" for name, value in shown.items())
    return f"postgresql://{place}{path}" + (f"?{query}" if query else "")
