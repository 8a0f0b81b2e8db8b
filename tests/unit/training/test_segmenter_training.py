"""The segmenter's training goes on where it was interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[3]


def write_scenes(folder: Path) -> None:
    """Eight images of a square each, as `training.scenes_dataset` writes them."""
    for part in ("images", "labels"):
        (folder / "tune" / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(8):
        image = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
        image[16:48, 16:48] = 230
        Image.fromarray(image).save(folder / "tune" / "images" / f"{number}.jpg")
        corners = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"
        (folder / "tune" / "labels" / f"{number}.txt").write_text(corners)
    description = {"path": str(folder), "train": "tune/images", "val": "tune/images", "names": {0: "object"}}
    (folder / "tune.yaml").write_text(json.dumps(description))


def started(folder: Path, *further: str) -> subprocess.Popen:
    words = ["--scenes", folder, "--out", folder / "segmenter.pt", "--minutes", 0, 1, "--sides", 64, 64]
    words += ["--batches", 4, 4, "--every-minutes", 0, "--no-bfloat16", *further]
    return subprocess.Popen([sys.executable, "-m", "training.segmenter", *map(str, words)], cwd=ROOT)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_training_goes_on_for_the_rest_of_its_minutes(tmp_path: Path):
    write_scenes(tmp_path)
    killed = started(tmp_path)
    state = tmp_path / "segmenter.phase2.state.pth"
    while killed.poll() is None and not state.exists():
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    kept = torch.load(state, weights_only=True)
    assert 0 < kept["elapsed_s"] < 60
    assert started(tmp_path, "--rates", "1e-3", "1e-3").wait() != 0  # a state of another phase is refused
    assert started(tmp_path).wait() == 0
    (phase,) = json.loads((tmp_path / "segmenter.training.json").read_text())["phases"]
    assert phase["steps"] > kept["steps"]
    assert not state.exists()
    weights = torch.load(tmp_path / "segmenter.phase2.pth", weights_only=True)
    assert all(torch.isfinite(tensor.float()).all() for tensor in weights.values())
