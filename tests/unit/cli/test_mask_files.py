"""Files that are given as masks: damaged ones are wrong usage, and 16 bits count in either byte order."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from corpus import build_corpus
from PIL import Image

from searchanything.cli.prompting import read_mask
from searchanything.core.errors import PromptError


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged EXIF
def test_no_damage_is_more_than_wrong_usage(tmp_path: Path) -> None:
    path, refused = tmp_path / "mask", 0
    for case in build_corpus():
        path.write_bytes(case.data)
        try:
            assert read_mask(path).dtype == np.bool_, case.name
        except PromptError as error:
            refused += str(error).startswith(f"--mask {path}: cannot be read as an image")
    assert refused > 100


def test_bombs_are_refused_as_those_of_images_are(tmp_path: Path) -> None:
    path = tmp_path / "mask"
    for case in build_corpus():
        if case.name.startswith("bomb") and case.expected == "error":
            path.write_bytes(case.data)
            with pytest.raises(PromptError, match="cannot be read as an image"):
                read_mask(path)


def test_a_program_for_printers_is_not_run(tmp_path: Path) -> None:
    """Pillow gives PostScript to Ghostscript, where there is one."""
    (tmp_path / "mask.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n")
    with pytest.raises(PromptError, match="is not an image of a known format"):
        read_mask(tmp_path / "mask.eps")


@pytest.mark.parametrize(("magic", "order"), [(b"II*\0", "<"), (b"MM\0*", ">")])
def test_half_of_the_brightest_in_either_byte_order(magic: bytes, order: str, tmp_path: Path) -> None:
    values = np.array([0, 10_000, 40_000, 65_535], f"{order}u2").tobytes()
    tags = {256: 4, 257: 1, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 8}
    body = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    head = magic + struct.pack(f"{order}I", 16) + values + struct.pack(f"{order}H", len(tags))
    (tmp_path / "mask.tif").write_bytes(head + body + bytes(4))
    with Image.open(tmp_path / "mask.tif") as opened:
        assert opened.mode == ("I;16" if order == "<" else "I;16B")
    assert read_mask(tmp_path / "mask.tif").tolist() == [[False, False, True, True]]
