"""The webhook: `POST /events` takes notifications from clients with the token. The only place that imports FastAPI.

Formats: see `events`. `GET /health` answers without a token. What may come before the token is bounded: `bounded_http`.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from searchanything.core.errors import EventError, SettingsError
from searchanything.core.settings import ENV_PREFIX, ServiceSettings
from searchanything.service.http_thread import HttpThread

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_BODY_BYTES: Final = 8 * 2**20  # S3 servers send a few hundred records at most


def webhook_app(hint: Callable[[Mapping[str, Any]], int], token: str, lost: Callable[[str], object]) -> FastAPI:
    """The application. `hint` takes a notification and says how many keys it hinted at.

    `lost` is called where a sender with the token began one that did not arrive or cannot be read, with the reason: it
    may concern any object, and may not be sent again.
    """
    from fastapi import FastAPI, HTTPException, Request

    app = FastAPI(title="Search Anything events", docs_url=None, redoc_url=None, openapi_url=None)

    async def events(request: Request) -> dict[str, int]:
        if not _allowed(request.headers.get("authorization", ""), token):
            raise HTTPException(401, "send the token as Authorization: Bearer TOKEN")
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    break
        except Exception as error:  # its client went away
            lost("a notification was cut off")
            raise HTTPException(400, "the notification was cut off") from error
        if len(body) > MAX_BODY_BYTES:
            lost("a notification was too large")
            raise HTTPException(413, f"expected at most {MAX_BODY_BYTES} bytes")
        try:
            return {"hints": hint(json.loads(bytes(body)))}
        except (EventError, ValueError, RecursionError) as error:
            lost("a notification could not be read")
            raise HTTPException(400, f"not a notification: {error}") from None

    async def health() -> dict[str, bool]:
        return {"ok": True}

    # FastAPI would look up the annotation `Request` in this module, where it is not known.
    events.__annotations__["request"] = Request
    app.add_api_route("/events", events, methods=["POST"])
    app.add_api_route("/health", health, methods=["GET"])
    return app


def _allowed(header: str, token: str) -> bool:
    """Compared in constant time. MinIO sends a bare token where it holds no space."""
    given = header.removeprefix("Bearer ").strip()
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def webhook_of(
    settings: ServiceSettings, hint: Callable[[Mapping[str, Any]], int], lost: Callable[[str], object]
) -> HttpThread:
    """`webhook_app` on its port. Raises: SettingsError without a token, or, on entering, where the port is taken."""
    if settings.webhook_token is None or not settings.webhook_token.get_secret_value():
        raise SettingsError(f"a webhook needs a token; set {ENV_PREFIX}SERVICE__WEBHOOK_TOKEN")
    app = webhook_app(hint, settings.webhook_token.get_secret_value(), lost)
    return HttpThread("webhook", app, settings.webhook_host, settings.webhook_port or 0)
