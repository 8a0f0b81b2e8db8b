"""Annotation files: what is read from them, and what is said of broken ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import build_corpus, encode, png_file
from PIL import Image
from pycocotools import mask as coco_mask

from searchanything.core.errors import AnnotationsError
from searchanything.core.geometry import decode_rle, encode_rle, innermost_point
from searchanything.evaluation.coco import read_coco
from searchanything.evaluation.voc import read_voc

HEIGHT, WIDTH = 20, 30


def square(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


def document() -> dict[str, Any]:
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [2, 4, 10, 6], "area": 60, "iscrowd": 0}
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{**annotation, "segmentation": [[2, 4, 12, 4, 12, 10, 2, 10]], "style": "noto", "new": True}],
        "categories": [{"id": 3, "name": "cup"}],
    }


def written(folder: Path, content: object) -> Path:
    path = folder / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_a_polygon_becomes_a_mask_of_the_images_size(tmp_path: Path) -> None:
    truth = read_coco(written(tmp_path, document()), attributes=("style", "new"))
    (image,) = truth.images
    (one,) = image.instances
    assert (image.file_name, image.height, image.width) == ("a.jpg", HEIGHT, WIDTH)
    assert (one.category, one.area_px, one.crowd, one.longest_side_px) == ("cup", 60, False, 10)
    assert one.box_xyxy == (2, 4, 12, 10)
    assert dict(one.attributes) == {"style": "noto", "new": "true"}
    np.testing.assert_array_equal(decode_rle(one.mask), square(2, 4, 12, 10))


@pytest.mark.parametrize("form", ["compressed", "runs", "box"])
def test_all_forms_of_a_segmentation_give_the_same_mask(tmp_path: Path, form: str) -> None:
    mask = square(2, 4, 12, 10)
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [0]]))), prepend=0).tolist()
    segmentation = {
        "compressed": {"size": [HEIGHT, WIDTH], "counts": encode_rle(mask).counts},
        "runs": {"size": [HEIGHT, WIDTH], "counts": [*runs, HEIGHT * WIDTH - sum(runs)]},
        "box": None,
    }
    content = document()
    content["annotations"][0]["segmentation"] = segmentation[form]
    (one,) = read_coco(written(tmp_path, content)).images[0].instances
    np.testing.assert_array_equal(decode_rle(one.mask), mask)


def test_area_and_box_come_from_the_mask_where_they_are_missing(tmp_path: Path) -> None:
    content = document()
    del content["annotations"][0]["area"], content["annotations"][0]["bbox"]
    (one,) = read_coco(written(tmp_path, content)).images[0].instances
    assert one.area_px == 60
    assert one.box_xyxy == (2, 4, 12, 10)


def test_a_key_of_the_annotations_may_be_the_category(tmp_path: Path) -> None:
    (one,) = read_coco(written(tmp_path, document()), category="style").images[0].instances
    assert one.category == "noto"


def test_images_without_instances_stay_and_annotations_without_pixels_go(tmp_path: Path) -> None:
    content = document()
    content["annotations"][0]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    truth = read_coco(written(tmp_path, content))
    assert truth.images[0].instances == ()
    assert truth.empty_annotations == 1


def test_a_sample_is_drawn_by_seed_and_keeps_the_order(tmp_path: Path) -> None:
    content = document()
    content["images"] = [{"id": n, "file_name": f"{n}.jpg", "height": HEIGHT, "width": WIDTH} for n in range(7, 27)]
    truth = read_coco(written(tmp_path, content))
    first, again, other = (truth.sample(8, seed=seed).images for seed in (1, 1, 2))
    names = [int(one.file_name.removesuffix(".jpg")) for one in first]
    assert first == again != other
    assert names == sorted(names)
    assert len(names) == 8
    assert truth.sample(None, seed=1) is truth
    assert truth.sample(20, seed=1) == truth.sample(21, seed=1) == truth


def test_a_sample_says_what_the_whole_left_out(tmp_path: Path) -> None:
    content = document()
    content["annotations"][0]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    content["images"] += [{"id": n, "file_name": f"{n}.jpg", "height": HEIGHT, "width": WIDTH} for n in (8, 9)]
    assert read_coco(written(tmp_path, content)).sample(1, seed=0).empty_annotations == 1


def _set(*keys: object, to: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to

    return change


def _drop(*keys: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


FIRST = ("annotations", 0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_drop("images"), "images"),
        (_drop("images", 0, "file_name"), "images[0].file_name"),
        (_set("images", 0, "width", to=0), "images[0].width"),
        (_set("images", 0, "height", to=0), "images[0].height"),
        (_set("images", to=document()["images"] * 2), "images"),
        (_set("categories", 0, "name", to=5), "categories[0].name"),
        (_drop(*FIRST, "image_id"), "annotations[0].image_id"),
        (_set(*FIRST, "image_id", to=8), "annotations[0].image_id"),
        (_set(*FIRST, "category_id", to=8), "annotations[0].category_id"),
        (_set(*FIRST, "bbox", to=[1, 2, 3]), "annotations[0].bbox"),
        (_set(*FIRST, "bbox", to=[1, 2, -3, 4]), "annotations[0].bbox"),
        (_set(*FIRST, "bbox", to=[1, 2, math.inf, 4]), "annotations[0].bbox"),
        (_set(*FIRST, "bbox", to=[math.nan, 2, 3, 4]), "annotations[0].bbox"),
        (_set(*FIRST, "area", to=-1), "annotations[0].area"),
        (_set(*FIRST, "area", to=math.inf), "annotations[0].area"),
        (_set(*FIRST, "segmentation", to=[[1, 2, 3]]), "annotations[0].segmentation"),
        (_set("images", 0, "width", to=None), "images[0].width"),
        (_set("images", 0, "height", to=None), "images[0].height"),
        (_set(*FIRST, "segmentation", to=[[1, 2, 3, 4, 5, 6, 7]]), "annotations[0].segmentation"),
        (_set(*FIRST, "segmentation", to={"size": [9, 9], "counts": "0"}), "annotations[0].segmentation"),
        (_set(*FIRST, "segmentation", to={"size": [HEIGHT, WIDTH], "counts": "zz"}), "annotations[0].segmentation"),
        (_set(*FIRST, "segmentation", to={"size": [HEIGHT, WIDTH], "counts": [3]}), "annotations[0].segmentation"),
        (_drop(*FIRST, "style"), "annotations[0].style"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], None], field: str) -> None:
    content = document()
    change(content)
    path = written(tmp_path, content)
    with pytest.raises(AnnotationsError) as caught:
        read_coco(path, attributes=("style",))
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{path}: {field}: ")


def test_files_that_are_no_json_or_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationsError, match=r"annotations\.json: file: Invalid JSON"):
        read_coco(written(tmp_path, "{"))
    with pytest.raises(AnnotationsError, match=r"none\.json: file: cannot be read: No such file or directory$"):
        read_coco(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"images": 3}', "\x00"])
def test_a_file_of_another_kind_is_refused_with_what_was_expected(tmp_path: Path, text: str) -> None:
    with pytest.raises(AnnotationsError, match=r": expected COCO instances, a JSON object with images, annotations"):
        read_coco(written(tmp_path, text))


def test_neither_segmentation_nor_box_is_refused(tmp_path: Path) -> None:
    content = document()
    del content["annotations"][0]["segmentation"], content["annotations"][0]["bbox"]
    with pytest.raises(AnnotationsError, match=r"annotations\[0\]\.segmentation: expected a segmentation or a bbox"):
        read_coco(written(tmp_path, content))


def test_the_innermost_point_is_farthest_from_the_outline(tmp_path: Path) -> None:
    content = document()  # 7 x 7 pixels and a thin handle to their right: the middle of the square
    outline = square(2, 4, 9, 11) | square(9, 7, 20, 8)
    encoded = encode_rle(outline)
    content["annotations"][0] |= {"segmentation": {"size": [HEIGHT, WIDTH], "counts": encoded.counts}}
    (one,) = read_coco(written(tmp_path, content)).images[0].instances
    assert innermost_point(decode_rle(one.mask)) == (5.5, 7.5)
    assert coco_mask.area({"size": [HEIGHT, WIDTH], "counts": encoded.counts.encode()}) == 49 + 11


VOC_XML = """<annotation><object><name>cat</name><pose>Left</pose></object>
<object><name>dog</name><pose>Right</pose></object></annotation>"""


def voc(folder: Path, *, xml: str | None = VOC_XML) -> Path:
    """One image of two objects, the second cut off by a void border."""
    numbers = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    numbers[2:8, 2:8], numbers[10:18, 10:20], numbers[10:18, 20:22] = 1, 2, 255
    classes = np.where(numbers == 1, 8, np.where(numbers == 2, 12, numbers)).astype(np.uint8)
    for name, pixels in (("SegmentationObject", numbers), ("SegmentationClass", classes)):
        (folder / name).mkdir(parents=True)
        image = Image.fromarray(pixels)
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
        image.save(folder / name / "2007_1.png")
    (folder / "Annotations").mkdir()
    if xml is not None:
        (folder / "Annotations" / "2007_1.xml").write_text(xml, "utf-8")
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_1\n", "utf-8")
    return folder


def test_voc_objects_are_the_numbers_of_the_palette(tmp_path: Path) -> None:
    (image,) = read_voc(voc(tmp_path), attributes=("pose",)).images
    assert [one.annotation for one in image.instances] == ["1", "2"]
    assert (image.file_name, image.height, image.width) == ("JPEGImages/2007_1.jpg", HEIGHT, WIDTH)
    assert [one.category for one in image.instances] == ["cat", "dog"]
    assert [one.box_xyxy for one in image.instances] == [(2, 2, 8, 8), (10, 10, 20, 18)]
    assert [one.attributes["pose"] for one in image.instances] == ["Left", "Right"]
    assert [one.area_px for one in image.instances] == [36, 80]
    assert not any(one.crowd for one in image.instances)
    assert image.void is not None
    np.testing.assert_array_equal(decode_rle(image.void), square(20, 10, 22, 18))


def test_voc_with_xml_needs_no_classes_of_pixels_and_void_may_be_missing(tmp_path: Path) -> None:
    root = voc(tmp_path)
    (root / "SegmentationClass" / "2007_1.png").unlink()
    path = root / "SegmentationObject" / "2007_1.png"
    numbers = np.asarray(Image.open(path))
    Image.fromarray(np.where(numbers == 255, 0, numbers).astype(np.uint8)).save(path)
    truth = read_voc(root)
    assert [one.category for one in truth.images[0].instances] == ["cat", "dog"]
    assert truth.images[0].void is None
    assert truth.empty_annotations == 0


def test_voc_masks_have_the_limits_of_images(tmp_path: Path) -> None:
    root = voc(tmp_path)
    path = root / "SegmentationObject" / "2007_1.png"
    with pytest.raises(AnnotationsError, match="more than the 100 that"):
        read_voc(root, max_pixels=100)
    for case in build_corpus():
        if case.name.startswith("bomb") and case.expected == "error":
            path.write_bytes(case.data)
            with pytest.raises(AnnotationsError, match=r"2007_1.png: file: cannot be read: it "):
                read_voc(root)


def test_voc_names_outside_the_folder_are_refused(tmp_path: Path) -> None:
    root = voc(tmp_path / "voc")
    listing = root / "ImageSets" / "Segmentation" / "val.txt"
    listing.write_text("2007_1\n../../2007_2\n", "utf-8")
    with pytest.raises(AnnotationsError) as refused:
        read_voc(root)
    assert str(refused.value).startswith(f"{listing}: ../../2007_2: ")


def test_voc_without_xml_takes_the_classes_of_the_pixels(tmp_path: Path) -> None:
    root = voc(tmp_path, xml=None)
    (image,) = read_voc(root).images
    assert [one.category for one in image.instances] == ["cat", "dog"]
    path = root / "SegmentationClass" / "2007_1.png"
    classes = np.array(Image.open(path))
    classes[2:6, 2:8], classes[6, 2:4] = 0, 255  # of 36 pixels of the cat 24 say nothing, 2 are void
    Image.fromarray(classes).save(path)
    assert [one.category for one in read_voc(root).images[0].instances] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation>", "2007_1.xml: file: cannot be read"),
        (
            "<annotation><object><name>a</name><pose>b</pose></object></annotation>",
            "2007_1.xml: object: expected 2 or more",
        ),
        (VOC_XML.replace("<pose>Left</pose>", ""), r"2007_1.xml: object\[1\].pose: expected a text"),
        ('<?xml version="1.0" encoding="gbk"?><annotation/>', "2007_1.xml: file: cannot be read: multi-byte"),
        ('<?xml version="1.0" encoding="cp0"?><annotation/>', "2007_1.xml: file: cannot be read: unknown enc"),
        (None, "2007_1.xml: file: cannot be read"),
    ],
)
def test_voc_files_that_are_wrong_are_named(tmp_path: Path, xml: str | None, message: str) -> None:
    with pytest.raises(AnnotationsError, match=message):
        read_voc(voc(tmp_path, xml=xml), attributes=("pose",))


def test_a_voc_list_or_mask_that_is_missing_is_named(tmp_path: Path) -> None:
    root = voc(tmp_path)
    with pytest.raises(AnnotationsError, match=r"train\.txt: file: cannot be read"):
        read_voc(root, split="train")
    (root / "SegmentationObject" / "2007_1.png").unlink()
    with pytest.raises(AnnotationsError, match=r"2007_1\.png: file: cannot be read"):
        read_voc(root)


GREY = encode(Image.new("L", (WIDTH, HEIGHT)), format="png")
HEAD = 33  # where the chunk of a PNG's size ends


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encode(Image.new("RGB", (WIDTH, HEIGHT)), format="png"), "pixels: expected palette numbers, got mode RGB"),
        (encode(Image.new("1", (WIDTH, HEIGHT)), format="png"), "pixels: expected palette numbers, got mode 1"),
        (GREY[: HEAD + 10], "file: cannot be read"),
        (png_file(30_000, 30_000, colour=0), "file: cannot be read: it declares 30000 x 30000"),
    ],
    ids=["colours", "one bit", "cut off", "too large"],
)
def test_voc_masks_that_cannot_be_read_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = voc(tmp_path) / "SegmentationObject" / "2007_1.png"
    path.write_bytes(content)
    with pytest.raises(AnnotationsError, match=rf"2007_1\.png: {message}"):
        read_voc(tmp_path)


def test_voc_classes_of_another_size_or_number_are_named(tmp_path: Path) -> None:
    """Twenty classes, from 1 to 20; 0 is the background and 255 the border."""
    path = voc(tmp_path, xml=None) / "SegmentationClass" / "2007_1.png"
    for number, category in ((1, "aeroplane"), (20, "tvmonitor")):
        Image.new("L", (WIDTH, HEIGHT), number).save(path)
        assert {one.category for one in read_voc(tmp_path).images[0].instances} == {category}
    for number, got in ((21, 21), (0, 0), (255, 0)):
        Image.new("L", (WIDTH, HEIGHT), number).save(path)
        with pytest.raises(AnnotationsError, match=rf"2007_1\.png: pixels: expected classes 1 to 20, got {got}$"):
            read_voc(tmp_path)
    Image.new("L", (WIDTH + 1, HEIGHT), 1).save(path)
    with pytest.raises(AnnotationsError, match=r"2007_1\.png: pixels: expected a size of \(20, 30\), as in"):
        read_voc(tmp_path)


def test_a_triangle_and_another_part_are_filled(tmp_path: Path) -> None:
    """Between pixels: what lies more than a pixel inside of all three sides is in, what lies as far outside is not."""
    corners = np.array([[2.5, 4.0], [20.25, 6.5], [7.0, 18.0]])
    content = document()
    content["annotations"][0]["segmentation"] = [corners.ravel().tolist(), [24, 1, 29, 1, 29, 6, 24, 6]]
    del content["annotations"][0]["area"], content["annotations"][0]["bbox"], content["annotations"][0]["iscrowd"]
    (one,) = read_coco(written(tmp_path, content)).images[0].instances
    mask = decode_rle(one.mask)
    inside = np.full((HEIGHT, WIDTH), np.inf)  # the least distance of a pixel's centre from a side, in pixels
    for row, column in np.ndindex(HEIGHT, WIDTH):
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            across = (x2 - x1) * (row + 0.5 - y1) - (y2 - y1) * (column + 0.5 - x1)
            inside[row, column] = min(inside[row, column], across / math.hypot(x2 - x1, y2 - y1))
    part = square(24, 1, 29, 6)
    assert mask[(inside > 1) | part].all()
    assert not mask[(inside < -1) & ~part].any()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert one.box_xyxy == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert (one.area_px, one.crowd) == (mask.sum(), False)


def test_attributes_keep_their_spelling(tmp_path: Path) -> None:
    path = changed(tmp_path, style="Noto Sans", new=False, weight=3, share=0.5)
    (one,) = read_coco(path, attributes=("style", "new", "weight", "share")).images[0].instances
    assert dict(one.attributes) == {"style": "Noto Sans", "new": "false", "weight": "3", "share": "0.5"}


def test_the_least_image_and_area_are_taken(tmp_path: Path) -> None:
    content = document()
    content["images"][0] |= {"height": 1, "width": 1}
    content["annotations"][0] |= {"segmentation": {"size": [1, 1], "counts": [0, 1]}, "area": 0, "bbox": [0, 0, 0.5, 1]}
    (one,) = read_coco(written(tmp_path, content)).images[0].instances
    assert (one.area_px, one.box_xyxy, one.longest_side_px) == (0, (0, 0, 0.5, 1), 1)


def changed(folder: Path, **first: object) -> Path:
    content = document()
    content["annotations"][0] |= first
    return written(folder, content)


def test_what_an_annotation_says_counts_before_its_mask(tmp_path: Path) -> None:
    (one,) = read_coco(changed(tmp_path, area=55, iscrowd=1, bbox=[1, 3, 9, 1])).images[0].instances
    assert (one.area_px, one.crowd, one.box_xyxy) == (55, True, (1, 3, 10, 4))
    whole = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    (one,) = read_coco(changed(tmp_path, segmentation=whole)).images[0].instances
    assert decode_rle(one.mask).all()


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ({"bbox": [1, 2, -1, 0]}, "annotations[0].bbox: expected a positive width and height, got (-1.0, 0.0)"),
        ({"bbox": [1, 2, 3, -1]}, "annotations[0].bbox: expected a positive width and height, got (3.0, -1.0)"),
        (
            {"segmentation": {"size": [HEIGHT, WIDTH], "counts": []}},
            "annotations[0].segmentation: expected runs of 600 pixels, got 0 in 0 runs",
        ),
    ],
)
def test_boxes_and_runs_of_nothing_are_refused(tmp_path: Path, first: dict[str, object], said: str) -> None:
    with pytest.raises(AnnotationsError) as refused:
        read_coco(changed(tmp_path, **first))
    assert str(refused.value).endswith(f"annotations.json: {said}")


@pytest.mark.parametrize("box", [[2, 4, 0, 5], [2, 4, 9, 0], [2, 4, 0, 0]])
def test_a_box_to_the_last_pixel_may_have_no_width(tmp_path: Path, box: list[int]) -> None:
    """As OpenCV's and SAM's users write it."""
    (one,) = read_coco(changed(tmp_path, bbox=box)).images[0].instances
    assert one.box_xyxy == (2, 4, 12, 10)
    assert read_coco(changed(tmp_path, bbox=box, segmentation=[])).empty_annotations == 1


def test_contours_of_a_pixel_are_no_part_of_a_mask(tmp_path: Path) -> None:
    (polygon,) = document()["annotations"][0]["segmentation"]
    (one,) = read_coco(changed(tmp_path, segmentation=[[20, 15], polygon, [20, 15, 21, 15]])).images[0].instances
    np.testing.assert_array_equal(decode_rle(one.mask), square(2, 4, 12, 10))


def test_an_image_that_label_studio_never_opened_is_left_out(tmp_path: Path) -> None:
    content = document()
    content["images"].append({"id": 8, "file_name": "b.jpg", "height": None, "width": None})
    assert [one.file_name for one in read_coco(written(tmp_path, content)).images] == ["a.jpg"]


def test_an_image_of_lvis_is_named_by_its_address(tmp_path: Path) -> None:
    content = document()
    del content["images"][0]["file_name"]
    content["images"][0]["coco_url"] = "http://images.cocodataset.org/val2017/a.jpg?v=1/2"
    assert [one.file_name for one in read_coco(written(tmp_path, content)).images] == ["a.jpg"]


def test_polygons_may_reach_twice_the_longer_side_out_of_the_image(tmp_path: Path) -> None:
    def around(low: int, high: int) -> Path:
        return changed(tmp_path, segmentation=[[low, low, high, low, high, high, low, high]])

    (one,) = read_coco(around(-61, 122)).images[0].instances
    assert decode_rle(one.mask).all()
    for low, high in ((-62, 122), (-61, 123)):
        with pytest.raises(AnnotationsError, match="coordinates near the image, from -61 to 122, got others"):
            read_coco(around(low, high))


def test_images_larger_than_any_mask_are_refused(tmp_path: Path) -> None:
    content = document()
    content["images"][0] |= {"height": 2**14 + 1, "width": 2**14}
    with pytest.raises(AnnotationsError, match=r"images\[0\]: expected at most 268,435,456 pixels, got 16384 x 16385$"):
        read_coco(written(tmp_path, content))


def test_the_first_three_complaints_are_shown(tmp_path: Path) -> None:
    content, reasons = document(), []
    for key in ("file_name", "height", "width", "id"):
        del content["images"][0][key]
        with pytest.raises(AnnotationsError) as refused:
            read_coco(written(tmp_path, content))
        reasons.append(refused.value.reason)
        assert refused.value.field == ("images[0].id" if key == "id" else "images[0].file_name")
    required = ": Field required"
    two = f"Field required; and images[0].height{required}"
    assert reasons[:3] == ["Field required", two, f"{two}; images[0].width{required}"]
    assert reasons[3].count("Field required") == 3


def test_voc_fields_are_asked_for_where_there_is_an_xml(tmp_path: Path) -> None:
    root = voc(tmp_path, xml=None)
    with pytest.raises(AnnotationsError, match=r"2007_1\.xml: file: .* the fields that were asked for are in it alone"):
        read_voc(root, category="pose")
