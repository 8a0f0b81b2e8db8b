"""Questions that bring their image along, as `multipart/form-data`: `image`, a file, and `question`, the JSON document.

The image is kept as an upload, and the request goes on as the JSON question that names it: so there is one way to ask,
and whatever holds for uploads (bytes, pixels, lifetime) holds here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from searchanything.core.errors import TooLargeError, UsageError
from searchanything.core.escaping import printable
from searchanything.serve.desk import Desk, desk_of, right_of
from searchanything.serve.frontier import FORM, MAX_JSON_BYTES, UPLOADS, is_form
from searchanything.serve.keys import Right
from searchanything.serve.problems import json_fault

_SCHEMA: Final = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "format": "binary", "description": "An image file."},
        "question": {"type": "string", "contentMediaType": "application/json", "description": "The JSON document."},
    },
}
_EXPECTED: Final = "expected the parts image, a file, and question, a JSON document"
BODY: Final[dict[str, Any]] = {"requestBody": {"content": {FORM: {"schema": _SCHEMA}}}}


class FormRoute(APIRoute):
    """A route that takes a form as well as its own kind of body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, is_upload = super().get_route_handler(), self.path == UPLOADS
        rights = {right_of(one.call) for one in self.dependant.dependencies} - {"read"}
        right: Right = rights.pop() if rights else "read"

        async def either(request: Request) -> Response:
            if request.method == "POST" and is_form(request.headers):
                desk_of(request).caller(request.scope, request.headers.get("authorization", ""), right)
                request = await _plain(request, is_upload=is_upload)
            return await handle(request)

        return either


async def _plain(request: Request, *, is_upload: bool) -> Request:
    """The request without its form. Raises: as `Uploads.keep`; UsageError."""
    desk = desk_of(request)
    data, question = await _parts(request, desk)
    if is_upload:
        return _with_body(request, data, "application/octet-stream")
    if not isinstance(question, dict) or "image" in question:
        raise UsageError("expected the part question to be a JSON object without image: the part image is the image")
    kept = await desk.pictures.run(lambda: desk.uploads.keep(data))
    return _with_body(request, json.dumps({**question, "image": {"upload": kept.id}}).encode(), "application/json")


async def _parts(request: Request, desk: Desk) -> tuple[bytes, object]:
    """The image's bytes and the question. Raises: UsageError, TooLargeError; HTTPException for a broken form."""
    try:
        async with request.form(max_files=2, max_fields=2, max_part_size=MAX_JSON_BYTES) as form:
            named = _named(form)
            data, question = await named["image"].read(), await _text(named["question"])
    except HTTPException as error:
        raise UsageError(_EXPECTED) if str(error.detail).startswith("Too many") else error from None
    except FormParserError:  # as starlette itself says it from 1.8 on
        raise HTTPException(400, "Invalid multipart data.") from None
    if len(data) > desk.settings.upload_bytes:
        raise TooLargeError(f"expected an image of at most {desk.settings.upload_bytes:,} bytes")
    try:
        return data, json.loads(question)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the part question: {json_fault(error)}") from None


def _named(form: FormData) -> dict[str, Any]:
    """The two parts: image, which is a file, and question, which may be one. Raises: UsageError for anything else."""
    items = form.multi_items()
    named: dict[str, Any] = {"question": "{}", **dict(items)}
    if set(named) != {"image", "question"} or len(items) > len(dict(items)):
        raise UsageError(f"{_EXPECTED}, got {', '.join(printable(name) for name, _ in items) or 'none'}")
    if not isinstance(named["image"], UploadFile):
        raise UsageError(f"{_EXPECTED}; image came as text: send it as a file, as `-F image=@photo.jpg` does")
    return named


async def _text(part: str | UploadFile) -> str:
    """A part's text, which browsers send as a file where it is a Blob. Raises: TooLargeError, UsageError."""
    if isinstance(part, str):
        return part
    data = await part.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise TooLargeError(f"expected at most {MAX_JSON_BYTES:,} bytes of JSON")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"the part question: {json_fault(error)}") from None


def _with_body(request: Request, body: bytes, kind: str) -> Request:
    """The request with another body."""
    headers = MutableHeaders(raw=list(request.scope["headers"]))
    headers["content-type"], headers["content-length"] = kind, str(len(body))
    del headers["transfer-encoding"]

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({**request.scope, "headers": headers.raw}, receive)
