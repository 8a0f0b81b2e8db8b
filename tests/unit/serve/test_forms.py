"""Questions that bring their image along as multipart/form-data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.models import drawn
from fakes.serving import Served, png_of

from searchanything.core.serve_settings import ServeSettings
from searchanything.serve.frontier import MAX_JSON_BYTES

GREEN = png_of(drawn(64, 96, green=(10, 10, 60, 50)))
POINT = {"kind": "points", "foreground": [[20, 20]]}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served.make(tmp_path, monkeypatch)


def send(served: Served, path: str, question: object = None, *, image: bytes = GREEN, **parts: Any) -> Any:
    document = {} if question is None else {"question": question if isinstance(question, str) else json.dumps(question)}
    return served.post(path, files={"image": ("a photo.png", image, "image/png"), **parts}, data=document)


def kept(served: Served) -> int:
    folder = served.folder.parent / "serve" / "uploads"
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_a_form_answers_as_an_upload_does(served: Served) -> None:
    found = send(served, "/v1/query", {"prompt": POINT, "limit": 2})
    assert found.status_code == 200, found.text
    asked = served.ask(image={"upload": served.upload(drawn(64, 96, green=(10, 10, 60, 50)))}, prompt=POINT, limit=2)
    assert found.json()["hits"] == asked["hits"]
    assert found.json()["hits"][0]["key"] == "b/green.png"


def test_every_question_takes_a_form(served: Served) -> None:
    right = served.name("b/green.png", region=served.region("b/green.png", 30))
    answers = {
        "segment": send(served, "/v1/segment"),
        "segment/sheet": send(served, "/v1/segment/sheet", {"positions": [0]}),
        "explain": send(served, "/v1/explain", {"prompt": POINT, "expect": served.name("b/green.png")}),
        "compare": send(served, "/v1/compare", {"prompt": POINT}),
        "sheet": send(served, "/v1/sheet", {"prompt": POINT}),
        "refine": send(served, "/v1/refine", {"prompt": POINT, "right": [right]}),
        "uploads": send(served, "/v1/uploads"),
    }
    statuses = {name: answer.status_code for name, answer in answers.items()}
    assert statuses == dict.fromkeys(answers, 200) | {"uploads": 201}
    assert (answers["segment"].json()["source"], answers["explain"].json()["expected"]["key"]) == (
        "segmenter",
        "b/green.png",
    )
    assert all(answers[name].content.startswith(b"\x89PNG") for name in ("sheet", "segment/sheet"))
    upload = answers["uploads"].json()["upload"]
    assert served.ask(image={"upload": upload}, prompt=POINT, limit=1)["hits"][0]["key"] == "b/green.png"


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ("{", 422),
        ("[]", 422),
        ("7", 422),
        ("[" * 100_000, 422),
        ({"image": {"upload": "0" * 32}}, 422),
        ({"limit": 0}, 422),
        ({"nothing": 1}, 422),
        ("x" * (MAX_JSON_BYTES + 1), 400),
    ],
)
def test_questions_that_cannot_be_read(served: Served, question: object, status: int) -> None:
    found = send(served, "/v1/query", question)
    assert (found.status_code, found.json()["status"]) == (status, status)


def test_forms_that_cannot_be_read(served: Served) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    missing = served.post("/v1/query", files={"picture": ("a.png", GREEN)})
    assert (missing.status_code, missing.json()["type"]) == (422, "urn:searchanything:problem:UsageError")
    assert served.post("/v1/query", data={"image": "words"}, files={"other": ("a", b"")}).status_code == 422
    for parts in (["second"], ["second", "third"], ["image"], ["question", "question"]):
        files = [("image", ("a.png", GREEN)), *((name, ("b", b"{}")) for name in parts)]
        refused = served.post("/v1/query", files=files)
        assert (refused.status_code, "expected the parts image" in refused.json()["detail"]) == (422, True), parts
    for body in (
        b"",
        b"nothing like a form",
        b"--x\r\n\r\n\r\n--x--",
        b'--x\r\nContent-Disposition: form-data; name="ima',
    ):
        assert served.post("/v1/query", content=body, headers=form).status_code in (400, 422)
    without = {"Content-Type": "multipart/form-data"}
    assert served.post("/v1/query", content=b"x", headers=without).status_code in (400, 422)
    assert send(served, "/v1/query", {"prompt": POINT}, image=b"no image").status_code == 422
    assert kept(served) == 0


def test_an_image_as_text_is_refused_with_what_is_expected(served: Served) -> None:
    for fields in (
        {"image": "abc"},
        {"image": "abc", "question": "{}"},
        {"image": "abc", "question": "{}", "more": "1"},
    ):
        body = b"".join(
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        )
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        refused = served.post("/v1/query", content=body + b"--x--\r\n", headers=headers)
        assert (refused.status_code, "expected the parts image, a file" in refused.json()["detail"]) == (422, True)


@pytest.mark.parametrize("name", ["q.json", "blob"])
@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream", "text/plain"])
def test_a_question_may_be_a_file(served: Served, name: str, kind: str) -> None:
    question = json.dumps({"prompt": POINT, "limit": 2}).encode()
    files = {"image": ("a.png", GREEN), "question": (name, question, kind)}
    found = served.post("/v1/query", files=files)
    assert found.status_code == 200, found.text
    assert found.json()["hits"] == send(served, "/v1/query", {"prompt": POINT, "limit": 2}).json()["hits"]


def test_a_question_in_a_file_is_limited_too(served: Served) -> None:
    for data, status in ((b"x" * (MAX_JSON_BYTES + 1), 413), (b"\xff\xfe", 422), (b"{", 422), (b"\xef\xbb\xbf{}", 200)):
        files = {"image": ("a.png", GREEN), "question": ("q.json", data, "application/json")}
        assert served.post("/v1/query", files=files).status_code == status, data[:3]


def test_the_routes_own_right_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch, keys=True)
    token, _ = served.desk.ring.add("reader", rights=["read"])
    served.headers = {"Authorization": f"Bearer {token}"}
    assert send(served, "/v1/refine", {"prompt": POINT}).status_code == 403
    assert kept(served) == 0
    assert send(served, "/v1/query", {"prompt": POINT}).status_code == 200
    assert kept(served) == 1


def test_a_form_is_limited_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = len(GREEN) + 10
    served = Served.make(tmp_path, monkeypatch, settings=ServeSettings(preload=False, upload_bytes=limit))
    assert send(served, "/v1/query", {"prompt": POINT}).status_code == 200
    assert send(served, "/v1/query", {"prompt": POINT}, image=GREEN + bytes(11)).status_code == 413
    taken = []

    def endless() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(1000):
            taken.append(1)
            yield bytes(2**20)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    found = served.post("/v1/query", content=endless(), headers=headers)
    assert found.status_code == 413
    assert kept(served) == 1


def test_nothing_is_kept_for_who_may_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch, keys=True)
    assert send(served, "/v1/query", {"prompt": POINT}).status_code == 401
    assert kept(served) == 0
