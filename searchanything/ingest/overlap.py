"""Images → codes in three stages that work on three batches at once.

    segment n+1 ─► crops, pooling, masks of n ─► embed, hash n-1
    (a model)      (the host, or a GPU)          (a model)

Each model has a thread of its own, except that they share some where they share a CPU (`Encoder.at_once`). The encoder
of a GPU has two: one queues the next batch while the other waits for its answer and hashes it, or the GPU would stand
still meanwhile; and the first batch comes in parts there, as until one is cut the encoder has nothing to do. As many
batches are cut at once as models may work: beside a device the host is the slowest stage as soon as models are small.
Between the stages a few batches wait at most, and no more pixels where more threads work. A batch that fails somewhere
goes through all stages once more by itself, and is halved until the image that fails it stands alone: a batch too large
for the device's memory is halved as well.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Final, Generic, TypeAlias, TypeVar

from searchanything.core.protocols import Segmentation
from searchanything.core.types import RGBImage
from searchanything.encode.canary import encoding_errors
from searchanything.encode.cut_batch import CutBatch
from searchanything.encode.encoder import EncodedImage, Encoder, OpenEncoder, Stopwatch
from searchanything.images.given_regions import GivenRegions
from searchanything.ingest.ahead import map_ahead

_AHEAD: Final = 2  # batches that a stage works on or has waiting, unless more threads work on them
WAITING_BYTES: Final = 2**29  # of pixels in one stage; a larger batch still passes alone

Item = TypeVar("Item")
_Done: TypeAlias = list[EncodedImage]
Alone: TypeAlias = Callable[[Sequence[Item]], list[tuple[Item, EncodedImage | None]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Batch(Generic[Item]):
    """A batch on its way: its items, their images, and what the stages so far made of them; None where one failed."""

    items: Sequence[Item]
    images: list[RGBImage]
    made: list[Segmentation] | CutBatch | _Done | None = None


class Overlap(Generic[Item]):
    """The three stages for items that have an image or none. `alone` encodes a batch that failed, in parts.

    `given_of` an item with an image are the regions that it is given, None for the segmenter's.
    """

    def __init__(
        self,
        open_encoder: OpenEncoder,
        *,
        image_of: Callable[[Item], RGBImage | None],
        alone: Alone[Item],
        watch: Stopwatch,
        given_of: Callable[[Item], GivenRegions | None] = lambda _: None,
    ) -> None:
        self._open_encoder, self._image_of, self._alone, self._watch = open_encoder, image_of, alone, watch
        self._given_of = given_of

    @cached_property
    def _encoder(self) -> Encoder:
        with self._watch.stage("load_models"):
            return self._open_encoder()

    def run(self, batches: Iterable[Sequence[Item]]) -> Generator[list[tuple[Item, EncodedImage | None]], None, None]:
        """Each batch's items with their codes, in order. The encoder is opened at the first batch that has an image.

        Raises: what `alone` and opening the encoder raise.
        """
        waiting = iter(batches)
        for beginning in waiting:
            if any(self._image_of(item) is not None for item in beginning):
                break
            yield [(item, None) for item in beginning]
        else:
            return
        with ExitStack() as stack:
            at_once = self._encoder.at_once
            lanes, workers = at_once.models, at_once.batches
            first = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="segment"))
            host = stack.enter_context(ThreadPoolExecutor(lanes, thread_name_prefix="crops"))
            last = first
            if lanes > 1:
                last = stack.enter_context(ThreadPoolExecutor(at_once.embedding, thread_name_prefix="embed"))
            most, budget = max(_AHEAD, workers), WAITING_BYTES
            every = chain(_in_parts(beginning) if lanes > 1 else [beginning], waiting)
            segmented = map_ahead(first, self._segment, every, most=most, cost=self._bytes_of, budget=budget)
            cut = map_ahead(host, self._cut, segmented, most=most * lanes, cost=self._price, budget=budget * lanes)
            embedded = map_ahead(last, self._embed, cut, most=most, cost=self._price, budget=budget)
            for stage in (segmented, cut, embedded):
                stack.callback(stage.close)  # before the pools end: what has not begun is cancelled
            for batch in embedded:
                yield self._with_items(batch)

    def _bytes_of(self, items: Sequence[Item]) -> int:
        return sum(image.nbytes for image in map(self._image_of, items) if image is not None)

    def _price(self, batch: _Batch[Item]) -> int:
        """A batch's pixels, with those of its crops or of the crops to come."""
        match batch.made:
            case CutBatch(crops=crops):
                held = int(crops.nbytes)
            case [_, *_] as segmentations:
                held = self._crops_to_come(segmentations)  # type: ignore[arg-type]  # of this stage
            case _:
                held = 0
        return held + sum(image.nbytes for image in batch.images)

    def _crops_to_come(self, segmentations: list[Segmentation]) -> int:
        """Their bytes; 0 where the encoder fails that has to say how large they are: the cut will fail as well."""
        try:
            return self._encoder.crop_bytes(segmentations)
        except encoding_errors():
            return 0

    def _segment(self, items: Sequence[Item]) -> _Batch[Item]:
        images = [image for image in map(self._image_of, items) if image is not None]
        given = [self._given_of(item) for item in items if self._image_of(item) is not None]
        batch = _Batch(items, images)
        watch = self._watch
        return self._tried(batch, lambda: self._encoder.segment_batch(images, watch, given=given) if images else [])

    def _cut(self, batch: _Batch[Item]) -> _Batch[Item]:
        found = batch.made
        if not isinstance(found, list) or not found:
            return batch
        return self._tried(batch, lambda: self._encoder.cut_batch(batch.images, found, self._watch))  # type: ignore[arg-type]  # segmentations, after that stage

    def _embed(self, batch: _Batch[Item]) -> _Batch[Item]:
        found = batch.made
        if not isinstance(found, CutBatch):
            return batch
        return self._tried(batch, lambda: self._encoder.embed_batch(found, self._watch))

    def _tried(self, batch: _Batch[Item], stage: Callable[[], list[Segmentation] | CutBatch | _Done]) -> _Batch[Item]:
        try:
            return _Batch(batch.items, batch.images, stage())
        except encoding_errors():
            return _Batch(batch.items, batch.images)

    def _with_items(self, batch: _Batch[Item]) -> list[tuple[Item, EncodedImage | None]]:
        if batch.made is None:
            return self._alone(batch.items)
        done = iter(batch.made)  # type: ignore[arg-type]  # encoded images, after the last stage
        return [(item, None if self._image_of(item) is None else next(done)) for item in batch.items]  # type: ignore[misc]


def _in_parts(batch: Sequence[Item]) -> list[Sequence[Item]]:
    """A quarter, a quarter and a half of a batch; one of fewer than four items whole."""
    quarter = len(batch) // 4
    parts = (batch[:quarter], batch[quarter : 2 * quarter], batch[2 * quarter :])
    return [part for part in parts if part]
