"""REST beyond one region: words alone, several regions, marks, and what an answer says of chance."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from fakes.models import drawn
from fakes.serving import IMAGES, Served, crowd

from searchanything.answers.confidence import confidence_of
from searchanything.core.types import ImageRef, RegionRef
from searchanything.search.probe import Probe


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
    assert response.status_code in (404, 422)
    assert response.status_code == 404 or said in response.json()["detail"]
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
    assert served.ask(**question, filter={"where": [above]})["hits"] == []
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


def test_images_are_there() -> None:
    assert len(IMAGES) == 4
