"""Makes `docs/images/query.webp`, the picture of the README: `python docs/make_query_image.py`.

A click on one object of a generated scene, among 240 indexed scenes, with the bundled models.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

import searchanything
from searchanything.core.geometry import innermost_point
from searchanything.demo.scenes import generate_demo_scenes

SCENES, SEED = 240, 3
CONCEPT = "soccer-ball"
WIDEST_PX = 1200


def main() -> None:
    """Index scenes, click on the largest object of the concept, save the contact sheet."""
    target = Path(__file__).parent / "images" / "query.webp"
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        sheet = Path(name) / "sheet.png"
        folder = Path(name) / "scenes"
        folder.mkdir()
        found = []
        for file, scene in generate_demo_scenes(SCENES, seed=SEED):
            Image.fromarray(scene.image).save(folder / file, quality=92)
            found += [(int(one.mask.sum()), file, one.mask) for one in scene.objects if one.concept == CONCEPT]
        _, file, mask = max(found, key=lambda one: one[0])
        with searchanything.connect(str(Path(name) / "index.db"), preset="pico") as client:
            client.index(folder)
            client.query(folder / file, innermost_point(mask), limit=8, group_by_image=True).save(sheet)
        picture = Image.open(sheet)
        picture.thumbnail((WIDEST_PX, WIDEST_PX), Image.Resampling.LANCZOS)
        picture.save(target, quality=82, method=6)


if __name__ == "__main__":
    main()
