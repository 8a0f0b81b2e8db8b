"""The shipped pico weights on a small split that never changes: what they reach is not to be lost.

The split is drawn at test time from the package's own cutouts and photographs, which the weights may have been trained
on: this guards what is shipped, `docs/evaluation.md` says how it is judged. The bounds lie in `pico_figures.json`, a
little below what was measured, because machines differ in the last digits, beside the checksums of the weights that
they were measured for: with other weights measure again and set both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from searchanything import wiring
from searchanything.core.geometry import encode_rle
from searchanything.core.settings import Settings
from searchanything.demo.scenes import generate_demo_scenes, load_demo_assets
from searchanything.evaluation.running import EvaluationOptions, evaluate
from searchanything.evaluation.truth import Instance, TrueImage, Truth
from searchanything.models.presets import PICO
from searchanything.models.weights import digest_of, locate

SCENES = 48
FIGURES: dict[str, Any] = json.loads((Path(__file__).parent / "pico_figures.json").read_text("utf-8"))
BOUNDS: dict[str, float] = FIGURES["bounds"]


def test_the_bounds_are_of_the_weights_that_are_shipped() -> None:
    shipped = {record.name: digest_of(locate(record, Path())) for record in PICO.records}
    assert shipped == FIGURES["sha256"], "measure again, and set bounds and checksums"
    assert PICO.options.confidence == FIGURES["confidence"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The evaluation of the preset on the split, seen and zero-shot concepts apart."""
    folder = tmp_path_factory.mktemp("scenes")
    assets = load_demo_assets()
    images = []
    for name, scene in generate_demo_scenes(SCENES, seed=20, assets=assets):
        path = folder / Path(name).with_suffix(".png")
        Image.fromarray(scene.image).save(path, compress_level=0)
        instances = tuple(
            Instance(
                category=item.concept,
                box_xyxy=tuple(float(side) for side in item.box_xyxy),
                area_px=item.area_px,
                mask=encode_rle(item.mask),
                attributes={"style": item.style, "zero_shot": str(item.concept in assets.zero_shot).lower()},
            )
            for item in scene.objects
        )
        images.append(TrueImage(path.name, *scene.image.shape[:2], instances))
    settings = Settings()
    encoder = wiring.load_encoder("pico", wiring.hash_layer_of("pico", None, settings), settings)
    options = EvaluationOptions(group_by=("zero_shot",), other="style", ablations=False)
    return evaluate(Truth(tuple(images)), folder, encoder, options).report


@pytest.mark.parametrize("path", BOUNDS)
def test_pico_is_at_least_as_good_as_it_was(report: dict[str, Any], path: str) -> None:
    figure: Any = report
    for part in path.split("."):
        figure = figure[part]
    assert figure >= BOUNDS[path], f"{path} is {figure}"


def test_the_split_asks_enough_to_tell(report: dict[str, Any]) -> None:
    assert report["dataset"]["answerable"] > 150
    assert report["groups"]["zero_shot"]["true"]["instances"] > 20
