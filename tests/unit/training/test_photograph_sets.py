"""Folders of the form in which the photographs are published, brought into the layout that training reads."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from training.photograph_classes import PhotographFolders
from training.photograph_sets import clone_commands, convert_grocery, convert_street, main
from training.street_annotations import coco_of, fifth_of
from training.whole_images import read_photographs

WORDS = ["null", "jeans", "t-shirt", "hat"]
HEADS = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic Image Path (str)\n"
CLASSES = "Pink-Lady,1,Apple,0,/iconic/b.jpg\nGranny-Smith,0,Apple,0,/iconic/a.jpg\nLemon,2,Lemon,1,/iconic/c.jpg\n"


def clothing(repository: Path, numbers: list[int], *, labels_of: tuple[int, int] = (820, 550)) -> Path:
    """As `bearpaw/clothing-co-parsing` has it: MATLAB files of format 5, uint8 labels, a cell array of words."""
    (repository / "photos").mkdir(parents=True)
    (repository / "annotations" / "pixel-level").mkdir(parents=True)
    savemat(repository / "label_list.mat", {"label_list": np.array([WORDS], dtype=object)})
    for number in numbers:
        pixels = np.full((820, 550, 3), 200, dtype=np.uint8)
        pixels[:410] = (30, 60, 120)
        labels = np.zeros(labels_of, dtype=np.uint8)
        labels[: labels_of[0] // 2] = 3
        labels[labels_of[0] // 2 :, 100:300] = 1
        cv2.imwrite(str(repository / "photos" / f"{number:04}.jpg"), pixels)
        savemat(repository / "annotations" / "pixel-level" / f"{number:04}.mat", {"groundtruth": labels})
    cv2.imwrite(str(repository / "photos" / "1005.jpg"), np.zeros((9, 9, 3), dtype=np.uint8))  # not annotated
    return repository


def groceries(repository: Path, *, lines: str | None = None) -> Path:
    """As `marcusklasson/GroceryStoreDataset` has it."""
    dataset = repository / "dataset"
    files = ["train/Fruit/Apple/Pink-Lady/Pink-Lady_001.jpg", "train/Fruit/Lemon/Lemon_001.jpg"]
    for file, size in zip(files, [(348, 348), (464, 348)], strict=True):
        (dataset / file).parent.mkdir(parents=True)
        cv2.imwrite(str(dataset / file), np.full((*size, 3), 90, dtype=np.uint8))
    (dataset / "classes.csv").write_text(HEADS + CLASSES)
    (dataset / "train.txt").write_text(lines or f"{files[0]}, 1, 0\n{files[1]}, 2, 1\n\n")
    return repository


def test_street_photographs_lie_as_training_reads_them(tmp_path: Path) -> None:
    out = tmp_path / "street"
    assert convert_street(clothing(tmp_path / "published", [1, 2, 5, 6, 10]), out) == 3
    assert sorted(path.name for path in out.iterdir()) == [
        *("0002.jpg", "0002.png", "0005.jpg", "0005.png", "0010.jpg", "0010.png", "labels.json")
    ]  # the fifth that leaves 1 is kept
    image, labels = cv2.imread(str(out / "0005.jpg")), cv2.imread(str(out / "0005.png"), cv2.IMREAD_UNCHANGED)
    assert image.shape == (512, 343, 3)
    assert labels.shape == (512, 343)
    assert set(np.unique(labels).tolist()) == {0, 1, 3}  # no label in between, as smoothing would make
    assert (labels[:250] == 3).all()
    assert np.abs(image[100, 100].astype(int) - (30, 60, 120)).max() < 12
    document = coco_of(fifth_of(out, 0), json.loads((out / "labels.json").read_text()))
    names = {one["id"]: one["name"] for one in document["categories"]}
    assert {names[one["category_id"]] for one in document["annotations"]} == {"hat", "jeans"}
    folders = PhotographFolders(street=out)
    assert folders.names() == ("hat", "jeans", "t-shirt")
    assert [path.name for path in folders.street_labels()] == ["0002.png"]


def test_groceries_lie_as_training_reads_them(tmp_path: Path) -> None:
    out = tmp_path / "grocery"
    assert convert_grocery(groceries(tmp_path / "published"), out) == 2
    index = json.loads((out / "index.json").read_text())
    assert index["rows"] == [["0000.jpg", 1, 0], ["0001.jpg", 2, 1]]
    assert index["fine"] == ["Granny-Smith", "Pink-Lady", "Lemon"]
    assert index["coarse"] == ["Apple", "Apple", "Lemon"]
    assert cv2.imread(str(out / "0000.jpg")).shape == (176, 176, 3)
    assert cv2.imread(str(out / "0001.jpg")).shape == (235, 176, 3)
    found = read_photographs(out, None)
    assert found.classes["fine"].tolist() == [1, 2]
    assert found.classes["coarse"].tolist() == [0, 1]
    assert PhotographFolders(grocery=out).names() == ("apple", "granny smith", "lemon", "pink lady")


def test_other_forms_are_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected labels of \(820, 550\) for photograph 0002, got \(820, 549\)"):
        convert_street(clothing(tmp_path / "a", [2], labels_of=(820, 549)), tmp_path / "out")
    with pytest.raises(ValueError, match=r"expected annotations/pixel-level/NUMBER\.mat"):
        convert_street(clothing(tmp_path / "b", []), tmp_path / "out")
    savemat(tmp_path / "a" / "label_list.mat", {"label_list": np.array([WORDS[:2]], dtype=object)})
    with pytest.raises(ValueError, match=r"expected labels \(H, W\) below 2 in 0002\.mat"):
        convert_street(tmp_path / "a", tmp_path / "out")
    for number, line in enumerate(["train/Fruit/Lemon/Lemon_001.jpg", "train/Fruit/Lemon/Lemon_001.jpg, 9, 1"]):
        with pytest.raises(ValueError, match=r"expected a file and its two classes in line 1 of train\.txt"):
            convert_grocery(groceries(tmp_path / f"g{number}", lines=line), tmp_path / "out")


def test_the_program_clones_and_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda command, **_: asked.append(command))
    main(["fetch", "--into", str(tmp_path / "repositories")])
    assert asked == clone_commands(tmp_path / "repositories")
    assert [command[-1] for command in asked] == [
        str(tmp_path / "repositories" / name) for name in ("clothing-co-parsing", "GroceryStoreDataset")
    ]
    main(["street", "--repository", str(clothing(tmp_path / "c", [2])), "--out", str(tmp_path / "street")])
    main(["grocery", "--repository", str(groceries(tmp_path / "g")), "--out", str(tmp_path / "grocery")])
    assert (tmp_path / "street" / "0002.png").exists()
    assert (tmp_path / "grocery" / "0001.jpg").exists()
