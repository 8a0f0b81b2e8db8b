"""Judges the hits of one index against the scenes' ground truth."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Filter, Hit, ImageRef, Selection
from searchanything.demo.bucket import BUCKET
from searchanything.demo.judging import Share, TrueScene, chance_of_hit, matched_object, true_masks
from searchanything.demo.questions import SceneQuestion, images_like
from searchanything.search.search import PageRequest, search_regions

Labels: TypeAlias = Mapping[ImageRef, Mapping[int, int | None]]  # image → region number → number of the object shown


class Examiner:
    """Knows what each indexed region shows.

    `labels` covers all regions of the bucket, `scenes` all its images; both are needed to say what chance would give.
    """

    def __init__(self, scenes: Sequence[TrueScene], labels: Labels) -> None:
        self._scenes = scenes
        self._concepts = {
            image: [scene.objects[number].concept for number in labels[image].values() if number is not None]
            for scene in scenes
            if (image := ImageRef(BUCKET, scene.key)) in labels
        }
        self._truth = {ImageRef(BUCKET, scene.key): scene for scene in scenes}
        self._labels = labels
        self._shown = Counter(concept for concepts in self._concepts.values() for concept in concepts)
        self._regions = sum(len(regions) for regions in labels.values())

    @property
    def regions(self) -> int:
        """How many regions of the bucket are indexed."""
        return self._regions

    @property
    def recall(self) -> Share:
        """How many of the scenes' objects an indexed region shows: no search can find the others."""
        shown = [{number for number in regions.values() if number is not None} for regions in self._labels.values()]
        return Share(sum(map(len, shown)), sum(len(scene.objects) for scene in self._scenes))

    def right(self, question: SceneQuestion, hits: Sequence[Hit]) -> tuple[bool, ...]:
        """Which hits are right: regions of the wanted concept, or images like the one asked about."""
        wanted = question.wanted
        if wanted is None:
            alike = images_like(question.scene, self._scenes)
            return tuple(hit.image.key in alike for hit in hits)
        return tuple(self.shown_by(hit) == wanted.concept for hit in hits)

    def shown_by(self, hit: Hit) -> str | None:
        """The concept that a hit's region shows; None for ground, fragments and whole images."""
        number = None if hit.region is None else self._labels.get(hit.image, {}).get(hit.region)
        return None if number is None else self._truth[hit.image].objects[number].concept

    def chance(self, question: SceneQuestion) -> float:
        """Probability of a right hit among five, drawn blindly from all that lies outside the question's own image."""
        wanted = question.wanted
        if wanted is None:
            return chance_of_hit(len(images_like(question.scene, self._scenes)), len(self._scenes) - 1)
        own = ImageRef(BUCKET, question.scene.key)
        elsewhere = self._shown[wanted.concept] - self._concepts.get(own, []).count(wanted.concept)
        return chance_of_hit(elsewhere, self._regions - len(self._labels.get(own, {})))

    def selected(self, question: SceneQuestion, selection: Selection) -> bool:
        """Whether the prompt selected what was meant: for an object a region that covers it with IoU ≥ 0.5."""
        if question.target is None:
            return selection.kind == "image"
        scene = question.scene
        if selection.kind != "region":
            return False
        return matched_object(selection.mask, scene, true_masks(scene)) == question.target


def label_regions(index: RegionIndex, scenes: Sequence[TrueScene]) -> Labels:
    """What each indexed region of these scenes shows; None for ground and fragments."""
    anywhere = np.zeros(index.manifest.bits // 8, dtype=np.uint8)
    request = PageRequest(limit=index.max_limit)
    page = search_regions(index, anywhere, request, filter=Filter(bucket=BUCKET))
    by_image: dict[ImageRef, list[Hit]] = defaultdict(list)
    for hit in page.hits:
        by_image[hit.image].append(hit)
    refs = [ImageRef(BUCKET, scene.key) for scene in scenes]
    return {ref: _labels_of(scene, by_image[ref]) for ref, scene in zip(refs, scenes, strict=True)}


def _labels_of(scene: TrueScene, hits: Sequence[Hit]) -> dict[int, int | None]:
    masks = true_masks(scene)
    return {
        hit.region: matched_object(hit.mask, scene, masks)
        for hit in hits
        if hit.region is not None and hit.mask is not None
    }
