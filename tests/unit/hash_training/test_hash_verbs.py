"""`searchanything hash` as people use it: nothing of theirs is lost, and what is wrong is told before the work."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from searchanything.cli.app import run
from searchanything.models.hashing import HashLayer

LAYER = HashLayer.random_rotation(2, 3, bits=128, seed=1)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to work in, with a layer and features of 120 rows."""
    monkeypatch.chdir(tmp_path)
    Path("h.safetensors").write_bytes(LAYER.to_bytes())
    np.save("f.npy", np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32))
    return tmp_path


ENCODE = ("encode", "--features", "f.npy", "--mask-dimension", "2", "--hash", "h.safetensors", "--out")
CUT = ("cut", "--hash", "h.safetensors", "--bits", "64", "--out")
IMPORT = ("import", "h.safetensors", "--mask-dimension", "2", "--image-dimension", "3", "--tensor", "weight", "--out")


@pytest.mark.parametrize(
    ("arguments", "given", "link"),
    [(ENCODE, "f.npy", "l.npy"), (CUT, "h.safetensors", "l.safetensors"), (IMPORT, "h.safetensors", "l.safetensors")],
)
def test_an_output_is_never_written_over_an_input(
    arguments: tuple[str, ...], given: str, link: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(given).read_bytes()
    Path(link).symlink_to(given)
    os.link(given, f"hard-{link}")
    for out in (given, str(in_folder / given), f"./{given}", link, f"hard-{link}"):
        assert run(["hash", *arguments, out]) == 2
        assert f"written over {given}, which is read" in capsys.readouterr().err
        assert Path(given).read_bytes() == before
    assert Path(link).is_symlink()
    Path(f"other-{link}").write_bytes(b"an older one")
    assert run(["hash", *arguments, f"other-{link}"]) == 0  # any other file is replaced, as before
    assert Path(given).read_bytes() == before


def test_codes_are_not_written_over_the_layer_either(capsys: pytest.CaptureFixture[str]) -> None:
    Path("h.safetensors").rename("h.npy")
    assert run(["hash", *ENCODE[:-2], "h.npy", "--out", "h.npy"]) == 2
    assert "written over h.npy" in capsys.readouterr().err
    assert Path("h.npy").read_bytes() == LAYER.to_bytes()
