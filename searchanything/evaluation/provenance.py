"""What was evaluated on what, as a report says it: two reports that agree in it asked the same of the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from searchanything.encode.encoder import Encoder
from searchanything.encode.fingerprint import manifest_of
from searchanything.evaluation.reading import WantedImage


def provenance(encoder: Encoder, wanted: Sequence[WantedImage]) -> dict[str, Any]:
    """The layer, the fingerprint of the models' features, the IoU that boxes need, and the digest of the images."""
    return {
        "bits": encoder.hasher.bits,
        "hash": encoder.hasher.digest,
        "feature_fingerprint": manifest_of(encoder, preset="").feature_fingerprint,
        "box_min_iou": encoder.box_min_iou,
        "dataset_digest": dataset_digest(wanted),
    }


def dataset_digest(wanted: Sequence[WantedImage]) -> str:
    """64 hex digits: sha256 of the images' names, sizes and annotations, crowds and void too, in any order.

    Neither pixels nor the annotations' ids and further keys are in it.
    """
    lines = sorted(json.dumps([one.file_name, one.truth and _annotated(one)]) for one in wanted)
    return sha256("\n".join(lines).encode("ascii")).hexdigest()


def _annotated(image: WantedImage) -> list[Any]:
    truth = image.truth
    if truth is None:
        return []
    instances = sorted(
        (one.category, *one.box_xyxy, one.area_px, one.crowd, one.mask.counts) for one in truth.instances
    )
    return [truth.height, truth.width, truth.void and truth.void.counts, instances]
