"""Values as plain JSON: what the documents of the command line, receipts and explanations are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from searchanything.core.types import BoxXYXY, Filter, Hit, MaskRLE, Region, Selection


def selection_document(selection: Selection) -> dict[str, Any]:
    """What a prompt selected."""
    match = selection.text_match
    return {
        "kind": selection.kind,
        "box_xyxy": rounded(selection.box_xyxy),
        "area_px": int(selection.area_px),
        "mask": mask_document(selection.mask),
        "score": round(float(selection.score), 4),
        "rule": selection.rule,
        "reason": selection.reason,
        "runners_up": [region_document(one) for one in selection.runners_up],
        "text_match": None if match is None else asdict(match) | {"cosine": round(match.cosine, 4)},
    }


def region_document(region: Region) -> dict[str, Any]:
    """One region of an image; `mask` is None for an image as a whole."""
    return {
        "box_xyxy": rounded(region.box_xyxy),
        "area_px": int(region.area_px),
        "score": round(float(region.score), 4),
        "mask": None if region.mask is None else mask_document(region.mask),
    }


def hit_document(hit: Hit) -> dict[str, Any]:
    """One hit; `region` and `mask` are None where whole images were searched."""
    return {
        "bucket": hit.image.bucket,
        "key": hit.image.key,
        "region": hit.region,
        "box_xyxy": rounded(hit.box_xyxy),
        "mask": None if hit.mask is None else mask_document(hit.mask),
        "distance_bits": int(hit.distance_bits),
        "false_match": None if hit.false_match is None else float(f"{hit.false_match:.1e}"),
        "area_px": int(hit.area_px),
        "score": round(float(hit.score), 4),
        "similarity": _similarity(hit),
        "image": {"width": int(hit.image_width), "height": int(hit.image_height)},
        "etag": hit.etag,
        "metadata": dict(hit.metadata),
    }


def receipt_hit(hit: Hit) -> dict[str, Any]:
    """What tells a hit from another: which region of which content, and how far it is."""
    return {
        "bucket": hit.image.bucket,
        "key": hit.image.key,
        "etag": hit.etag,
        "region": hit.region,
        "distance_bits": int(hit.distance_bits),
        "similarity": _similarity(hit),
    }


def _similarity(hit: Hit) -> float | None:
    return None if hit.similarity is None else round(float(hit.similarity), 6)


def filter_document(filter: Filter) -> dict[str, Any]:
    """A filter from which it can be made again."""
    return {
        "bucket": filter.bucket,
        "key_prefix": filter.key_prefix,
        "images": [{"bucket": one.bucket, "key": one.key} for one in filter.images],
        "exclude": [{"bucket": one.bucket, "key": one.key} for one in filter.exclude],
        "within": [list(place) for place in filter.within],
        "area_px": list(filter.area_px),
        "size_class": None if filter.size_class is None else str(filter.size_class),
        "metadata": dict(filter.metadata),
        "indexed_at_ms": list(filter.indexed_at_ms),
        "expression": filter.expression,
        "where": [{"name": one.name, "comparison": one.comparison, "value": one.value} for one in filter.where],
    }


def mask_document(mask: MaskRLE) -> dict[str, Any]:
    """A run-length encoding: `size` [height, width] and `counts`."""
    return {"size": [int(side) for side in mask.size], "counts": mask.counts}


def mask_of(document: Mapping[str, Any]) -> MaskRLE:
    """A mask as it stands in a document; nothing is checked."""
    height, width = document["size"]
    return MaskRLE((int(height), int(width)), str(document["counts"]))


def rounded(box_xyxy: BoxXYXY) -> list[float]:
    """A box to a tenth of a pixel."""
    return [round(float(value), 1) for value in box_xyxy]
