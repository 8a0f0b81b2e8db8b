"""REST beyond one region: words alone, several regions, marks, and what an answer says of chance."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from fakes.models import drawn
from fakes.serving import IMAGES, Served, crowd, png_of

from searchanything.answers.hit_confidence import confidence_of
from searchanything.client.client import Client
from searchanything.core.types import ImageRef, RegionRef
from searchanything.search.probe import Probe
from searchanything.serve.wire import ExplainRequest


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served.make(tmp_path, monkeypatch)


@pytest.fixture
def worded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served.make(tmp_path, monkeypatch, words=True, keys=True)


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """An index of 240 regions, which is enough to say what is chance."""
    rng = np.random.default_rng(2)
    noise = (rng.integers(0, 60, (64, 96, 3)).astype(np.uint8) for _ in range(120))
    plain = drawn(64, 96, red=(4, 4, 40, 60), blue=(50, 8, 90, 40))
    images = {f"{number}.png": np.maximum(plain, one) for number, one in enumerate(noise)}
    return Served.make(tmp_path, monkeypatch, images=images)


def keys(answer: dict) -> list[str]:
    return [hit["key"] for hit in answer["hits"]]


def with_key(served: Served, *prefixes: str) -> Served:
    token, _ = served.desk.ring.add(str(prefixes), places=[(served.bucket, one) for one in prefixes])
    served.headers = {"Authorization": f"Bearer {token}"}
    return served


def test_an_index_without_words_says_how_to_add_them(served: Served) -> None:
    problem = served.post("/v1/query", {"text": "red"})
    assert (problem.status_code, problem.json()["type"]) == (501, "urn:searchanything:problem:WordsMissingError")
    assert "index SOURCE --add-words" in problem.json()["detail"]
    assert served.get("/v1/status").json()["offers"]["words"] is False
    served.client.index(served.folder, add_words=True)
    served.desk._status.clear()  # a few seconds later
    assert served.get("/v1/status").json()["offers"]["words"] is True
    assert set(keys(served.ask(text="red", limit=2))) == {"a/two.png", "a/red.png"}


def test_words_alone_search_everything(worded: Served) -> None:
    with_key(worded)
    worded.machine.segmenter.batch_sizes.clear()
    answer = worded.ask(text="blue", limit=2, filter={"key_prefix": "b/"}, rescore=5)
    assert worded.machine.segmenter.batch_sizes == []
    assert keys(answer)[0] == "b/blue.png"
    assert (answer["prompt"], answer["selection"]["kind"]) == ({"kind": "words", "text": "blue"}, "words")
    assert (answer["hits"][0]["confidence"], answer["hits"][0]["false_match"]) == (None, None)
    assert answer["hits"][0]["similarity"] > answer["hits"][1]["similarity"]
    assert [stage["name"] for stage in answer["stages"]] == ["search", "rescore"]
    assert answer["stages"][1]["candidates"] == 2
    assert answer["good_match"] is (answer["selection"]["text_match"]["confidence"] != "weak")
    assert (answer["bits"], answer["matching"]["sample"], answer["probe"]) == (256, 0, None)
    assert worded.client.replay(answer["receipt"]).same
    sheet = worded.post("/v1/sheet", {"text": "blue"})
    assert sheet.headers["content-type"] == "image/png"


def test_no_question_counts_what_the_index_holds(worded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """That may take a pass over all images."""
    with_key(worded)
    monkeypatch.setattr(Client, "status", pytest.fail)
    blue = worded.name("b/blue.png", region=0)
    for question in ({"text": "blue"}, {"like": [blue]}, {"like": [{**blue, "region": None}]}):
        assert worded.ask(**question)["bits"] == 256
    nothing = worded.ask(image=worded.name("b/blue.png"), prompt={"kind": "points", "foreground": [[80, 60]]})
    assert (nothing["bits"], nothing["hits"]) == (256, [])


def test_a_key_finds_by_words_what_it_sees_alone(worded: Served) -> None:
    with_key(worded, "b/")
    assert worded.get("/v1/status").json()["index"]["words"]["regions"] == 2
    assert {key[0] for key in keys(worded.ask(text="red"))} == {"b"}
    assert worded.ask(text="red", filter={"key_prefix": "a/"})["hits"] == []


def test_words_are_refined_by_right_hits(worded: Served) -> None:
    with_key(worded)
    first = worded.ask(text="blue")["hits"][0]
    mark = {name: first[name] for name in ("bucket", "key", "region")}
    refined = worded.refine(text="blue", right=[mark])
    assert set(keys(refined)[:2]) == {"a/two.png", "b/blue.png"}
    assert refined["hits"][0]["confidence"]["word"] == "very strong"
    nothing = worded.post("/v1/refine", {"text": "blue", "wrong": [mark]})
    assert (nothing.status_code, "as right" in nothing.json()["detail"]) == (422, True)


def test_several_regions_are_one_question(served: Served) -> None:
    blue = [served.name("a/two.png", region=served.region("a/two.png", 60)), served.name("b/blue.png", region=0)]
    answer = served.ask(like=blue, limit=2)
    assert served.machine.loads == []
    assert set(keys(answer)) == {"a/two.png", "b/blue.png"}
    assert answer["prompt"] == {"kind": "regions"}
    assert [stage["name"] for stage in answer["stages"]] == ["search", "rescore"]
    replayed = served.client.replay(json.loads(json.dumps(answer["receipt"])))
    assert replayed.same, replayed.differences
    assert served.ask(like=blue[:1])["prompt"] == {"kind": "region"}
    whole = served.ask(like=[served.name("a/two.png"), served.name("a/red.png")])
    assert {hit["region"] for hit in whole["hits"]} == {None}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"text": "blue"}, "by themselves"),
        ({"image": {"upload": "x"}}, "by themselves"),
        ({"prompt": {"kind": "image"}}, "by themselves"),
    ],
)
def test_one_question_at_a_time(served: Served, more: dict, said: str) -> None:
    response = served.post("/v1/query", {"like": [served.name("a/two.png", region=0)], **more})
    assert (response.status_code, said in response.json()["detail"]) == (422, True), response.text
    mixed = served.post("/v1/query", {"like": [served.name("a/two.png", region=0), served.name("a/red.png")]})
    assert (mixed.status_code, "compared apart" in mixed.json()["detail"]) == (422, True)


def test_marks_refine_an_answer_and_are_given_again(served: Served) -> None:
    crowd(served, regions=400)
    question = {"image": served.name("a/two.png", region=0), "limit": 8}
    marks = [served.name("b/green.png", region=number) for number in range(1, 5)]
    refined = served.refine(**question, right=marks[:2], wrong=marks[2:])
    assert {name: refined["probe"][name] for name in ("right", "wrong")} == {"right": 3, "wrong": 2}
    assert 0 <= refined["probe"]["precision"] <= 1
    assert refined["receipt"] is None
    assert refined["matching"]["sample"] == 405
    local = served.client.query(RegionRef(ImageRef(served.bucket, "a/two.png"), 0), limit=8)
    refs = [RegionRef(ImageRef(one["bucket"], one["key"]), one["region"]) for one in marks]
    by_hand = local.refine(right=refs[:2], wrong=refs[2:])
    assert [(hit["key"], hit["region"]) for hit in refined["hits"]] == [(h.image.key, h.region) for h in by_hand]
    saved = json.loads(json.dumps(refined["probe"]["saved"]))
    assert (Probe.from_dict(saved).right == by_hand.probe.right).all()
    again = served.refine(image=served.name("b/green.png", region=5), limit=8, probe=saved)
    assert again["probe"]["right"] == 4
    for odd in ({"right": [marks[0]] * 101}, {"wrong": marks[1:2], "right": marks[1:2]}):
        assert served.post("/v1/refine", {**question, **odd}).status_code == 422
    for wrong in ({"format": "x"}, {**saved, "bits": 8}):
        assert served.post("/v1/refine", {**question, "probe": wrong}).status_code == 422


def test_a_probe_of_another_index_is_the_askers_mistake(many: Served) -> None:
    question = {"image": many.name("0.png", region=0)}
    saved = many.refine(**question, right=[many.name("1.png", region=0)])["probe"]["saved"]
    mine = many.client.manifest
    short = [base64.b64encode(base64.b64decode(one)[:16]).decode() for one in saved["right"]]
    wrong = {
        f"fingerprint f, expected {mine.fingerprint}": {**saved, "fingerprint": "f"},
        f"fingerprint {mine.fingerprint[:20]}, expected {mine.fingerprint}": {
            **saved,
            "fingerprint": mine.fingerprint[:20],
        },
        "codes of 128 bits, expected 256": {**saved, "bits": 128, "right": short, "wrong": []},
    }
    for said, probe in wrong.items():
        refused = many.post("/v1/refine", {**question, "probe": probe})
        assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (409, "ProbeMismatchError")
        assert said in refused.json()["detail"]
        assert "retry-after" not in refused.headers


def test_a_mark_without_a_region_is_called_so(many: Served) -> None:
    question = {"image": many.name("0.png", region=0)}
    for marks in ({"right": [many.name("1.png")]}, {"wrong": [many.name("1.png", region=0), many.name("2.png")]}):
        refused = many.post("/v1/refine", question | marks)
        assert (refused.status_code, "expected a region" in refused.json()["detail"]) == (422, True)


def test_a_hit_says_how_rare_it_is(many: Served) -> None:
    answer = many.ask(image=many.name("0.png", region=0), limit=200)
    rates = [hit["false_match"] for hit in answer["hits"]]
    assert rates == sorted(rates)
    assert all(hit["confidence"]["calibrated"] for hit in answer["hits"])
    assert answer["matching"]["sample"] == 240
    most = rates[0] / 2
    none = many.ask(image=many.name("0.png", region=0), max_false_match=most)
    assert (none["hits"], none["good_match"]) == ([], False)
    assert none["matching"]["verdict"].startswith("no good match")


@pytest.mark.parametrize(
    ("share", "word"),
    [(0.0, "very strong"), (1e-3, "very strong"), (5e-3, "strong"), (0.1, "fair"), (0.5, "weak"), (0.8, "none")],
)
def test_words_go_by_the_share_of_chance_where_it_is_known(share: float, word: str) -> None:
    assert confidence_of(40, 256, share).word == word
    assert confidence_of(40, 256).word == "strong"
    assert confidence_of(4, 256, 1.0).word == "strong", "nearly the same code is strong in any crowd"


def test_the_nearest_of_many_unrelated_ones_is_no_good_match(served: Served) -> None:
    crowd(served, regions=400)
    blue = served.region("a/two.png", 60)
    found = served.ask(image=served.name("a/two.png", region=blue), limit=50)
    assert [hit["key"] for hit in found["hits"][:2]] == ["a/two.png", "b/blue.png"]
    assert found["good_match"] is True
    assert {hit["confidence"]["word"] for hit in found["hits"][10:]} <= {"weak", "none"}
    among = {"filter": {"images": [served.name("b/green.png")]}, "limit": 50}
    nothing = served.ask(image=served.name("a/two.png", region=blue), **among)
    assert nothing["hits"][0]["false_match"] < 0.05, "by its rate alone the nearest of 400 looks rare"
    assert nothing["good_match"] is False
    second = served.ask(image=served.name("a/two.png", region=blue), limit=20, offset=2)
    assert second["good_match"] is False


def test_typed_conditions_on_metadata(served: Served) -> None:
    question = {"image": served.name("a/two.png", region=0)}
    for value, found in ((["x", "y"], 5), ([1, 2.5], 5)):
        condition = {"name": "album", "comparison": "not in", "value": value}
        assert len(served.ask(**question, filter={"where": [condition]})["hits"]) == found
    above = {"name": "year", "comparison": ">=", "value": 2020}
    nothing = served.ask(**question, filter={"where": [above]})
    assert nothing["hits"] == []
    assert nothing["hint"].startswith("nothing found where year >= 2020: of 5 regions looked at none has metadata")
    assert served.ask(**question)["hint"] == ""
    assert "try bucket is" in served.ask(**question, filter={"key_prefix": "s3://b/a/"})["hint"]
    wrong = {"name": "year", "comparison": "in", "value": 2020}
    assert served.post("/v1/query", {**question, "filter": {"where": [wrong]}}).status_code == 422


def test_whatever_is_answered_is_explained(worded: Served) -> None:
    with_key(worded)
    expect = {"expect": worded.name("a/red.png")}
    several = {"like": [worded.name("a/two.png", region=0), worded.name("a/red.png", region=0)]}
    marked = {"text": "red", "right": [worded.name("a/red.png", region=0)]}
    for question, step in (({"text": "red"}, "words"), (several, "region"), (marked, "near")):
        response = worded.post("/v1/explain", question | expect)
        assert response.status_code == 200, response.text
        why = response.json()
        assert (why["verdict"], step in [one["name"] for one in why["steps"]]) == ("hit", True)
        assert why["region"]["box_xyxy"] == [8.0, 4.0, 44.0, 60.0]
        assert why["expected"]["key"] == "a/red.png"


def test_marks_are_explained_to_who_may_refine(worded: Served) -> None:
    token, _ = worded.desk.ring.add("reader", rights=["read"])
    worded.headers = {"Authorization": f"Bearer {token}"}
    marked = {"text": "red", "right": [worded.name("a/red.png", region=0)], "expect": worded.name("a/red.png")}
    assert worded.post("/v1/explain", marked).status_code == 403
    assert worded.post("/v1/explain", {"text": "red", "expect": worded.name("a/red.png")}).status_code == 200


def test_what_a_light_client_asks_is_why_not(served: Served) -> None:
    """Whatever became of an image is said, whether it can be searched or not."""
    (served.folder / "bad.png").write_bytes(b"\x89PNG no image")
    (served.folder / "grey.png").write_bytes(png_of(np.full((20, 30, 3), 120, dtype=np.uint8)))
    served.client.index(served.folder)
    question = {"image": served.name("a/two.png", region=0)}
    verdicts = {"bad.png": "failed", "grey.png": "empty", "never.png": "not_indexed", "a/red.png": "hit"}
    for key, verdict in verdicts.items():
        why = served.post("/v1/explain", question | {"expect": served.name(key)})
        assert (why.status_code, why.json()["verdict"]) == (200, verdict)


R, S = ({"bucket": "b", "key": "k", "region": number} for number in (0, 1))
WHOLE = {"bucket": "b", "key": "k"}


@pytest.mark.parametrize(
    ("question", "needs_models"),
    [
        ({"image": R}, True),  # its pixels are encoded again
        ({"image": WHOLE}, True),
        ({"image": WHOLE, "prompt": {"kind": "image"}}, True),
        ({"image": WHOLE, "prompt": {"kind": "box", "box_xyxy": [0, 0, 1, 1]}}, True),
        ({"image": {"upload": "x"}}, True),
        ({"text": "blue"}, True),
        ({"text": "blue", "right": [R]}, True),
        ({"like": [R]}, True),
        ({"like": [R, R]}, True),  # each counts once
        ({"like": [R, {**R, "region": 0}, R]}, True),
        ({"like": [WHOLE, {**WHOLE, "region": None}]}, True),
        ({"like": [R, S]}, False),
        ({"like": [R, S, R]}, False),
        ({"image": R, "right": [S]}, False),
        ({"image": R, "wrong": [S]}, False),
        ({"image": R, "probe": {}}, False),
        ({"like": [R, R], "right": [S]}, False),
        ({"image": {"upload": "x"}, "right": [S]}, True),
    ],
)
def test_an_explanation_that_needs_models_waits_for_them(served: Served, question: dict, needs_models: bool) -> None:
    asked = ExplainRequest(**question, expect=WHOLE)
    assert served.desk.gate_to_explain(asked) is (served.desk.models if needs_models else served.desk.index)


@pytest.mark.parametrize(
    ("question", "needs_models"),
    [
        ({"like": ["a/two.png", "a/two.png"]}, True),
        ({"like": ["a/two.png", "a/red.png"]}, False),
        ({"like": ["a/two.png"], "right": ["a/red.png"]}, False),
    ],
)
def test_only_what_the_gate_of_models_lets_pass_uses_them(
    served: Served, question: dict[str, list[str]], needs_models: bool
) -> None:
    document = {name: [served.name(key, region=0) for key in keys] for name, keys in question.items()}
    why = served.post("/v1/explain", document | {"expect": served.name("a/red.png")})
    assert why.status_code == 200, why.text
    assert bool(served.machine.segmenter.batch_sizes) is needs_models
    assert served.desk.models_loaded is needs_models
    assert served.get("/readyz").json()["models_loaded"] is needs_models


def test_compared_means_loaded(served: Served) -> None:
    point = {"kind": "points", "foreground": [[60, 20]]}
    assert served.post("/v1/compare", {"image": served.name("a/two.png"), "prompt": point}).status_code == 200
    assert served.desk.models_loaded is True


def test_a_refined_page_has_an_end(served: Served) -> None:
    marked = {"image": served.name("a/two.png", region=0), "right": [served.name("a/red.png", region=0)]}
    expect = {"expect": served.name("a/red.png")}
    for offset, status in ((1976, 200), (1977, 422), (8000, 422)):
        for path, more in (("refine", {}), ("sheet", {}), ("explain", expect)):
            response = served.post(f"/v1/{path}", marked | more | {"offset": offset, "limit": 24})
            assert response.status_code == status, response.text
            assert status == 200 or "2,000" in response.json()["detail"]


@pytest.mark.parametrize("path", ["segment", "segment/sheet", "compare", "sheet", "query"])
def test_a_region_is_not_ignored_where_the_image_is_wanted(served: Served, path: str) -> None:
    point = {} if path.startswith("segment") else {"prompt": {"kind": "points", "foreground": [[60, 20]]}}
    refused = served.post(f"/v1/{path}", {"image": served.name("a/two.png", region=0), **point})
    assert (refused.status_code, "without region" in refused.json()["detail"]) == (422, True), refused.text
    assert served.post(f"/v1/{path}", {"image": served.name("a/two.png"), **point}).status_code == 200


@pytest.mark.parametrize("part", [{"limit": 3}, {"offset": 1}, {"group_by_image": True}, {"rescore": 3}, {"like": []}])
def test_compare_refuses_what_it_does_not_do(served: Served, part: dict) -> None:
    point = {"kind": "points", "foreground": [[60, 20]]}
    refused = served.post("/v1/compare", {"image": served.name("a/two.png"), "prompt": point, **part})
    assert (refused.status_code, next(iter(part)) in refused.json()["detail"]) == (422, True)


@pytest.mark.parametrize("path", ["sheet", "segment/sheet"])
def test_each_position_is_drawn_once(served: Served, path: str) -> None:
    image = served.name("a/two.png")
    for positions, status in (([0], 200), ([1, 0], 200), ([0, 0], 422), ([0] * 10_000, 422), ([0] * 10_001, 422)):
        assert served.post(f"/v1/{path}", {"image": image, "positions": positions}).status_code == status
    schema = served.get("/openapi.json").json()["components"]["schemas"]["SegmentSheetRequest"]["properties"]
    assert schema["positions"]["anyOf"][0]["uniqueItems"] is True


HALF = "\ud800"  # of a surrogate pair: JSON has it, UTF-8 has not


def test_half_a_character_is_quoted_by_its_escape(served: Served) -> None:
    question = {"image": served.name("a/two.png", region=0), "right": [served.name("a/red.png", region=0)]}
    saved = served.refine(**question)["probe"]["saved"]
    words = {"layer": HALF, "bits": 256, "right": saved["right"], "wrong": []}
    odd = [
        ({"probe": {**saved, "fingerprint": HALF}}, 409),
        ({"probe": {**saved, "words": words}}, 422),
        ({"probe": {**saved, "format": HALF}}, 422),
        ({"probe": {**saved, "bits": HALF}}, 422),
        ({"probe": {**saved, "right": [HALF]}}, 422),
        ({"probe": {**saved, HALF: 1}}, None),
        ({HALF: 1}, 422),
        ({"filter": {HALF: 1}}, 422),
        ({"filter": {"metadata": {HALF: "x"}}}, 422),
        ({"filter": {"key_prefix": HALF}}, 422),
        ({"image": {"bucket": HALF, "key": "x"}}, 422),
    ]
    for path, more in (("refine", {}), ("explain", {"expect": served.name("a/red.png")}), ("sheet", {})):
        for part, status in odd:
            body = json.dumps(question | more | part)
            response = served.post(f"/v1/{path}", content=body, headers={"Content-Type": "application/json"})
            assert response.status_code in ((200, 422) if status is None else (status,)), (part, response.text)
            assert status is None or response.json()["status"] == status


def test_an_id_of_half_a_character_names_no_image(served: Served) -> None:
    for identity in ("YgDtoIA", "7aCAAGI", base64.urlsafe_b64encode(b"b\0\xff").decode().rstrip("=")):
        for path in ("", "/regions", "/thumbnail"):
            response = served.get(f"/v1/images/{identity}{path}")
            assert (response.status_code, "is no image's id" in response.json()["detail"]) == (404, True)
        assert served.get("/v1/images", params={"after": identity}).status_code == 422


def test_images_are_there() -> None:
    assert len(IMAGES) == 4
