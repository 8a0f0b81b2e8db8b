"""Makes `docs/images/photographs.webp`: `python docs/make_photo_image.py FOLDER`.

FOLDER holds the photographs of the train split of `marcusklasson/GroceryStoreDataset` (MIT licence, attribution in
`searchanything/demo/assets/ATTRIBUTION.md`), as `training.whole_images` reads them, with their `index.json`. A click on
a carton that is held into the picture, among a part of the photographs, with the bundled models, **which were trained
on these photographs**: the picture shows what an answer looks like, not how well it does on yours.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

import searchanything

EVERY, EVERY_OF_ITS_CLASS = 30, 5  # photographs that are indexed: each so manyth
CLASS = "Yoggi-Strawberry-Yoghurt"
HITS = 8
WIDEST_PX = 1100


def chosen(folder: Path) -> list[str]:
    """File names: some of all, and more of the wanted class, the first of which is asked about."""
    index = json.loads((folder / "index.json").read_text("utf-8"))
    wanted = index["fine"].index(CLASS)
    of_class = [name for name, fine, _ in index["rows"] if fine == wanted]
    others = [name for name, fine, _ in index["rows"] if fine != wanted]
    return of_class[::EVERY_OF_ITS_CLASS] + others[::EVERY]


def main() -> None:
    """Index, click on the middle of the first one, save the contact sheet."""
    folder = Path(sys.argv[1])
    names = chosen(folder)
    with tempfile.TemporaryDirectory() as name:
        images, sheet = Path(name) / "images", Path(name) / "sheet.png"
        images.mkdir()
        for one in names:
            shutil.copy(folder / one, images / one)
        with searchanything.connect("memory://", preset="pico") as client:
            client.index(images)
            width, height = Image.open(images / names[0]).size
            results = client.query(images / names[0], (width / 2, height / 2), limit=HITS, group_by_image=True)
            results.save(sheet)
        picture = Image.open(sheet)
        picture.thumbnail((WIDEST_PX, WIDEST_PX), Image.Resampling.LANCZOS)
        picture.save(Path(__file__).parent / "images" / "photographs.webp", quality=82, method=6)


if __name__ == "__main__":
    main()
