"""Matches of standing queries to a webhook: a POST of JSON, signed as standardwebhooks.com has it.

A webhook has taken what it answers with a status of 200 to 299. Redirects are not followed: they may lead anywhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
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
_ANSWER_BYTES: Final = 200  # of a refusal, that are shown


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """None makes it an error."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends matches. Raises: SettingsError for a secret that is none."""

    timeout_s: float
    key: bytes | None

    @classmethod
    def of(cls, settings: StandingSettings) -> Sender:
        secret = settings.webhook_secret
        return cls(settings.webhook_timeout_s, None if secret is None else _key_of(secret.get_secret_value()))

    def send(self, matches: StandingMatches, uri: str) -> None:
        """To the query's webhook; without matches it is a test. `uri` is that of the index. Raises: WebhookError."""
        webhook = matches.query.webhook
        if webhook is None:
            raise WebhookError(f"standing query {matches.query.name!r} has no webhook")
        now_s = int(time.time())
        body = json.dumps(
            {
                "type": EVENT if matches.matches else TEST_EVENT,
                "timestamp": _iso(now_s),
                "data": {"index": uri, **matches.to_dict()},
            },
            allow_nan=False,
        ).encode()
        headers = {"Content-Type": "application/json", "User-Agent": f"searchanything/{package_version()}"}
        headers |= self._signed(matches.id, now_s, body)
        request = urllib.request.Request(webhook, data=body, headers=headers, method="POST")  # noqa: S310 - http(s)
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout_s) as answer:
                status, said = answer.status, b""
        except urllib.error.HTTPError as refusal:
            with refusal:
                status, said = refusal.code, _beginning(refusal)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise WebhookError(f"{shown_webhook(webhook)}: {_reason(error)}") from error
        if not 200 <= status < 300:
            text = printable(said.decode("utf-8", "replace").strip())
            raise WebhookError(f"{shown_webhook(webhook)}: answered {status}{': ' if text else ''}{text}")

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
    except binascii.Error:
        key = b""
    if not key:
        raise SettingsError(f"{ENV_PREFIX}STANDING__WEBHOOK_SECRET: expected {_SECRET_PREFIX} and base64, or base64")
    return key


def _beginning(answer: Any) -> bytes:  # noqa: ANN401 - of an HTTP answer
    try:
        return bytes(answer.read(_ANSWER_BYTES))
    except (OSError, http.client.HTTPException):
        return b""


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return printable(str(getattr(reason, "strerror", None) or reason) or type(error).__name__)


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
