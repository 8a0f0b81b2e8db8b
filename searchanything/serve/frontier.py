"""What every request passes first, whatever it asks for: who may speak to us at all, and how much.

- The Host must be an address or a name that is ours: a page that had its own name pointed here (DNS rebinding) speaks
  with another one.
- A browser that sends a request for another site's page is refused, so such a page cannot even make us work.
- Where a key is demanded, it is checked before anything of the body is read.
- Bodies come in time. JSON is read up to a limit; uploads and forms are streamed, up to one of their own.
- Each answer carries an id, which the log has too, and the headers that keep a browser strict.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from searchanything.core.errors import AccessError, SearchAnythingError
from searchanything.core.public_texts import numbered
from searchanything.serve.bodies import HeldBytes, in_time, limited, whole
from searchanything.serve.metrics import Metrics
from searchanything.serve.problems import defect_response, problem_response

logger = logging.getLogger(__name__)

MAX_JSON_BYTES: Final = 2**20
UPLOADS: Final = "/v1/uploads"
FORM: Final = "multipart/form-data"
PROBES: Final = frozenset({"/healthz", "/readyz"})  # asked by whatever name; they say nothing that others may not know
REQUEST: Final = "searchanything.request"  # in the scope: the request's id
# Whatever is not named here demands a key, where keys are demanded; what is takes no body.
OPEN: Final = PROBES | {"/", "/docs", "/openapi.json", "/v1/server"}
_PAGE: Final = "/page/"
CALLER: Final = "searchanything.caller"  # in the scope: the name of the key that was shown
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/?#@\\]+)(?::\d*)?")  # RFC 9110, 7.2: no path, no user
_NO_NAME: Final = frozenset({"localhost", "localhost.localdomain"})
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Frame-Options": "DENY",
}


class Frontier:
    """ASGI middleware around the application. `names` are the host names that are ours besides addresses.

    `admit` raises AccessError for an `Authorization` that may not even read.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Collection[str],
        metrics: Metrics,
        admit: Callable[[Scope, str], object],
        body_s: float,
        form_bytes: int,
        held_bytes: int,
    ) -> None:
        self._app, self._admit, self._body_s = app, admit, body_s
        self._form_bytes, self._uploads = form_bytes, HeldBytes(held_bytes)
        self._names = frozenset(name.lower().rstrip(".") for name in names) | _NO_NAME
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope[REQUEST] = request
        # What may be asked for with GET may be with HEAD, as balancers do; uvicorn sends no body of such an answer.
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        start, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                found = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    found.setdefault(name, value)
                found["X-Request-ID"] = request
                found.setdefault("Cache-Control", "no-store")
            elif scope["method"] == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            if scope["path"] not in PROBES:
                self._check(headers)
            with numbered(request), self._uploads.counted(receive) as counted:
                await self._app(asked, await self._body(asked, headers, receive, counted), answer)
        except SearchAnythingError as error:
            await problem_response(error, request)(scope, receive, answer)
        except Exception:
            logger.exception("request %s", request)
            if status == 0:  # no answer has begun
                await defect_response(request)(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - start
            self._metrics.answered(route=_route(asked), method=_method(scope), status=status, seconds=seconds)
            logger.info(
                "%s %s %d %.1f ms request=%s caller=%s",
                _method(scope),
                _route(asked),
                status,
                seconds * 1000,
                request,
                asked.get(CALLER, "-"),
            )

    async def _body(self, scope: Scope, headers: Headers, receive: Receive, counted: Receive) -> Receive:
        """`receive`, `counted` for uploads, with a body that may be read.

        Raises: AccessError, TooLargeError, BodyTimeoutError.
        """
        if scope["path"] in OPEN or scope["path"].startswith(_PAGE):
            return receive
        self._admit(scope, headers.get("authorization", ""))
        if scope["path"] == UPLOADS or is_form(headers):
            return limited(in_time(counted, self._body_s), self._form_bytes)
        return await whole(in_time(receive, self._body_s), MAX_JSON_BYTES, headers.get("content-length", ""))

    def _check(self, headers: Headers) -> None:
        """Raises: AccessError."""
        host = _host_of(headers.get("host", ""))
        if not (_is_address(host) or host in self._names):
            raise AccessError(
                f"this server is not known by the name {host!r}; name it in SEARCHANYTHING_SERVE__ALLOWED_HOSTS",
                known=True,
            )
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
            raise AccessError("a page of another site asks: pages of this server alone may", known=True)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
            raise AccessError("a page of another origin asks: pages of this server alone may", known=True)


def is_form(headers: Headers) -> bool:
    """Whether a request's body is `multipart/form-data`."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == FORM


def _host_of(header: str) -> str:
    """The host without its port, in small letters; nothing where it is no host."""
    found = _HOST.fullmatch(header)
    return found[1].strip("[]").lower().rstrip(".") if found else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _route(scope: Scope) -> str:
    """The route's template, so that neither log nor figures hold what was asked."""
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))


def _method(scope: Scope) -> str:
    method = str(scope.get("method", ""))
    return method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH") else "OTHER"
