"""Regions as COCO JSON, and COCO boxes as questions: `python coco_both_ways.py`, after index_and_query.py.

Out: FiftyOne reads the file by `fo.Dataset.from_dir(dataset_type=fo.types.COCODetectionDataset, data_path="images",
labels_path="regions.json", label_types=["segmentations"], extra_attrs=True)`; CVAT and Label Studio read it, too.
In: any COCO file will do, such as FiftyOne's `dataset.export(dataset_type=fo.types.COCODetectionDataset, …)`. FiftyOne
itself is not needed here, and these calls follow its documentation: they were not run.
"""

from __future__ import annotations

import json
from pathlib import Path

import searchanything


def main(folder: Path = Path("images"), file: Path = Path("regions.json")) -> None:
    with searchanything.connect("trial.db") as client:
        print(client.export(file), "regions written to", file)

        labels = json.loads(file.read_text("utf-8"))  # or what was labelled elsewhere
        names = {image["id"]: image["file_name"] for image in labels["images"]}
        label = max(labels["annotations"], key=lambda one: one["area"])
        left, top, width, height = label["bbox"]  # COCO's boxes; ours are x1, y1, x2, y2
        box = (left, top, left + width, top + height)
        results = client.query(folder / names[label["image_id"]], box, limit=3, group_by_image=True)
        print("nearest to", names[label["image_id"]], "are", [hit.image.key for hit in results])


if __name__ == "__main__":
    main()
