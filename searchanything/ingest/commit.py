"""The commit of a batch: regions, then "is it still the same object?", then the image rows (design decision 2).

Committed rows are never overwritten. Each attempt at an image has its own generation, which is part of every key it
writes, so two workers on one object, a late worker with old bytes and a kill at any point leave nothing wrong visible.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Self, TypeAlias

from searchanything.core.counting import counted
from searchanything.core.errors import RegionIndexError, SearchAnythingError, StoreError, StoreUnavailableError
from searchanything.core.escaping import printable
from searchanything.core.protocols import FeatureKeeper, ImageFeatures, ImageStore, RegionIndex
from searchanything.core.rows import ImageRow, Outcome, RegionRow, row_id
from searchanything.core.types import ImageRef, StoredObject
from searchanything.encode.encoder import EncodedImage, box_tuple
from searchanything.images.given_regions import GivenRegions

logger = logging.getLogger(__name__)

MayForget: TypeAlias = Callable[[Collection[str]], bool]
"""Whether the rows of these keys, which are gone, may be deleted; raises where they may be hidden."""
MESSAGE_CHARACTERS = 500  # of an error, kept in the index


@dataclass(frozen=True, slots=True)
class Failed:
    """Why an attempt failed: the error's class name and its message."""

    error: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """From an exception; a message of many lines keeps the first.

        Our own messages have one line: breaks in them come from a key, and what follows is the reason.
        """
        message = str(error).strip()
        if not isinstance(error, SearchAnythingError):
            message = next(iter(message.splitlines()), "")
        return cls(type(error).__name__, printable(message)[:MESSAGE_CHARACTERS])


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one object. `previous` is what the index knew of it when the attempt began.

    `data` are the bytes until they are decoded, `height` and `width` the decoded image's; `tile` is a JPEG file for a
    contact sheet, where one is wanted. `replaced` is what another index, which this one is to replace, has of it.
    `given` are the regions that its sidecar gives, None for the segmenter's.
    """

    stored: StoredObject
    generation: int
    previous: ImageRow | None = None
    data: bytes | None = None
    height: int = 0
    width: int = 0
    failed: Failed | None = None
    vanished: bool = False
    tile: bytes | None = None
    replaced: ImageRow | None = None
    given: GivenRegions | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a batch: image rows now in the index, and images whose object changed before the commit.

    All rows of an image with a generation below that in `outdated` were deleted. Of images whose object is gone so many
    are `forgotten`, and so many are `left` in the index. `absent` are those that no read found and that no row is of.
    """

    rows: tuple[ImageRow, ...]
    changed: tuple[ImageRef, ...]
    outdated: Mapping[ImageRef, int]
    forgotten: int
    left: int
    absent: tuple[ImageRef, ...]


