"""COCO files as tools write them, read for sidecars; and the images that their names mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from searchanything.core.errors import AnnotationsError
from searchanything.images.coco_regions import CocoRegions, read_coco_regions
from searchanything.images.given_regions import read_given_regions
from searchanything.images.image_names import ImageNames

SQUARE = [[10, 10, 20, 10, 20, 20, 10, 20]]
RUNS = {"size": [30, 40], "counts": [310, *[10, 20] * 9, 10, 610]}


def read(folder: Path, document: object) -> CocoRegions:
    path = folder / "coco.json"
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return read_coco_regions(path)


def coco(*annotations: dict[str, Any], **image: Any) -> dict[str, Any]:
    return {"images": [{"id": 1, "file_name": "a.jpg", **image}], "annotations": list(annotations)}


def test_an_instance_is_a_region_with_the_size_of_its_image(tmp_path: Path) -> None:
    """CVAT and Datumaro write iscrowd 1 of each mask, FiftyOne and results have scores, LVIS has no iscrowd."""
    found = read(
        tmp_path,
        coco(
            {"id": 1, "image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4], "segmentation": [], "score": 0.5},
            {"image_id": 1, "segmentation": RUNS, "iscrowd": 1, "area": 100.0, "bbox": None, "score": None},
            {"image_id": 1, "bbox": [10, 10, 9, 9], "segmentation": SQUARE, "attributes": {"occluded": False}},
            height=30,
            width=40.0,
        ),
    )
    size = {"image_size": [30, 40]}
    assert [(one.name, one.regions) for one in found.images] == [
        (
            "a.jpg",
            [
                {"segmentation": RUNS, **size},
                {"bbox": [10, 10, 9, 9], "segmentation": SQUARE, **size},
                {"bbox": [1, 2, 3, 4], "score": 0.5, **size},
            ],
        )
    ]
    assert found.left_out == []


@pytest.mark.parametrize(
    ("image_id", "annotated"), [(7, "7"), ("7", 7), (7, 7.0), ("a-7", "a-7"), (0, 0), (1.5, "1.5")]
)
def test_ids_may_be_numbers_or_texts(tmp_path: Path, image_id: object, annotated: object) -> None:
    [image] = read(tmp_path, coco({"image_id": annotated, "bbox": [1, 2, 3, 4]}, id=image_id)).images
    assert image.regions == [{"bbox": [1, 2, 3, 4]}]


@pytest.mark.parametrize(
    "sides",
    [{}, {"height": None, "width": None}, {"height": 0, "width": 9}, {"height": "x"}, {"height": 9}, {"width": 9}],
)
def test_a_size_may_be_missing(tmp_path: Path, sides: dict[str, Any]) -> None:
    [image] = read(tmp_path, coco({"image_id": 1, "bbox": [1, 2, 3, 4]}, **sides)).images
    assert image.regions == [{"bbox": [1, 2, 3, 4]}]


def test_a_size_beyond_all_numbers_is_none_and_one_pixel_is_one(tmp_path: Path) -> None:
    document = coco({"image_id": 1, "bbox": [0, 0, 9, 1]}, height="H", width=9)
    for height, size in (("1e999", {}), ("1", {"image_size": [1, 9]})):
        [image] = read(tmp_path, json.dumps(document).replace('"H"', height).encode()).images
        assert image.regions == [{"bbox": [0, 0, 9, 1], **size}]


def test_regions_come_by_falling_area_and_an_area_that_is_none_counts_nothing(tmp_path: Path) -> None:
    areas = [1, "nan", "?", 5, [], 1]
    [image] = read(
        tmp_path, coco(*[{"image_id": 1, "bbox": [at, 0, 9, 9], "area": area} for at, area in enumerate(areas)])
    ).images
    assert [one["bbox"][0] for one in image.regions] == [3, 0, 5, 1, 2, 4]


def test_a_large_file_is_seen_to_be_read(tmp_path: Path) -> None:
    """A gigabyte takes a minute."""
    path, seen = tmp_path / "coco.json", list[tuple[int, int]]()
    path.write_text(json.dumps(coco(*[{"image_id": 1, "bbox": [1, 2, 3, 4]}] * 2500)))
    read_coco_regions(path, lambda *step: seen.append(step))
    assert seen == [(0, 2500), (1000, 2500), (2000, 2500)]


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    [image] = read(tmp_path, b"\xef\xbb\xbf" + json.dumps(coco(file_name="ä.jpg")).encode()).images
    assert (image.name, image.regions) == ("ä.jpg", [])


def test_what_is_no_region_is_left_out_and_said(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        coco(
            {"image_id": 1, "bbox": [float("nan"), 2, 3, 4], "area": float("nan")},
            {"image_id": 1, "bbox": [1, 2, 3, 4]},
            {"image_id": 9, "bbox": [1, 2, 3, 4]},
            {"image_id": 1, "area": 10**400},
            {"image_id": 1, "bbox": [1, 2, 3, 4], "score": 7},
            {"bbox": [1, 2, 3, 4]},
            {"image_id": 1, "bbox": [1, 2, 3, 4], "bbox_mode": 0},
            {"image_id": 1, "bbox": [9, 9, -3, 4]},
            {"image_id": 1, "bbox": [9, 9]},
        ),
    )
    assert found.images[0].regions == [{"bbox": [1, 2, 3, 4]}]
    starts = (
        "annotations[0]: bbox",
        "annotations[2]: expected the image_id",
        "annotations[3]: expected a box or",
        "annotations[4]: score",
        "annotations[5]: expected",
        "annotations[6]: expected a bbox of bbox_mode 1",
        "annotations[7]: expected a box with a width and a height, got (9.0, 9.0, 6.0, 13.0)",
        "annotations[8]: bbox",
    )
    for said, start in zip(found.left_out, starts, strict=True):
        assert said.startswith(start)


def test_what_a_table_wrote_as_nan_is_missing(tmp_path: Path) -> None:
    """One NaN beside a box kept all regions of its image out of the sidecar, which is JSON."""
    one = {"image_id": 1, "bbox": [1, 2, 3, 4]}
    mask = {"image_id": 1, "segmentation": {**RUNS, "order": float("inf")}}
    nan = float("nan")
    found = read(tmp_path, coco({**one, "bbox_mode": nan, "score": nan, "segmentation": nan}, mask))
    assert found.left_out == []
    assert json.loads(json.dumps(found.images[0].regions, allow_nan=False))[0] == {"bbox": [1, 2, 3, 4]}


def test_a_mask_without_points_leaves_the_box(tmp_path: Path) -> None:
    [image] = read(tmp_path, coco({"image_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[]]})).images
    regions, wrong = read_given_regions(image.regions, (30, 40))
    assert (regions is not None and len(regions.scores), wrong) == (1, "")


def test_an_instance_that_export_wrote_keeps_its_own_box(tmp_path: Path) -> None:
    one = {"bbox": [1, 2, 3, 4], "box_xyxy": [1.25, 2, 4, 6.5], "mask": SQUARE}
    [image] = read(tmp_path, coco({"image_id": 1, "code": "00", "region": 3, **one})).images
    assert image.regions == [one]


def test_results_that_name_their_files_are_read(tmp_path: Path) -> None:
    """As ultralytics' `save_json` writes them."""
    one = {"image_id": "a", "file_name": "a.jpg", "category_id": 1, "bbox": [1, 9, 1, 9], "score": 0.25}
    found = read(tmp_path, [one, {**one, "bbox": [1, 2, 4, 4]}, {**one, "file_name": "b.jpg"}])
    assert [(image.name, [region["bbox"] for region in image.regions]) for image in found.images] == [
        ("a.jpg", [[1, 2, 4, 4], [1, 9, 1, 9]]),
        ("b.jpg", [[1, 9, 1, 9]]),
    ]


