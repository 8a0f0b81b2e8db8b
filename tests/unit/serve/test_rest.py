"""REST over hand-drawn images: every question that can be asked, and what is refused."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from fakes.loop_clock import LoopClock
from fakes.models import drawn
from fakes.serving import IMAGES, Served, png_of
from PIL import Image

from searchanything.client.operations import Operations
from searchanything.core.errors import AccessError, UsageError
from searchanything.core.files import png_bytes
from searchanything.core.geometry import encode_rle
from searchanything.core.serve_settings import ServeSettings
from searchanything.core.types import ImageRef, RegionRef
from searchanything.serve.uploads import MOST_UPLOADS
from searchanything.serve.wire import SheetRequest
from searchanything.stores.folder import FolderStore


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served.make(tmp_path, monkeypatch)


def keys(answer: dict) -> list[str]:
    return [hit["key"] for hit in answer["hits"]]


def test_a_stored_region_needs_neither_model_nor_image(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    number = served.region("a/two.png", 60)
    monkeypatch.setattr(FolderStore, "read", lambda *_: pytest.fail("an image was read"))
    answer = served.ask(image=served.name("a/two.png", region=number), limit=2)
    assert set(keys(answer)) == {"a/two.png", "b/blue.png"}
    assert served.machine.segmenter.batch_sizes == []
    assert served.machine.loads == []
    assert answer["selection"]["rule"] == "stored"
    assert answer["good_match"] is True
    hit = next(one for one in answer["hits"] if one["key"] == "a/two.png")
    assert (hit["distance_bits"], hit["confidence"]) == (0, {"word": "very strong", "value": 1.0, "calibrated": False})
    assert answer["receipt"]["image"]["region"] == number


def test_prompts_on_a_stored_image(served: Served) -> None:
    image = served.name("a/two.png")
    mask = encode_rle((IMAGES["a/two.png"] == (20, 20, 250)).all(axis=2))
    prompts = {
        "point": {"kind": "points", "foreground": [[60, 20]]},
        "background": {"kind": "points", "foreground": [[60, 20]], "background": [[10, 10]]},
        "box": {"kind": "box", "box_xyxy": [48, 6, 92, 42]},
        "text": {"kind": "text", "text": "blue"},
        "mask": {"kind": "mask", "mask": {"size": list(mask.size), "counts": mask.counts}},
        "mixed": {"kind": "mixed", "boxes_xyxy": [[0, 0, 96, 64]], "foreground": [[60, 20]]},
    }
    for kind, prompt in prompts.items():
        answer = served.ask(image=image, prompt=prompt, limit=2)
        assert set(keys(answer)) == {"a/two.png", "b/blue.png"}, kind
        assert answer["prompt"]["kind"] == kind
    assert keys(served.ask(image=image, limit=1)) == ["a/two.png"]


def test_an_upload_is_asked_about_until_it_is_gone(served: Served) -> None:
    upload = served.upload(drawn(64, 96, green=(10, 10, 60, 50)))
    answer = served.ask(image={"upload": upload}, prompt={"kind": "points", "foreground": [[20, 20]]}, limit=1)
    assert keys(answer) == ["b/green.png"]
    segments = served.post("/v1/segment", {"image": {"upload": upload}}).json()
    assert (segments["source"], len(segments["regions"])) == ("segmenter", 1)
    small = served.get(f"/v1/uploads/{upload}/thumbnail", params={"side": 96})
    assert Image.open(io.BytesIO(small.content)).format == "WEBP"
    for path in (served.folder.parent / "serve" / "uploads").iterdir():
        path.unlink()
    gone = served.post("/v1/query", {"image": {"upload": upload}})
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:searchanything:problem:ObjectNotFoundError")


def test_uploads_make_room_and_grow_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(png_of(IMAGES["a/two.png"]))
    served = Served.make(tmp_path, monkeypatch, settings=ServeSettings(preload=False, uploads_bytes=size + 10))
    first = served.upload(IMAGES["a/two.png"])
    for path in (tmp_path / "serve" / "uploads").iterdir():
        os.utime(path, (time.time() - 60, time.time() - 60))
    second = served.upload(IMAGES["a/two.png"])
    assert served.post("/v1/segment", {"image": {"upload": first}}).status_code == 404
    assert served.post("/v1/segment", {"image": {"upload": second}}).status_code == 200
    for path in (tmp_path / "serve" / "uploads").iterdir():
        os.utime(path, (0, 0))
    assert served.post("/v1/segment", {"image": {"upload": second}}).status_code == 404


def test_very_many_small_uploads_do_not_stay(served: Served) -> None:
    folder = served.desk.uploads._folder
    folder.mkdir(parents=True)
    for number in range(MOST_UPLOADS + 10):
        (small := folder / f"{number:032x}-1x1").write_bytes(b"small")
        os.utime(small, (time.time() - 60,) * 2)
    upload = served.upload(IMAGES["a/red.png"])
    assert served.desk.uploads.find(upload).id == upload
    assert len(list(folder.iterdir())) == MOST_UPLOADS


def test_an_upload_that_cannot_be_written_is_the_servers_fault(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise UsageError("/srv/uploads/0 cannot be written: No space left on device")

    monkeypatch.setattr("searchanything.serve.uploads.write_whole", full)
    answer = served.http.post("/v1/uploads", content=png_of(IMAGES["a/two.png"]))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "its disk is full" in answer.json()["detail"]
    assert "/srv" not in answer.text, "a path of the server is shown"
    assert "/srv/uploads/0 cannot be written" in caplog.text


def test_a_folder_for_uploads_that_cannot_be_made_is_the_servers_fault(served: Served) -> None:
    (served.folder.parent / "serve").mkdir(exist_ok=True)
    (served.folder.parent / "serve" / "uploads").touch()
    answer = served.http.post("/v1/uploads", content=png_of(IMAGES["a/two.png"]))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert str(served.folder.parent) not in answer.text, "a path of the server is shown"


@pytest.mark.parametrize(
    ("become", "status"),
    [
        (lambda path: path.write_bytes(b"no image"), 422),
        (lambda path: path.mkdir(), 404),  # cannot be read, which root can of any file
        (lambda path: path.symlink_to("nowhere"), 404),  # went after its name was seen
    ],
)
def test_an_upload_that_cannot_be_read_is_no_defect(
    served: Served, become: Callable[[Path], object], status: int
) -> None:
    upload = served.upload(IMAGES["a/two.png"])
    [path] = (served.folder.parent / "serve" / "uploads").iterdir()
    path.unlink()
    become(path)
    for answer in (
        served.post("/v1/segment", {"image": {"upload": upload}}),
        served.get(f"/v1/uploads/{upload}/thumbnail", params={"side": 96}),
    ):
        assert answer.status_code == status, answer.text
        assert str(served.folder.parent) not in answer.text, "a path of the server is shown"


@pytest.mark.parametrize("name", ["*", "?" * 32, "[0-9a-f]*"])
def test_no_pattern_finds_an_upload(served: Served, name: str) -> None:
    """Whoever has no name of an upload does not see it."""
    served.upload(IMAGES["a/two.png"])
    assert served.get(f"/v1/uploads/{quote(name)}/thumbnail", params={"side": 96}).status_code == 404
    assert served.post("/v1/segment", {"image": {"upload": name}}).status_code in (404, 422)


def test_uploads_that_are_too_old_leave_the_disk_which_others_cannot_read(served: Served) -> None:
    folder = served.folder.parent / "serve" / "uploads"
    served.upload(IMAGES["a/two.png"])
    assert folder.stat().st_mode & 0o077 == 0
    [old] = folder.iterdir()
    os.utime(old, (0, 0))
    served.upload(IMAGES["a/two.png"])
    assert len(list(folder.iterdir())) == 1
    assert not old.exists()


def test_filters_groups_and_pages(served: Served) -> None:
    image = served.name("a/two.png", region=0)
    assert {key[0] for key in keys(served.ask(image=image, filter={"key_prefix": "b/"}))} == {"b"}
    excluded = served.ask(image=image, filter={"exclude": [served.name("a/two.png")]})
    assert "a/two.png" not in keys(excluded)
    grouped = keys(served.ask(image=image, group_by_image=True))
    assert len(grouped) == len(set(grouped)) == 4
    everything = keys(served.ask(image=image))
    assert keys(served.ask(image=image, limit=2, offset=1)) == everything[1:3]
    assert served.ask(image=image, filter={"metadata": {"album": "sea"}})["hits"] == []


def test_explain_and_compare(served: Served) -> None:
    question = {"image": served.name("a/two.png"), "prompt": {"kind": "points", "foreground": [[60, 20]]}}
    why = served.post("/v1/explain", question | {"expect": served.name("b/blue.png")}).json()
    assert why["verdict"] == "hit"
    stored = {"image": served.name("a/two.png", region=0), "filter": {"key_prefix": "a/"}}
    assert served.post("/v1/explain", stored | {"expect": served.name("b/blue.png")}).json()["verdict"] == "filter"
    compared = served.post("/v1/compare", question | {"candidates": 3}).json()
    assert [len(method["ranking"]) for method in compared["methods"]] == [3] * 5


def test_images_come_in_pages(served: Served) -> None:
    first = served.get("/v1/images", params={"limit": 3}).json()
    assert [one["key"] for one in first["images"]] == ["a/red.png", "a/two.png", "b/blue.png"]
    assert (first["total"], first["complete"]) == (4, True)
    second = served.get("/v1/images", params={"limit": 3, "after": first["next"]}).json()
    assert ([one["key"] for one in second["images"]], second["next"]) == (["b/green.png"], None)
    found = served.get("/v1/images", params={"contains": "BLUE"}).json()
    assert [one["key"] for one in found["images"]] == ["b/blue.png"]
    under = served.get("/v1/images", params={"prefix": "b/", "bucket": served.bucket}).json()
    assert under["total"] == 2
    assert served.get("/v1/images", params={"after": "nonsense!"}).status_code == 422


def test_one_image_its_regions_and_its_picture(served: Served) -> None:
    identity = served.id("a/two.png")
    assert served.get(f"/v1/images/{identity}").json()["regions"] == 2
    regions = served.get(f"/v1/images/{identity}/regions").json()
    assert (regions["image"], regions["source"]) == ({"width": 96, "height": 64}, "index")
    assert sorted(one["region"] for one in regions["regions"]) == [0, 1]
    picture = served.get(f"/v1/images/{identity}/thumbnail", params={"side": 50})
    assert Image.open(io.BytesIO(picture.content)).size == (96, 64)
    assert picture.headers["cache-control"].startswith("private")
    again = served.http.get(
        f"/v1/images/{identity}/thumbnail?side=50", headers={"If-None-Match": picture.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    part = served.get(f"/v1/images/{identity}/thumbnail", params={"box": "50,8,90,40"})
    pixels = Image.open(io.BytesIO(part.content)).convert("RGB")
    assert pixels.size == (40, 32)
    assert pixels.getpixel((20, 16))[2] > 200


def test_documents_are_compressed_and_pictures_are_not(served: Served) -> None:
    identity = served.id("a/two.png")
    headers = {"Accept-Encoding": "gzip"}
    assert served.http.get("/openapi.json", headers=headers).headers["content-encoding"] == "gzip"
    picture = served.http.get(f"/v1/images/{identity}/thumbnail", headers=headers)
    assert "content-encoding" not in picture.headers


def test_only_what_is_indexed_can_be_named(served: Served) -> None:
    (served.folder / "secret.png").write_bytes(png_of(IMAGES["a/two.png"]))
    for document in (
        {"image": served.name("secret.png"), "prompt": {"kind": "points", "foreground": [[60, 20]]}},
        {"image": {"bucket": "/etc", "key": "passwd"}},
        {"image": served.name("secret.png", region=0)},
    ):
        assert served.post("/v1/query", document).status_code == 404
    assert served.post("/v1/segment", {"image": served.name("secret.png")}).status_code == 404


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({}, 422),
        ({"text": "a red bicycle"}, 501),
        ({"image": {"upload": "0" * 32}}, 404),
        ({"image": {"bucket": "b", "key": "k", "colour": 1}}, 422),
        ({"image": {"upload": "x"}, "limit": 0}, 422),
        ({"image": {"upload": "x"}, "limit": 5000}, 422),
        ({"image": {"upload": "x"}, "prompt": {"kind": "points", "foreground": [[1e30, 2]]}}, 422),
    ],
)
def test_what_cannot_be_answered_is_a_problem(served: Served, document: dict, status: int) -> None:
    response = served.post("/v1/query", document)
    assert response.status_code == status, response.text
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"].startswith("urn:searchanything:problem:")
    assert problem["instance"].endswith(response.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/v1/query", "/v1/segment", "/v1/refine", "/v1/explain", "/v1/compare", "/v1/sheet"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])
def test_json_without_its_header_is_answered_with_it(served: Served, path: str, kind: str) -> None:
    response = served.http.post(path, content=b'{"text": "a red bicycle"}', headers={"Content-Type": kind})
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    problem = response.json()
    assert problem["type"].endswith(":UsageError")
    assert "Content-Type: application/json" in problem["detail"]
    assert f"got Content-Type: {kind};" in problem["detail"]
    assert "dictionary" not in problem["detail"]
    right = served.http.post(path, content=b"[]", headers={"Content-Type": "application/json"}).json()
    assert "Content-Type" not in right["detail"], "its header is right, its content is not"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"limit":\n  nope}', "Expecting value at line 2, column 3 (character 13), where 'nope}' begins"),
        (b'{"limit": 5} x', "Extra data at line 1, column 14 (character 14), where 'x' begins"),
        (b'{"limit": 5', "Expecting ',' delimiter at line 1, column 12 (character 12), where it ends"),
        (b'{"text": "a', "Unterminated string starting at line 1, column 10 (character 10), where '\"a' begins"),
        (b'{"text": "\xff"}', "expected JSON in UTF-8: invalid start byte 0xff at byte 11"),
        (b"[" * 100_000, "expected JSON that is less deeply nested"),
        (b'{"limit": ' + b"9" * 5000 + b"}", "Exceeds the limit (4300 digits)"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(served: Served, body: bytes, said: str) -> None:
    response = served.http.post("/v1/query", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    problem = response.json()
    assert (problem["status"], problem["type"]) == (422, "urn:searchanything:problem:UsageError")
    assert said in problem["detail"]
    form = {"image": ("a.png", b"any"), "question": ("q.json", body, "application/json")}
    assert said in served.post("/v1/query", files=form).json()["detail"], "as the part of a form, too"


@pytest.mark.parametrize("name", ["x" * 900_000, "\x7f" * 900_000])
def test_what_is_refused_is_not_repeated_at_length(served: Served, name: str) -> None:
    for document in (
        {name: 1},
        {"image": {name: 1}},
        {"prompt": {"kind": name}},
        {f"{n}{name[:90_000]}": 1 for n in "123456789"},
    ):
        response = served.post("/v1/query", document)
        assert response.status_code == 422
        assert len(response.content) < 2**15
        assert "…" in response.json()["detail"]


def test_a_point_outside_and_a_region_with_a_prompt(served: Served) -> None:
    outside = {"kind": "points", "foreground": [[600, 20]]}
    response = served.post("/v1/query", {"image": served.name("a/two.png"), "prompt": outside})
    assert response.status_code == 422
    assert "outside the image" in response.json()["detail"]
    both = served.post("/v1/query", {"image": served.name("a/two.png", region=0), "prompt": outside})
    assert both.status_code == 422


def test_what_is_no_image_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServeSettings(preload=False, upload_bytes=2000, upload_pixels=5000)
    served = Served.make(tmp_path, monkeypatch, settings=settings)
    assert served.http.post("/v1/uploads", content=b"no image").status_code == 422
    assert served.http.post("/v1/uploads", content=b"").status_code == 422
    assert served.http.post("/v1/uploads", content=b"x" * 2001).status_code == 413
    assert served.http.post("/v1/uploads", content=iter([b"x" * 1500, b"x" * 600])).status_code == 413
    wide = served.http.post("/v1/uploads", content=png_of(drawn(60, 100)))
    assert wide.status_code == 413
    assert wide.json()["detail"] == "expected at most 5,000 pixels, got 100 × 60"
    long = '{"text": "' + "x" * 2**20 + '"}'
    for content in (long, iter([long.encode()])):
        headers = {"content-type": "application/json"}
        assert served.http.post("/v1/query", content=content, headers=headers).status_code == 413


def test_keys_as_long_as_an_index_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "/".join([*["deep" * 50] * 12, "a.png"])  # 2,417 letters
    served = Served.make(
        tmp_path, monkeypatch, images={key: drawn(60, 100, red=(5, 5, 25, 25)), "b.png": drawn(60, 90)}
    )
    name = served.name(key)
    (found,) = served.get("/v1/images", params={"prefix": key}).json()["images"]
    assert keys(served.ask(image=name, filter={"images": [name], "key_prefix": key})) == [key]
    assert served.post("/v1/explain", {"image": name, "expect": name}).status_code == 200
    assert served.get(f"/v1/images/{found['id']}/thumbnail").status_code == 200
    first = served.get("/v1/images", params={"limit": 1, "prefix": "deep"}).json()
    assert served.get("/v1/images", params={"limit": 1, "after": found["id"]}).json()["images"] == []
    assert first["images"] == [found]


def test_the_page_of_the_server_names_every_path(served: Served) -> None:
    page = (Path(__file__).parents[3] / "docs" / "serve.md").read_text("utf-8")
    table = page.partition("| request | gives |")[2].partition("\n\n")[0]
    named = re.findall(r"`(?:GET |POST |DELETE )?(/[^` ]*)`", table.replace("`…", "`/v1/images/{image}"))
    assert sorted(named) == sorted(served.get("/openapi.json").json()["paths"])


def test_the_server_says_how_it_is(served: Served) -> None:
    assert served.get("/healthz").json() == {"alive": True}
    assert served.get("/readyz").json()["ready"] is True
    status = served.get("/v1/status").json()
    assert (status["index"]["images"], status["bits"]) == (4, 256)
    assert "uri" not in status["index"]
    served.ask(image=served.name("a/two.png", region=0))
    figures = served.get("/metrics").text
    assert 'searchanything_requests_total{method="POST",route="/v1/query",status="200"} 1.0' in figures
    assert 'searchanything_queries_total{kind="region"} 1.0' in figures
    assert "images" not in figures.replace("/v1/images", ""), "a label holds a path"
    assert served.get("/openapi.json").json()["openapi"].startswith("3.")
    assert "/v1/query" in served.get("/docs").text
    assert served.get("/nowhere").status_code == 404
    assert served.get("/page/nothing.js").status_code == 404


def test_nothing_indexed_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch)
    monkeypatch.setattr(served.client._indexes, "live", lambda **_: None)
    assert served.get("/readyz").status_code == 503
    problem = served.post("/v1/query", {"image": served.name("a/two.png")})
    assert (problem.status_code, problem.headers["retry-after"]) == (503, "5")


def test_models_that_are_loaded_are_work(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    monkeypatch.setattr(Operations, "load_models", lambda _, texts: seen.append((served.desk.is_idle, texts)))
    served.desk.load_models()
    assert (seen, served.desk.is_idle, served.desk.models_loaded) == ([(False, True)], True, True), "for texts as well"


def test_an_answer_that_takes_too_long_invites_no_repetition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served.make(tmp_path, monkeypatch, settings=ServeSettings(preload=False, timeout_s=60))
    clock, release = LoopClock(monkeypatch), threading.Event()
    monkeypatch.setattr(served.desk, "status", lambda _: clock.put_forward(60.0) or release.wait(30))
    late = served.get("/v1/status")
    release.set()
    assert (late.status_code, late.json()["type"]) == (504, "urn:searchanything:problem:AnswerTimeoutError")
    assert "retry-after" not in late.headers


def test_an_image_without_regions_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {**IMAGES, "b/plain.png": np.full((20, 30, 3), 120, dtype=np.uint8)}
    served = Served.make(tmp_path, monkeypatch, images=images)
    found = served.get("/v1/images", params={"prefix": "b/"}).json()
    assert ([one["key"] for one in found["images"]], found["total"]) == (
        ["b/blue.png", "b/green.png", "b/plain.png"],
        3,
    )
    assert (found["images"][2]["regions"], found["complete"]) == (0, True)
    assert served.get(f"/v1/images/{found['images'][2]['id']}/regions").json()["regions"] == []
    assert "b/plain.png" in [hit["key"] for hit in served.ask(image=served.name("b/plain.png"))["hits"]]


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/docs", "/v1/status", "/v1/images", "/nowhere", "/v1/query"]
)
def test_head_is_get_without_its_body(served: Served, path: str) -> None:
    head, got = served.http.head(path), served.get(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.status_code == {"/nowhere": 404, "/v1/query": 405}.get(path, 200)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("OPTIONS", "/v1/standing", "GET, HEAD, POST"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("PUT", "/v1/standing/x", "DELETE"),
        ("GET", "/v1/query", "POST"),
        ("HEAD", "/v1/query", "POST"),
        ("POST", "/", "GET, HEAD"),
    ],
)
def test_another_method_is_answered_with_those_of_the_path(
    served: Served, method: str, path: str, allowed: str
) -> None:
    answer = served.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_a_sheet_takes_marks_and_positions(served: Served) -> None:
    image = served.name("a/two.png", region=0)
    plain = served.post("/v1/sheet", {"image": image}).content
    by_hand = served.client.query(RegionRef(ImageRef(served.bucket, "a/two.png"), 0), limit=24)
    right, wrong = by_hand[-1], by_hand[2]  # other codes than the query's, which the nearest have
    better = by_hand.refine([right], [wrong])
    names = [served.name(one.image.key, region=one.region) for one in (right, wrong)]
    marks = {"right": names[:1], "wrong": names[1:]}
    refined = served.post("/v1/sheet", {"image": image, **marks}).content
    assert [hit.ref for hit in better] != [hit.ref for hit in by_hand]
    assert refined == png_bytes(better.plot()) != plain
    saved = served.refine(image=image, **marks)["probe"]["saved"]
    assert served.post("/v1/sheet", {"image": image, "probe": saved}).status_code == 200
    assert served.post("/v1/sheet", {"image": image, "positions": [1, 0]}).content == png_bytes(by_hand[1::-1].plot())
    assert served.post("/v1/sheet", {"image": image, "positions": [24]}).status_code == 422
    reader = dataclasses.replace(served.desk.caller({}, ""), rights=("read",))
    with pytest.raises(AccessError):
        served.desk.drawn(reader, SheetRequest(image=image, **marks))
