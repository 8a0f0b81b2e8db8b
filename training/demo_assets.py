"""Write the demo's cutouts and backdrops into the package, with the licences that they carry.

python -m training.demo_assets --pictograms data/pictograms --photographs data/photographs
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.photographs import PHOTOGRAPHS, Photograph, load_photographs
from training.pictograms import PICTOGRAM_SETS, Pictograms, load_pictograms

logger = logging.getLogger(__name__)

CUTOUT_SIDE_PX = 128
BACKDROP_SIDE_PX = 800
# fmt: off
SEEN = (
    "red-apple", "strawberry", "hamburger", "cookie", "cherries", "grapes", "dog", "cat", "horse", "elephant",
    "tiger", "penguin", "owl", "fish", "butterfly", "snail", "octopus", "frog", "lion", "rabbit", "bicycle", "bus",
    "airplane", "sailboat", "rocket", "train", "tractor", "helicopter", "guitar", "violin", "trumpet", "basketball",
    "umbrella", "key", "scissors", "camera", "telephone", "television", "alarm-clock", "light-bulb", "house",
    "tent", "cactus", "sunflower", "crown", "top-hat", "running-shoe", "balloon",
)
ZERO_SHOT = (
    "banana", "pizza", "pineapple", "watermelon", "turtle", "drum", "soccer-ball", "hammer", "automobile", "candle",
    "crab", "mushroom",
)
BACKDROPS = (
    "aitzgorri_by_Aitzol_Berasategi", "friends_by_Aitzol_Berasategi", "life_by_Aitzol_Berasategi",
    "picosdeeuropa_by_Aitzol_Berasategi", "sunset_by_Aitzol_Berasategi", "umang_by_Abhishek_Mudgal",
    "seeding_by_Clements_Engelhardt", "gravel", "brick", "china",
)
# fmt: on
LICENCE_URLS = {
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://opensource.org/license/mit",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-2.0": "https://creativecommons.org/licenses/by/2.0/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "public domain": "",
}


@dataclass(frozen=True, slots=True)
class CutoutRecord:
    """One cutout of the manifest."""

    concept: str
    style: str
    file: str
    zero_shot: bool
    licence: str


@dataclass(frozen=True, slots=True)
class BackdropRecord:
    """One backdrop of the manifest."""

    name: str
    file: str
    author: str
    licence: str
    source: str


def write_assets(pictograms: Pictograms, photographs: Path, folder: Path) -> None:
    """Write `cutouts/`, `backdrops/`, `manifest.json` and `ATTRIBUTION.md` into the folder.

    Raises:
        ValueError: A concept of the lists above is not a pictogram, or stands on the wrong side of the zero-shot split.
    """
    cutouts = list(_write_cutouts(pictograms, folder))
    backdrops = list(_write_backdrops(photographs, folder))
    manifest = {"cutouts": [_fields(item) for item in cutouts], "backdrops": [_fields(item) for item in backdrops]}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    (folder / "ATTRIBUTION.md").write_text(attribution(backdrops), "utf-8")


def attribution(backdrops: Iterable[BackdropRecord]) -> str:
    """The text of `ATTRIBUTION.md`: every set and photograph with its author, licence and source."""
    lines = [
        "# What the demo's images are made of",
        "",
        f"Cutouts: drawings of six public sets, rendered from SVG at {CUTOUT_SIDE_PX} px square and stored as WebP;",
        "the demo scales, turns, mirrors and shades them. The texts of Apache-2.0 and MIT are in `licences/`.",
        "",
        "| style | author | licence | source | package |",
        "|---|---|---|---|---|",
    ]
    for item in PICTOGRAM_SETS:
        package = f"npm {item.package} {item.version}"
        lines.append(f"| {item.style} | {item.author} | {_linked(item.licence)} | <{item.source}> | {package} |")
    lines += ["", f"Backdrops: cropped by the demo, shrunk to {BACKDROP_SIDE_PX} px, stored as JPEG.", ""]
    lines += ["| file | author | licence | source |", "|---|---|---|---|"]
    lines += [f"| {item.file} | {item.author} | {_linked(item.licence)} | {item.source} |" for item in backdrops]
    return "\n".join([*lines, ""])


def _write_cutouts(pictograms: Pictograms, folder: Path) -> Iterator[CutoutRecord]:
    (folder / "cutouts").mkdir(parents=True, exist_ok=True)
    licences = {item.style: item.licence for item in PICTOGRAM_SETS}
    for concept, zero_shot in [*((name, False) for name in SEEN), *((name, True) for name in ZERO_SHOT)]:
        number = pictograms.names.index(concept)
        if pictograms.is_zero_shot[number] != zero_shot:
            raise ValueError(f"{concept} stands on the wrong side of the zero-shot split")
        for row in np.flatnonzero(pictograms.concept_ids == number):
            style = pictograms.styles[pictograms.style_ids[row]]
            file = f"cutouts/{concept}.{style}.webp"
            straight = Image.fromarray(_straight(pictograms.images[row]), "RGBA")
            straight.resize((CUTOUT_SIDE_PX, CUTOUT_SIDE_PX), Image.Resampling.LANCZOS).save(
                folder / file, lossless=True, method=6, quality=100
            )
            yield CutoutRecord(concept, style, file, zero_shot, licences[style])


def _write_backdrops(photographs: Path, folder: Path) -> Iterator[BackdropRecord]:
    (folder / "backdrops").mkdir(parents=True, exist_ok=True)
    images = load_photographs(photographs)
    listed = {Path(photograph.file).stem: photograph for photograph in PHOTOGRAPHS}
    for stem in BACKDROPS:
        photograph = listed[stem]
        name = stem.split("_by_")[0]
        image = Image.fromarray(images[Path(photograph.name).stem])
        image.thumbnail((BACKDROP_SIDE_PX, BACKDROP_SIDE_PX), Image.Resampling.LANCZOS)
        file = f"backdrops/{name}.jpg"
        image.save(folder / file, quality=76, optimize=True)
        yield BackdropRecord(name, file, photograph.author, photograph.licence, _source(photograph))


def _straight(premultiplied: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = premultiplied[..., 3:].astype(np.uint16)
    colours = (premultiplied[..., :3].astype(np.uint16) * 255 + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([np.minimum(colours, 255), alpha], axis=2).astype(np.uint8)


def _source(photograph: Photograph) -> str:
    if photograph.package in ("skimage", "sklearn"):
        return f"bundled with {photograph.package}: {photograph.file}"
    return f"Debian package {photograph.package}: {photograph.file}"


def _linked(licence: str) -> str:
    url = LICENCE_URLS[licence]
    return f"[{licence}]({url})" if url else licence


def _fields(record: CutoutRecord | BackdropRecord) -> dict[str, str | bool]:
    return {name: getattr(record, name) for name in record.__slots__}


def main() -> None:
    """Write the assets that the command line names."""
    parser = argparse.ArgumentParser(description="Write the demo's cutouts and backdrops.")
    parser.add_argument("--pictograms", type=Path, default=Path("data/pictograms"))
    parser.add_argument("--photographs", type=Path, default=Path("data/photographs"))
    parser.add_argument("--out", type=Path, default=Path("searchanything/demo/assets"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_assets(load_pictograms(options.pictograms), options.photographs, options.out)


if __name__ == "__main__":
    main()
