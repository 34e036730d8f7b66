"""The kinds of bodies that are taken: JSON in UTF-8, as it is."""

from __future__ import annotations

from collections.abc import Mapping

from session_manager.domain.errors import UnsupportedMedia

JSON = b"application/json"
UTF_8 = frozenset({b"utf-8", b"utf8", b"us-ascii"})
LONGEST = 256  # bytes of a Content-Type


def check_media(headers: Mapping[bytes, bytes]) -> None:
    """Raise UnsupportedMedia for a body that is not JSON in UTF-8, or that is compressed.

    A page of another origin may send other kinds of bodies without asking first, so none of them is read as JSON.
    """
    kind = headers.get(b"content-type")
    coding = headers.get(b"content-encoding")
    if (kind == JSON and coding is None) or not _has_body(headers):
        return
    if coding is not None and coding.strip().lower() != b"identity":
        raise UnsupportedMedia("Content-Encoding: must not be set; send the body as it is")
    kind = kind or b""
    if len(kind) > LONGEST:
        raise UnsupportedMedia(f"Content-Type: must be application/json in at most {LONGEST} bytes")
    name, *parameters = kind.lower().split(b";")
    if not _is_json(name.strip()):
        raise UnsupportedMedia("Content-Type: must be application/json")
    if not all(_is_utf_8(each) for each in parameters):
        raise UnsupportedMedia("Content-Type: the charset must be UTF-8")


def _is_json(name: bytes) -> bool:
    if name == JSON:
        return True
    return name.startswith(b"application/") and name.endswith(b"+json") and name.count(b"/") == 1


def _is_utf_8(parameter: bytes) -> bool:
    """Return False for a parameter that names another charset, in a quoted string or in the form of RFC 2231 too."""
    name, _, value = parameter.partition(b"=")
    return name.partition(b"*")[0].strip() != b"charset" or value.strip().strip(b'"') in UTF_8


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
