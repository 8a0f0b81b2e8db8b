"""REST fuzzed from its own OpenAPI document: whatever comes, the answer is a documented one and never a 500."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
import schemathesis
from fakes.serving import ORIGIN, Served, crowd
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from pydantic import BaseModel
from schemathesis.generation import GenerationMode

from searchanything.serve.wire import (
    CompareRequest,
    ExplainRequest,
    QueryRequest,
    RefineRequest,
    SegmentRequest,
    SegmentSheetRequest,
    SheetRequest,
)

EXAMPLES = 6
LONGEST_QUERY = 60_000  # neither clients nor servers of HTTP take an address of 64 KiB
_SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        served = Served.make(tmp_path_factory.mktemp("fuzz"), monkeypatch, words=True)
        served.http._transport.raise_server_exceptions = False
        yield served


@pytest.fixture(scope="module")
def document(served: Served) -> dict[str, Any]:
    found: dict[str, Any] = served.get("/openapi.json").json()
    return found


def documented(document: dict[str, Any], path: str, method: str) -> set[int]:
    return {int(status) for status in document["paths"][path][method.lower()]["responses"]}


def pairs(parts: Any) -> list[tuple[str, Any]]:
    return list(parts.items()) if isinstance(parts, dict) else list(parts)


def sendable(value: Any) -> Any:
    """A part of a form as it can be sent, whatever was drawn for it."""
    if isinstance(value, tuple):
        return tuple(sendable(one) for one in value)
    return value if value is None or isinstance(value, str | bytes) else repr(value).encode()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
def test_every_operation_answers_as_documented(served: Served, document: dict[str, Any], mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(document)
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        @_SETTINGS
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            options = case.as_transport_kwargs(base_url=ORIGIN)
            assume(len(urlencode(options.get("params") or {})) < LONGEST_QUERY)
            headers = {name: value for name, value in (options.get("headers") or {}).items() if name.lower() != "host"}
            body = {name: options[name] for name in ("json", "data", "files") if options.get(name) is not None}
            if "files" in body:
                body["files"] = [(name, sendable(value)) for name, value in pairs(body["files"])]
            elif "data" in body:
                body = {"content": body["data"] if isinstance(body["data"], bytes | str) else repr(body["data"])}
            response = served.http.request(
                case.method, options["url"], params=options.get("params"), headers=headers, **body
            )
            seen.setdefault(case.operation.path, set()).add(response.status_code)
            known = documented(document, case.operation.path, case.method) | {200, 201, 304}
            assert response.status_code in known, (case.operation.path, response.status_code, response.text, case)
            if response.status_code >= 400:
                problem = response.json()
                assert problem["status"] == response.status_code

        try:
            ask()
        except Unsatisfiable:  # it takes nothing that could be wrong
            assert mode is GenerationMode.NEGATIVE
    assert mode is GenerationMode.NEGATIVE or len(seen) == len(document["paths"])
    if mode is GenerationMode.POSITIVE:
        assert 200 in seen["/v1/images"], "nothing got through"


NAMES = {"bucket": "BUCKET", "key": "a/two.png"}
REGION = {**NAMES, "region": 0}


HALVES = st.sampled_from(["\ud800", "a\udfff", "\udc80b"])  # of surrogate pairs: JSON has them, UTF-8 has not


def texts(**options: Any) -> st.SearchStrategy[str]:
    return st.text(**options) | HALVES


def values() -> dict[str, st.SearchStrategy[Any]]:
    """The fields of all questions, with JSON that is nearly right: the words of the API with values of all kinds."""
    numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 95.999, 1e-300, 2**31, 2**63])
    points = st.lists(st.lists(numbers, max_size=3), max_size=3)
    mask = st.fixed_dictionaries(
        {
            "size": st.lists(st.integers(-1, 5000), max_size=3) | st.just([8, 12]),
            "counts": st.text("0123456789:;<=>?@ABCPQRSTUVWXYZ[\\]^_`abcdefghijklmno", max_size=30) | texts(max_size=5),
        }
    )
    prompt = st.fixed_dictionaries(
        {"kind": st.sampled_from(["points", "box", "text", "mask", "mixed", "image", "else"])},
        optional={
            "foreground": points,
            "background": points,
            "box_xyxy": st.lists(numbers, max_size=5),
            "text": texts(),
            "mask": mask,
            "granularity": st.sampled_from(["part", "whole", "no", None]),
            "boxes_xyxy": points,
        },
    )
    condition = st.fixed_dictionaries(
        {"name": st.sampled_from(["year", "region", "", "a b"]) | texts(max_size=3)},
        optional={
            "comparison": st.sampled_from(["==", "<", ">=", "in", "not in", "begins with", "between", "~"]),
            "value": numbers | texts(max_size=3) | st.lists(numbers | texts(max_size=3), max_size=3),
        },
    )
    restricted = st.fixed_dictionaries(
        {},
        optional={
            "key_prefix": texts(),
            "bucket": texts(),
            "area_px": st.lists(numbers | st.none(), min_size=2, max_size=2),
            "metadata": st.dictionaries(texts(), numbers | texts() | st.booleans(), max_size=2),
            "size_class": st.sampled_from(["small", "huge"]),
            "images": st.lists(st.just(NAMES), max_size=2),
            "where": st.lists(condition, max_size=2),
        },
    )
    mark = st.sampled_from([REGION, NAMES, {**NAMES, "region": -1}, {**NAMES, "region": 2**31}, {"key": "x"}])
    marks = st.lists(mark, max_size=2)
    odd_name = st.fixed_dictionaries({"bucket": texts(), "key": texts()})
    named = st.sampled_from([NAMES, {**NAMES, "key": "never"}]) | odd_name
    return {
        "image": named | numbers.map(lambda number: {**NAMES, "region": number}),
        "prompt": prompt,
        "filter": restricted,
        "limit": numbers,
        "offset": numbers,
        "text": texts(),
        "group_by_image": st.booleans(),
        "expect": named,
        "expect_box_xyxy": st.lists(numbers, min_size=3, max_size=5),
        "candidates": numbers,
        "right": marks,
        "wrong": marks,
        "probe": probes(),
        "like": marks,
        "max_false_match": numbers,
        "rescore": numbers,
        "positions": st.lists(numbers, max_size=2),
    }


def probes() -> st.SearchStrategy[Any]:
    """A saved probe, whole or with other values in its fields."""
    codes = {"right": st.lists(texts(), max_size=1), "wrong": st.lists(texts(), max_size=1)}
    of_words = st.fixed_dictionaries({"layer": texts(), "bits": st.sampled_from([256, 8, "x"]), **codes})
    names = {"fingerprint": texts(), "format": texts(), "bits": texts(max_size=3) | st.integers()}
    changed = st.fixed_dictionaries({}, optional={**names, **codes, "words": of_words})
    return changed.map(lambda fields: {SAVED: fields}) | st.sampled_from([{SAVED: {}}, None, {}, [], "text"])


SAVED = "the saved probe, but for"
OTHER = {"bucket": "BUCKET", "key": "b/green.png", "region": 0}  # has another code than REGION
POINT = {"kind": "points", "foreground": [[60, 20]]}
ROUTES: dict[str, type[BaseModel]] = {
    "query": QueryRequest, "refine": RefineRequest, "sheet": SheetRequest, "explain": ExplainRequest,
    "compare": CompareRequest, "segment": SegmentRequest, "segment/sheet": SegmentSheetRequest,
}  # fmt: skip


def nearly_right(path: str) -> st.SearchStrategy[dict[str, Any]]:
    """The fields of this route alone: any other one would have the rest refused unread."""
    own = {name: value for name, value in values().items() if name in ROUTES[path].model_fields}
    needed = {name: own.pop(name) for name in ("image", "expect") if name in own}
    return st.fixed_dictionaries(needed, optional=own)


def fitting(path: str) -> st.SearchStrategy[dict[str, Any]]:
    """Questions that can be answered, with parts that `values` rarely gets through: one in the other."""
    positions = {"positions": st.sampled_from([[0], [1, 0]])}
    if path.startswith("segment"):
        return st.fixed_dictionaries({"image": st.just(NAMES)}, optional=positions if path.endswith("sheet") else {})
    where = st.sampled_from(
        [
            {"name": "year", "comparison": "!=", "value": 2020},
            {"name": "year", "comparison": "not in", "value": ["a", 1]},
        ]
    )
    filtered = {"filter": st.fixed_dictionaries({"where": st.lists(where, min_size=1, max_size=2)})}
    if path == "compare":
        asked = {"image": st.just(NAMES), "prompt": st.just(POINT), "candidates": st.integers(1, 3)}
        return st.fixed_dictionaries(asked, optional=filtered)
    several = st.lists(st.sampled_from([REGION, OTHER]), min_size=1, max_size=3).map(lambda regions: {"like": regions})
    asked = several | st.sampled_from([{"image": REGION}, {"image": NAMES, "prompt": POINT}, {"text": "red"}])
    page = {"offset": st.integers(0, 3), "group_by_image": st.booleans()}
    both = {**filtered, **page, "rescore": st.integers(0, 16_384), "max_false_match": st.floats(0.5, 1)}
    if path == "explain":
        both |= {"expect_box_xyxy": st.just([4, 4, 40, 60])}
    elif path == "sheet":
        both |= {"positions": st.just([0])}
    marked = {"wrong": st.just([OTHER]), "probe": st.just({SAVED: {}})}
    needed = {"limit": st.integers(1, 3)} | ({"expect": st.just(NAMES)} if path == "explain" else {})
    plain = st.fixed_dictionaries(needed, optional=both)
    refined = st.fixed_dictionaries({"right": st.just([REGION]), **needed}, optional={**both, **marked})
    more = {"query": plain, "refine": refined}.get(path, plain | refined)
    return st.tuples(asked, more).map(lambda parts: _joined(*parts))


def _joined(asked: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A question with its other parts: of words codes there are too few here to say what is chance."""
    return asked | {name: value for name, value in more.items() if "text" not in asked or name != "max_false_match"}


