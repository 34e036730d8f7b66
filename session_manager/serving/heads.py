"""Heads of requests that a proxy in front may read in another way, or that ask for a tunnel: they are refused.

llhttp refuses most of them: folded lines, spaces in names, NUL, bare line feeds, several lengths, a length next to
chunks. What it lets through is here.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

import httptools

MOST_HEADERS = 200  # a browser behind three proxies sends about 40


class Fault(NamedTuple):
    status: HTTPStatus
    detail: str


def fault_of(method: bytes, version: str, url: bytes, headers: list[tuple[bytes, bytes]]) -> Fault | None:
    """Return what is wrong with a head that llhttp accepts, or None. Names in ``headers`` are in lower case."""
    host: bytes | None = None
    codings: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            host = value
        elif name == b"transfer-encoding":
            codings.append(value)
    if version not in {"1.1", "1.0"}:
        return Fault(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "invalid version of HTTP; expected HTTP/1.1")
    if method == b"CONNECT":
        return Fault(HTTPStatus.NOT_IMPLEMENTED, "CONNECT is not supported; this server opens no tunnels")
    if len(headers) > MOST_HEADERS:
        return Fault(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request must have at most {MOST_HEADERS} header lines"
        )
    if codings and (fault := _fault_of_codings(version, codings)):
        return fault
    if host is None and version == "1.1":
        return Fault(HTTPStatus.BAD_REQUEST, "Host: header is missing")
    if url[:1] not in b"/*" and not _names(url, host or b""):
        return Fault(HTTPStatus.BAD_REQUEST, "the address in the first line must be that of the Host header")
    return None


def _fault_of_codings(version: str, codings: list[bytes]) -> Fault | None:
    if version == "1.0":
        return Fault(HTTPStatus.BAD_REQUEST, "Transfer-Encoding: HTTP/1.0 has none; send Content-Length")
    if len(codings) > 1:
        return Fault(HTTPStatus.BAD_REQUEST, "Transfer-Encoding: must be sent once")
    if codings[0].lower() != b"chunked":
        return Fault(HTTPStatus.NOT_IMPLEMENTED, "Transfer-Encoding: only chunked is supported")
    return None


def _names(url: bytes, host: bytes) -> bool:
    """Return True if a URL with a scheme names this host, and no user."""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        return False
    if not parsed.host or not parsed.path or parsed.userinfo:
        return False
    port = b":%d" % parsed.port if parsed.port else b""
    name = b"[%b]" % parsed.host if b":" in parsed.host else parsed.host
    return (name + port).lower() == host.lower()
