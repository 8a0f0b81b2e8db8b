"""Index a folder and find things in it: `python index_and_query.py [FOLDER IMAGE X,Y]`.

Without arguments it writes example scenes to `images/` first, and clicks on a rocket.
"""

from __future__ import annotations

import sys
from pathlib import Path

import searchanything


def main(folder: str = "images", image: str = "images/scene-0007.jpg", place: str = "142,436") -> None:
    if not Path(folder).exists():
        from searchanything.demo.example_images import write_examples

        write_examples(Path(folder), 8)
    x, y = (float(part) for part in place.split(","))
    # `pico` is bundled and knows pictograms; for photographs: searchanything models fetch small, and preset="small".
    with searchanything.connect("trial.db", preset="pico") as client:
        report = client.index(folder)
        print(f"{report.indexed + report.unchanged} images, {report.failed} failed")

        results = client.query(image, (x, y), limit=5, group_by_image=True)
        print(results)
        for hit in results:
            print(f"{hit.distance_bits:>4} bits  {hit.image.key}  {hit.box_xyxy}")
        results.save("hits.png")

        x1, y1, x2, y2 = results.selection.box_xyxy  # what the click selected, asked for again as a box
        print("by a box:", client.query(image, (x1, y1, x2, y2), limit=1)[0].image.key)
        print("by words:", client.query(image, "a rocket", limit=1)[0].image.key)
        print("by a hit:", client.query(results[1], limit=2)[1].image.key)  # no model is needed for this one


if __name__ == "__main__":
    main(*sys.argv[1:])
