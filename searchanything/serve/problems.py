"""Errors as RFC 9457 problems: the one place that knows which status an error has.

`type` ends with the name of the error's class, from which the light client makes the same error again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from searchanything.core.errors import (
    AccessError,
    AnnotationsError,
    AnswerTimeoutError,
    BackupError,
    BodyTimeoutError,
    BusyError,
    DeviceError,
    ImageError,
    IndexMismatchError,
    IndexNotFoundError,
    IndexUnavailableError,
    LibraryError,
    ModelError,
    ModelLoadError,
    NotOfferedError,
    ObjectChangedError,
    ObjectNotFoundError,
    PresetError,
    ProbeMismatchError,
    RegionIndexError,
    SearchAnythingError,
    ServeError,
    ServerUnreachableError,
    ServiceError,
    SettingsError,
    StoreError,
    StoreUnavailableError,
    TooLargeError,
    UsageError,
    WebhookError,
    WordsMissingError,
)
from searchanything.core.escaping import printable
from searchanything.core.public_texts import IN_LOG, numbered, public_text, title_of

logger = logging.getLogger(__name__)

TYPE_PREFIX: Final = "urn:searchanything:problem:"
MEDIA_TYPE: Final = "application/problem+json"
RETRY_S: Final = 5  # what cannot be reached now is asked for again after this
_QUOTED: Final = 100  # characters of a header
_QUOTED_JSON: Final = 20  # characters of a body, from where it is no JSON on
_QUOTED_END: Final = 200  # characters of a name or a message, from its begin and from its end
_FORMLESS: Final = "The request is not of the documented form"

# The nearest class in an error's own order decides. 5xx: the server's side has to change, not the request.
STATUS: Final[Mapping[type[SearchAnythingError], int]] = {
    LibraryError: 503,
    UsageError: 422,
    SettingsError: 503,
    PresetError: 503,
    ImageError: 422,
    AnnotationsError: 422,
    ModelError: 503,
    ModelLoadError: 503,
    DeviceError: 503,
    StoreError: 502,
    ObjectNotFoundError: 404,
    ObjectChangedError: 409,
    StoreUnavailableError: 503,
    RegionIndexError: 502,
    IndexNotFoundError: 503,
    IndexMismatchError: 503,
    ProbeMismatchError: 409,
    IndexUnavailableError: 503,
    BackupError: 502,
    WebhookError: 502,
    ServiceError: 503,
    ServeError: 503,
    AccessError: 401,
    TooLargeError: 413,
    BodyTimeoutError: 408,
    BusyError: 429,
    AnswerTimeoutError: 504,
    NotOfferedError: 501,
    WordsMissingError: 501,
    ServerUnreachableError: 502,
}


def status_of(error: SearchAnythingError) -> int:
    """The status of an error. Raises: LookupError for a class that no entry covers."""
    if isinstance(error, AccessError) and error.known:
        return 403
    found = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    if found is None:
        raise LookupError(f"no status for {type(error).__name__}")
    return found


def problem_document(kind: str, status: int, title: str, detail: str, request: str) -> dict[str, Any]:
    """A problem as RFC 9457 has it; `instance` names the request, as the log does.

    What it quotes is anybody's, and may be no text that UTF-8 has: half of a surrogate pair.
    """
    return {
        "type": f"{TYPE_PREFIX}{kind}",
        "title": printable(title),
        "status": status,
        "detail": printable(detail),
        "instance": f"urn:searchanything:request:{request}",
    }


def problem_response(error: SearchAnythingError, request: str) -> JSONResponse:
    """One of our errors as an answer; that of this side goes into the log as well, or alone."""
    status = status_of(error)
    with numbered(request):
        detail = public_text(error)
    if status >= 500 and detail == str(error):
        logger.warning("request %s: %s: %s", request, type(error).__name__, error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 408:
        headers["Connection"] = "close"
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(error.retry_after_s)
    elif status == 503:
        headers["Retry-After"] = str(RETRY_S)
    document = problem_document(type(error).__name__, status, title_of(error), detail, request)
    return JSONResponse(document, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have every error of this application answered as a problem."""

    @app.exception_handler(SearchAnythingError)
    async def ours(request: Request, error: SearchAnythingError) -> JSONResponse:
        return problem_response(error, _id(request))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _formless(_faults(error, request), _id(request))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, SearchAnythingError):  # what ended the body, as FastAPI says it
            return problem_response(error.__cause__, _id(request))
        if error.status_code == 400 and isinstance(error.__cause__, ValueError | RecursionError):
            return _formless(json_fault(error.__cause__), _id(request))
        kind = {404: "ObjectNotFoundError", 405: "UsageError"}.get(error.status_code, "ServeError")
        document = problem_document(kind, error.status_code, str(error.detail), str(error.detail), _id(request))
        headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
        return JSONResponse(document, error.status_code, headers, MEDIA_TYPE)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, _: ClientDisconnect) -> JSONResponse:
        return _formless("the body was cut off", _id(request))  # which nobody reads, but it is no defect

    @app.exception_handler(Exception)
    async def defect(request: Request, _: Exception) -> JSONResponse:
        return defect_response(_id(request))  # the frontier logs it


