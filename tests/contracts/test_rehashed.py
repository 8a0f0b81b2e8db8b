"""Another hash layer for an index, on every index: the same rows with codes of kept features, each once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from contracts.index_rows import fresh_generation, image_row, manifest_of, region_row

from searchanything.core.codes import pack_signs
from searchanything.core.protocols import ImageFeatures, IndexStore, RegionIndex
from searchanything.core.rows import Outcome, row_id
from searchanything.core.types import ImageRef
from searchanything.features.keep import ParquetKeeper
from searchanything.features.layout import FeatureCache
from searchanything.ingest.rehash import Rehash
from searchanything.models.hashing import HashLayer
from searchanything.stores.files import FolderFiles

MASK, IMAGE, BITS, REGIONS = 6, 10, 64, 3
BUCKET = "rehashed"
WORDS_BITS = 64


def layer(seed: int) -> HashLayer:
    return HashLayer.random_rotation(MASK, IMAGE, bits=BITS, seed=seed)


class Both:
    """A live index whose features are kept, and one of another layer beside it."""

    def __init__(self, live: RegionIndex, other: RegionIndex, folder: Path) -> None:
        self.live, self.other = live, other
        self.cache = FeatureCache(FolderFiles(folder), BUCKET, self.live.manifest)
        self.hasher = layer(2)
        self.random = np.random.default_rng(5)
        self.features: dict[str, ImageFeatures] = {}

    def put(self, key: str, *, words: bool = False) -> None:
        """An image's next generation, committed with its features."""
        image, generation = ImageRef(BUCKET, key), fresh_generation()
        kept = (self.random.standard_normal((REGIONS + 1, width)).astype(np.float16) for width in (MASK, IMAGE))
        one = ImageFeatures(image, f"etag-{generation}", generation, *(rows.astype(np.float32) for rows in kept))
        ParquetKeeper(self.cache).keep([one])
        self.features[key] = one
        rows = [region_row(image, number, generation=generation, code=bytes(8)) for number in range(REGIONS)]
        if words:
            rows = [replace(row, words_code=bytes([row.region] * 8)) for row in rows]
        self.live.insert_regions(rows)
        self.live.insert_images([image_row(image, generation=generation, regions=REGIONS, code=bytes(8))])

    def run(self) -> Rehash:
        run = Rehash(live=self.live, other=self.other, hasher=self.hasher)
        run.carry_failed()
        run.carry_kept(self.cache)
        return run

    def check(self) -> None:
        """The other index has exactly the live one's rows, with the sign of W f + b, computed here, as their codes."""
        rows = sorted(self.other.iterate_regions(), key=lambda row: (row.image, row.region))
        assert [replace(row, code=b"") for row in rows] == sorted(
            (replace(row, code=b"") for row in self.live.iterate_regions()), key=lambda row: (row.image, row.region)
        )
        assert self.other.count_regions() == len(rows)  # reads give a row once that Milvus has twice
        for row in rows:
            assert row.code == self.expected(row.image.key, row.region)
        images = list(self.other.iterate_images())
        assert sorted(row.image.key for row in images) == sorted({row.image.key for row in self.live.iterate_images()})
        for image in images:
            assert image.code == self.expected(image.image.key, -1)

    def expected(self, key: str, number: int) -> bytes:
        one = self.features[key]
        mask, image = one.mask_features[number], one.image_features[number]
        joined = np.concatenate([mask / np.linalg.norm(mask), image / np.linalg.norm(image)])
        return pack_signs((self.hasher.weight @ joined + self.hasher.bias)[None])[0].tobytes()


@pytest.fixture(scope="module")
def pair(store: IndexStore) -> tuple[RegionIndex, RegionIndex]:
    """Made once, because a server takes seconds to make an index."""
    names = [uuid4().hex * 2 for _ in range(2)]
    for name in names:
        store.create(manifest_of(name, BITS), layer(1).to_bytes())
    live, other = (store.add_words(name, b"layer", bits=WORDS_BITS) for name in names)
    return live, other


@pytest.fixture
def both(pair: tuple[RegionIndex, RegionIndex], tmp_path: Path) -> Iterator[Both]:
    made = Both(*pair, tmp_path / "kept")
    for key in ("a.png", "b.png", "c.png"):
        made.put(key)
    yield made
    for index in pair:
        index.delete_images({state.image for state in index.iterate_states()})


def test_rows_are_the_same_and_codes_those_of_the_layer(both: Both) -> None:
    run = both.run()
    both.check()
    assert list(run.lacking()) == []
    assert both.other.counts() == both.live.counts()
    both.run()
    both.check()  # nothing is there twice


