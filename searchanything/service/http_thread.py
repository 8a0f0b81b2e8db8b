"""An application on a port of this process, in a thread of its own, with what may pile up bounded: `bounded_http`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Self, TypeAlias

from searchanything.core.closing import Closing
from searchanything.core.errors import SettingsError

AsgiMessage: TypeAlias = MutableMapping[str, Any]
AsgiReceive: TypeAlias = Callable[[], Awaitable[AsgiMessage]]
AsgiSend: TypeAlias = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[AsgiMessage, AsgiReceive, AsgiSend], Awaitable[None]]

logger = logging.getLogger(__name__)

_START_S: Final = 10.0
_STOP_S: Final = 5.0


class HttpThread(Closing):
    """Use it as a context manager. `name` is for messages. Raises, on entering: SettingsError (the port is taken)."""

    def __init__(self, name: str, app: AsgiApp, host: str, port: int) -> None:
        import uvicorn

        from searchanything.bounded_http import bounded_options

        self.name, self._address = name, (host, port)
        options: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off", "interface": "asgi3"}
        options |= bounded_options()
        self._server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, **options))
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        host = f"[{self._address[0]}]" if ":" in self._address[0] else self._address[0]
        return f"http://{host}:{self._address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise SettingsError(f"the {self.name} cannot listen on {self._address[0]}:{self._address[1]}")
            time.sleep(0.01)
        self._address = self._server.servers[0].sockets[0].getsockname()[:2]
        return self

    def close(self) -> None:
        """Listen no more."""
        self._server.should_exit = True
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # uvicorn's way to say that the port is taken
            logger.error("the %s could not be started", self.name)