def test_results_are_of_the_images_that_another_file_has_by_their_ids(tmp_path: Path) -> None:
    """As pycocotools, MMDetection and Detectron2 write them; the file with the images may have no annotations."""
    images = [
        {"id": number, "file_name": f"{name}.jpg", "height": 30, "width": 40} for number, name in enumerate("abc")
    ]
    (tmp_path / "images.json").write_text(json.dumps({"images": images}))
    results = [{"image_id": number, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} for number in (1, 9, "0")]
    (tmp_path / "results.json").write_text(json.dumps(results))
    found = read_coco_regions(tmp_path / "results.json", images_file=tmp_path / "images.json")
    region = {"bbox": [1, 2, 3, 4], "score": 0.5, "image_size": [30, 40]}
    assert [(one.name, one.regions) for one in found.images] == [("b.jpg", [region]), ("a.jpg", [region])]
    assert found.left_out == ["results[1]: expected the image_id of an image, got 9"]
    (tmp_path / "results.json").write_text(json.dumps({"images": images, "annotations": []}))
    with pytest.raises(AnnotationsError, match=r"results.json: results: expected COCO's list, got dict"):
        read_coco_regions(tmp_path / "results.json", images_file=tmp_path / "images.json")
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(AnnotationsError, match=r"\[0\]: .*--annotations names the COCO file"):
        read_coco_regions(tmp_path / "results.json")
    with pytest.raises(AnnotationsError, match=r"none.json: file: cannot be read"):
        read_coco_regions(tmp_path / "results.json", images_file=tmp_path / "none.json")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ({"path": "/datasets/street/a.jpg"}, "/datasets/street/a.jpg"),  # COCO Annotator
        ({"path": None}, "a.jpg"),
        ({"path": ""}, "a.jpg"),
        ({"path": 7}, "a.jpg"),
        ({"file_name": None, "coco_url": "http://host/val2017/b.jpg"}, "http://host/val2017/b.jpg"),  # LVIS
    ],
)
def test_an_image_has_the_name_that_says_most(tmp_path: Path, image: dict[str, Any], name: str) -> None:
    assert [one.name for one in read(tmp_path, coco(**image)).images] == [name]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (b"{", "file: expected JSON"),
        (b"\xff", "file: expected JSON"),
        (b"[" * 100_000, "file: expected JSON"),
        (5, "images: expected COCO's list, got NoneType"),
        ({"images": {}}, "images: expected COCO's list, got dict"),
        ({"images": []}, "annotations: expected COCO's list"),
        ({"images": [5], "annotations": []}, "images[0]: expected an object, got int"),
        ({"images": [{"id": 1}], "annotations": []}, "images[0].file_name: expected the name of a file, got none"),
        (
            {"images": [], "annotations": [{"segments_info": []}]},
            "annotations: expected instances, got COCO's panoptic",
        ),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4]}], "[0]: expected a COCO file with images and annotations, or results"),
        ([5], "[0]: expected a COCO file with images and annotations, or results"),
    ],
)
def test_what_is_no_coco_file_is_refused(tmp_path: Path, document: object, field: str) -> None:
    with pytest.raises(AnnotationsError) as refused:
        read(tmp_path, document)
    assert f"coco.json: {field}" in str(refused.value)