def test_what_changed_since_is_carried_over_and_what_is_gone_goes(both: Both) -> None:
    both.run()
    both.put("a.png")
    both.put("new.png")
    both.live.delete_before({ImageRef(BUCKET, "a.png"): both.features["a.png"].generation})
    both.live.delete_images([ImageRef(BUCKET, "b.png")])
    run = both.run()
    assert run.forget_gone() == 1
    both.check()
    assert sorted(row.image.key for row in both.other.iterate_images()) == ["a.png", "c.png", "new.png"]


@pytest.mark.parametrize("written", [1, REGIONS])
def test_what_a_killed_run_left_is_not_doubled(both: Both, written: int) -> None:
    """It wrote some regions, and no image row."""
    rows = sorted(both.live.iterate_regions(), key=lambda row: (row.image, row.region))[:written]
    both.other.insert_regions([replace(row, code=both.expected(row.image.key, row.region)) for row in rows])
    assert both.other.counts().images == 0
    both.run()
    both.check()


def test_words_codes_come_along(both: Both) -> None:
    both.put("a.png", words=True)
    both.put("d.png", words=True)
    killed = [row for row in both.live.iterate_regions() if row.image.key == "d.png"]  # after its regions, before words
    both.other.insert_regions([replace(row, code=both.expected("d.png", row.region)) for row in killed])
    both.run()
    images = [ImageRef(BUCKET, key) for key in ("a.png", "d.png")]
    assert dict(both.other.words_of(images)) == dict(both.live.words_of(images))
    assert len(list(both.other.words_of(images))) == 2 * REGIONS


def test_a_failure_needs_no_features(both: Both) -> None:
    generation = fresh_generation()
    failed = image_row(
        ImageRef(BUCKET, "bad.png"),
        generation=generation,
        outcome=Outcome.FAILED,
        error="ImageError",
        message="no",
        code=bytes(8),
    )
    both.live.insert_images([failed])
    assert both.run().carry_failed() == set()
    [row] = both.other.newest([failed.image]).values()
    assert replace(row, code=b"") == replace(failed, code=b"")
    assert row.code == bytes(8)


def test_codes_of_before_are_those_of_an_image_that_was_only_indexed_again(both: Both) -> None:
    """Without features: `a.png` in other bytes, `b.png` in the same, `c.png` in the same with another mask."""
    both.run()
    before = {(row.image.key, row.region): row.code for row in both.other.iterate_regions()}
    for key, etag, size in (("a.png", "other", (64, 48)), ("b.png", None, None), ("c.png", None, (32, 96))):
        image, generation = ImageRef(BUCKET, key), fresh_generation()
        [old] = both.live.newest([image]).values()
        regions = sorted(both.live.regions_of([image]), key=lambda row: row.region)
        new = {"generation": generation, "etag": etag or old.etag, "metadata": {"city": "Ulm"}}
        rows = [replace(row, **new, id=row_id(image, generation, row.region)) for row in regions]
        if size is not None:
            rows[-1] = replace(rows[-1], mask=replace(rows[-1].mask, size=size))
        both.live.insert_regions(rows)
        both.live.insert_images([replace(old, **new, id=row_id(image, generation))])
        both.live.delete_before({image: generation})
    run = both.run()
    assert run.carry_same(BUCKET) == 1
    assert sorted({state.image.key for state in run.lacking()}) == ["a.png", "c.png"]
    image = ImageRef(BUCKET, "b.png")
    expected = [replace(row, code=before[row.image.key, row.region]) for row in both.live.regions_of([image])]
    assert sorted(both.other.regions_of([image]), key=lambda row: row.id) == sorted(expected, key=lambda row: row.id)
    [live], [other] = both.live.newest([image]).values(), both.other.newest([image]).values()
    assert other == replace(live, code=both.expected("b.png", -1))
    assert run.carry_same(BUCKET) == 0


def test_what_the_other_index_lost_is_carried_over_again(both: Both) -> None:
    """Under the ids that it had: what is left of its images goes first."""
    both.run()
    lost = [row.id for row in both.other.iterate_regions() if row.image.key != "c.png" and row.region > 0]
    both.other.delete_regions(lost)
    run = Rehash(live=both.live, other=both.other, hasher=both.hasher)
    run.forget_damaged()
    assert sorted(state.image.key for state in run.lacking()) == ["a.png", "b.png"]
    both.run()
    both.check()
    run.forget_damaged()
    assert list(run.lacking()) == []


def test_images_that_share_files_with_another_index_are_left_to_it(both: Both) -> None:
    """Features of another generation than the live row's, or of fewer regions, are not this image's."""
    image = ImageRef(BUCKET, "a.png")
    generation = fresh_generation()
    both.live.insert_regions([region_row(image, 0, generation=generation, code=bytes(8))])
    both.live.insert_images([image_row(image, generation=generation, regions=1, code=bytes(8))])
    run = both.run()
    assert {state.image.key for state in run.lacking()} == {"a.png"}
