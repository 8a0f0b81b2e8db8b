"""Makes `docs/images/photographs.webp`: `python docs/make_photo_image.py FOLDER`.

FOLDER holds the annotated photographs of `bearpaw/clothing-co-parsing` (Apache-2.0) as `training.street_annotations`
reads them: `0002.jpg`, `0002.png` with a label at each pixel, `labels.json`. A click on a pair of jeans, among some of
the photographs, with the bundled models, **which were trained on these photographs**: the picture shows what an answer
looks like, not how well it does on yours. The annotations choose where to click, and nothing else. The upper part of
each photograph is cut off before it is indexed: the picture is about clothes, and shows no faces.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import searchanything
from searchanything.demo.questions import innermost_point

WANTED = "jeans"
ASKED = 6  # the number of the photograph that is asked about, among those that show much of the wanted thing
EVERY, OTHERS_EVERY = 3, 16  # photographs that are indexed: each so manyth with jeans, and of the rest
MOST, MOST_OTHERS = 14, 14
CUT_SHARE = 0.36  # of the height, from above
HITS = 8
WIDEST_PX = 1100


def without_faces(image: Image.Image) -> Image.Image:
    """The lower part of a photograph, or of its labels."""
    return image.crop((0, round(CUT_SHARE * image.height), image.width, image.height))


def chosen(folder: Path) -> tuple[list[Path], list[Path]]:
    """Photographs that show much of the wanted thing, and others that show none of it."""
    label = json.loads((folder / "labels.json").read_text("utf-8")).index(WANTED)
    shares = {
        path: float((np.asarray(without_faces(Image.open(path.with_suffix(".png")))) == label).mean())
        for path in sorted(folder.glob("*.jpg"))[:400]
    }
    showing = [path for path, share in shares.items() if share > 0.08]
    others = [path for path, share in shares.items() if share == 0]
    return showing[::EVERY][:MOST], others[::OTHERS_EVERY][:MOST_OTHERS]


def main() -> None:
    """Index, click, save the contact sheet."""
    folder = Path(sys.argv[1])
    showing, others = chosen(folder)
    label = json.loads((folder / "labels.json").read_text("utf-8")).index(WANTED)
    with tempfile.TemporaryDirectory() as name, searchanything.connect("memory://", preset="pico") as client:
        images, sheet = Path(name) / "images", Path(name) / "sheet.png"
        images.mkdir()
        for path in showing + others:
            without_faces(Image.open(path)).save(images / path.name, quality=95)
        client.index(images)
        asked = showing[ASKED]
        mask = np.asarray(without_faces(Image.open(asked.with_suffix(".png")))) == label
        results = client.query(images / asked.name, innermost_point(mask), limit=HITS, group_by_image=True)
        results.save(sheet)
        picture = Image.open(sheet)
        picture.thumbnail((WIDEST_PX, WIDEST_PX), Image.Resampling.LANCZOS)
        picture.save(Path(__file__).parent / "images" / "photographs.webp", quality=82, method=6)


if __name__ == "__main__":
    main()
