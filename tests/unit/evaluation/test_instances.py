"""`eval instances`: the same thing on other images, by region and by patch, against the protocol said with loops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fakes.models import drawn, fake_encoder
from PIL import Image

from searchanything import wiring
from searchanything.cli.app import run
from searchanything.core.errors import UsageError
from searchanything.core.geometry import Letterbox
from searchanything.core.types import RGBImage
from searchanything.encode.encoder import Encoder
from searchanything.evaluation import instances
from searchanything.evaluation.coco import read_coco
from searchanything.evaluation.instances import evaluate_instances, patch_boxes, patch_job
from searchanything.evaluation.reading import Reading
from searchanything.prompts.choose import choose
from searchanything.prompts.prompt import Box

SIDE = 320
LEFT, RIGHT, LOW = (20, 20, 140, 140), (180, 20, 300, 140), (20, 180, 120, 280)
BOXES = {"left": LEFT, "right": RIGHT, "low": LOW}
# Instance: colour and place of each annotated thing. A distractor looks like the hat; the lamp is nowhere else.
SCENES = (
    {"mug": ("red", "left"), "lamp": ("green", "right")},
    {"mug": ("red", "right")},
    {"jug": ("cyan", "low"), "hat": ("blue", "right")},
    {"jug": ("cyan", "left"), "hat": ("blue", "low")},
    {"hat": ("blue", "left")},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images, annotations = [], []
    for number, scene in enumerate(SCENES):
        image = drawn(SIDE, SIDE, **{colour: BOXES[place] for colour, place in scene.values()})
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": SIDE, "width": SIDE})
        for name, (_, place) in scene.items():
            x1, y1, x2, y2 = BOXES[place]
            annotations.append(
                {"image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "instance_id": name}
            )
    (tmp_path / "others" / "deep").mkdir(parents=True)
    for name, parts in {"x.png": {"yellow": LEFT}, "deep/y.png": {"blue": RIGHT}, "notes.txt": None}.items():
        if parts is None:
            (tmp_path / "others" / name).write_text("no image")
        else:
            Image.fromarray(drawn(SIDE, SIDE, **parts)).save(tmp_path / "others" / name)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content), "utf-8")
    return tmp_path


def report_of(folder: Path, encoder: Encoder) -> dict:
    truth = read_coco(folder / "annotations.json", category="instance_id")
    return evaluate_instances(truth, (folder, folder / "others"), encoder).report


def pixels(path: Path) -> RGBImage:
    return np.asarray(Image.open(path).convert("RGB"))


def expected_map_10(folder: Path, encoder: Encoder, *, grid: bool) -> tuple[float, float]:
    """Lowest and highest mean average precision of images by float cosine over all orders of equal ones."""
    files = [folder / f"{n}.png" for n in range(len(SCENES))]
    files += [folder / "others" / "deep" / "y.png", folder / "others" / "x.png"]
    rows = []
    for file in files:
        image = pixels(file)
        (segmentation,) = encoder.segmenter.segment([image])
        job = patch_job(image, segmentation)
        if not grid:
            job = type(job).of_rows(image, segmentation, encoder.policy.keep(segmentation))
        rows.append(unit(encoder, job))
    least, most = [], []
    for number, scene in enumerate(SCENES):
        for name, (_, place) in scene.items():
            wanted = [other for other, of in enumerate(SCENES) if name in of and other != number]
            if not wanted:
                continue
            image = pixels(files[number])
            (segmentation,) = encoder.segmenter.segment([image])
            choice = choose(Box(*map(float, BOXES[place])), segmentation, box_min_iou=encoder.box_min_iou)
            job = patch_job(image, segmentation).of_choice(image, segmentation, choice)
            asked = unit(encoder, job)[0]
            near = {other: round(float((part @ asked).max()), 4) for other, part in enumerate(rows) if other != number}
            for worst, into in ((True, least), (False, most)):
                order = sorted(near, key=lambda one: (-near[one], (one in wanted) == worst))
                ranks = [place + 1 for place, one in enumerate(order[:10]) if one in wanted]
                into.append(sum((n + 1) / rank for n, rank in enumerate(ranks)) / min(10, len(wanted)))
    return float(np.mean(least)), float(np.mean(most))


def unit(encoder: Encoder, job) -> np.ndarray:
    parts = [encoder.pool_masks([job]), encoder.embed_regions([job])]
    joined = np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True).clip(1e-9) for part in parts], axis=1)
    return joined / np.linalg.norm(joined, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["regions", "grid"])
def test_images_rank_as_the_protocol_says(folder: Path, kind: str) -> None:
    encoder = fake_encoder()
    report = report_of(folder, encoder)
    least, most = expected_map_10(folder, encoder, grid=kind == "grid")
    assert least - 2e-3 <= report[kind]["float"]["map_10"] <= most + 2e-3
    assert most - least < 0.45  # else the bounds say nothing


def test_what_is_counted(folder: Path) -> None:
    report = report_of(folder, fake_encoder())
    counts = report["dataset"]
    assert (counts["images"], counts["distractors"], counts["failed"]) == (5, 2, 0)
    assert (counts["instances"], counts["queries"], counts["answerable"]) == (4, 8, 7)  # the lamp is nowhere else
    assert counts["indexed_regions"] == 10
    assert counts["indexed_grid"] == 7 * 30
    # A hat's nearest regions are blue, on hats or on the blue distractor; each right image is right by its hat.
    assert report["regions"]["float"]["located_map_10"] == report["regions"]["float"]["map_10"]
    assert report["grid"]["float"]["located_map_10"] < report["grid"]["float"]["map_10"]
    less = report["regions_less_grid"]["float"]["map_10"]
    assert less == pytest.approx(report["regions"]["float"]["map_10"] - report["grid"]["float"]["map_10"], abs=2e-5)
    assert report["ci95"] == {}, "eight queries on five images"
    assert report["by_size"]["large"]["regions"]["float"]["map_10"] == report["regions"]["float"]["map_10"]
    assert report["by_size"]["small"]["regions"]["float"]["map_10"] is None
    assert {*report["by_size"]["large"]["regions"]["float"]} == {"map_10", "precision_1"}


def annotate(folder: Path, **changes: object) -> None:
    """Other values in all annotations."""
    content = json.loads((folder / "annotations.json").read_text())
    content["annotations"] = [one | changes for one in content["annotations"]]
    (folder / "annotations.json").write_text(json.dumps(content))


def test_each_query_has_a_line_with_its_figures(folder: Path) -> None:
    truth = read_coco(folder / "annotations.json", category="instance_id")
    found = evaluate_instances(truth, (folder, None), fake_encoder())
    table, asked = found.queries, [(f"{number}.png", name) for number, scene in enumerate(SCENES) for name in scene]
    assert [(one.image, one.category) for one in table.asked] == asked
    named = [name for _, name in asked]
    assert table.further == {"to_find": [str(named.count(name) - 1) for name in named]}
    assert {name.partition(".")[0] for name in table.figures} == {"regions", "grid", "regions_less_grid"}
    for name, values in table.figures.items():
        kind, space, figure = name.split(".")
        assert found.report[kind][space][figure] == pytest.approx(np.nanmean(values), abs=1e-5), name
        assert np.isnan(values).tolist() == [name == "lamp" for name in named]
        assert np.nanmax(np.abs(values)) <= 1, "an image that is not ranked is no answer"


def test_a_crowd_is_neither_asked_nor_an_answer(folder: Path) -> None:
    """One of all of an image, so that each of its patches lies on it."""
    before = report_of(folder, fake_encoder())
    content = json.loads((folder / "annotations.json").read_text())
    thing = {"category_id": 1, "bbox": [0, 0, SIDE, SIDE], "iscrowd": 1}
    content["annotations"] += [{"image_id": at, "instance_id": name, **thing} for at, name in ((1, "mug"), (4, "jug"))]
    (folder / "annotations.json").write_text(json.dumps(content))
    after = report_of(folder, fake_encoder())
    for name in ("dataset", "regions", "grid", "by_size"):
        assert after[name] == before[name], name
    annotate(folder, iscrowd=1)
    with pytest.raises(UsageError, match="of 0 queries on 7 readable images"):
        report_of(folder, fake_encoder())


def test_images_are_read_as_it_is_said(folder: Path) -> None:
    truth = read_coco(folder / "annotations.json", category="instance_id")
    with pytest.raises(UsageError, match="on 0 readable images"):
        evaluate_instances(truth, (folder, None), fake_encoder(), reading=Reading(max_pixels=SIDE * SIDE - 1))


@pytest.mark.parametrize(
    ("area", "size"), [(0, "small"), (1024, "small"), (1025, "medium"), (9216, "medium"), (9217, "large")]
)
def test_sizes_go_by_the_area_that_is_stated(folder: Path, area: int, size: str) -> None:
    annotate(folder, area=area)
    report = report_of(folder, fake_encoder())
    for name, part in report["by_size"].items():
        expected = report["grid"]["float"]["map_10"] if name == size else None
        assert part["grid"]["float"]["map_10"] == expected, name


def test_a_difference_that_is_always_nothing_is_no_share_of_nothing() -> None:
    """Of twelve queries on six images: six trials."""
    nothing, images = np.zeros(12), np.repeat(np.arange(6), 2)
    figures = {("grid", "float", "map_10"): nothing, ("regions_less_grid", "float", "map_10"): nothing}
    figures["regions", "float", "map_10"] = (images < 3).astype(np.float64)
    ends = instances._summary(figures, images, seed=0)[1]
    assert ends["regions", "float", "map_10"] == [0.16667, 0.83333]  # twelve drawn one by one: 0.25 to 0.75
    assert ends["grid", "float", "map_10"] == pytest.approx([0.0, 0.3903], abs=5e-4)  # Wilson's of 0 of 6
    assert ends["regions_less_grid", "float", "map_10"] == [0.0, 0.0]


def test_without_an_instance_on_two_images_there_is_nothing_to_find(folder: Path) -> None:
    content = json.loads((folder / "annotations.json").read_text())
    for number, one in enumerate(content["annotations"]):
        one["instance_id"] = f"thing {number}"
    (folder / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="that is on two images"):
        report_of(folder, fake_encoder())


def test_patches_tile_an_image_of_any_shape() -> None:
    boxes = patch_boxes(90, 200)
    assert boxes[0].tolist() == [0, 0, 200, 90]
    for first, level in ((1, 2), (5, 3), (14, 4)):
        part = boxes[first : first + level * level]
        areas = (part[:, 2] - part[:, 0]) * (part[:, 3] - part[:, 1])
        np.testing.assert_allclose(areas.sum(), 200 * 90, rtol=1e-5)
    image = drawn(9, 700, red=(0, 0, 100, 9))
    (segmentation,) = fake_encoder().segmenter.segment([image])
    job = patch_job(image, segmentation)
    assert job.masks.shape == (30, *Letterbox(9, 700, 64).grid_size)
    assert job.masks.any(axis=(1, 2)).all()


def test_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = fake_encoder()
    monkeypatch.setattr(wiring, "load_encoder", lambda *_, **__: encoder)
    named = ["--images", str(folder), "--annotations", str(folder / "annotations.json"), "--preset", "pico"]
    arguments = ["eval", "instances", *named, "--distractors", str(folder / "others")]
    assert run([*arguments, "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["regions"]["bits_64_rescored"]["precision_1"] is not None
    assert run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("5 images, 2 distractors, 8 queries for 4 instances, 7 with another image to find")
    (folder / "4.png").unlink()
    assert run(arguments) == 3
    assert "failed:" in capsys.readouterr().out
    assert run([*arguments, "--instance", "thing"]) == 1


def test_where_the_segmenter_sees_nothing_patches_alone_find(tmp_path: Path) -> None:
    """Two equal images of a thing in a colour that it does not see: no region, and patches that are all alike."""
    image = drawn(SIDE, SIDE)
    x1, y1, x2, y2 = LEFT
    image[y1:y2, x1:x2] = 90
    thing = {"category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "instance_id": "mug"}
    content: dict[str, list[dict[str, object]]] = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": SIDE, "width": SIDE} for n in range(2)],
        "annotations": [{"image_id": n, **thing} for n in range(2)],
        "categories": [{"id": 1, "name": "thing"}],
    }
    for n in range(2):
        Image.fromarray(image).save(tmp_path / f"{n}.png")
    (tmp_path / "annotations.json").write_text(json.dumps(content), "utf-8")
    truth = read_coco(tmp_path / "annotations.json", category="instance_id")
    report = evaluate_instances(truth, (tmp_path, None), fake_encoder()).report
    assert (report["dataset"]["indexed_regions"], report["dataset"]["answerable"]) == (0, 2)
    assert set(report["regions"]["float"].values()) == {0.0}
    assert report["grid"]["float"]["map_10"] == 1.0
    assert report["regions_less_grid"]["float"]["map_10"] == -1.0
