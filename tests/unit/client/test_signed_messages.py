"""Messages to webhooks: signed so that a receiver can check them; their status says whether they were taken."""

from __future__ import annotations

import base64
import hashlib
import hmac
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fakes.http_servers import web_server

from deploy.local import holding_a_port
from searchanything.answers.standing_answers import StandingMatches, StandingQuery
from searchanything.client.webhooks import Sender
from searchanything.core.errors import SettingsError, WebhookError
from searchanything.core.standing_settings import StandingSettings

# The example of standardwebhooks.com and its libraries.
SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EXAMPLE = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def is_genuine(headers: Mapping[str, str], body: bytes) -> bool:
    """As a receiver checks it."""
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    digest = hmac.new(base64.b64decode(SECRET), signed, hashlib.sha256).digest()
    return headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def sender(secret: str | None) -> Sender:
    return Sender.of(StandingSettings.model_validate({"secret": secret, "timeout_s": 5.0}))


def message_to(address: str) -> StandingMatches:
    return StandingMatches(StandingQuery("a" * 16, "red", "regions", 1e-4, 0, {}, webhook=address), ())


def test_this_receiver_takes_the_example_of_the_standard() -> None:
    assert is_genuine(EXAMPLE, b'{"test": 2432232314}')
    assert not is_genuine(EXAMPLE, b'{"test": 2432232315}')


@pytest.mark.parametrize("secret", [SECRET, f"whsec_{SECRET}"])
def test_what_is_sent_is_signed_with_the_secret(secret: str) -> None:
    with web_server(lambda _: (200, {}, b"")) as server:
        sender(secret).send(message_to(f"http://{server.endpoint}/"), "memory://")
    [asked] = server.asked
    assert is_genuine(asked.headers, asked.body)
    assert 0 <= time.time() - int(asked.headers["webhook-timestamp"]) < 3600, "a receiver refuses what is old"
    assert asked.headers["content-type"] == "application/json"


def test_the_receiver_of_the_page_takes_what_is_sent_and_nothing_old_or_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "standing.md").read_text("utf-8")
    start = page.index("    import base64, hmac")
    named: dict[str, Any] = {}
    exec(textwrap.dedent(page[start : page.index("\n\n**", start)]), named)  # noqa: S102  our own page
    check = named["check"]
    with web_server(lambda _: (200, {}, b"")) as server:
        sender(SECRET).send(message_to(f"http://{server.endpoint}/"), "memory://")
    [asked] = server.asked
    assert check(asked.headers, asked.body, f"whsec_{SECRET}") is True
    assert check(asked.headers, asked.body + b" ", SECRET) is False
    now_s = time.time()
    for seconds in (-600, 600):
        monkeypatch.setattr(time, "time", lambda late_s=seconds: now_s + late_s)
        assert check(asked.headers, asked.body, SECRET) is False


def test_without_a_secret_nothing_is_signed() -> None:
    with web_server(lambda _: (200, {}, b"")) as server:
        sender(None).send(message_to(f"http://{server.endpoint}/"), "memory://")
    [asked] = server.asked
    assert {"webhook-id", "webhook-timestamp"} < asked.headers.keys()
    assert "webhook-signature" not in asked.headers


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_a", f"whsec_!{SECRET}", "ä"])
def test_what_is_no_secret_is_said_to_be_none_without_showing_it(secret: str) -> None:
    with pytest.raises(SettingsError, match="STANDING__SECRET: expected whsec_ and base64") as caught:
        sender(secret)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("status", "is_taken"), [(200, True), (202, True), (299, True), (300, False), (410, False)])
def test_a_status_below_300_has_taken_it(status: int, is_taken: bool) -> None:
    with web_server(lambda _: (status, {}, b"")) as server:
        message = message_to(f"http://{server.endpoint}/")
        if is_taken:
            sender(None).send(message, "memory://")
        else:
            with pytest.raises(WebhookError, match=f"answered {status}$"):
                sender(None).send(message, "memory://")


def test_where_nobody_listens_and_what_is_no_host_are_errors_of_the_webhook() -> None:
    with holding_a_port() as held:
        port = held.getsockname()[1]
        with pytest.raises(WebhookError, match=rf"http://127\.0\.0\.1:{port}/…: Connection refused"):
            sender(None).send(message_to(f"http://127.0.0.1:{port}/secret"), "memory://")
    with pytest.raises(WebhookError, match=r"example/…: .*label"):
        sender(None).send(message_to(f"http://{70 * 'a'}.example/secret"), "memory://")
