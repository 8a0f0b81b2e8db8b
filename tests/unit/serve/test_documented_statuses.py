"""The errors that the OpenAPI document lists for an operation are those that it can give, and no others."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.serving import IMAGES, Served, crowd

from searchanything.client import standing_memory
from searchanything.core.errors import (
    AnswerTimeoutError,
    BodyTimeoutError,
    BusyError,
    IndexUnavailableError,
    RegionIndexError,
    ServeError,
)
from searchanything.serve import frontier
from searchanything.serve.frontier import MAX_JSON_BYTES
from searchanything.serve.gates import Gate
from searchanything.serve.keys import RIGHTS, KeyRing

Operation = tuple[str, str]
NOWHERE = {"bucket": "nowhere", "key": "a.png"}
POINT = {"kind": "points", "foreground": [[60, 20]]}
# FastAPI puts a 422 of its own to whatever has a parameter, even one that cannot be wrong.
BODILESS = ("get", "delete")
NEVER_WRONG = {
    ("get", "/v1/images/{image}"),
    ("get", "/v1/images/{image}/regions"),
    ("delete", "/v1/standing/{query}"),
}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setattr(standing_memory, "_SETTLE_S", 0.0)  # nobody else writes, of whom a query could hear late
    served = Served.make(tmp_path, monkeypatch, keys=True)
    token, _ = served.desk.ring.add("all", rights=RIGHTS)
    crowd(served, regions=300)  # for standing queries
    served.headers = {"Authorization": f"Bearer {token}"}
    served.http._transport.raise_server_exceptions = False
    return served


def operations(served: Served) -> dict[Operation, set[int]]:
    """What the document lists, without what is no error."""
    paths = served.get("/openapi.json").json()["paths"]
    return {
        (method, path): {int(status) for status in one["responses"] if int(status) >= 400}
        for path, methods in paths.items()
        for method, one in methods.items()
    }


class Asking:
    """Asks one operation in many ways, and keeps the statuses that are errors."""

    def __init__(self, served: Served, operation: Operation) -> None:
        self.served, (self.method, self.path) = served, operation
        self.image = served.id("a/two.png")
        self.query = served.client.standing.add(secrets.token_hex(4), IMAGES["a/two.png"], (60, 20)).id
        self.seen: set[int] = set()

    def ask(self, *, identity: str | None = None, headers: dict[str, str] | None = None, **options: Any) -> None:
        self.served.desk._status.clear()
        path = self.path.replace("{image}", identity or self.image).replace("{upload}", identity or "0" * 32)
        path = path.replace("{query}", identity or self.query)
        sent = self.served.headers if headers is None else headers
        status = self.served.http.request(self.method, path, headers=sent, **options).status_code
        if status >= 400:
            self.seen.add(status)

    def plainly(self) -> None:
        """As it is expected: questions with stored regions, words, images."""
        if self.method in BODILESS:
            self.ask()
            return
        two = self.served.name("a/two.png")
        for document in ({"image": two, "prompt": POINT}, {"image": two}, {"text": "red"}, {"image": NOWHERE}):
            self.ask(json=document)
            self.ask(json={**document, "expect": two})
            self.ask(json={**document, "name": secrets.token_hex(4)})
        region = self.served.name("a/two.png", region=0)
        found = self.served.refine(image=region, right=[region])["probe"]["saved"]
        probe = {"image": region, "probe": {**found, "fingerprint": "0" * 32}}
        self.ask(json=probe)
        self.ask(json={**probe, "expect": two})

    def wrongly(self) -> None:
        """Without a key, from another name, with what cannot be read."""
        self.ask(headers={})
        self.ask(headers={**self.served.headers, "Host": "elsewhere.example"})
        for identity in ("0" * 32, "no-id"):
            self.ask(identity=identity)
        self.ask(params={"side": "many", "limit": "many"})
        self.ask(params={"query": "0" * 16})
        if self.method in BODILESS:
            return
        for body in (b"{", b"x" * (max(MAX_JSON_BYTES, self.served.desk.settings.upload_bytes) + 1)):
            self.ask(content=body, headers={**self.served.headers, "Content-Type": "application/json"})
        self.ask(content=b"x", headers={**self.served.headers, "Content-Type": "multipart/form-data"})


@contextmanager
def fault(monkeypatch: pytest.MonkeyPatch, place: object, name: str, error: Exception) -> Iterator[None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail)
        yield


def test_each_operation_lists_the_errors_that_it_can_give(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = BusyError("many ask", retry_after_s=1)
    index = served.client._indexes
    faults = [
        (Gate, "run", busy),
        (Gate, "run", AnswerTimeoutError("late")),
        (index, "live", RegionIndexError("refused")),
        (index, "recall", RegionIndexError("refused")),
        (index, "recall_all", RegionIndexError("refused")),
        (index, "live", IndexUnavailableError("away")),
        (KeyRing, "find", ServeError("keys.json cannot be read")),
    ]
    listed = operations(served)
    seen: dict[Operation, set[int]] = {}
    for operation in listed:
        asking = Asking(served, operation)
        asking.plainly()
        asking.wrongly()
        for place, name, error in faults:
            with fault(monkeypatch, place, name, error):
                if operation[0] in BODILESS:
                    asking.ask()
                else:
                    asking.ask()
                    asking.ask(json={"taken": {asking.query: {"until_ms": 1, "new_from_ms": 1}}})
                    asking.ask(json={"image": served.name("a/two.png"), "name": secrets.token_hex(4)})
                    asking.ask(json={"image": served.name("a/two.png"), "expect": served.name("a/two.png")})
                    asking.ask(json={"image": served.name("a/two.png")})
        if operation[0] == "post":  # a GET that is sent as it is documented has no body
            with fault(monkeypatch, frontier, "in_time", BodyTimeoutError("late")):
                asking.ask(json={})
        seen[operation] = asking.seen | ({422} if operation in NEVER_WRONG else set())
    assert seen == listed
