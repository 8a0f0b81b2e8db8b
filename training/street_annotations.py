"""Street photographs with a label for each pixel, as COCO instances for `searchanything eval coco`.

    python -m training.street_annotations --street data/street --out data/street_fifth.json

`--street` holds `NUMBER.jpg` beside `NUMBER.png` (the label of each pixel, 0 for none) and `labels.json` (the labels'
words), as drawn from `bearpaw/clothing-co-parsing` (Apache-2.0). The photographs are not copied: `--images` of
`eval coco` is the same folder. An instance is a connected part of one label; crumbs beside larger parts are none.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from searchanything.core.geometry import encode_rle
from searchanything.core.types import BoolMask

logger = logging.getLogger(__name__)

FIFTHS: Final = 5
LEAST_AREA_PX: Final = 60
LEAST_SHARE: Final = 0.12  # of all pixels of the label


def fifth_of(folder: Path, remainder: int) -> list[Path]:
    """The label files whose photograph's number leaves this remainder modulo 5, in order."""
    return [path for path in sorted(folder.glob("*.png")) if int(path.stem) % FIFTHS == remainder]


def parts_of(labels: NDArray[np.uint8]) -> Iterator[tuple[int, BoolMask]]:
    """Each connected part (8 neighbours) of each label of (H, W), with its mask; labels rising, 0 left out."""
    for label in np.unique(labels[labels > 0]).tolist():
        count, components, numbers, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8))
        areas = numbers[:, cv2.CC_STAT_AREA]
        least = max(LEAST_AREA_PX, LEAST_SHARE * int(areas[1:].sum()))
        for component in range(1, count):
            if areas[component] >= least:
                yield label, components == component


def coco_of(files: Sequence[Path], words: Sequence[str]) -> dict[str, Any]:
    """The COCO document of label files; `words` names their labels from 0 on."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path in files:
        labels = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
        height, width = labels.shape
        number = int(path.stem)
        images.append({"id": number, "file_name": f"{path.stem}.jpg", "height": height, "width": width})
        annotations += [_annotation(number, label, mask) for label, mask in parts_of(labels)]
    numbered = [{**one, "id": place} for place, one in enumerate(annotations, start=1)]
    categories = [{"id": label, "name": word} for label, word in enumerate(words) if label]
    return {"images": images, "annotations": numbered, "categories": categories}


def _annotation(image: int, label: int, mask: BoolMask) -> dict[str, Any]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (1, 0))
    rle = encode_rle(mask)
    return {
        "image_id": image,
        "category_id": label,
        "iscrowd": 0,
        "bbox": [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]],
        "area": int(mask.sum()),
        "segmentation": {"size": list(rle.size), "counts": rle.counts},
    }


def main() -> None:
    """Write the annotations of one fifth of the photographs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--street", type=Path, default=Path("data/street"))
    parser.add_argument("--remainder", type=int, default=0, choices=range(FIFTHS), help="number modulo 5")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    words = json.loads((arguments.street / "labels.json").read_text("utf-8"))
    document = coco_of(fifth_of(arguments.street, arguments.remainder), words)
    arguments.out.write_text(json.dumps(document), "utf-8")
    logger.info("%d parts on %d photographs", len(document["annotations"]), len(document["images"]))


if __name__ == "__main__":
    main()
