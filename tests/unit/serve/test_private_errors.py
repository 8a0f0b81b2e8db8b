"""What errors say of the server's own side goes into its log, and not to who only holds a key."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from fakes.serving import Served

from searchanything.core import errors
from searchanything.core.errors import (
    AccessError,
    DeviceError,
    IndexNotFoundError,
    IndexUnavailableError,
    RegionIndexError,
    SearchAnythingError,
    ServeError,
    SettingsError,
    StoreUnavailableError,
    WebhookError,
    WeightsMissingError,
    WordsMissingError,
)
from searchanything.serve.problems import problem_response, status_of
from searchanything.stores.milvus_errors import NotAllowedError

PRIVATE = "http://milvus.internal:19530: could not search; see /srv/private/index.db"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    served = Served.make(tmp_path, monkeypatch, keys=True)
    token, _ = served.desk.ring.add("shop", rights=("read", "refine", "standing"))
    served.headers = {"Authorization": f"Bearer {token}"}
    return served


@pytest.mark.parametrize("kind", [RegionIndexError, IndexUnavailableError, IndexNotFoundError, NotAllowedError])
def test_a_key_does_not_show_where_the_index_is(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type[SearchAnythingError]
) -> None:
    image = served.id("a/two.png")

    def refuse(*_: object, **__: object) -> None:
        raise kind(PRIVATE)

    monkeypatch.setattr(served.client._indexes, "live", refuse)
    asked = {"image": served.name("a/two.png"), "prompt": {"kind": "points", "foreground": [[60, 20]]}}
    answers = [served.post(f"/v1/{path}", asked) for path in ("query", "sheet", "compare")]
    answers.append(served.post("/v1/explain", {**asked, "expect": served.name("a/red.png")}))
    paths = ("status", "images", f"images/{image}", f"images/{image}/regions", f"images/{image}/thumbnail")
    answers += [served.get(path) for path in (*(f"/v1/{path}" for path in paths), "/readyz")]
    for answer in answers:
        assert answer.status_code in (502, 503), answer.text
        assert "milvus" not in answer.text
        assert "/srv" not in answer.text
        request = answer.headers["X-Request-ID"]
        if answer.request.url.path != "/readyz":
            assert f"under request {request}" in answer.json()["detail"]
            assert f"request {request}: {kind.__name__}: {PRIVATE}" in caplog.text


def test_the_log_has_why_keys_cannot_be_read(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    file = served.folder.parent / "serve" / "keys.json"
    file.write_text("{")
    answer = served.get("/v1/status")
    assert (answer.status_code, str(file) in answer.text) == (503, False)
    assert f"{file}: the keys cannot be read" in caplog.text


def of_this_side() -> list[type[SearchAnythingError]]:
    """Errors that another request would end with as well."""
    kinds = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, SearchAnythingError)]
    statuses = {one: status_of(one.__new__(one)) for one in kinds if one not in (SearchAnythingError, AccessError)}
    return [one for one, status in statuses.items() if status >= 500]


@pytest.mark.parametrize("kind", of_this_side())
def test_the_text_of_each_error_of_this_side_stays_here(kind: type[SearchAnythingError]) -> None:
    made: SearchAnythingError = kind.__new__(kind)
    Exception.__init__(made, PRIVATE)
    said = json.loads(bytes(problem_response(made, "1234").body))["detail"]
    is_said = issubclass(kind, ServeError | WordsMissingError | WebhookError)  # in words for whoever asks
    assert (PRIVATE in said, "under request 1234" in said) == (is_said, not is_said)


@pytest.mark.parametrize(
    "error",
    [
        DeviceError("CUDA error", host="gpu7", pid=4711),
        SettingsError("milvus.ca_file names /srv/ca.pem"),
        StoreUnavailableError("a/b: minio.internal:9000 cannot be reached"),
        WeightsMissingError("expected weights at /srv/weights"),
    ],
)
def test_neither_host_nor_file_nor_bucket_server_is_named(error: SearchAnythingError) -> None:
    body = bytes(problem_response(error, "1234").body).decode()
    assert not [one for one in ("gpu7", "4711", "/srv", "minio") if one in body]