def _methods(request: Request) -> list[str]:
    """With which methods this path may be asked: by all its routes, where Starlette names those of the first."""

    def takes(method: str) -> bool:
        asked = {**request.scope, "method": method}
        return any(route.matches(asked)[0] == Match.FULL for route in request.app.routes)

    here = [method for method in ("DELETE", "GET", "PATCH", "POST", "PUT") if takes(method)]
    return sorted([*here, "HEAD"] if "GET" in here else here)


def defect_response(request: str) -> JSONResponse:
    """An error that nobody foresaw: its text stays in the log."""
    document = problem_document(
        "SearchAnythingError", 500, "A defect of the server", IN_LOG.format(request=request), request
    )
    return JSONResponse(document, 500, None, MEDIA_TYPE)


def json_fault(error: ValueError | RecursionError) -> str:
    """Why, and where, something is no JSON that can be read."""
    match error:
        case json.JSONDecodeError():
            place = f"line {error.lineno}, column {error.colno} (character {error.pos + 1:,})"
            rest = error.doc[error.pos : error.pos + _QUOTED_JSON]
            there = f"where {rest!r} begins" if rest else "where it ends"
            return f"expected JSON: {error.msg.removesuffix(' at')} at {place}, {there}"
        case UnicodeDecodeError():
            byte = f"0x{error.object[error.start]:02x} at byte {error.start + 1:,}"
            return f"expected JSON in UTF-8: {error.reason} {byte}"
        case RecursionError():
            return "expected JSON that is less deeply nested"
    return f"expected JSON: {str(error).partition(';')[0]}"  # an integer with too many digits


def _faults(error: RequestValidationError, request: Request) -> str:
    """What is wrong with a request, each with its place."""
    if isinstance(error.__cause__, json.JSONDecodeError):  # FastAPI's own text says less of it
        return json_fault(error.__cause__)
    faults = [(one["loc"], one["msg"]) for one in error.errors()[:10]]
    if isinstance(error.body, bytes):  # FastAPI leaves a body as it came where no header says that it is JSON
        faults = [(loc, _not_json(request) if loc == ("body",) else message) for loc, message in faults]
    return "; ".join(f"{'.'.join(_cut(str(part)) for part in loc)}: {_cut(message)}" for loc, message in faults)


def _cut(text: str) -> str:
    """Without the middle of what is long: names and values of a body are anybody's."""
    return text if len(text) <= 2 * _QUOTED_END else f"{text[:_QUOTED_END]}…{text[-_QUOTED_END:]}"


def _formless(said: str, request: str) -> JSONResponse:
    return JSONResponse(problem_document("UsageError", 422, _FORMLESS, said, request), 422, None, MEDIA_TYPE)


def _not_json(request: Request) -> str:
    kind = request.headers.get("content-type", "")[:_QUOTED]
    got = f"Content-Type: {kind}" if kind else "none"
    return (
        f"expected JSON with the header Content-Type: application/json, got {got}; "
        f"curl sends it with -H 'Content-Type: application/json'"
    )


def _id(request: Request) -> str:
    return str(request.scope.get("searchanything.request", "unknown"))
