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
        served = Served.make(tmp_path_factory.mktemp("ranks"), monkeypatch, images=images())
        crowd(served, regions=400)
        yield served


QUESTIONS: dict[str, Any] = {"point": (60, 20), "box": Box(4, 4, 40, 60), "whole image": None}


def asked_of(served: Served, kind: str) -> tuple[Any, ...]:
    image = ImageRef(served.bucket, "a/3.png")
    if kind.startswith("stored"):
        return (RegionRef(image, None if kind == "stored image" else int(kind[-1])),)
    return image, QUESTIONS[kind]


@given(
    kind=st.sampled_from([*QUESTIONS, "stored 0", "stored 1", "stored image"]),
    limit=st.integers(1, 12),
    offset=st.sampled_from([0, 0, 1, 3, 8]),
    grouped=st.booleans(),
    rescore=st.sampled_from([0, 5, None]),
    cut=st.one_of(st.none(), st.integers(0, 20)),
)
@example(kind="point", limit=12, offset=0, grouped=False, rescore=None, cut=3)  # rescoring put a farther one before it
@settings(max_examples=40, deadline=None)
def test_the_rank_is_the_hit_s_number(
    served: Served, kind: str, limit: int, offset: int, grouped: bool, rescore: int | None, cut: int | None
) -> None:
    asked = asked_of(served, kind)
    most = None
    if cut is not None and "image" not in kind:
        most = sorted(hit.false_match or 0 for hit in served.client.query(*asked, limit=40))[cut]
    found = served.client.query(
        *asked, limit=limit, offset=offset, group_by_image=grouped, max_false_match=most, rescore=rescore
    )
    for number, hit in enumerate(found, start=offset + 1):
        if hit.image.key == "b/green.png" and hit.region:  # of the crowd: no pixels belong to it
            continue
        why = found.explain(hit.image, None if hit.region is None else hit.box_xyxy)
        assert why.verdict is Verdict.HIT, why.to_text()
        assert why.steps[-1].figures["rank"] == number, why.to_text()


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


def test_a_refined_answer_is_not_explained_as_the_one_before(served: Served) -> None:
    image = ImageRef(served.bucket, "a/3.png")
    found = served.client.query(image, (60, 20))
    with pytest.raises(UsageError, match="ranked by marks"):
        found.refine(right=[found[2]]).explain(found[2].image)
    assert found.explain(found[0].image).sentence
    with listening(served) as url, RemoteClient(url) as client:
        there = client.query(image, (60, 20))
        with pytest.raises(UsageError, match="ranked by marks"):
            there.refine(right=[there[2]]).explain(image)
        assert there.explain(image)["verdict"] == "hit"
