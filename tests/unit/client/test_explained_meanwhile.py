"""What is explained after the answer: its index, its objects and other indexes may be others by then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contracts.index_rows import image_row
from fakes.models import drawn
from fakes.serving import IMAGES, Served, png_of

from searchanything.answers.explanation import Explanation, Verdict
from searchanything.answers.results import SearchResults
from searchanything.core.errors import IndexMismatchError, IndexUnavailableError
from searchanything.core.types import ImageRef, RegionRef
from searchanything.stores.memory import MemoryIndexStore, MemoryRegionIndex

OTHER = "e" * 64  # another fingerprint


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served.make(tmp_path, monkeypatch, words=True)


def other_index(served: Served, *keys: str, fingerprint: str = OTHER) -> MemoryRegionIndex:
    """A further index of the same store, which holds images of these keys in bucket b."""
    live, store = served.client.manifest, served.client._indexes
    index = store.create(replace(live, fingerprint=fingerprint), store.hash_layer(live.fingerprint))
    index.insert_images([image_row(ImageRef("b", key), generation=1) for key in keys])
    return index


def stored(served: Served, key: str = "a/two.png", region: int | None = 0) -> RegionRef:
    return RegionRef(ImageRef(served.bucket, key), region)


KINDS = ["pixels", "stored", "several", "marks", "words", "parts"]


def answer(served: Served, kind: str) -> Any:
    """An answer of a kind, which can be explained."""
    one = stored(served)
    match kind:
        case "pixels":
            return served.client.query(one.image, (60, 20))
        case "stored":
            return served.client.query(one)
        case "several":
            return served.client.query([one, stored(served, region=1)])
        case "marks":
            return served.client.query(one).refine(right=[stored(served, "a/red.png")])
        case "words":
            return served.client.query(text="red")
    return served.client.combine(all_of=[one])


@pytest.mark.parametrize("kind", KINDS)
def test_other_indexes_are_opened_only_for_what_this_one_has_not(
    served: Served, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_index(served, "elsewhere.png")
    found, opened = answer(served, kind), []
    open_index = MemoryIndexStore.open

    def counted(store: MemoryIndexStore, fingerprint: str) -> MemoryRegionIndex:
        opened.append(fingerprint)
        return open_index(store, fingerprint)

    monkeypatch.setattr(MemoryIndexStore, "open", counted)
    for name in (ImageRef(served.bucket, "a/red.png"), f"{served.bucket}/a/red.png", "a/red.png"):
        assert found.explain(name).expected.key == "a/red.png"
    assert OTHER not in opened
    for name in (ImageRef("b", "elsewhere.png"), "s3://b/elsewhere.png", "elsewhere.png"):
        why = found.explain(name)
        assert (why.verdict, why.steps[-1].figures["other_fingerprints"]) == (Verdict.OTHER_FINGERPRINT, [OTHER])
    assert OTHER in opened


@pytest.mark.parametrize("kind", ["pixels", "words", "parts"])
@pytest.mark.parametrize("method", ["open", "newest", "iterate_images"])
def test_another_index_that_cannot_be_asked_is_no_obstacle(
    served: Served, kind: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one after it is asked all the same."""
    broken = other_index(served, fingerprint="c" * 64)
    other_index(served, "elsewhere.png")
    found = answer(served, kind)
    subject = MemoryIndexStore if method == "open" else MemoryRegionIndex
    real = getattr(subject, method)

    def away(one: Any, *given: Any, **options: Any) -> Any:
        if one is broken or given == (broken.manifest.fingerprint,):
            raise IndexUnavailableError("nobody answers")
        return real(one, *given, **options)

    monkeypatch.setattr(subject, method, away)
    for name, verdict in (("elsewhere.png", Verdict.OTHER_FINGERPRINT), ("never.png", Verdict.NOT_INDEXED)):
        assert found.explain(name).verdict is verdict


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_of_an_index_that_is_no_longer_live_is_not_explained_by_another(served: Served, kind: str) -> None:
    found, image = answer(served, kind), ImageRef(served.bucket, "a/red.png")
    first = found.explain(image)
    assert first.fingerprint == found.fingerprint
    other_index(served)
    served.client._indexes.switch(OTHER)
    with pytest.raises(IndexMismatchError, match="ask again"):
        found.explain(image)
    served.client._indexes.switch(found.fingerprint)
    assert found.explain(image).verdict == first.verdict


def steps(why: Explanation) -> list[str]:
    return [one.name for one in why.steps]


def assert_by_index(found: SearchResults, why: Explanation) -> None:
    """It is explained by the index alone, as it was answered."""
    hit = next(hit for hit in found if hit.image == why.expected)
    assert (why.verdict, why.steps[-1].figures["rank"]) == (Verdict.HIT, 1 + [*found].index(hit))
    assert not {"prompt", "unchanged", "features"} & {*steps(why)}
    assert next(one for one in why.steps if one.name == "codes").figures["distance_bits"] == hit.distance_bits


@pytest.mark.parametrize("region", [0, None])
@pytest.mark.parametrize("change", ["overwritten", "no image", "deleted"])
def test_a_stored_region_of_another_object_is_explained_by_its_code(
    served: Served, region: int | None, change: str
) -> None:
    found = served.client.query(stored(served, region=region))
    expected = ImageRef(served.bucket, "b/green.png")
    assert "features" in steps(found.explain(expected))
    path = served.folder / "a/two.png"
    if change == "deleted":
        path.unlink()
    else:
        path.write_bytes(png_of(drawn(64, 96, green=(0, 0, 96, 64))) if change == "overwritten" else b"no image")
    why = found.explain(expected)
    assert_by_index(found, why)
    assert why.prompt_description == {"kind": "image" if region is None else "region"}
    assert why.query_image is None, "the old region would lie on other pixels"
    assert why.plot().width > 0


@pytest.mark.parametrize("region", [0, None])
def test_question_and_explanation_have_one_word_for_it(served: Served, region: int | None) -> None:
    found = served.client.query(stored(served, region=region))
    for key in IMAGES:
        assert found.explain(ImageRef(served.bucket, key)).prompt_description == found.prompt_description


def test_words_that_are_not_rescored_are_ordered_by_distance(served: Served) -> None:
    image = ImageRef(served.bucket, "a/two.png")
    for rescore, scored in ((0, False), (9, True)):
        why = served.client.query(text="red", rescore=rescore).explain(image)
        each = next(one for one in why.steps if one.name == "region").figures["each"]
        assert [one["similarity"] is not None for one in each] == [scored, scored]
        assert scored or [one["distance_bits"] for one in each] == sorted(one["distance_bits"] for one in each)
