"""The application: frontier, routes, problems and page put together."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from searchanything.core.errors import ObjectNotFoundError, SearchAnythingError
from searchanything.core.extras import package_version
from searchanything.serve import problems
from searchanything.serve.desk import Desk
from searchanything.serve.frontier import MAX_JSON_BYTES, Frontier
from searchanything.serve.reference import reference_page
from searchanything.serve.routes import pictures, questions, server
from searchanything.serve.standing_routes import kept, standing

_PAGE: Final = files("searchanything.serve") / "page"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_LEAST_GZIP_BYTES: Final = 1024
_UPLOADS_AT_ONCE: Final = 8  # forms of the largest size; many more where they are smaller
_PICTURES: Final = ("/thumbnail", "/sheet")


def make_app(desk: Desk) -> ASGIApp:
    """The application of one server, with everything that a request passes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if desk.settings.preload:
            threading.Thread(target=_preload, args=[desk], name="preload", daemon=True).start()
        yield
        for gate in desk.gates:
            gate.close()

    form_bytes = desk.settings.upload_bytes + MAX_JSON_BYTES
    app = FastAPI(
        title="Search Anything",
        summary="Point at a thing in an image and find every image that shows one like it.",
        version=package_version(),
        openapi_url="/openapi.json",
        docs_url=None,  # FastAPI's page fetches its parts from another host
        redoc_url=None,
        redirect_slashes=False,  # to http, where a proxy has the TLS: with the key in plain sight
        lifespan=lifespan,
    )
    problems.install(app)
    app.state.desk = desk
    for router in (server, questions, pictures, kept, standing):
        app.include_router(router)
    _add_page(app)
    return Frontier(
        _packed(app),
        names=(*desk.settings.allowed_hosts, desk.settings.host),
        metrics=desk.metrics,
        admit=desk.caller,
        body_s=desk.settings.body_timeout_s,
        form_bytes=form_bytes,
        held_bytes=_UPLOADS_AT_ONCE * form_bytes,
    )


def _packed(app: FastAPI) -> ASGIApp:
    """The application with its documents compressed; pictures are already."""
    gzip = GZipMiddleware(app, minimum_size=_LEAST_GZIP_BYTES, compresslevel=5)

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        picture = scope["type"] == "http" and scope["path"].endswith(_PICTURES)
        await (app if picture else gzip)(scope, receive, send)

    return choose


def _preload(desk: Desk) -> None:
    """What fails here fails again, and is said, when a question needs it."""
    try:
        desk.load_models()
    except SearchAnythingError as error:
        problems.logger.warning("the models are not loaded: %s", error)


def _add_page(app: FastAPI) -> None:
    """The page's own files, and no others."""
    known = {one.name: one.read_bytes() for one in _PAGE.iterdir() if one.name[one.name.rfind(".") :] in _TYPES}

    async def page() -> Response:
        return _static("index.html")

    async def part(name: str) -> Response:
        if name not in known:
            raise ObjectNotFoundError(f"the page has no part {name!r}")
        return _static(name)

    @cache
    def reference() -> str:
        return reference_page(app.openapi())

    async def docs() -> Response:
        return Response(reference(), media_type=_TYPES[".html"])

    def _static(name: str) -> Response:
        kind = _TYPES[name[name.rfind(".") :]]
        return Response(known[name], headers={"Cache-Control": "no-cache"}, media_type=kind)

    app.add_api_route("/", page, include_in_schema=False)
    app.add_api_route("/docs", docs, include_in_schema=False)
    app.add_api_route("/page/{name}", part, include_in_schema=False)
