"""The control: the same questions, hashed with shuffled weights, against the same index.

Then every effect of the codes must vanish, and the figures fall to chance. Any rest would be an error of measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import numpy as np

from searchanything.core.protocols import RegionIndex, Segmentation, Segmenter
from searchanything.core.types import Codes, Filter, Hit, ImageRef, RGBImage
from searchanything.demo.bucket import BUCKET
from searchanything.demo.examiner import Examiner
from searchanything.demo.judging import AMONG_FIRST, hit_among_first
from searchanything.demo.questions import SceneQuestion
from searchanything.demo.trials import ASKING_THREADS
from searchanything.encode.encoder import Encoder
from searchanything.encode.wrapped_segmenter import WrappedSegmenter
from searchanything.models.hashing import HashLayer
from searchanything.search.search import PageRequest, search_images, search_regions

SHUFFLES: Final = 3  # per question, all different: one for all would lead every question to the same few regions


@dataclass(frozen=True, slots=True, eq=False)
class Control:
    """Asks questions past the client: `encoder` is the index's own, `open_image` reads an image of the bucket."""

    index: RegionIndex
    encoder: Encoder
    open_image: Callable[[ImageRef], RGBImage]

    def ask(
        self, questions: Sequence[SceneQuestion], examiner: Examiner, *, done: Callable[[int, int], None]
    ) -> list[tuple[bool, ...]]:
        """Per question and shuffle, whether a right hit is among the first five. Questions about one image in a row
        share its segmentation.
        """
        layer = HashLayer.from_bytes(self.encoder.hasher.to_bytes())
        seeded = ((question, shuffled_layers(layer, seed)) for seed, question in enumerate(questions))
        groups = [list(group) for _, group in groupby(seeded, key=lambda pair: pair[0].scene.key)]
        outcomes: list[tuple[bool, ...]] = []
        with ThreadPoolExecutor(ASKING_THREADS) as pool:
            for some in pool.map(lambda group: self._ask_about_one_image(group, examiner), groups):
                outcomes += some
                done(len(outcomes), len(questions))
        return outcomes

    def _ask_about_one_image(
        self, questions: Sequence[tuple[SceneQuestion, HashLayer]], examiner: Examiner
    ) -> list[tuple[bool, ...]]:
        """The outcomes of questions about one image, each with the layers that hash it."""
        image = ImageRef(BUCKET, questions[0][0].scene.key)
        pixels = self.open_image(image)
        segmenter = _Segmented(self.encoder.segmenter, self.encoder.segmenter.segment([pixels])[0])
        outcomes = []
        for question, layers in questions:
            shuffled = replace(self.encoder, segmenter=segmenter, hasher=layers)
            query = shuffled.encode_query(pixels, question.prompt)
            hits = [self._search(image, code, query.choice.kind) for code in np.split(query.code, SHUFFLES)]
            outcomes.append(tuple(hit_among_first(examiner.right(question, found)) for found in hits))
        return outcomes

    def _search(self, image: ImageRef, code: Codes, kind: str) -> Sequence[Hit]:
        if kind == "none":
            return ()
        search = search_images if kind == "image" else search_regions
        others = Filter(bucket=BUCKET, exclude=(image,))
        return search(self.index, code, PageRequest(limit=AMONG_FIRST), filter=others).hits


def shuffled_layers(layer: HashLayer, seed: int) -> HashLayer:
    """`SHUFFLES` copies of a layer, one below the other, each with the columns of its weights in another random order.

    So every bit weighs the same values, bias and all, but of the wrong features.
    """
    rng = np.random.default_rng(seed)
    weight = np.concatenate([layer.weight[:, rng.permutation(layer.weight.shape[1])] for _ in range(SHUFFLES)])
    return HashLayer.create(
        weight,
        np.tile(layer.bias, SHUFFLES),
        mask_dimension=layer.mask_dimension,
        provenance={"method": "shuffled columns", "seed": str(seed), "trained": "false"},
    )


class _Segmented(WrappedSegmenter):
    """A segmenter that has seen the only image it is asked about."""

    def __init__(self, segmenter: Segmenter, segmentation: Segmentation) -> None:
        super().__init__(segmenter)
        self._segmentation = segmentation

    def segment(self, images: Sequence[RGBImage]) -> list[Segmentation]:
        return [self._segmentation for _ in images]
