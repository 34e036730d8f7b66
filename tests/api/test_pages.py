"""The pages of the API's documents need no other origin, and no browser runs anything else in them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest

from tests.servers.front import FrontDoor

LOADED = re.compile(r"""url\(["']?(?!data:)([^)"']+)|@import""")


class Addresses(HTMLParser):
    """``found``: every address in a page. ``inline``: scripts and styles that are in the page itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        for name, value in attrs:
            if name in {"href", "src", "data-document", "action"}:
                self.found.append(value or "")
            if name.startswith("on") or name == "style":
                self.inline.append(f"{name}={value}")

    def handle_data(self, data: str) -> None:
        if self._tag in {"script", "style"} and data.strip():
            self.inline.append(data)


async def fetched(front: FrontDoor, url: str) -> tuple[str, str]:
    async with front.client.get(url) as response:
        assert response.status == 200, url
        return response.content_type, await response.text(errors="replace")


@pytest.mark.parametrize("path", ["/docs", "/adk/docs"])
async def test_every_address_of_a_page_is_ours_and_is_answered(front: FrontDoor, path: str):
    async with front.client.get(front.url + path) as response:
        policy = dict(each.split(" ", 1) for each in response.headers["Content-Security-Policy"].split("; "))
        assert response.headers.getall("Content-Security-Policy") == [response.headers["Content-Security-Policy"]]
        page = Addresses()
        page.feed(await response.text())
    assert len(page.found) == 5
    assert page.inline == []
    kinds = set()
    for address in page.found:
        url = urljoin(front.url + path, address)
        assert urlsplit(url).netloc == urlsplit(front.url).netloc
        kind, content = await fetched(front, url)
        kinds.add(kind)
        if kind == "text/css":
            assert not LOADED.findall(content)
    assert kinds == {"image/png", "text/css", "text/javascript", "application/json"}
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert "http" not in " ".join(policy.values())


async def test_the_page_of_adk_shows_adks_document(front: FrontDoor):
    _, document = await fetched(front, f"{front.url}/adk/openapi.json")
    assert "ADK" in document
    _, page = await fetched(front, f"{front.url}/adk/docs")
    assert 'data-document="openapi.json"' in page


async def test_the_files_of_the_pages_are_kept_by_browsers_and_typed(front: FrontDoor):
    async with front.client.get(f"{front.url}/docs/swagger-ui-bundle.js") as response:
        assert response.headers.getall("Cache-Control") == ["public, max-age=3600"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert int(response.headers["Content-Length"]) > 1_000_000
    assert (await front.call("GET", "/docs/index.html"))[0] == 404
    assert (await front.call("GET", "/docs/..%2fmain.py"))[0] == 404
