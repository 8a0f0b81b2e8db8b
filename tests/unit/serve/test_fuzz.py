"""REST fuzzed from its own OpenAPI document: whatever comes, the answer is a documented one and never a 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from fakes.serving import ORIGIN, Served, crowd
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode

EXAMPLES = 6
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
        served = Served.make(tmp_path_factory.mktemp("fuzz"), monkeypatch)
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


def values() -> st.SearchStrategy[Any]:
    """JSON that is nearly right: the words of the API with values of all kinds."""
    numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 95.999, 1e-300, 2**31, 2**63])
    points = st.lists(st.lists(numbers, max_size=3), max_size=3)
    mask = st.fixed_dictionaries(
        {
            "size": st.lists(st.integers(-1, 5000), max_size=3) | st.just([8, 12]),
            "counts": st.text("0123456789:;<=>?@ABCPQRSTUVWXYZ[\\]^_`abcdefghijklmno", max_size=30)
            | st.text(max_size=5),
        }
    )
    prompt = st.fixed_dictionaries(
        {"kind": st.sampled_from(["points", "box", "text", "mask", "mixed", "image", "else"])},
        optional={
            "foreground": points,
            "background": points,
            "box_xyxy": st.lists(numbers, max_size=5),
            "text": st.text(),
            "mask": mask,
            "granularity": st.sampled_from(["part", "whole", "no", None]),
            "boxes_xyxy": points,
        },
    )
    condition = st.fixed_dictionaries(
        {"name": st.sampled_from(["year", "region", "", "a b"]) | st.text(max_size=3)},
        optional={
            "comparison": st.sampled_from(["==", "<", ">=", "in", "not in", "begins with", "between", "~"]),
            "value": numbers | st.text(max_size=3) | st.lists(numbers | st.text(max_size=3), max_size=3),
        },
    )
    restricted = st.fixed_dictionaries(
        {},
        optional={
            "key_prefix": st.text(),
            "bucket": st.text(),
            "area_px": st.lists(numbers | st.none(), min_size=2, max_size=2),
            "metadata": st.dictionaries(st.text(), numbers | st.text() | st.booleans(), max_size=2),
            "size_class": st.sampled_from(["small", "huge"]),
            "images": st.lists(st.just(NAMES), max_size=2),
            "where": st.lists(condition, max_size=2),
        },
    )
    mark = st.sampled_from([REGION, NAMES, {**NAMES, "region": -1}, {**NAMES, "region": 2**31}, {"key": "x"}])
    probe = st.sampled_from(["PROBE", None, {}, {"format": "searchanything-probe/1"}, [], "text"])
    image = st.just(NAMES) | st.fixed_dictionaries({**{k: st.just(v) for k, v in NAMES.items()}, "region": numbers})
    return st.fixed_dictionaries(
        {"image": image},
        optional={
            "prompt": prompt,
            "filter": restricted,
            "limit": numbers,
            "offset": numbers,
            "text": st.text(),
            "group_by_image": st.booleans(),
            "expect": st.just(NAMES),
            "candidates": numbers,
            "right": st.lists(mark, max_size=2),
            "wrong": st.lists(mark, max_size=2),
            "probe": probe,
            "like": st.lists(mark, max_size=2),
            "max_false_match": numbers,
            "rescore": numbers,
            "positions": st.lists(numbers, max_size=2),
        },
    )


OTHER = {"bucket": "BUCKET", "key": "b/green.png", "region": 0}  # has another code than REGION


def fitting() -> st.SearchStrategy[Any]:
    """Questions that can be answered, with some of the parts that `values` rarely gets through: one in the other."""
    where = st.sampled_from(
        [
            {"name": "year", "comparison": "!=", "value": 2020},
            {"name": "year", "comparison": "not in", "value": ["a", 1]},
        ]
    )
    filtered = st.fixed_dictionaries({"where": st.lists(where, min_size=1, max_size=2)})
    both = {"filter": filtered, "rescore": st.integers(0, 16_384), "group_by_image": st.booleans()}
    marks = st.lists(st.just(REGION), min_size=1, max_size=2)
    asked = st.just({"image": REGION}) | st.lists(st.just(REGION), min_size=1, max_size=3).map(
        lambda one: {"like": one}
    )
    plain = st.fixed_dictionaries({}, optional={**both, "max_false_match": st.floats(1e-6, 1)})
    marked = st.fixed_dictionaries(
        {"right": marks}, optional={**both, "wrong": st.just([OTHER]), "probe": st.just("PROBE")}
    )  # fmt: skip
    return st.tuples(asked, plain | marked).map(lambda parts: {**parts[0], **parts[1]})


PARTS = {"right", "wrong", "probe", "like", "where", "max_false_match", "rescore"}
ASKED = ("query", "query", "query", "explain", "compare", "segment", "refine", "sheet")


def sent(served: Served, path: str, body: dict[str, Any], probe: str) -> Any:
    text = json.dumps(body).replace("BUCKET", served.bucket).replace('"PROBE"', probe)
    response = served.http.post(f"/v1/{path}", content=text, headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 404, 413, 422, 501), (response.status_code, response.text, text)
    return response


@pytest.fixture(scope="module")
def probe(served: Served) -> str:
    """A saved probe of this index, as JSON."""
    crowd(served, regions=300)  # as many as a false-match rate needs
    region = served.name("a/two.png", region=0)
    return json.dumps(served.refine(image=region, right=[region])["probe"]["saved"])


@settings(_SETTINGS, max_examples=80)
@given(body=values(), path=st.sampled_from(ASKED))
def test_nearly_right_questions(served: Served, probe: str, body: dict[str, Any], path: str) -> None:
    sent(served, path, body, probe)


def test_every_part_of_a_question_gets_through(served: Served, probe: str) -> None:
    through: set[str] = set()

    @settings(_SETTINGS, max_examples=60)
    @given(body=fitting())
    def ask(body: dict[str, Any]) -> None:
        path = "refine" if "right" in body else "query"
        if sent(served, path, body, probe).status_code == 200:
            through.update(body, body.get("filter", {}))

    ask()
    assert through >= PARTS, PARTS - through
