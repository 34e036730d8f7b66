"""The kinds of bodies that are taken: JSON in UTF-8, as it is."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message

from session_manager.domain.errors import UnsupportedMedia

JSON = b"application/json"
UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})


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
    parsed = Message()
    parsed["content-type"] = (kind or b"").decode("latin-1")
    name, charset = parsed.get_content_type(), parsed.get_content_charset("utf-8")
    if kind is None or not (name == "application/json" or (name.startswith("application/") and name.endswith("+json"))):
        raise UnsupportedMedia("Content-Type: must be application/json")
    if charset not in UTF_8:
        raise UnsupportedMedia("Content-Type: the charset must be UTF-8")


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
