"""Photographs with labels: instances out of label images, what is taught of them, and how whole images are judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from searchanything.core.geometry import decode_rle  # noqa: E402
from searchanything.core.types import MaskRLE  # noqa: E402
from searchanything.evaluation.ranking import units  # noqa: E402
from training.lab_weights import run_state  # noqa: E402
from training.photograph_classes import PhotographFolders, plain_class  # noqa: E402
from training.region_features import Example, classes_of_rows  # noqa: E402
from training.street_annotations import coco_of, fifth_of, parts_of  # noqa: E402
from training.whole_images import figures_of, read_photographs  # noqa: E402

WORDS = ["null", "bag", "shoes"]


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Photographs 5 and 7: a bag, two shoes, and a crumb of a shoe."""
    labels = np.zeros((60, 80), np.uint8)
    labels[5:25, 10:30] = 1
    labels[30:50, 10:20] = labels[30:50, 40:50] = 2
    labels[55:57, 70:75] = 2
    for number in (5, 7):
        Image.fromarray(labels).save(tmp_path / f"{number:04d}.png")
        Image.fromarray(np.full((60, 80, 3), number, np.uint8)).save(tmp_path / f"{number:04d}.jpg")
    (tmp_path / "labels.json").write_text(json.dumps(WORDS))
    return tmp_path


@pytest.fixture
def grocery(tmp_path: Path) -> Path:
    """Twelve photographs in two fine classes of one coarse class."""
    folder = tmp_path / "grocery"
    folder.mkdir()
    rows = [[f"{place:04d}.jpg", place % 2, 0] for place in range(12)]
    for file, _, _ in rows:
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / file)
    names = {"fine": ["Pink-Lady", "Royal-Gala"], "coarse": ["Apple", "Apple"]}
    (folder / "index.json").write_text(json.dumps({"rows": rows, **names}))
    return folder


def test_every_connected_part_is_an_instance_and_crumbs_are_none(street: Path) -> None:
    document = coco_of(fifth_of(street, 0), WORDS)
    assert [one["id"] for one in document["images"]] == [5]
    assert [(one["category_id"], one["bbox"], one["area"]) for one in document["annotations"]] == [
        (1, [10, 5, 20, 20], 400),
        (2, [10, 30, 10, 20], 200),
        (2, [40, 30, 10, 20], 200),
    ]
    rle = document["annotations"][2]["segmentation"]
    mask = decode_rle(MaskRLE(tuple(rle["size"]), rle["counts"]))
    assert mask.sum() == 200
    assert mask[30:50, 40:50].all()
    assert [one["name"] for one in document["categories"]] == ["bag", "shoes"]


def test_a_street_photograph_shows_its_parts_in_boxes(street: Path) -> None:
    boxes, words = PhotographFolders(street).street_things(street / "0007.png")
    assert words == ["bag", "shoes", "shoes"]
    assert boxes.tolist() == [[10, 5, 30, 25], [10, 30, 20, 50], [40, 30, 50, 50]]


def test_a_region_has_the_class_of_the_thing_that_it_overlaps_most() -> None:
    things = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
    example = Example(np.zeros((20, 60, 3), np.uint8), things, ["cup", "shoe", "hat"], whole="shelf")
    regions = np.array([[0, 0, 10, 7], [0, 0, 10, 9], [21, 0, 31, 10], [47, 0, 57, 10], [0, 0, 60, 20]], np.float32)
    assert classes_of_rows(example, regions) == [None, "cup", "shoe", None, None, "shelf"]
    assert classes_of_rows(example, regions[:0]) == ["shelf"]
    both = np.array([[0, 0, 10, 9], [0, 0, 10, 10]], np.float32)
    for order in ([0, 1], [1, 0]):
        pair = Example(example.image, both[order], [["plate", "cup"][one] for one in order])
        assert classes_of_rows(pair, both[1:]) == ["cup", None], "of two things in one region the better overlap wins"
    nothing = Example(example.image, np.zeros((0, 4), np.float32), ())
    assert classes_of_rows(nothing, regions) == [None] * 6


def test_parts_that_touch_at_a_corner_are_one() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[0:20, 0:20] = labels[20:40, 20:40] = 1
    assert [mask.sum() for _, mask in parts_of(labels)] == [800]


def test_the_judged_fifth_is_not_taught(street: Path, grocery: Path) -> None:
    folders = PhotographFolders(street, grocery)
    assert [path.name for path in folders.street_labels()] == ["0007.png"]
    grocery_names = [path.name for path, _ in folders.grocery_rows()]
    assert grocery_names == [f"{place:04d}.jpg" for place in (1, 2, 3, 4, 6, 7, 8, 9, 11)]
    crops = folders.crops(size_px=8)
    assert {name: len(found) for name, found in crops.items()} == {  # 8 at most
        "bag": 1,
        "pink lady": 4,
        "royal gala": 5,
        "apple": 8,
    }
    assert all(crop.shape == (8, 8, 3) for found in crops.values() for crop in found)
    assert len(read_photographs(grocery, 0).files) == 3


def test_words_are_those_of_labels_and_classes(street: Path, grocery: Path) -> None:
    assert PhotographFolders(street, grocery).names() == ("apple", "bag", "pink lady", "royal gala", "shoes")
    assert PhotographFolders().names() == ()
    assert plain_class("Red-Bell-Pepper") == "red bell pepper"


def test_whole_images_are_judged_among_the_others() -> None:
    directions = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 0.9]], np.float32)
    classes = np.array([0, 0, 1, 1, 1])
    figures = figures_of(units(lambda rows: directions[rows]), classes)
    # The last one's ranking is 1, 0, 3, 2: both of its own class come last. All others find their own first.
    assert figures["precision_1"]["mean"] == pytest.approx(4 / 5)
    assert figures["map_10"]["mean"] == pytest.approx((1 + 1 + 1 + 1 + (1 / 3 + 2 / 4) / 2) / 5)


def test_a_run_on_a_gpu_becomes_a_run_folder() -> None:
    tower = {
        "trunk.bn1.weight": torch.ones(2, dtype=torch.float16),
        "trunk.bn1.num_batches_tracked": torch.tensor(3),
        "head.weight": torch.ones(4, 2, dtype=torch.float16),
    }
    heads = {"names": torch.ones(4, 3, dtype=torch.float16), "protos": torch.ones(9, 4, dtype=torch.float16)}
    state = run_state(tower, heads, steps=7, minutes=2)
    assert list(state["average"]) == [
        *("module.trunk.bn1.weight", "module.trunk.bn1.num_batches_tracked", "module.head.proj.weight")
    ]
    assert state["average"]["module.head.proj.weight"].dtype == torch.float32
    assert state["average"]["module.trunk.bn1.num_batches_tracked"].dtype == torch.int64
    shapes = {name: tuple(tensor.shape) for name, tensor in state["heads"].items()}
    assert shapes == {"from_names.weight": (4, 3), "prototypes": (9, 4)}
    assert (state["step"], state["elapsed_s"]) == (7, 120)
