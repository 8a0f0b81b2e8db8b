"""Which region of the expected image is the target: by a box, by what the page shows, or by similarity to the query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from searchanything.core.counting import counted
from searchanything.core.documents import rounded
from searchanything.core.errors import PromptError
from searchanything.core.geometry import box_iou
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoxXYXY, Hit, RGBImage
from searchanything.encode.encoder import Encoder, RegionJob
from searchanything.explain.reencode import RegionFeatures, region_row
from searchanything.prompts.choose import box_ious, box_of
from searchanything.prompts.prompt import check_box_units

MIN_FIT_IOU: Final = 0.5  # of the expected box with a region's box: the usual bound of "found"


@dataclass(frozen=True, slots=True, eq=False)
class TargetRegion:
    """A row of the expected image's segmentation, None where none can be the target; `found` is whether it will do.

    `figures` (plain JSON) and `sentence` say how it was found.
    """

    row: int | None
    figures: Mapping[str, Any]
    sentence: str
    found: bool = True


NO_REGIONS: Final = TargetRegion(None, {"regions": 0}, "the segmenter finds no region in it", found=False)


def region_in_box(box_xyxy: BoxXYXY, segmentation: Segmentation) -> TargetRegion:
    """The region whose own box fits the expected one best; found if their IoU is ≥ 0.5.

    Raises: PromptError for a box that is empty or lies outside the image, or seems to be in shares of its size.
    """
    letterbox = segmentation.letterbox
    check_box_units(box_xyxy, letterbox.height, letterbox.width)
    x1, y1, x2, y2 = box_xyxy
    if min(x2, letterbox.width) <= max(x1, 0) or min(y2, letterbox.height) <= max(y1, 0):
        raise PromptError(
            f"expected box {box_xyxy} is empty or outside the image of {letterbox.width} x {letterbox.height} pixels"
        )
    count = len(segmentation.scores)
    if not count:
        return NO_REGIONS
    ious = box_iou(segmentation.boxes_xyxy, np.array([box_xyxy], dtype=np.float32))[:, 0]
    best = int(ious.argmax())
    found = bool(ious[best] >= MIN_FIT_IOU)
    what = f"the best of {counted(count, 'mask')} has IoU {ious[best]:.2f} of its box with the expected one"
    figures = {
        "regions": count,
        "best_iou": round(float(ious[best]), 4),
        "least_iou": MIN_FIT_IOU,
        "mask_iou": round(float(box_ious(box_xyxy, segmentation)[best]), 4),
        "box_xyxy": rounded(box_of(segmentation, best)) if ious[best] else None,
    }
    if not ious[best]:
        what = f"none of {counted(count, 'mask')} has a box that overlaps the expected one"
    sentence = what if found else f"no mask fits the thing: {what}, and {MIN_FIT_IOU} is the least"
    return TargetRegion(best if ious[best] else None, figures, sentence, found=found)


def region_on_page(hit: Hit, segmentation: Segmentation, encoder: Encoder) -> TargetRegion | None:
    """The region that a hit shows; None where the segmenter does not find it again."""
    row = region_row(segmentation, hit.box_xyxy, encoder.policy.keep(segmentation), hit.region)
    if row is None:
        return None
    box = rounded(box_of(segmentation, row))
    figures = {"regions": len(segmentation.scores), "box_xyxy": box}
    return TargetRegion(row, figures, f"no box was given, so the region among the hits is taken, in {_numbers(box)}")


def region_most_similar(
    query: RegionFeatures, image: RGBImage, segmentation: Segmentation, encoder: Encoder
) -> TargetRegion:
    """Of all regions, kept or not, the one whose features are most similar to the query's (1 row)."""
    count = len(segmentation.scores)
    if not count:
        return NO_REGIONS
    job = RegionJob.of_rows(image, segmentation, np.arange(count))
    similar = RegionFeatures.of_job(encoder, job).cosines(query)
    row = int(similar.argmax())
    box = rounded(box_of(segmentation, row))
    figures = {"regions": count, "cosine": round(float(similar[row]), 4), "box_xyxy": box}
    sentence = (
        f"no box was given, so the most similar of {counted(count, 'region')} is taken, in {_numbers(box)}, "
        f"cosine {similar[row]:.3f}"
    )
    return TargetRegion(row, figures, sentence)


def _numbers(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
