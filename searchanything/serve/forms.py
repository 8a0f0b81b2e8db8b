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
from starlette.datastructures import MutableHeaders, UploadFile
from starlette.types import Message

from searchanything.core.errors import TooLargeError, UsageError
from searchanything.serve.desk import Desk, desk_of
from searchanything.serve.frontier import FORM, MAX_JSON_BYTES, UPLOADS, is_form

_SCHEMA: Final = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "format": "binary", "description": "An image file."},
        "question": {"type": "string", "contentMediaType": "application/json", "description": "The JSON document."},
    },
}
BODY: Final[dict[str, Any]] = {"requestBody": {"content": {FORM: {"schema": _SCHEMA}}}}


class FormRoute(APIRoute):
    """A route that takes a form as well as its own kind of body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, is_upload = super().get_route_handler(), self.path == UPLOADS

        async def either(request: Request) -> Response:
            if request.method == "POST" and is_form(request.headers):
                request = await _plain(request, is_upload=is_upload)
            return await handle(request)

        return either


async def _plain(request: Request, *, is_upload: bool) -> Request:
    """The request without its form. Raises: AccessError before anything is read; as `Uploads.keep`; UsageError."""
    desk = desk_of(request)
    desk.caller(request.scope, request.headers.get("authorization", ""))
    data, question = await _parts(_limited(request, desk.settings.upload_bytes + MAX_JSON_BYTES), desk)
    if is_upload:
        return _with_body(request, data, "application/octet-stream")
    if not isinstance(question, dict) or "image" in question:
        raise UsageError("expected the part question to be a JSON object without image: the part image is the image")
    kept = await desk.pictures.run(lambda: desk.uploads.keep(data))
    return _with_body(request, json.dumps({**question, "image": {"upload": kept.id}}).encode(), "application/json")


async def _parts(request: Request, desk: Desk) -> tuple[bytes, object]:
    """The image's bytes and the question. Raises: UsageError, TooLargeError; HTTPException for a broken form."""
    async with request.form(max_files=1, max_fields=1, max_part_size=MAX_JSON_BYTES) as form:
        image, question = form.get("image"), form.get("question", "{}")
        if not isinstance(image, UploadFile) or not isinstance(question, str) or set(form) - {"image", "question"}:
            raise UsageError("expected the parts image, a file, and question, a JSON document")
        data = await image.read()
    if len(data) > desk.settings.upload_bytes:
        raise TooLargeError(f"expected an image of at most {desk.settings.upload_bytes:,} bytes")
    try:
        return data, json.loads(question)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"expected the part question to be JSON: {error}") from None


def _limited(request: Request, max_bytes: int) -> Request:
    """The request, whose body ends in an error where it is too large."""
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > max_bytes:
            raise TooLargeError(f"expected a form of at most {max_bytes:,} bytes")
        return message

    return Request(request.scope, receive)


def _with_body(request: Request, body: bytes, kind: str) -> Request:
    """The request with another body."""
    headers = MutableHeaders(raw=list(request.scope["headers"]))
    headers["content-type"], headers["content-length"] = kind, str(len(body))
    del headers["transfer-encoding"]

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({**request.scope, "headers": headers.raw}, receive)
