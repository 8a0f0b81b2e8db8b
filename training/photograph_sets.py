"""The street and grocery photographs, from the public repositories into the folders that training reads.

    python -m training.photograph_sets fetch --into data/repositories
    python -m training.photograph_sets street --repository data/repositories/clothing-co-parsing --out data/street
    python -m training.photograph_sets grocery --repository data/repositories/GroceryStoreDataset --out data/grocery

`fetch` clones `bearpaw/clothing-co-parsing` (Apache-2.0, as the repository states) and
`marcusklasson/GroceryStoreDataset` (MIT) with git. `street` writes `NUMBER.jpg` (at most 512 px), `NUMBER.png` (the
label of each pixel) and `labels.json` of the photographs with pixel-level annotations, less one fifth: those whose
number leaves 1 modulo 5, which are kept to judge by. `grocery` writes photographs of one split, the shorter side 176
px, and `index.json`: `rows` of (file, fine class, coarse class), and the names `fine` and `coarse` by the fine class.

The conversions are tested on folders of the published form; the clones themselves were not run where this was written,
and pico's figures come from photographs that were handed over in this layout.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from training.street_annotations import FIFTHS

logger = logging.getLogger(__name__)

REPOSITORIES: Final = (
    "https://github.com/bearpaw/clothing-co-parsing",
    "https://github.com/marcusklasson/GroceryStoreDataset",
)
KEPT_FIFTH: Final = 1  # number modulo 5 of the street photographs that no training is given
STREET_SIDE_PX: Final = 512
GROCERY_SIDE_PX: Final = 176
_QUALITY: Final = [cv2.IMWRITE_JPEG_QUALITY, 92]


def clone_commands(into: Path) -> list[list[str]]:
    """The commands that fetch both repositories, their newest commits alone."""
    return [
        ["git", "clone", "--depth", "1", address, str(into / address.rpartition("/")[2])] for address in REPOSITORIES
    ]


def convert_street(repository: Path, out: Path) -> int:
    """Photographs beside the labels of their pixels; how many. Raises: ValueError for what is of another form."""
    words = _label_words(repository / "label_list.mat")
    out.mkdir(parents=True, exist_ok=True)
    (out / "labels.json").write_text(json.dumps(words), "utf-8")
    annotated = sorted((repository / "annotations" / "pixel-level").glob("*.mat"))
    if not annotated:
        raise ValueError(f"expected annotations/pixel-level/NUMBER.mat in {repository}, there are none")
    taken = [path for path in annotated if int(path.stem) % FIFTHS != KEPT_FIFTH]
    for path in taken:
        labels = _labels_of(path, len(words))
        image = _read(repository / "photos" / f"{path.stem}.jpg")
        if image.shape[:2] != labels.shape:
            raise ValueError(f"expected labels of {image.shape[:2]} for photograph {path.stem}, got {labels.shape}")
        scale = STREET_SIDE_PX / max(image.shape[:2])
        _write(out / f"{path.stem}.jpg", _reduced(image, scale, cv2.INTER_AREA))
        _write(out / f"{path.stem}.png", _reduced(labels, scale, cv2.INTER_NEAREST))
    return len(taken)


def convert_grocery(repository: Path, out: Path, *, split: str = "train") -> int:
    """Photographs of one split and their index; how many. Raises: ValueError for what is of another form."""
    dataset = repository / "dataset"
    fine, coarse = _class_names(dataset / "classes.csv")
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, line in enumerate((dataset / f"{split}.txt").read_text("utf-8").split("\n")):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 3 or int(parts[1]) not in fine:
            raise ValueError(f"expected a file and its two classes in line {number + 1} of {split}.txt, got {line!r}")
        name = f"{len(rows):04}.jpg"
        image = _read(dataset / parts[0])
        _write(out / name, _reduced(image, GROCERY_SIDE_PX / min(image.shape[:2]), cv2.INTER_AREA))
        rows.append([name, int(parts[1]), int(parts[2])])
    index: Mapping[str, Any] = {"rows": rows, "fine": _in_order(fine), "coarse": _in_order(coarse)}
    (out / "index.json").write_text(json.dumps(index), "utf-8")
    return len(rows)


def _label_words(path: Path) -> list[str]:
    """The labels' names by their number, 0 for none: a cell array of texts."""
    return [str(np.asarray(cell).ravel()[0]) for cell in _variable(path, "label_list").ravel()]


def _labels_of(path: Path, count: int) -> NDArray[np.uint8]:
    """The label (H, W) of each pixel."""
    labels = _variable(path, "groundtruth")
    if labels.ndim != 2 or labels.min() < 0 or labels.max() >= count:
        raise ValueError(f"expected labels (H, W) below {count} in {path.name}, got {labels.shape} to {labels.max()}")
    return labels.astype(np.uint8)


def _variable(path: Path, name: str) -> NDArray[Any]:
    found = loadmat(path)
    if name not in found:
        raise ValueError(f"expected the variable {name} in {path.name}, there is none")
    return np.asarray(found[name])


def _class_names(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """The names of fine classes and of the coarse ones they belong to, both by the fine class' number."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [int(row["Class ID (int)"]) for row in rows]
    return tuple(  # type: ignore[return-value]  # of two
        dict(zip(numbers, (row[column] for row in rows), strict=True))
        for column in ("Class Name (str)", "Coarse Class Name (str)")
    )


def _in_order(names: Mapping[int, str]) -> list[str]:
    if sorted(names) != list(range(len(names))):
        raise ValueError(f"expected classes numbered from 0 on, got {sorted(names)[:3]} …")
    return [names[number] for number in range(len(names))]


def _read(path: Path) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"expected a photograph at {path}, it cannot be read")
    return np.asarray(pixels, dtype=np.uint8)


def _reduced(pixels: NDArray[np.uint8], scale: float, interpolation: int) -> NDArray[np.uint8]:
    """Made smaller by a factor; nothing is made larger."""
    height, width = pixels.shape[:2]
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), dtype=np.uint8)


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), pixels, _QUALITY if path.suffix == ".jpg" else []):
        raise ValueError(f"{path} cannot be written")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch the repositories, or bring one of them into the layout that training reads."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("fetch").add_argument("--into", type=Path, required=True)
    for verb in ("street", "grocery"):
        made = verbs.add_parser(verb)
        made.add_argument("--repository", type=Path, required=True)
        made.add_argument("--out", type=Path, required=True)
        if verb == "grocery":
            made.add_argument("--split", choices=("train", "val", "test"), default="train")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.verb == "fetch":
        options.into.mkdir(parents=True, exist_ok=True)
        for command in clone_commands(options.into):
            subprocess.run(command, check=True)
    elif options.verb == "street":
        logger.info("%d photographs", convert_street(options.repository, options.out))
    else:
        logger.info("%d photographs", convert_grocery(options.repository, options.out, split=options.split))


if __name__ == "__main__":
    main()
