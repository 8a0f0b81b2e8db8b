"""Example images for one's first index: generated scenes, the same on every machine."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

from PIL import Image

from searchanything.core.errors import UsageError
from searchanything.demo.files import save_bytes
from searchanything.demo.scenes import generate_demo_scenes

COUNT: Final = 120
_SEED: Final = 3
_QUALITY: Final = 92


def write_examples(folder: Path, count: int = COUNT, *, done: Callable[[int, int], None] = lambda *_: None) -> int:
    """Write `scene-0000.jpg` and so on into a folder; returns how many were written, those that are there are kept.

    Raises: UsageError where the folder cannot be written.
    """
    names = [f"scene-{number:04d}.jpg" for number in range(count)]
    missing = {name for name in names if not (folder / name).is_file()}
    if not missing:
        return 0
    try:
        for number, (name, scene) in enumerate(generate_demo_scenes(count, seed=_SEED), start=1):
            if name in missing:
                buffer = io.BytesIO()
                Image.fromarray(scene.image).save(buffer, format="JPEG", quality=_QUALITY)
                save_bytes(folder / name, buffer.getvalue())
            done(number, count)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}; name another folder") from error
    return len(missing)
