"""`KnownImages` against a dict of whole rows: what a digest of each keeps is what the rows said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core import digests
from searchanything.core.digests import KnownImages
from searchanything.core.rows import ImageState, Outcome, newest_of_each
from searchanything.core.types import ImageRef

IMAGES = st.builds(ImageRef, st.sampled_from(["b", "bucket"]), st.sampled_from(["a.png", "ä 🚲.png", "x\udc80.png"]))
ETAGS = st.sampled_from(["", "e1", "e2"])
TIMES = st.sampled_from([0, 1, 12])
STATES = st.builds(
    ImageState,
    image=IMAGES,
    etag=ETAGS,
    generation=st.integers(1, 2**62),
    outcome=st.sampled_from(Outcome),
    regions=st.integers(0, 25),
    modified_at_ms=TIMES,
    sidecar_etag=ETAGS,
)
ROWS = st.lists(STATES, max_size=9, unique_by=lambda one: (one.image, one.generation))


@given(ROWS, st.lists(st.tuples(IMAGES, ETAGS, TIMES), max_size=6))
def test_the_newest_row_of_each_image_is_known(rows: list[ImageState], asked: list[tuple[ImageRef, str, int]]) -> None:
    known, newest = KnownImages(iter(rows)), newest_of_each(rows)
    assert (len(known), known.outdated) == (len(newest), len(rows) - len(newest))
    assert known.regions == sum(one.regions for one in newest.values())
    numbers = known.find([image for image, _, _ in asked])
    agreeing = known.agree(numbers, [(etag, modified) for _, etag, modified in asked])
    generations = known.generations(numbers)
    assert len(numbers) == len(agreeing) == len(generations) == len(asked)
    for place, (image, etag, modified) in enumerate(asked):
        row = newest.get(image)
        assert (numbers[place] == -1) == (row is None)
        good = row is not None and row.outcome is not Outcome.FAILED
        assert agreeing[place] == (good and (row.etag, row.modified_at_ms) == (etag, modified))
        assert row is None or generations[place] == row.generation
    assert not known.rows["seen"].any()


@given(ROWS, st.dictionaries(IMAGES, ETAGS.filter(bool)))
def test_a_sidecar_that_came_went_or_changed_differs(rows: list[ImageState], listed: dict[ImageRef, str]) -> None:
    known, newest = KnownImages(rows), newest_of_each(rows)
    differing = known.differing_sidecars(known.sidecar_digests(listed.items()))
    assert len(differing) == len(newest)
    for image, number in zip(newest, known.find(list(newest)).tolist(), strict=True):
        assert differing[number] == (newest[image].sidecar_etag != listed.get(image, ""))


def test_rows_in_several_chunks_are_all_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "CHUNK_ROWS", 2)
    images = [ImageRef("b", f"{number}.png") for number in range(5)]
    most = 2**31 - 1
    known = KnownImages(ImageState(image, "e", at, Outcome.INDEXED, most) for at, image in enumerate(images, start=1))
    assert known.regions == 5 * most
    np.testing.assert_array_equal(known.generations(known.find(images)), np.arange(1, 6))


def test_each_has_a_salt_of_its_own() -> None:
    """Two names whose digests coincide in one run do not in the next."""
    state = ImageState(ImageRef("b", "a.png"), "e", 1, Outcome.INDEXED, 1)
    one, other = KnownImages([state]), KnownImages([state])
    assert one.rows["image"] != other.rows["image"]