def test_two_images_of_one_id_are_refused_and_so_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    document = coco()
    document["images"] *= 2
    with pytest.raises(AnnotationsError, match=r"images\[1\].id: expected one image for each id, got 1 again"):
        read(tmp_path, document)
    with pytest.raises(AnnotationsError, match=r"none\.json: file: cannot be read: No such file"):
        read_coco_regions(tmp_path / "none.json")


KEYS = [
    "p/",
    "p/%41d.jpg",
    "p/Ad.jpg",
    "p/a.jpg",
    "p/train a/a.jpg",
    "p/train a/b.jpg",
    "p/Größe 50%25.jpg",
    "p/y/c.jpg",
    "p/x/c.jpg",
]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("a.jpg", ["p/a.jpg"]),
        ("./a.jpg", ["p/a.jpg"]),
        ("b.jpg", ["p/train a/b.jpg"]),
        ("./b.jpg", ["p/train a/b.jpg"]),
        ("train a//a.jpg", ["p/train a/a.jpg"]),
        ("train a/a.jpg", ["p/train a/a.jpg"]),
        ("C:\\data\\train a\\a.jpg", ["p/train a/a.jpg"]),
        ("/data/local-files/?d=images/train%20a/a.jpg", ["p/train a/a.jpg"]),  # Label Studio
        ("s3://bucket/p/train a/a.jpg", ["p/train a/a.jpg"]),
        ("http://images.cocodataset.org/a.jpg", ["p/a.jpg"]),
        ("Gro\u0308\u00dfe 50%25.jpg", ["p/Größe 50%25.jpg"]),  # as macOS composes it
        ("Gr%C3%B6%C3%9Fe%2050%2525.jpg", ["p/Größe 50%25.jpg"]),
        ("http://host/train%20a/b.jpg?X-Signature=a/c.jpg2?", ["p/train a/b.jpg"]),  # signed for a day
        ("%41d.jpg", ["p/%41d.jpg"]),
        ("Ad.jpg", ["p/Ad.jpg"]),
        ("c.jpg", ["p/x/c.jpg", "p/y/c.jpg"]),
        ("z/c.jpg", []),
        ("ya.jpg", []),
        ("", []),
        ("/", []),
    ],
)
def test_an_image_is_found_by_the_end_of_its_name(name: str, keys: list[str]) -> None:
    assert ImageNames(KEYS, "p/").find(name) == keys
