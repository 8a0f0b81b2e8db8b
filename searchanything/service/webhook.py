"""The webhook: `POST /events` takes notifications from clients with the token. The only place that imports FastAPI.

Formats: see `events`. `GET /health` answers without a token. What may come before the token is bounded: `bounded_http`.
"""

from __future__ import annotations

import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from searchanything.core.errors import EventError, SettingsError
from searchanything.core.settings import ENV_PREFIX, ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 8 * 2**20  # S3 servers send a few hundred records at most
_START_S: Final = 10.0
_STOP_S: Final = 5.0


def webhook_app(hint: Callable[[Mapping[str, Any]], int], token: str) -> FastAPI:
    """The application. `hint` takes a notification and says how many keys it hinted at."""
    from fastapi import FastAPI, HTTPException, Request

    app = FastAPI(title="Search Anything events", docs_url=None, redoc_url=None, openapi_url=None)

    async def events(request: Request) -> dict[str, int]:
        if not _allowed(request.headers.get("authorization", ""), token):
            raise HTTPException(401, "send the token as Authorization: Bearer TOKEN")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise HTTPException(413, f"expected at most {MAX_BODY_BYTES} bytes")
        try:
            return {"hints": hint(json.loads(bytes(body)))}
        except (EventError, ValueError, RecursionError) as error:
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


class Webhook:
    """The application on its port, in a thread of its own; use it as a context manager.

    Raises: SettingsError without a token, or where the port cannot be had.
    """

    def __init__(self, settings: ServiceSettings, hint: Callable[[Mapping[str, Any]], int]) -> None:
        import uvicorn

        from searchanything.bounded_http import bounded_options

        if settings.webhook_token is None or not settings.webhook_token.get_secret_value():
            raise SettingsError(f"a webhook needs a token; set {ENV_PREFIX}SERVICE__WEBHOOK_TOKEN")
        app = webhook_app(hint, settings.webhook_token.get_secret_value())
        self._address = (settings.webhook_host, settings.webhook_port or 0)
        host, port = self._address
        options: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off", **bounded_options()}
        config = uvicorn.Config(app, host=host, port=port, **options)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)

    @property
    def url(self) -> str:
        """Where notifications are posted to."""
        return f"http://{self._address[0]}:{self._address[1]}/events"

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise SettingsError(f"the webhook cannot listen on {self._address[0]}:{self._address[1]}")
            time.sleep(0.01)
        self._address = self._server.servers[0].sockets[0].getsockname()[:2]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # uvicorn's way to say that the port is taken
            logger.error("the webhook could not be started")
