"""A list of questions in one process, while another gives the index a new hash layer: all answers are of one index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest
from fakes.machine import Machine
from fakes.models import CHANNELS, FakeEmbedder, drawn
from fakes.serving import png_of

from searchanything.client.opening import connect
from searchanything.core.settings import load_settings
from searchanything.models.hashing import HashLayer

IMAGES, QUESTIONS, BEFORE = 20, 400, 30
TIMEOUT_S: Final = 120.0
_ASKING = f"""
import sys, time
from pathlib import Path
import pytest
from fakes.machine import Machine
from searchanything.answers.question_lists import AnswerFile
from searchanything.cli.app import run
Machine().install(pytest.MonkeyPatch())
applied, add, left = Path(sys.argv.pop(1)), AnswerFile.add, [{QUESTIONS}]
def one(*asked):
    left[0] -= 1
    while left[0] == {QUESTIONS // 2} and not applied.exists():  # the list is not at its end when the layer is
        time.sleep(0.02)
    add(*asked)
AnswerFile.add = one
sys.exit(run(sys.argv[1:]))
"""


def test_a_list_is_answered_by_one_layer(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine().install(monkeypatch)
    monkeypatch.setenv("SEARCHANYTHING_MILVUS__LITE_IDLE_S", "1")
    images, answers, questions = tmp_path / "images", tmp_path / "answers.jsonl", tmp_path / "questions.csv"
    images.mkdir()
    for number in range(IMAGES):
        (images / f"{number:03}.png").write_bytes(png_of(drawn(48, 64, red=(4, 4, 20 + number, 30))))
    names = [str(images / f"{number % IMAGES:03}.png") for number in range(QUESTIONS)]
    questions.write_text("image\n" + "".join(f"{name}#0\n" for name in names))
    layer, applied = tmp_path / "layer.safetensors", tmp_path / "applied"
    layer.write_bytes(HashLayer.random_rotation(CHANNELS, FakeEmbedder.dimension, bits=256, seed=6).to_bytes())
    settings = load_settings()
    settings.ingest.keep_features, settings.ingest.features_dir = True, tmp_path / "features"
    with connect(str(file), settings=settings, preset="pico") as client:
        assert client.index(images, hash_file="untrained").indexed == IMAGES
        asked = ["query-many", str(questions), "--out", str(answers), "--uri", str(file)]
        asking = subprocess.Popen(
            [sys.executable, "-c", _ASKING, str(applied), *asked],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        with asking:
            wait_for_answers(tmp_path, asking)
            try:
                change = client.hash_layers.apply(layer)
            finally:
                applied.touch()
            _, said = asking.communicate(timeout=TIMEOUT_S)
        assert (change.carried, asking.returncode) == (IMAGES, 0), said
        live = client.manifest.fingerprint
    assert "another hash layer meanwhile: all are asked again" in said
    found = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [one["image"] for one in found] == [f"{name}#0" for name in names]
    assert {one["answer"]["fingerprint"] for one in found} == {live}
    assert {one["answer"]["hits"][0]["distance_bits"] for one in found} == {0}, "each region finds itself, by new codes"


def wait_for_answers(folder: Path, asking: subprocess.Popen[str]) -> None:
    """Until some answers are written."""
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until and asking.poll() is None:
        if any(part.read_text().count("\n") >= BEFORE for part in folder.glob(".answers.jsonl.*.part")):
            return
        time.sleep(0.02)
    pytest.fail("it ended, or took too long, before it had some answers")