def sent(served: Served, path: str, body: dict[str, Any], probe: dict[str, Any]) -> Any:
    changes = body.get("probe")
    if isinstance(changes, dict) and SAVED in changes:
        body = body | {"probe": probe | changes[SAVED]}
    text = json.dumps(body).replace("BUCKET", served.bucket)
    response = served.http.post(f"/v1/{path}", content=text, headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 404, 409, 413, 422, 501), (response.status_code, response.text, text)
    return response


@pytest.fixture(scope="module")
def probe(served: Served) -> dict[str, Any]:
    """A saved probe of this index."""
    crowd(served, regions=300)  # as many as a false-match rate needs
    region = served.name("a/two.png", region=0)
    found: dict[str, Any] = served.refine(image=region, right=[region])["probe"]["saved"]
    return found


def test_every_field_of_a_question_is_drawn() -> None:
    assert {name for model in ROUTES.values() for name in model.model_fields} == set(values())


@pytest.mark.parametrize("path", ROUTES)
def test_nearly_right_questions(served: Served, probe: dict[str, Any], path: str) -> None:
    read = 0

    @settings(_SETTINGS, max_examples=20)
    @given(body=nearly_right(path))
    def ask(body: dict[str, Any]) -> None:
        nonlocal read
        response = sent(served, path, body, probe)
        unread = response.status_code == 422 and response.json()["title"] == "The request is not of the documented form"
        read += not unread

    ask()
    assert read, "every question was refused unread"


@pytest.mark.parametrize("path", ROUTES)
def test_every_part_of_a_question_gets_through(served: Served, probe: dict[str, Any], path: str) -> None:
    through: set[str] = set()

    @settings(_SETTINGS, max_examples=60)
    @given(body=fitting(path))
    def ask(body: dict[str, Any]) -> None:
        if sent(served, path, body, probe).status_code == 200:
            through.update(body)

    ask()
    assert through == set(ROUTES[path].model_fields)
