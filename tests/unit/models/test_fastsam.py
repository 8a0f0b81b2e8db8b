"""The FastSAM adapter on a small real network: against ultralytics' own predictor and against brute force."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from ultralytics_peer import import_ultralytics

from searchanything import demo
from searchanything.core.errors import ModelError, WeightsMissingError
from searchanything.core.geometry import GRID_STRIDE, Letterbox, box_iou
from searchanything.core.protocols import Segmentation
from searchanything.core.types import BoolMasks, FloatArray, RGBImage
from searchanything.models import p3_map
from searchanything.models.compute import CPU, Compute
from searchanything.models.device_lane import DeviceLane
from searchanything.models.fastsam import FastSAMSegmenter
from searchanything.models.options import SegmenterOptions
from searchanything.models.p3_map import P3Map
from searchanything.models.passes import Passes
from searchanything.models.presets import PICO
from searchanything.models.weights import locate

INPUT_PX = 256
OPTIONS = SegmenterOptions(input_size_px=INPUT_PX)
LANE = DeviceLane(torch.device("cpu"))


class Pairs(NamedTuple):
    """Regions of ours and their partners of ultralytics' predictor."""

    count: int  # theirs in all
    apart: FloatArray  # differences of score
    overlap: FloatArray  # IoU of boxes
    ours: BoolMasks
    theirs: BoolMasks


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_segmenter(tmp_path_factory.mktemp("weights") / "FastSAM-tiny.pt")


@pytest.fixture(scope="module")
def segmenter(weights: Path) -> FastSAMSegmenter:
    return FastSAMSegmenter(weights, options=OPTIONS)


def assert_same(got: Segmentation, expected: Segmentation) -> None:
    """Equal but for float noise; near-ties in score may swap, so regions are matched by box."""
    assert abs(len(got.scores) - len(expected.scores)) <= 2
    best = box_iou(got.boxes_xyxy, expected.boxes_xyxy).max(axis=1)
    assert (best > 0.99).mean() > 0.95
    everything = np.ones((1, *got.letterbox.grid_size), dtype=np.bool_)
    np.testing.assert_allclose(got.features.pool(everything), expected.features.pool(everything), atol=1e-4)


def compare_with_predictor(segmenter: FastSAMSegmenter, weights: Path, image: RGBImage) -> Pairs:
    """Segment by ours and by ultralytics' own predictor, and pair the regions by score and box.

    FastSAM's predictor moves edges within 20 px of the border onto it; ours stay, so boxes are compared by its rule.
    """
    import_ultralytics()
    from ultralytics import FastSAM

    ours = segmenter.segment([image])[0]
    facts = segmenter.description
    thresholds = {"imgsz": facts["input_size_px"], "conf": facts["confidence"], "iou": facts["iou"], "max_det": 100}
    theirs = FastSAM(weights).predict(image[..., ::-1], **thresholds, device="cpu", verbose=False, save=False)[0]
    boxes, scores = theirs.boxes.xyxy.numpy(), theirs.boxes.conf.numpy()
    overlap = box_iou(snapped(ours.boxes_xyxy, image.shape[0], image.shape[1]), boxes)
    apart = np.abs(ours.scores[:, None] - scores[None, :])
    partner = (apart + 1 - overlap).argmin(axis=1)
    rows = np.arange(len(partner))
    masks = theirs.masks.data.numpy().astype(np.bool_)[partner]  # at the input's resolution, padding included
    full = ours.masks.repeat(GRID_STRIDE, axis=1).repeat(GRID_STRIDE, axis=2)
    assert masks.shape == full.shape
    return Pairs(len(scores), apart[rows, partner], overlap[rows, partner], full, masks)


# 128 x 256 fills the input; 200 x 256 is padded above and below, 256 x 200 left and right; 512 x 300 is also scaled.
@pytest.mark.parametrize(("height", "width"), [(128, 256), (200, 256), (256, 200), (512, 300)])
def test_parity_with_ultralytics_predictor(segmenter: FastSAMSegmenter, weights: Path, height: int, width: int) -> None:
    pairs = compare_with_predictor(segmenter, weights, tiny_models.scene(height, width, seed=height))
    assert pairs.count > 5
    assert abs(pairs.count - len(pairs.apart)) <= 1  # a mask may be empty at one resolution only
    assert pairs.apart.max() < 1e-4
    assert pairs.overlap.min() > 0.999
    # Random weights give masks as fine as the grid, which ours show in whole cells; but no shift fits better than none.
    fit = {
        shift: np.median(mask_ious(np.roll(pairs.ours, shift, axis=(1, 2)), pairs.theirs))
        for shift in [(0, 0), (-4, 0), (4, 0), (0, -4), (0, 4), (-2, -2), (2, 2)]
    }
    assert max(fit, key=lambda shift: fit[shift]) == (0, 0)


