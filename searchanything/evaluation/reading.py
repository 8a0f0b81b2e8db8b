"""Images of evaluations, read in batches: annotated ones as their annotations say, others as they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from searchanything.core.errors import ImageError
from searchanything.core.reading import inside
from searchanything.core.types import ImageRef, RGBImage
from searchanything.evaluation.truth import TrueImage, Truth
from searchanything.images.inputs import load_image
from searchanything.images.names import IMAGE_SUFFIXES
from searchanything.ingest.reports import Failure

OnImagesDone: TypeAlias = Callable[[int, int, int], None]  # images done, of how many, failed


@dataclass(frozen=True, slots=True)
class Reading:
    """How images are read: so many in a batch, by so many threads, of at most so many pixels."""

    batch_images: int = 16
    threads: int = 8
    max_pixels: int = 100_000_000


@dataclass(frozen=True, slots=True)
class WantedImage:
    """A file by its name below a folder, and what is annotated on it; None where nothing is."""

    folder: Path
    file_name: str
    truth: TrueImage | None


def annotated(truth: Truth, folder: Path) -> list[WantedImage]:
    """The images of annotations."""
    return [WantedImage(folder, one.file_name, one) for one in truth.images]


def found_below(folder: Path) -> list[WantedImage]:
    """All images below a folder by their suffixes, in the order of their names."""
    names = []
    for place, _, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        names += [str(below / name) for name in files if Path(name).suffix.lower().lstrip(".") in IMAGE_SUFFIXES]
    return [WantedImage(folder, name, None) for name in sorted(names)]


def read_batches(
    wanted: Sequence[WantedImage], reading: Reading, failures: list[Failure], progress: OnImagesDone | None
) -> Iterator[tuple[list[RGBImage], list[WantedImage]]]:
    """Batches of images that can be read; what cannot be joins the failures."""
    with ThreadPoolExecutor(reading.threads) as pool:
        for start in range(0, len(wanted), reading.batch_images):
            batch = wanted[start : start + reading.batch_images]
            read = list(pool.map(lambda one: _pixels(one, reading.max_pixels), batch))
            failures += [one for one in read if isinstance(one, Failure)]
            good = [(pixels, one) for pixels, one in zip(read, batch, strict=True) if not isinstance(pixels, Failure)]
            if good:
                yield [pixels for pixels, _ in good], [one for _, one in good]
            if progress is not None:
                progress(start + len(batch), len(wanted), len(failures))


def _pixels(wanted: WantedImage, max_pixels: int) -> RGBImage | Failure:
    path, truth = wanted.folder / wanted.file_name, wanted.truth
    try:
        _check_inside(wanted.folder, wanted.file_name)
        pixels = load_image(path, read_object=_no_objects, max_pixels=max_pixels)
        if truth is not None and pixels.shape[:2] != (truth.height, truth.width):
            expected = f"expected {truth.width} x {truth.height} pixels, as the annotations say"
            raise ImageError(str(path), f"{expected}, got {pixels.shape[1]} x {pixels.shape[0]}")
    except ImageError as error:
        return Failure(wanted.file_name, type(error).__name__, str(error))
    return pixels


def _check_inside(folder: Path, name: str) -> None:
    """Annotations are anybody's: they name images of their folder alone. Raises: ImageError."""
    try:
        inside(folder, name)
    except (OSError, ValueError) as error:
        raise ImageError(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _no_objects(image: ImageRef) -> bytes:
    raise ImageError(str(image), "evaluations read files alone")
