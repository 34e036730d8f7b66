"""The pages of the API's documents: Swagger UI, whose files a package carries, so that no other origin is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

from fastapi import Response
from fastapi.responses import FileResponse, HTMLResponse

_START = """const place = document.getElementById("page");
SwaggerUIBundle({
  url: place.dataset.document,
  domNode: place,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  showExtensions: true,
  validatorUrl: "none",
});
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" type="image/png" href="{files}/favicon-32x32.png">
<link rel="stylesheet" href="{files}/swagger-ui.css">
</head>
<body>
<div id="page" data-document="openapi.json"></div>
<script src="{files}/swagger-ui-bundle.js"></script>
<script src="{files}/start.js"></script>
</body>
</html>
"""
# Only files of this server, neither scripts nor styles in the page, and calls to this server alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png", "start.js")
KEPT = {"cache-control": "public, max-age=3600"}


async def docs() -> Response:
    return _page("Session Manager", "docs")


async def docs_of_adk() -> Response:
    return _page("Session Manager: ADK", "../docs")


def _page(title: str, folder: str) -> Response:
    """Return the page, whose addresses are relative, so that it works under a prefix too."""
    page = _PAGE.format(title=title, files=folder)
    return HTMLResponse(page, headers={"content-security-policy": POLICY})


def file(name: str) -> Callable[[], Awaitable[Response]]:
    """Return the handler of a file of the pages."""

    async def serve() -> Response:
        if name == "start.js":
            return Response(_START, headers=KEPT, media_type="text/javascript")
        return FileResponse(Path(str(files("fastapi_swagger"))) / "resources" / name, headers=KEPT)

    return serve