def test_masks_of_the_trained_network_match_ultralytics() -> None:
    path = locate(PICO.segmenter, Path())
    pairs = compare_with_predictor(FastSAMSegmenter(path, options=PICO.options), path, demo_scene())
    assert pairs.count == len(pairs.apart) >= 3
    assert pairs.overlap.min() > 0.999
    assert np.median(mask_ious(pairs.ours, pairs.theirs)) > 0.9  # outlines in steps of 4 px


def mask_ious(ours: BoolMasks, theirs: BoolMasks) -> FloatArray:
    both, either = (ours & theirs).sum(axis=(1, 2)), (ours | theirs).sum(axis=(1, 2))
    return (both / either).astype(np.float32)


def demo_scene() -> RGBImage:
    """Four pictograms of the demo on one of its photographs, 480 x 640 px."""
    assets = Path(demo.__file__).parent / "assets"
    scene = Image.open(assets / "backdrops" / "china.jpg").convert("RGB").resize((640, 480))
    for number, path in enumerate(sorted((assets / "cutouts").iterdir())[:4]):
        cutout = Image.open(path).convert("RGBA").resize((140, 140))
        scene.paste(cutout, (30 + number % 2 * 320, 40 + number // 2 * 220), cutout)
    return np.asarray(scene)


def snapped(boxes: FloatArray, height: int, width: int) -> FloatArray:
    low, high = boxes[:, :2], boxes[:, 2:]
    sides = np.array([width, height], dtype=np.float32)
    moved = np.concatenate([np.where(low < 20, 0, low), np.where(high > sides - 20, sides, high)], axis=1)
    whole = np.concatenate([[0, 0], sides])[None].astype(np.float32)
    return np.where(box_iou(moved, whole) > 0.9, whole, moved).astype(np.float32)


def test_one_pass_gives_the_head_s_own_p3(segmenter: FastSAMSegmenter, weights: Path) -> None:
    """P3 equals `raw["feats"][0]` of a bare pass through ultralytics' own loader."""
    image = tiny_models.scene(200, 256)
    letterbox = Letterbox(200, 256, INPUT_PX)
    network, _ = import_ultralytics().load_checkpoint(str(weights), fuse=True)
    with torch.inference_mode():
        pixels = torch.from_numpy(letterbox.apply(image)).permute(2, 0, 1)[None].float() / 255
        (_, prototypes), raw = network(pixels)
    segmentation = segmenter.segment([image])[0]
    gh, gw = letterbox.grid_size
    assert prototypes.shape[-2:] == (gh, gw)
    single = np.zeros((gh * gw, gh, gw), dtype=np.bool_)
    single.reshape(gh * gw, -1)[np.arange(gh * gw), np.arange(gh * gw)] = True
    cells = segmentation.features.pool(single).reshape(gh, gw, -1)
    expected = raw["feats"][0][0].permute(1, 2, 0).numpy().repeat(2, axis=0).repeat(2, axis=1)
    covered = letterbox.coverage > 0
    np.testing.assert_allclose(cells[covered], expected[covered], atol=1e-4)
    assert not cells[~covered].any()


@settings(deadline=None)
@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    input_size=st.sampled_from([32, 64, 96, 160]),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_pooling_equals_brute_force_at_full_resolution(
    height: int, width: int, input_size: int, density: float, seed: int
) -> None:
    letterbox = Letterbox(height, width, input_size)
    generator = np.random.default_rng(seed)
    gh, gw = letterbox.grid_size
    features = generator.standard_normal((5, gh // 2, gw // 2)).astype(np.float32)
    masks = generator.random((4, gh, gw)) < density
    masks[3] = False
    pooled = P3Map(torch.from_numpy(features), letterbox, LANE).pool(masks)
    (top, left), (inner_height, inner_width) = letterbox.offset, letterbox.scaled_size
    for mask, row in zip(masks, pooled, strict=True):
        pixels = mask.repeat(4, axis=0).repeat(4, axis=1)[top : top + inner_height, left : left + inner_width]
        values = features.repeat(8, axis=1).repeat(8, axis=2)[:, top : top + inner_height, left : left + inner_width]
        expected = values[:, pixels].mean(axis=1, dtype=np.float64) if pixels.any() else np.zeros(5)
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_a_coverage_that_is_forgotten_waits_for_who_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of CUDA goes back to the stream that it was made in, though another one may still read it."""
    readers = list[str]()
    kept = SimpleNamespace(is_cuda=True, record_stream=readers.append)
    monkeypatch.setattr(p3_map, "_kept_coverage", lambda *_: kept)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the thread's own on {device}")
    assert p3_map.coverage_on(Letterbox(10, 10, 32), torch.device("cuda", 1)) is cast("Any", kept)
    assert readers == ["the thread's own on cuda:1"]


def test_no_masks_and_foreign_masks() -> None:
    features = P3Map(torch.ones(5, 4, 4), Letterbox(32, 32, 32), LANE)
    assert features.pool(np.zeros((0, 8, 8), np.bool_)).shape == (0, 5)
    with pytest.raises(ValueError, match=r"expected masks \(N, \*\(8, 8\)\), got \(1, 9, 8\)"):
        features.pool(np.zeros((1, 9, 8), np.bool_))


def test_regions_are_sorted_inside_the_image_and_not_empty(segmenter: FastSAMSegmenter) -> None:
    image = tiny_models.scene(90, 300)
    found = segmenter.segment([image])[0]
    x1, y1, x2, y2 = found.boxes_xyxy.T
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.min() > OPTIONS.confidence
    assert (x1 >= 0).all()
    assert (x2 <= 300).all()
    assert (y1 >= 0).all()
    assert (y2 <= 90).all()
    assert found.masks.any(axis=(1, 2)).all()
    assert not found.masks[:, found.letterbox.coverage == 0].any()
    assert found.features.pool(found.masks).shape == (len(found.scores), segmenter.feature_dimension)


def test_masks_stay_inside_their_boxes(segmenter: FastSAMSegmenter) -> None:
    found = segmenter.segment([tiny_models.scene(256, 256)])[0]
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes_xyxy / GRID_STRIDE, strict=True):
        rows, columns = np.nonzero(mask)
        assert rows.min() + 0.5 >= y1 - 1e-3
        assert rows.max() + 0.5 <= y2 + 1e-3
        assert columns.min() + 0.5 >= x1 - 1e-3
        assert columns.max() + 0.5 <= x2 + 1e-3


def test_companions_do_not_matter(segmenter: FastSAMSegmenter) -> None:
    sizes = [(256, 256), (100, 256), (256, 256), (300, 40), (128, 320)]
    images = [tiny_models.scene(height, width, seed=number) for number, (height, width) in enumerate(sizes)]
    together = segmenter.segment(images)
    assert [(one.letterbox.height, one.letterbox.width) for one in together] == sizes
    for image, expected in zip(images, together, strict=True):
        assert_same(segmenter.segment([image])[0], expected)


def test_the_same_image_gives_the_same_bits(segmenter: FastSAMSegmenter) -> None:
    image = tiny_models.scene(200, 256)
    first, second = (segmenter.segment([image])[0] for _ in range(2))
    np.testing.assert_array_equal(first.masks, second.masks)
    np.testing.assert_array_equal(first.boxes_xyxy, second.boxes_xyxy)
    np.testing.assert_array_equal(first.features.pool(first.masks), second.features.pool(second.masks))


def test_no_images_and_the_smallest_image(segmenter: FastSAMSegmenter) -> None:
    assert segmenter.segment([]) == []
    tiny = segmenter.segment([np.zeros((1, 1, 3), dtype=np.uint8)])[0]
    assert tiny.letterbox.input_shape == (256, 256)


def test_threads_with_images_of_different_shapes(segmenter: FastSAMSegmenter) -> None:
    """The network caches the anchors of its last input shape, so unguarded passes would mix them up."""
    images = [tiny_models.scene(height, width) for height, width in [(256, 256), (64, 256), (256, 96), (160, 256)]]
    expected = [segmenter.segment([image])[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda image: segmenter.segment([image])[0], images * 3))
    for got, wanted in zip(answers, expected * 3, strict=True):
        assert_same(got, wanted)


def test_options_are_obeyed_and_described(weights: Path, segmenter: FastSAMSegmenter) -> None:
    image = tiny_models.scene(256, 256)
    everything = segmenter.segment([image])[0]
    few = FastSAMSegmenter(weights, options=SegmenterOptions(INPUT_PX, confidence=0.5, iou=0.3, max_detections=3))
    found = few.segment([image])[0]
    assert len(found.scores) == 3
    assert found.scores.min() > 0.5
    overlaps = box_iou(found.boxes_xyxy, found.boxes_xyxy)[~np.eye(3, dtype=np.bool_)]
    assert overlaps.max() <= 0.3
    assert found.scores[0] == everything.scores[0]
    assert few.description != segmenter.description
    assert few.description["max_detections"] == 3
    assert few.description["weights_sha256"] == segmenter.description["weights_sha256"]


@pytest.mark.parametrize("wrong", [{"input_size_px": 100}, {"confidence": 1.5}, {"iou": -1}, {"max_detections": 0}])
def test_impossible_options(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SegmenterOptions(**wrong)  # type: ignore[arg-type]


def test_bf16_keeps_p3_in_bf16_and_boxes_in_fp32(weights: Path, segmenter: FastSAMSegmenter) -> None:
    half = FastSAMSegmenter(weights, options=OPTIONS, compute=Compute(torch.device("cpu"), torch.bfloat16))
    image = tiny_models.scene(256, 256)
    found, exact = half.segment([image])[0], segmenter.segment([image])[0]
    assert found.features._features.dtype == torch.bfloat16  # type: ignore[attr-defined]
    edges = found.boxes_xyxy[found.boxes_xyxy > 128]
    assert (edges != torch.from_numpy(edges).bfloat16().float().numpy()).any()
    whole = np.ones((1, 64, 64), dtype=np.bool_)
    low, high = (one.features.pool(whole)[0] for one in (found, exact))
    assert (low @ high) / np.linalg.norm(low) / np.linalg.norm(high) > 0.99


def test_missing_weights_are_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"FastSAM-s\.pt"):
        FastSAMSegmenter(tmp_path / "FastSAM-s.pt")


class Burglar:
    """Unpickles into a file that should never appear."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("kind", ["empty", "noise", "truncated", "plain pickle", "no model", "burglar", "detector"])
def test_damaged_and_foreign_files(kind: str, weights: Path, tmp_path: Path) -> None:
    path, target = tmp_path / "weights.pt", tmp_path / "burgled"
    if kind == "burglar":
        torch.save({"model": Burglar(target)}, path)
    elif kind == "no model":
        torch.save({"weights": torch.zeros(3)}, path)
    elif kind == "detector":
        tasks = import_ultralytics()
        torch.save({"model": tasks.DetectionModel("yolov8n.yaml", nc=1, verbose=False).half()}, path)
    else:
        content = {"empty": b"", "noise": b"\x17" * 999, "plain pickle": pickle.dumps({"model": 1})}
        path.write_bytes(content.get(kind, weights.read_bytes()[:100_000]))
    with pytest.raises(ModelError, match=r"weights\.pt"):
        FastSAMSegmenter(path)
    assert not target.exists()


def test_a_file_that_is_not_named_pt(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(weights.read_bytes())
    assert FastSAMSegmenter(path).feature_dimension == FastSAMSegmenter(weights).feature_dimension


SILENT = """
import os, socket, sys, pathlib
def refuse(*_, **__): raise AssertionError("opened a connection")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import cv2, numpy, torch
before = cv2.getNumThreads(), torch.save, dict(os.environ), numpy.get_printoptions()
from searchanything.models.fastsam import FastSAMSegmenter
from searchanything.models.options import SegmenterOptions
segmenter = FastSAMSegmenter(pathlib.Path(sys.argv[1]), options=SegmenterOptions(64))
segmenter.segment([numpy.zeros((48, 64, 3), numpy.uint8)])
after = cv2.getNumThreads(), torch.save, dict(os.environ), numpy.get_printoptions()
for left, right in zip(before, after, strict=True):
    if left != right: sys.exit(f"changed: {left} {right}")
"""


def test_loading_is_silent_offline_and_leaves_the_home_and_the_process_alone(weights: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    environment.pop("OMP_NUM_THREADS", None)
    answer = subprocess.run(
        [sys.executable, "-c", SILENT, str(weights)], capture_output=True, text=True, env=environment, check=False
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_cpu_segments_two_images_for_each_thread_at_a_time(
    segmenter: FastSAMSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [tiny_models.scene(96, 128, seed=seed) for seed in range(5)]
    sizes: list[int] = []
    forward = segmenter._forward
    monkeypatch.setattr(segmenter, "_forward", lambda batch: (sizes.append(len(batch)), forward(batch))[1])
    found = []
    for threads, wanted in ((1, [2, 2, 1]), (8, [5])):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        monkeypatch.setattr(segmenter, "_passes", Passes(CPU.images_at_once()))
        sizes.clear()
        found.append(segmenter.segment(images))
        assert sizes == wanted
    for one, other in zip(*found, strict=True):
        assert_same(one, other)


def test_images_that_ran_out_of_memory_are_not_tried_again_together(
    segmenter: FastSAMSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU has memory for two of them: the first batch finds out, the second knows."""
    images = [tiny_models.scene(96, 128, seed=seed) for seed in range(6)]
    expected = segmenter.segment(images)
    sizes: list[int] = []
    forward = segmenter._forward

    def small(batch: np.ndarray) -> object:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(batch)

    monkeypatch.setattr(segmenter, "_forward", small)
    monkeypatch.setattr(segmenter, "_passes", Passes(None))
    for _ in range(2):
        for one, other in zip(segmenter.segment(images), expected, strict=True):
            assert_same(one, other)
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1] + [1] * 6
