"""Explanations from the index alone on constructed codes: each verdict, with figures that are known by construction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from contracts.index_rows import image_row, manifest_of, region_row
from fakes.interrupted_index import InterruptedIndex

from searchanything.answers.combined import CombinedResults
from searchanything.answers.explanation import Explanation, Verdict
from searchanything.core.geometry import encode_rle
from searchanything.core.rows import Outcome
from searchanything.core.types import Filter, ImageRef, RGBImage, Selection
from searchanything.explain.by_index import IndexQuestion, Subject, explain_by_index
from searchanything.explain.parts import PartsQuestion, explain_parts
from searchanything.explain.rank import Ranking
from searchanything.explain.steps import Expected
from searchanything.explain.words_and_marks import MarksRanking
from searchanything.search.combination import Combination, Part
from searchanything.search.probe import Probe
from searchanything.search.rescoring import mean_of
from searchanything.search.search import PageRequest
from searchanything.stores.memory import MemoryRegionIndex

BASE = np.random.default_rng(1).integers(0, 256, 32, dtype=np.uint8)
RATES = np.linspace(1e-6, 1.0, 257)
SELECTION = Selection("words", (0, 0, 0, 0), 0, encode_rle(np.zeros((1, 1), dtype=np.bool_)), 0.0, "words", "why")


def at(bits: int, *, first: int = 0) -> np.ndarray:
    """A code so many bits from `BASE`."""
    unpacked = np.unpackbits(BASE)
    unpacked[first : first + bits] ^= 1
    return np.packbits(unpacked)


def index_of(images: dict[str, Sequence[np.ndarray]]) -> MemoryRegionIndex:
    index = MemoryRegionIndex(manifest_of("f" * 64))
    for key, codes in images.items():
        image = ImageRef("b", key)
        rows = [region_row(image, number, generation=1, code=code.tobytes()) for number, code in enumerate(codes)]
        index.insert_regions(rows)
        index.insert_images([image_row(image, generation=1, regions=len(codes))])
    return index


def no_image(_: ImageRef) -> RGBImage:
    raise AssertionError("no pixels are needed")


def subject(*shown: str) -> Subject:
    images = frozenset(ImageRef("b", key) for key in shown)
    return Subject({"kind": "regions"}, SELECTION, "f", np.zeros((4, 4, 3), np.uint8), no_image, images)


def figures(why: Explanation, step: str) -> dict:
    return dict(next(one.figures for one in why.steps if one.name == step))


def marked(index: MemoryRegionIndex, request: PageRequest, filter: Filter | None = None, *, depth: int = 400):
    index.max_limit = depth
    probe = Probe(BASE[None], at(100)[None], "f")
    return IndexQuestion(MarksRanking(index, probe, request), request, filter, "the marks")


def why_marks(index: MemoryRegionIndex, key: str, request: PageRequest, filter: Filter | None = None, **options: int):
    return explain_by_index(subject(), marked(index, request, filter, **options), Expected(ImageRef("b", key)))


SCENES = {"near": [at(4), at(90)], "middle": [at(20)], "far": [at(60), at(120)], "last": [at(200)]}


def test_marks_say_score_rank_and_depth() -> None:
    index = index_of(SCENES)
    why = why_marks(index, "far", PageRequest(limit=2))
    assert (why.verdict, [step.name for step in why.steps]) == (
        "paging",
        ["indexed", "region", "near", "codes", "page"],
    )
    right, wrong = np.unpackbits(BASE) * 2.0 - 1, np.unpackbits(at(100)) * 2.0 - 1
    weights = right - 0.4 * wrong
    scores = {n: float(weights @ (np.unpackbits(code) * 2.0 - 1) / 256) for n, code in enumerate(SCENES["far"])}
    best = figures(why, "region")["each"]
    assert {one["region"]: one["score"] for one in best} == pytest.approx(scores, abs=1e-5)
    assert best[0]["region"] == max(scores, key=lambda n: scores[n])
    assert figures(why, "near")["depth"] == 400
    everything = sorted(
        (-float(weights @ (np.unpackbits(code) * 2.0 - 1)), key) for key, codes in SCENES.items() for code in codes
    )
    place = 1 + next(n for n, (_, key) in enumerate(everything) if key == "far")
    assert figures(why, "page")["rank"] == place
    assert figures(why, "page")["last_shown"]["key"] == everything[1][1]


def test_what_lies_near_no_mark_was_not_ranked() -> None:
    index = index_of(SCENES)
    why = why_marks(index, "last", PageRequest(limit=1), depth=2)
    assert (why.verdict, figures(why, "near")["depth"]) == (Verdict.BEYOND, 2)
    assert figures(why, "near")["bits_to_nearest"] <= 200
    assert "beyond the 2 regions nearest to each of the 2 codes" in why.sentence
    assert why_marks(index, "near", PageRequest(limit=1), depth=2).verdict == Verdict.HIT


def test_the_bound_and_the_filter_of_marks() -> None:
    index = index_of(SCENES)
    bounded = why_marks(index, "far", PageRequest(limit=9, most_bits=10))
    assert (bounded.verdict, figures(bounded, "chance")["most_bits"]) == (Verdict.CHANCE, 10)
    excluded = why_marks(index, "far", PageRequest(limit=9), Filter(key_prefix="n"))
    assert (excluded.verdict, figures(excluded, "filter")["excluded_by"]) == (Verdict.FILTER, ["key_prefix"])
    grouped = PageRequest(limit=9, group_by_image=True)
    assert figures(why_marks(index, "far", grouped), "page")["rank"] == 3


def several(index: MemoryRegionIndex, request: PageRequest) -> IndexQuestion:
    codes = np.stack([at(0), at(8), at(8, first=8)])
    ranking = Ranking.of(index, mean_of(codes), request, whole_images=False)
    return IndexQuestion(ranking, request, None, "what the 3 regions have in common", codes)


def test_several_regions_say_how_far_each_is() -> None:
    index = index_of(SCENES)
    question = several(index, PageRequest(limit=1, rescore=10))
    why = explain_by_index(subject(), question, Expected(ImageRef("b", "middle")))
    assert (why.verdict, figures(why, "page")["rank"]) == (Verdict.PAGING, 2)
    assert figures(why, "region")["bits_to_each"] == [20, 12, 12]
    assert figures(why, "codes")["distance_bits"] == 20, "the majority of the three is BASE"
    assert "the first 10 rescored" in next(step.sentence for step in why.steps if step.name == "codes")


def test_what_lies_beyond_the_index_s_limit() -> None:
    index = index_of(SCENES)
    index.max_limit = 2
    why = explain_by_index(subject(), several(index, PageRequest(limit=1)), Expected(ImageRef("b", "last")))
    assert (why.verdict, figures(why, "codes")["rank"], figures(why, "codes")["looked_at"]) == (Verdict.BEYOND, None, 2)


def test_another_region_shows_the_image() -> None:
    index = index_of(SCENES)
    question = several(index, PageRequest(limit=9, group_by_image=True))
    row = next(row for row in index.regions_of([ImageRef("b", "near")]) if row.region == 1)
    why = explain_by_index(subject(), question, Expected(ImageRef("b", "near"), row.box_xyxy))
    assert (why.verdict, figures(why, "grouping")["shown_region"]) == (Verdict.GROUPING, 0)


def test_what_is_not_there() -> None:
    index = index_of(SCENES)
    failed, empty = ImageRef("b", "failed"), ImageRef("b", "empty")
    index.insert_images([image_row(failed, generation=1, outcome=Outcome.FAILED)])
    index.insert_images([image_row(empty, generation=1, outcome=Outcome.EMPTY, regions=0)])
    question = several(index, PageRequest(limit=1))
    for key, shown, verdict in (
        ("failed", (), Verdict.FAILED),
        ("empty", (), Verdict.EMPTY),
        ("never", (), Verdict.NOT_INDEXED),
        ("gone", ("gone",), Verdict.NOT_INDEXED),
    ):
        why = explain_by_index(subject(*shown), question, Expected(ImageRef("b", key)))
        assert (why.verdict, "has been deleted since" in why.sentence) == (verdict, bool(shown))


def combined(index: MemoryRegionIndex, *, limit: int = 9, filter: Filter | None = None, **asked):
    question = PartsQuestion(index, Combination(**asked), limit, filter, no_image)
    return question, CombinedResults(question.page(limit), ("all 1", "all 2"), "f", no_image)


def part(name: str, code: np.ndarray) -> Part:
    return Part(name, code, RATES)


TWO = {"all_of": (part("all 1", BASE), part("all 2", at(200)))}
THINGS = {
    "both": [at(2), at(200)],
    "one": [at(3), at(60, first=100)],
    "single": [at(1)],
    "unwanted": [at(1), at(199), at(128, first=128)],
}


def test_each_part_says_its_region_and_cost() -> None:
    index = index_of(THINGS)
    question, results = combined(index, limit=1, **TWO)
    why = explain_parts(question, results, ImageRef("b", "one"))
    assert why.verdict == Verdict.PAGING
    first = figures(why, "all 1")
    assert (first["nearest"]["region"], first["stands"]["distance_bits"]) == (0, 3)
    total = figures(why, "all 1")["cost"] + figures(why, "all 2")["cost"]
    assert figures(why, "page")["score"] == pytest.approx(-total, abs=1e-3)
    assert figures(why, "page")["last_shown"]["score"] == pytest.approx(results[0].score, abs=1e-3)
    single = explain_parts(question, results, ImageRef("b", "single"))
    assert [figures(single, name)["stands"] is None for name in ("all 1", "all 2")] == [False, True]


def test_a_part_that_must_not_be_there() -> None:
    index = index_of(THINGS)
    question, results = combined(index, none_of=(part("none 1", at(128, first=128)),), **TWO)
    why = explain_parts(question, results, ImageRef("b", "unwanted"))
    assert (why.verdict, why.steps[-1].name) == (Verdict.UNWANTED, "none 1")
    assert figures(why, "none 1")["nearest"] == {"region": 2, "distance_bits": 0, "false_match": 1e-6}
    assert explain_parts(question, results, ImageRef("b", "both")).verdict == Verdict.HIT


def test_a_part_that_is_not_near_enough() -> None:
    index = index_of(THINGS)
    question, results = combined(index, max_false_match=0.05, **TWO)
    why = explain_parts(question, results, ImageRef("b", "one"))
    assert (why.verdict, why.steps[-1].name) == (Verdict.CHANCE, "all 2")
    single = explain_parts(question, results, ImageRef("b", "single"))
    assert (single.verdict, single.steps[-1].name) == (Verdict.CHANCE, "all 2")


def test_an_image_that_no_part_brings() -> None:
    index = index_of(THINGS | {"beyond": [at(100)]})
    index.max_limit = 1
    question, results = combined(index, **TWO)
    why = explain_parts(question, results, ImageRef("b", "beyond"))
    assert (why.verdict, figures(why, "near")) == (Verdict.BEYOND, {"depth": 1, "brought_by": []})
    excluded = combined(index, filter=Filter(key_prefix="b"), **TWO)
    assert explain_parts(*excluded, ImageRef("b", "one")).verdict == Verdict.FILTER


def again(index: MemoryRegionIndex, key: str) -> None:
    """Commit an image once more, its regions in another order: each number names another one."""
    image, codes = ImageRef("b", key), SCENES[key][::-1]
    rows = [region_row(image, number, generation=2, code=code.tobytes()) for number, code in enumerate(codes)]
    index.insert_regions(rows)
    index.insert_images([image_row(image, generation=2, regions=len(codes))])
    index.delete_before({image: 2})


def outcome(why: Explanation) -> tuple[object, ...]:
    """The verdict, and which region ranks where: of one state of the index, or the numbers of two would be mixed."""
    ranked = next((one.figures for one in why.steps if one.name == "codes"), {})
    return str(why.verdict), ranked.get("rank"), ranked.get("region"), ranked.get("distance_bits")


@pytest.mark.parametrize("kind", ["several", "several grouped", "marks", "marks filtered", "marks cut"])
@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("region", [None, 0, 1])
def test_an_image_that_is_replaced_meanwhile_is_never_explained_by_what_is_gone(
    kind: str, deleted: bool, region: int | None
) -> None:
    image = ImageRef("b", "near")
    box = None if region is None else region_row(image, region, generation=1).box_xyxy
    most = 5 if kind == "marks cut" else None
    request = PageRequest(limit=2, group_by_image=kind.endswith("grouped"), most_bits=most)
    wanted = Filter(key_prefix="n") if kind == "marks filtered" else None

    def why(index: MemoryRegionIndex | InterruptedIndex) -> Explanation:
        question = marked(index, request, wanted) if kind.startswith("marks") else several(index, request)
        return explain_by_index(subject(), question, Expected(image, box))

    before, after = index_of(SCENES), index_of(SCENES)
    again(after, "near")
    counted = InterruptedIndex(before)
    known = {outcome(why(counted)), outcome(why(after))}
    seen = set()
    for number in range(counted.calls):
        index = index_of(SCENES)
        then = partial(index.delete_images, [image]) if deleted else partial(again, index, "near")
        found = why(InterruptedIndex(index, then, at=number))
        seen.add(found.verdict)
        allowed = {Verdict.CHANGED, Verdict.NOT_INDEXED} if deleted else {Verdict.CHANGED}
        assert outcome(found) in known or found.verdict in allowed, (number, found.to_text())
    assert Verdict.CHANGED in seen
