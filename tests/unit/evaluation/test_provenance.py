"""What reports say of what was evaluated: whatever else could make figures differ shows in a comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.models import drawn, fake_encoder
from PIL import Image

from searchanything.core.geometry import encode_rle
from searchanything.encode.encoder import Encoder
from searchanything.evaluation.comparing import compare_evaluations, differing
from searchanything.evaluation.evaluated import Evaluated
from searchanything.evaluation.instances import evaluate_instances
from searchanything.evaluation.provenance import dataset_digest
from searchanything.evaluation.reading import WantedImage, annotated
from searchanything.evaluation.running import EvaluationOptions, evaluate
from searchanything.evaluation.truth import Instance, TrueImage, Truth

SIDE = 64
BOX = (8, 8, 40, 40)
SAME = "the same preset, hash layer, settings and annotated images"


def filled(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


def thing(category: str = "cup", *, crowd: bool = False) -> Instance:
    return Instance(category, BOX, 1024.0, encode_rle(filled(*BOX)), crowd=crowd, attributes={"style": "red"})


def truth_of(*names: str) -> Truth:
    return Truth(tuple(TrueImage(name, SIDE, SIDE, (thing(), thing("hat"))) for name in names))


def changed(truth: Truth, **fields: object) -> Truth:
    """The first instance of the first image is another."""
    first, *others = truth.images
    one, *rest = first.instances
    return replace(truth, images=(replace(first, instances=(replace(one, **fields), *rest)), *others))


@pytest.mark.parametrize(
    "change",
    [
        lambda truth: changed(truth, category="hat"),
        lambda truth: changed(truth, crowd=True),
        lambda truth: changed(truth, area_px=5.0),
        lambda truth: changed(truth, box_xyxy=(8, 8, 40, 41)),
        lambda truth: changed(truth, mask=encode_rle(filled(8, 8, 40, 39))),
        lambda truth: Truth((*truth.images, TrueImage("c.png", SIDE, SIDE, ()))),
        lambda truth: Truth(tuple(replace(one, void=encode_rle(filled(0, 0, 3, 3))) for one in truth.images)),
        lambda truth: Truth(tuple(replace(one, height=SIDE + 1) for one in truth.images)),
        lambda truth: Truth(tuple(replace(one, instances=one.instances[1:]) for one in truth.images)),
    ],
)
def test_other_annotations_have_another_digest(change: Callable[[Truth], Truth]) -> None:
    truth, folder = truth_of("a.png", "\udcffb\n.png"), Path()
    digest = dataset_digest(annotated(truth, folder))
    assert dataset_digest(annotated(change(truth), folder)) != digest
    others = Truth(tuple(replace(one, instances=one.instances[::-1]) for one in truth.images[::-1]))
    assert dataset_digest(annotated(others, folder / "elsewhere")) == digest
    assert dataset_digest(annotated(changed(truth, annotation="7", attributes={}), folder)) == digest


def test_images_without_annotations_count_by_their_names() -> None:
    one, two = (dataset_digest([WantedImage(Path(), name, None)]) for name in ("a.png", "b.png"))
    assert one != two


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "others").mkdir()
    for name in ("a.png", "b.png", "others/c.png"):
        Image.fromarray(drawn(SIDE, SIDE, red=BOX)).save(tmp_path / name)
    return tmp_path


def run_of(folder: Path, encoder: Encoder | None = None, *, group_by: tuple[str, ...] = ()) -> Evaluated:
    options = EvaluationOptions(group_by=group_by, ablations=False)
    return evaluate(truth_of("a.png", "b.png"), folder, encoder or fake_encoder(), options)


def test_crowds_are_no_queries_and_have_no_line(folder: Path) -> None:
    images = []
    for name, crowds in {"a.png": (True, False), "b.png": (False, True, False)}.items():
        things = [replace(thing(crowd=crowd), annotation=f"{name[0]}{n}") for n, crowd in enumerate(crowds)]
        styled = [replace(one, attributes={"style": f"style of {one.annotation}"}) for one in things]
        images.append(TrueImage(name, SIDE, SIDE, tuple(styled)))
    truth = Truth(tuple(images))
    options = EvaluationOptions(group_by=("style",), ablations=False)
    for queries in (
        evaluate(truth, folder, fake_encoder(), options).queries,
        evaluate_instances(truth, (folder, None), fake_encoder()).queries,
    ):
        shown = [(one.image, one.annotation) for one in queries.asked]
        assert shown == [("a.png", "a1"), ("b.png", "b0"), ("b.png", "b2")]
        if "attribute:style" in queries.further:
            assert queries.further["attribute:style"] == ["style of a1", "style of b0", "style of b2"]


def test_other_settings_show(folder: Path) -> None:
    plain = run_of(folder)
    assert differing(compare_evaluations(plain, run_of(folder))) == SAME
    grouped = differing(compare_evaluations(plain, run_of(folder, group_by=("style",))))
    assert grouped == "group by [] → ['style']"
    bound = differing(compare_evaluations(plain, run_of(folder, replace(fake_encoder(), box_min_iou=0.3))))
    assert bound == "box min iou 0.1 → 0.3"
    policy = differing(compare_evaluations(plain, run_of(folder, fake_encoder(regions=1))))
    assert "feature fingerprint" in policy


def test_other_distractors_and_failures_show(folder: Path) -> None:
    encoder, truth = fake_encoder(), truth_of("a.png", "b.png")
    with_others = evaluate_instances(truth, (folder, folder / "others"), encoder)
    without = evaluate_instances(truth, (folder, None), encoder)
    assert differing(compare_evaluations(with_others, with_others)) == SAME
    shown = differing(compare_evaluations(with_others, without))
    assert shown.startswith("dataset digest "), "and nothing of the figures, which are below `regions`"
    (folder / "others" / "c.png").write_bytes(b"none")
    failed = evaluate_instances(truth, (folder, folder / "others"), encoder)
    assert differing(compare_evaluations(with_others, failed)) == "failed 0 → 1"
