"""What a key of some places is answered does not depend on what lies elsewhere: not its images, metadata, standing
queries, nor what other keys asked before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.models import drawn
from fakes.serving import IMAGES, Served

from searchanything.client.remote_names import image_id
from searchanything.core.rows import row_id
from searchanything.core.types import ImageRef

SEEN = {name: image for name, image in IMAGES.items() if name.startswith("a/")}
HIDDEN = {f"b/{n}.png": drawn(64, 96, **{name: (4, 4, 40, 60)}) for n, name in enumerate(("blue", "red", "red"))}
POINT = {"kind": "points", "foreground": [[60, 20]]}
VOLATILE = {"instance", "stages", "id", "etag", "etag_now", "etag_indexed", "layer", "name"}
FILTERS: tuple[dict[str, Any], ...] = (
    *({}, {"key_prefix": "b/"}, {"key_prefix": "B/"}, {"bucket": "other"}, {"size_class": "large"}),
    *({"metadata": one} for one in ({"secret": "yes"}, {"color": 3.5}, {"colour": "red"})),
    {"where": [{"name": "secret", "comparison": "==", "value": "no"}]},
    {"where": [{"name": "color", "comparison": ">", "value": 1}]},
    {"where": [{"name": "secrets", "comparison": "begins with", "value": "n"}]},
)


def crowded(served: Served, key: str, regions: int, **metadata: Any) -> None:
    """Further regions of an image, of the same codes in each server, with metadata."""
    index = served.client._parts.connection.read_index()
    row = next(one for one in index.iterate_regions() if one.image.key == key)
    codes = np.random.default_rng(5).integers(0, 256, (regions, len(row.code)), dtype=np.uint8)
    names = [row_id(row.image, row.generation, number) for number in range(50, 50 + regions)]
    index.insert_regions(
        [
            replace(row, id=name, region=50 + n, code=codes[n].tobytes(), metadata=metadata)
            for n, name in enumerate(names)
        ]
    )


def server(folder: Path, monkeypatch: pytest.MonkeyPatch, *, hidden: bool) -> Served:
    folder.mkdir()
    served = Served.make(folder, monkeypatch, keys=True, images=SEEN | (HIDDEN if hidden else {}), words=True)
    crowded(served, "a/red.png", 250, color="red")
    if hidden:
        crowded(served, "b/0.png", 300, secret="yes", color=3.5)
        shown(served)
        for name in ("mine", "theirs"):
            asked = {"name": name, "image": served.name("b/0.png", region=0), "max_false_match": 0.5}
            assert served.post("/v1/standing", asked).status_code == 201
        for key in (*SEEN, *HIDDEN):
            assert served.get(f"/v1/images/{served.id(key)}/thumbnail").status_code == 200
            assert served.post("/v1/query", {"image": served.name(key)}).status_code == 200
        for path in ("/v1/status", "/v1/images", "/v1/standing/matches"):
            assert served.get(path).status_code == 200
    shown(served, "a/")
    return served


def shown(served: Served, *prefixes: str) -> None:
    places = [(served.bucket, prefix) for prefix in prefixes]
    token, _ = served.desk.ring.add("-".join(("key", *prefixes)), places=places, rights=("read", "refine", "standing"))
    served.headers = {"Authorization": f"Bearer {token}"}


def steady(value: Any, bucket: str) -> Any:
    """A document without times, ids and where the server keeps its images."""
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if name not in VOLATILE and not name.endswith("_ms")}
        return {name: steady(one, bucket) for name, one in kept.items()}
    if isinstance(value, list):
        return [steady(one, bucket) for one in value]
    return value.replace(bucket, "BUCKET") if isinstance(value, str) else value


def requests(served: Served) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """What is asked: paths, with the documents that are posted."""
    seen = served.name("a/two.png")
    stored, other = seen | {"region": 0}, seen | {"region": 1}
    questions = ({"image": stored}, {"image": seen, "prompt": POINT}, {"text": "red"}, {"like": [stored, other]})
    for wanted in FILTERS:
        yield from (("/v1/query", question | {"filter": wanted}) for question in questions)
        yield "/v1/refine", {"image": stored, "right": [stored], "wrong": [other], "filter": wanted}
        yield "/v1/query", {"image": stored, "rescore": 50, "max_false_match": 0.1, "filter": wanted}
        yield "/v1/compare", {"image": seen, "prompt": POINT, "filter": wanted}
        yield "/v1/explain", {"image": stored, "expect": served.name("a/red.png"), "filter": wanted}
    for key in ("b/0.png", "b/none.png"):
        image = served.name(key)
        for question in questions:
            yield "/v1/explain", question | {"expect": image}
            yield "/v1/explain", question | {"expect": image, "right": [stored]}
        yield from requests_about(image)
    yield from ((f"/v1/images?prefix={prefix}&contains=.png", None) for prefix in ("", "a/", "b/"))
    yield from ((path, None) for path in ("/v1/status", "/metrics", "/v1/standing", "/v1/standing/matches"))
    yield from 2 * [("/v1/standing", {"name": "mine", "image": stored, "max_false_match": 0.5})]
    yield "/v1/standing/matches", None


def requests_about(image: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    for more in ({}, {"region": 0}, {"region": 51}):
        for path in ("query", "segment", "sheet", "compare"):
            yield f"/v1/{path}", {"image": image | more}
        yield "/v1/refine", {"image": image | more, "right": [image | {"region": 0}]}
        yield "/v1/standing", {"name": "new", "image": image | more, "max_false_match": 0.5}
    for part in ("", "/regions", "/thumbnail"):
        yield f"/v1/images/{image_id(ImageRef(image['bucket'], image['key']))}{part}", None


def operations(served: Served, theirs: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """What is asked, with its method; `theirs` is the id of a standing query that this key may not see."""
    yield from (("GET" if document is None else "POST", path, document) for path, document in requests(served))
    for method, path in (("GET", "thumbnail"), ("POST", "test"), ("DELETE", "")):
        yield method, f"/v1/standing/{theirs}/{path}".rstrip("/"), None
    yield "GET", f"/v1/standing/matches?query={theirs}", None
    yield "POST", "/v1/standing/matches/taken", {"taken": {theirs: {"until_ms": 2**62, "new_from_ms": 0}}}
    for key in ("a/two.png", "b/0.png", "b/none.png"):
        yield "POST", "/v1/segment/sheet", {"image": served.name(key)}
    yield "POST", "/v1/uploads", {}
    yield "GET", f"/v1/uploads/{'0' * 32}/thumbnail", None
    yield "GET", "/v1/server", None


def not_asked(served: Served, theirs: str) -> set[tuple[str, str]]:
    """The operations of the server's own document that `operations` leaves out."""
    paths = served.get("/openapi.json").json()["paths"]
    left = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    routes = sorted((path for _, path in left), key=lambda path: path.count("{"))  # what is named before what is open
    forms = [(path, re.compile(re.sub(r"\{\w+\}", "[^/]+", path))) for path in routes]
    for method, path, _ in operations(served, theirs):
        left.discard((method, next(route for route, form in forms if form.fullmatch(path.partition("?")[0]))))
    return left


def answers(served: Served, theirs: str) -> list[tuple[int, Any, str | None]]:
    """What comes: the status, the document or the picture, and how long it may be kept."""
    made = []
    for method, path, document in operations(served, theirs):
        found = served.http.request(method, path, json=document, headers=served.headers)
        is_json = found.content and "json" in found.headers["content-type"]
        said = steady(found.json(), served.bucket) if is_json else found.content
        made.append((found.status_code, said, found.headers.get("cache-control")))
    return made


def test_what_lies_elsewhere_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = server(tmp_path / "beside", monkeypatch, hidden=True)
    theirs = next(one for one in beside.client.standing.queries() if one.name == "theirs").id
    alone = answers(served := server(tmp_path / "alone", monkeypatch, hidden=False), theirs)
    found = answers(beside, theirs)
    assert {status for status, *_ in alone} >= {200, 201, 403, 404, 422}
    for asked, one, other in zip(operations(served, theirs), alone, found, strict=True):
        assert one == other, asked
    assert theirs in {one.id for one in beside.client.standing.queries()}, "it was removed by who may not see it"
    assert not_asked(served, theirs) == {("GET", "/healthz"), ("GET", "/readyz")}, "what says nothing of any place"
