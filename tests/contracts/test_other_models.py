"""Which images an index of other models lacks of the live one, on every index: what counts is the objects' content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from contracts.index_rows import fresh_generation, image_row, manifest_of

from searchanything.core.protocols import IndexStore, RegionIndex
from searchanything.core.rows import ImageRow, Outcome
from searchanything.core.types import ImageRef
from searchanything.ingest.other_models import OtherModels

BUCKET = "other-models"


def row(key: str, *, etag: str = "etag", **changes: object) -> ImageRow:
    """An attempt at an image, later than all before, without regions."""
    made = image_row(ImageRef(BUCKET, key), generation=fresh_generation(), code=bytes(8), regions=0)
    return replace(made, etag=etag, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pair(store: IndexStore) -> tuple[RegionIndex, RegionIndex]:
    """Made once, because a server takes seconds to make an index."""
    live, other = (store.create(manifest_of(uuid4().hex * 2, 64), b"layer") for _ in range(2))
    return live, other


@pytest.fixture
def run(pair: tuple[RegionIndex, RegionIndex]) -> Iterator[OtherModels]:
    yield OtherModels(live=pair[0], other=pair[1])
    for index in pair:
        index.delete_images({state.image for state in index.iterate_states()})


def lacking(run: OtherModels) -> list[str]:
    return sorted({state.image.key for state in run.lacking()})


def test_what_was_begun_later_counts_as_it_is_and_what_is_older_by_its_content(run: OtherModels) -> None:
    old = {"same": {}, "tags": {"city": "Ulm"}, "edited": {}, "sidecar": {}}
    run.other.insert_images([row(key, metadata=metadata) for key, metadata in old.items()])
    run.other.insert_images([row("failed", outcome=Outcome.FAILED, error="ImageError", message="no")])
    run.live.insert_images(
        [
            row("same"),
            row("tags", metadata={"city": "Bonn"}),
            row("edited", etag="another"),
            row("sidecar", sidecar_etag="another"),
            row("failed"),
            row("new"),
            row("late"),
            row("retried"),
        ]
    )
    run.other.insert_images([row("late", etag="newer"), row("retried", outcome=Outcome.FAILED, error="ImageError")])
    assert lacking(run) == ["edited", "failed", "new", "sidecar", "tags"]


def test_an_image_that_is_forgotten_meanwhile_has_no_content_to_compare(run: OtherModels) -> None:
    run.other.insert_images([row(key) for key in ("kept", "forgotten")])
    run.live.insert_images([row(key) for key in ("kept", "forgotten")])
    states = list(run.live.iterate_states())
    run.live.delete_images([ImageRef(BUCKET, "forgotten")])
    standing = {one.image.key: newest is not None for one, newest in zip(states, run.standing(states), strict=True)}
    assert standing == {"kept": True, "forgotten": False}


def test_failures_are_carried_over_and_others_named_by_bucket(run: OtherModels) -> None:
    failed = row("bad", outcome=Outcome.FAILED, error="ImageError", message="no image", attempts=3)
    run.live.insert_images([failed, row("good")])
    assert run.carry_failed() == {BUCKET}
    assert list(run.other.iterate_images()) == [failed]
    assert lacking(run) == ["good"]


def test_what_others_delete_or_add_after_the_switch_stays_so(run: OtherModels) -> None:
    keys = ("kept", "deleted-here", "deleted-there")
    run.live.insert_images([row(key) for key in keys])
    run.other.insert_images([row(key) for key in keys])  # in generations of its own
    run.live.insert_images([row("late")])
    after = replace(run, before=run.compare())
    run.live.delete_images([ImageRef(BUCKET, "deleted-there")])
    run.other.delete_images([ImageRef(BUCKET, "deleted-here")])
    run.other.insert_images([row("new")])
    assert lacking(after) == ["late"]
    assert after.forget_gone() == 1
    assert sorted(one.image.key for one in run.other.iterate_states()) == ["kept", "new"]
