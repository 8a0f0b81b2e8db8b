"""The rank that an explanation states is the hit's own number, whatever was asked; and what follows no rank says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fakes.models import drawn
from fakes.serving import Served, crowd, listening
from hypothesis import example, given, settings
from hypothesis import strategies as st

from searchanything.answers.explanation import Verdict
from searchanything.answers.results import SearchResults
from searchanything.client.remote import RemoteClient
from searchanything.core.errors import UsageError
from searchanything.core.types import ImageRef, RegionRef
from searchanything.prompts.prompt import Box


def images() -> dict[str, Any]:
    """Eight with two things each, no two alike, and one that takes a crowd."""
    rng = np.random.default_rng(6)
    found = {"b/green.png": drawn(64, 96, green=(8, 8, 40, 40))}
    for number in range(8):
        pixels = drawn(64, 96, red=(4, 4, 40, 60 - 3 * number), blue=(50 - number, 8, 90, 40))
        noise = rng.integers(0, 60 + 10 * number, pixels.shape).astype(np.uint8)
        found[f"a/{number}.png"] = np.maximum(pixels, noise)
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        served = Served.make(tmp_path_factory.mktemp("ranks"), monkeypatch, images=images(), words=True)
        crowd(served, regions=400)
        yield served


QUESTIONS: dict[str, Any] = {"point": (60, 20), "box": Box(4, 4, 40, 60), "whole image": None}


def asked_of(served: Served, kind: str) -> tuple[Any, ...]:
    image = ImageRef(served.bucket, "a/3.png")
    if kind.startswith("stored"):
        return (RegionRef(image, None if kind == "stored image" else int(kind[-1])),)
    return image, QUESTIONS[kind]


KINDS = [*QUESTIONS, "stored 0", "stored 1", "stored image", "several 01", "several images", "words"]
CUT = st.one_of(st.none(), st.integers(0, 20))


def asked(served: Served, kind: str, **options: Any) -> SearchResults:
    """The answer to a question of a kind."""
    image = ImageRef(served.bucket, "a/3.png")
    if kind == "words":
        return served.client.query(text="red", **options)
    if kind == "several images":
        return served.client.query([RegionRef(ImageRef(served.bucket, f"a/{n}.png")) for n in (3, 5)], **options)
    if kind == "several 01":
        return served.client.query([RegionRef(image, 0), RegionRef(ImageRef(served.bucket, "a/5.png"), 1)], **options)
    return served.client.query(*asked_of(served, kind), **options)


def rates(served: Served, kind: str, marks: tuple[int, int] | None) -> list[float]:
    """The rates of what an answer without a cut shows."""
    found = refined(asked(served, kind, limit=40), marks)
    return sorted(hit.false_match or 0 for hit in found)


def refined(found: SearchResults, marks: tuple[int, int] | None) -> SearchResults:
    """With one hit marked right, and another one wrong if they can be told apart."""
    if marks is None:
        return found
    right, wrong = (found[place % len(found)] for place in marks)
    try:
        return found.refine(right=[right], wrong=[wrong])
    except UsageError:
        return found.refine(right=[right])


@given(
    kind=st.sampled_from(KINDS),
    marks=st.one_of(st.none(), st.tuples(st.integers(0, 9), st.integers(10, 30))),
    limit=st.integers(1, 12),
    offset=st.sampled_from([0, 0, 1, 3, 8]),
    grouped=st.booleans(),
    rescore=st.sampled_from([0, 5, None]),
    cut=CUT,
)
@example(kind="point", marks=None, limit=12, offset=0, grouped=False, rescore=None, cut=3)  # a farther one before it
@example(kind="words", marks=(0, 12), limit=12, offset=1, grouped=True, rescore=0, cut=None)
@example(kind="several 01", marks=None, limit=12, offset=0, grouped=False, rescore=None, cut=3)
@example(kind="point", marks=(2, 20), limit=12, offset=0, grouped=False, rescore=None, cut=12)
@settings(max_examples=25, deadline=None)
def test_the_rank_is_the_hit_s_number(
    served: Served,
    kind: str,
    marks: tuple[int, int] | None,
    limit: int,
    offset: int,
    grouped: bool,
    rescore: int | None,
    cut: int | None,
) -> None:
    marks = None if "image" in kind else marks
    options: dict[str, Any] = {"limit": limit, "offset": offset, "group_by_image": grouped, "rescore": rescore}
    if cut is not None and "image" not in kind:
        options["max_false_match"] = rates(served, kind, None)[cut]
    found = asked(served, kind, **options)
    if len(found) == 0:
        return
    found = refined(found, marks)
    seen: set[ImageRef] = set()
    for number, hit in enumerate(found, start=offset + 1):
        if hit.image.key == "b/green.png" and hit.region:  # of the crowd: no pixels belong to it, and all have one box
            seen.add(hit.image)
            continue
        why = found.explain(hit.image, None if hit.region is None else hit.box_xyxy)
        assert why.verdict is Verdict.HIT, why.to_text()
        assert why.steps[-1].figures["rank"] == number, why.to_text()
        if hit.image not in seen and offset == 0 and (marks or kind.startswith(("several", "words"))):
            first = found.explain(hit.image)
            assert first.steps[-1].figures["rank"] == number, first.to_text()
        seen.add(hit.image)


@given(
    parts=st.lists(st.sampled_from(["0 red", "1 blue", "4 red", "6 blue"]), min_size=1, max_size=3, unique=True),
    any_of=st.integers(0, 2),
    limit=st.integers(1, 9),
    most=st.sampled_from([None, 0.5, 0.05]),
    unwanted=st.sampled_from([None, 0.001, 0.02]),
)
@settings(max_examples=12, deadline=None)
def test_the_rank_among_images_of_several_things_is_the_hit_s_number(
    served: Served, parts: list[str], any_of: int, limit: int, most: float | None, unwanted: float | None
) -> None:
    regions = [RegionRef(ImageRef(served.bucket, f"a/{part[0]}.png"), int(part.endswith("blue"))) for part in parts]
    found = served.client.combine(
        all_of=regions[any_of:],
        any_of=regions[:any_of],
        none_of=[RegionRef(ImageRef(served.bucket, "b/green.png"), 0)] if unwanted else [],
        none_rate=unwanted or 1e-3,
        max_false_match=most,
        limit=limit,
    )
    for number, hit in enumerate(found, start=1):
        why = found.explain(hit.image)
        assert (why.verdict, why.steps[-1].figures["rank"]) == (Verdict.HIT, number), why.to_text()
        assert why.steps[-1].figures["score"] == pytest.approx(hit.score, abs=1e-3)
        for match in hit.parts:
            step = next(step for step in why.steps if step.name == match.part)
            assert step.figures["stands"]["region"] == match.row.region
    missing = {row.image for row in served.client.images()[0]} - {hit.image for hit in found}
    for image in missing:
        assert found.explain(image).verdict in (Verdict.PAGING, Verdict.CHANCE, Verdict.UNWANTED)


def test_what_is_cut_is_not_said_to_be_a_hit(served: Served) -> None:
    image = ImageRef(served.bucket, "a/3.png")
    everything = served.client.query(image, (60, 20), limit=40)
    least = min(hit.false_match or 0 for hit in everything)
    none = served.client.query(image, (60, 20), max_false_match=least / 2)
    assert len(none) == 0
    why = none.explain(everything[1].image)
    assert why.verdict is Verdict.CHANCE
    assert "max_false_match" in why.sentence
    assert why.steps[-1].figures["most_bits"] < everything[1].distance_bits


def test_a_stored_region_s_explanation_is_by_its_own_code(served: Served) -> None:
    found = served.client.query(RegionRef(ImageRef(served.bucket, "a/3.png"), 0), limit=5)
    for hit in found:
        if hit.image.key != "b/green.png":
            steps = {step.name: step for step in found.explain(hit.image, hit.box_xyxy).steps}
            assert steps["codes"].figures["distance_bits"] == hit.distance_bits
            assert "rescored" not in steps["codes"].sentence


def test_a_server_explains_whatever_it_answers(served: Served) -> None:
    image = ImageRef(served.bucket, "a/3.png")
    with listening(served) as url, RemoteClient(url) as client:
        there, here = client.query(image, (60, 20)), served.client.query(image, (60, 20))
        marks = {"right": [here[2]], "wrong": [here[9]]}
        pairs = [
            (there.refine(**marks), here.refine(**marks)),
            (client.query([here[0], here[1]]), served.client.query([here[0], here[1]])),
            (client.query(text="red"), served.client.query(text="red")),
        ]
        for remote, local in pairs:
            for hit in (local[0], local[-1]):
                assert remote.explain(hit.image, hit.box_xyxy) == local.explain(hit.image, hit.box_xyxy).to_dict()
