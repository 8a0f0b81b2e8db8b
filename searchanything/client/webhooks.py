"""Matches of standing queries to a webhook: a POST of JSON, signed as standardwebhooks.com has it.

A webhook has taken what it answers with a status of 200 to 299. Redirects are not followed: they may lead anywhere.
An answer that trickles in has no more time than one that does not come: each message has a deadline as a whole.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import re
import secrets
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from searchanything.answers.standing_answers import StandingMatches, shown_webhook
from searchanything.core.errors import SettingsError, WebhookError
from searchanything.core.escaping import printable
from searchanything.core.extras import package_version
from searchanything.core.settings_files import ENV_PREFIX
from searchanything.core.standing_settings import StandingSettings

EVENT: Final = "standing_query.matched"
TEST_EVENT: Final = "standing_query.test"
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - of all such secrets
_ANSWER_BYTES: Final = 4096  # of a refusal, that are read
_ANSWER_LETTERS: Final = 200  # and shown
_SECRET_LETTERS: Final = 6  # so long may a part of an address be before an answer is not shown that repeats it


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """None makes it an error."""


class _Deadline:
    """Ends the connections of a message when its time is over, whatever they are doing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = 0.0
        self._connections: list[http.client.HTTPConnection] = []
        self._sockets: list[socket.socket] = []

    @property
    def is_over(self) -> bool:
        """Whether its time is: a socket's own timeout may come a moment before the timer."""
        return time.monotonic() >= self._until

    @contextmanager
    def watching(self) -> Iterator[None]:
        """From now on the time runs, until the block ends."""
        self._until = time.monotonic() + self._seconds
        timer = threading.Timer(self._seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def connection(self, kind: Callable[..., http.client.HTTPConnection], *given: Any, **named: Any) -> Any:  # noqa: ANN401
        """A connection of this kind, whose socket is kept: a response takes it from the connection."""
        made = kind(*given, **named)
        # Its own gives each address of a name the whole time.
        made._create_connection = self._opened  # type: ignore[attr-defined]  # noqa: SLF001
        connect = made.connect

        def connected() -> None:
            connect()
            self._sockets.append(made.sock)
            if self.is_over:
                self._end()

        made.connect = connected  # type: ignore[method-assign]
        self._connections.append(made)
        return made

    def _opened(self, address: tuple[str, int], *_given: object) -> socket.socket:
        """As `socket.create_connection`, but a name's addresses have the time of the message together.

        Whoever owns a name may give it hundreds at which nobody answers. Raises: OSError.
        """
        error: OSError = TimeoutError()
        for family, kind, protocol, _, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            left_s = self._until - time.monotonic()
            if left_s <= 0:
                break
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(left_s)
                made.connect(place)
                return made
            except OSError as found:
                made.close()
                error = found
        raise error

    def _end(self) -> None:
        for one in [*self._sockets, *(made.sock for made in self._connections if made.sock is not None)]:
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)  # also of one with TLS, which would say goodbye first


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._deadline.connection, http.client.HTTPConnection), req)


class _Encrypted(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._deadline.connection, http.client.HTTPSConnection), req)


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends matches. Raises: SettingsError for a secret that is none."""

    timeout_s: float
    key: bytes | None = field(repr=False)

    @classmethod
    def of(cls, settings: StandingSettings) -> Sender:
        secret = settings.secret
        return cls(settings.timeout_s, None if secret is None else _key_of(secret.get_secret_value()))

    def send(self, matches: StandingMatches, uri: str) -> None:
        """To the query's webhook; without matches it is a test. Raises: WebhookError.

        `uri` is that of the index, which is no business of who added a query with a server's key.
        """
        webhook = matches.query.webhook
        if webhook is None:
            raise WebhookError(f"standing query {matches.query.name!r} has no webhook")
        now_s = int(time.time())
        body = json.dumps(
            {
                "type": EVENT if matches.matches else TEST_EVENT,
                "timestamp": _iso(now_s),
                "data": {"index": uri if matches.query.added_by is None else None, **matches.to_dict()},
            },
            allow_nan=False,
        ).encode()
        headers = {"Content-Type": "application/json", "User-Agent": f"searchanything/{package_version()}"}
        headers |= self._signed(matches.id if matches.matches else secrets.token_hex(16), now_s, body)
        request = urllib.request.Request(webhook, data=body, headers=headers, method="POST")  # noqa: S310 - http(s)
        status, said = self._answer(request)
        if not 200 <= status < 300:
            text = printable(_without_address(said.decode("utf-8", "replace").strip(), webhook))[:_ANSWER_LETTERS]
            raise WebhookError(f"{shown_webhook(webhook)}: answered {status}{': ' if text else ''}{text}")

    def _answer(self, request: urllib.request.Request) -> tuple[int, bytes]:
        """The status, and of a refusal what it begins with. Raises: WebhookError."""
        deadline = _Deadline(self.timeout_s)
        opener = urllib.request.build_opener(_NoRedirect, _Plain(deadline), _Encrypted(deadline))
        with deadline.watching():
            try:
                with opener.open(request, timeout=self.timeout_s) as answer:
                    return answer.status, b""
            except urllib.error.HTTPError as refusal:
                with refusal:
                    return refusal.code, _beginning(refusal)
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = f"no answer within {self.timeout_s:g} s" if deadline.is_over else _reason(error)
                raise WebhookError(f"{shown_webhook(request.full_url)}: {reason}") from error

    def _signed(self, name: str, now_s: int, body: bytes) -> Mapping[str, str]:
        headers = {"webhook-id": name, "webhook-timestamp": str(now_s)}
        if self.key is None:
            return headers
        digest = hmac.digest(self.key, f"{name}.{now_s}.".encode() + body, hashlib.sha256)
        return headers | {"webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}


def _key_of(secret: str) -> bytes:
    """The bytes of a secret. Raises: SettingsError."""
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except ValueError:  # of base64, or of letters beyond ASCII
        key = b""
    if not key:
        raise SettingsError(f"{ENV_PREFIX}STANDING__SECRET: expected {_SECRET_PREFIX} and base64, or base64")
    return key


def _beginning(answer: Any) -> bytes:  # noqa: ANN401 - of an HTTP answer
    try:
        return bytes(answer.read(_ANSWER_BYTES))
    except (OSError, http.client.HTTPException):
        return b""


def _without_address(text: str, address: str) -> str:
    """What a webhook said, unless it repeats parts of its address, as many do of one they do not know."""
    parts = urllib.parse.urlsplit(address)
    words = re.split(r"[/&=]", urllib.parse.unquote(f"{parts.path}/{parts.query}"))
    plain = urllib.parse.unquote(text)
    return "" if any(word in plain for word in words if len(word) >= _SECRET_LETTERS) else text


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return printable(str(getattr(reason, "strerror", None) or reason) or type(error).__name__)


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
