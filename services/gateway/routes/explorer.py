"""The API's description and its explorer: /openapi.json and /docs, with nothing from another host."""

import mimetypes
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec
from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from runtime.errors import NotFoundError

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Causeloop API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = b"""window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis],
});
"""
_ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")


def explorer_routes(document: Mapping[str, object]) -> Sequence[HTTPRouteHandler]:
    """The handlers; the assets are read from the installed swagger-ui-py when they are asked for."""
    encoded = msgspec.json.encode(document)
    folder = _asset_folder()

    @get("/openapi.json", include_in_schema=False, sync_to_thread=False)
    def openapi() -> Response[bytes]:
        """The OpenAPI document."""
        return Response(encoded, media_type="application/json", headers={"Cache-Control": "no-cache"})

    @get("/docs", include_in_schema=False, sync_to_thread=False)
    def page() -> Response[bytes]:
        """The explorer."""
        return Response(_PAGE, media_type=MediaType.HTML, headers={**_HEADERS, "Cache-Control": "no-cache"})

    @get("/docs/{name:str}", include_in_schema=False, sync_to_thread=True)
    def asset(name: str) -> Response[bytes]:
        """One of the explorer's files."""
        if name == "start.js":
            body = _START
        elif name in _ASSETS:
            body = (folder / name).read_bytes()
        else:
            raise NotFoundError(f"There is nothing at /docs/{name}.")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(body, media_type=kind, headers={**_HEADERS, "Cache-Control": "max-age=86400"})

    return [openapi, page, asset]


def _asset_folder() -> Path:
    """Where the package keeps its static files; found without importing it."""
    spec = find_spec("swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package swagger-ui-py is not installed; run `make up` or `uv sync`")
    return Path(spec.submodule_search_locations[0]) / "static"