def commit_batch(
    index: RegionIndex,
    store: ImageStore,
    batch: Sequence[tuple[Attempt, EncodedImage | None]],
    pool: Executor,
    keeper: FeatureKeeper | None = None,
    *,
    may_forget: MayForget = lambda _: True,
) -> Committed:
    """Write a batch so that each of its images becomes visible whole or not at all. `pool` asks the store.

    `keeper` gets the features first: whatever is committed has them.

    `may_forget` is asked before rows of an image that is gone are deleted.

    Raises: RegionIndexError, StoreUnavailableError, StoreError where features cannot be kept; the batch's region rows
    may then lie there as garbage.
    """
    start = time.perf_counter()
    now_ms = time.time_ns() // 1_000_000
    bits = index.manifest.bits
    regions = [row for attempt, image in batch if image for row in _region_rows(attempt, image, now_ms)]
    if keeper is not None and regions:
        keeper.keep([_features(attempt, image) for attempt, image in batch if image and len(image.codes)])
    index.insert_regions(regions)
    attempts = [attempt for attempt, _ in batch]
    etags = list(pool.map(lambda one: _current_etag(store, one), attempts))
    gone = [attempt for attempt, etag in zip(attempts, etags, strict=True) if etag is None]
    # Of an object that is gone, what another worker found there since has a younger generation, and stays.
    deleted = {attempt.stored.ref: attempt.generation + 1 for attempt in gone}
    there = index.newest(list(deleted))
    known = {image for image, row in there.items() if row.generation < deleted[image]}
    absent = tuple(one.stored.ref for one in gone if one.vanished and one.stored.ref not in there)
    left = known if known and not may_forget([image.key for image in known]) else set()
    deleted = {image: age for image, age in deleted.items() if image not in left}
    rows = [
        _image_row(attempt, image, now_ms, code_bytes=bits // 8)
        for (attempt, image), etag in zip(batch, etags, strict=True)
        if etag == attempt.stored.etag
    ]
    changed = [
        attempt.stored.ref
        for attempt, etag in zip(attempts, etags, strict=True)
        if etag is not None and etag != attempt.stored.etag
    ]
    index.insert_images(rows)
    # Another worker may have committed the same images meanwhile: whoever looks last sees all and leaves the newest.
    newest = index.newest([row.image for row in rows])
    _check_written([row for row in rows if not _is_there(row, newest)], store)
    outdated = {image: row.generation for image, row in newest.items()}
    if keeper is not None and deleted:
        keeper.add_tombstones(deleted)
    index.delete_before(outdated | deleted)
    _delete_uncommitted(index, regions, {(row.image, row.generation) for row in rows}, deleted)
    spent = (time.perf_counter() - start) * 1000
    logger.info(
        "committed %s, %s in %.0f ms; %d vanished, %d changed",
        counted(len(rows), "image"), counted(len(regions), "region"), spent, len(gone), len(changed),
    )  # fmt: skip
    return Committed(tuple(rows), tuple(changed), outdated | deleted, len(known - left), len(left), absent)


def _is_there(row: ImageRow, newest: Mapping[ImageRef, ImageRow]) -> bool:
    return row.image in newest and newest[row.image].generation >= row.generation


def _delete_uncommitted(
    index: RegionIndex,
    regions: Sequence[RegionRow],
    committed: Collection[tuple[ImageRef, int]],
    deleted: Collection[ImageRef],
) -> None:
    """Delete the batch's own region rows of images that it did not commit, as these changed or are left in the index.

    By their ids, which hold the generation: no other attempt's rows have them, and no image row will. If that fails
    they are garbage, as after a kill: the batch is committed all the same.
    """
    ids = [row.id for row in regions if row.image not in deleted and (row.image, row.generation) not in committed]
    try:
        if ids:
            index.delete_regions(ids)
    except RegionIndexError as error:
        logger.warning("%s left for garbage collection: %s", counted(len(ids), "region row"), error)


def _check_written(lost: Sequence[ImageRow], store: ImageStore) -> None:
    """Raises: RegionIndexError if rows that were acknowledged are not there, and nobody had a reason to delete them."""
    for row in lost:
        found = store.stat(row.image.key)
        if found is not None and found.etag == row.etag:  # else another worker saw it vanish or change, and was faster
            raise RegionIndexError(
                f"the index acknowledged {row.image}, but does not have it: it loses what is written to it, or another "
                f"process deleted it at this moment; run the same again"
            )


def _current_etag(store: ImageStore, attempt: Attempt) -> str | None:
    """The object's etag as it is now, None if it is gone.

    Where the store will not tell, a failure stands and a success is not believed (the empty etag fits no object).
    """
    if attempt.vanished:
        return None
    try:
        found = store.stat(attempt.stored.ref.key)
    except StoreUnavailableError:
        raise
    except StoreError:
        return attempt.stored.etag if attempt.failed else ""
    return None if found is None else found.etag


def _region_rows(attempt: Attempt, image: EncodedImage, now_ms: int) -> list[RegionRow]:
    """Rows of an image's regions; region 0 is the largest."""
    stored = attempt.stored
    return [
        RegionRow(
            id=row_id(stored.ref, attempt.generation, number),
            code=image.codes[number].tobytes(),
            image=stored.ref,
            etag=stored.etag,
            generation=attempt.generation,
            region=number,
            box_xyxy=box_tuple(image.boxes_xyxy[number]),
            area_px=max(1, round(float(image.areas_px[number]))),
            mask=image.masks[number],
            score=float(image.scores[number]),
            image_width=image.width,
            image_height=image.height,
            indexed_at_ms=now_ms,
            metadata=stored.metadata,
            words_code=image.words_codes[number].tobytes(),
        )
        for number in range(len(image.codes))
    ]


def _features(attempt: Attempt, image: EncodedImage) -> ImageFeatures:
    stored, features = attempt.stored, image.features
    return ImageFeatures(stored.ref, stored.etag, attempt.generation, features.mask, features.image)


def _first_at(attempt: Attempt, outcome: Outcome) -> int:
    """When this content was first indexed, or first failed to be; 0 where that is now.

    What had failed and is indexed is new: nobody could find it before.
    """
    known = [one for one in (attempt.previous, attempt.replaced) if one and one.etag == attempt.stored.etag]
    same = [one for one in known if (one.outcome is Outcome.FAILED) is (outcome is Outcome.FAILED)]
    return min((one.first_at_ms for one in same), default=0)


def _attempts(attempt: Attempt, outcome: Outcome) -> int:
    """How often this content was tried; of what fails, how often it failed since it was good: that exhausts it."""
    previous = attempt.previous
    if previous is None or previous.etag != attempt.stored.etag:
        return 1
    fails_first = outcome is Outcome.FAILED and previous.outcome is not Outcome.FAILED
    return 1 if fails_first else previous.attempts + 1


def _image_row(attempt: Attempt, image: EncodedImage | None, now_ms: int, *, code_bytes: int) -> ImageRow:
    stored, failed = attempt.stored, attempt.failed
    regions = 0 if image is None else len(image.codes)
    if image is None:
        failed = failed or Failed("ModelError", "no result")
    outcome = Outcome.FAILED if failed else Outcome.INDEXED if regions else Outcome.EMPTY
    return ImageRow(
        id=row_id(stored.ref, attempt.generation),
        code=bytes(code_bytes) if image is None else image.image_code.tobytes(),
        image=stored.ref,
        etag=stored.etag,
        generation=attempt.generation,
        outcome=outcome,
        error=failed.error if failed else "",
        message=failed.message if failed else "",
        attempts=_attempts(attempt, outcome),
        first_at_ms=_first_at(attempt, outcome) or now_ms,
        last_at_ms=now_ms,
        image_width=image.width if image else attempt.width,
        image_height=image.height if image else attempt.height,
        regions=regions,
        metadata=stored.metadata,
        modified_at_ms=stored.modified_at_ms,
        sidecar_etag=stored.sidecar_etag,
    )
