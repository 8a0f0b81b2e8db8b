"""Photographs and textures that pictograms are pasted on.

The photographs come from Debian's wallpaper packages and from two Python packages. Each file is listed with the licence
that its package states; share-alike files and files of unclear licence are left out. Photographs under the GPL or LGPL
serve training only; the package ships none of them.

    python -m training.photographs --cache data/photographs
"""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from searchanything.core.types import RGBImage

logger = logging.getLogger(__name__)

FloatGrid: TypeAlias = NDArray[np.float64]  # (H, W)

LONGEST_SIDE_PX = 1600


@dataclass(frozen=True, slots=True)
class Photograph:
    """One file of a package, with what its package says about it."""

    package: str
    file: str
    author: str
    licence: str

    @property
    def name(self) -> str:
        """File name in the cache."""
        path = Path(self.file)
        stem = path.parents[2].name if path.parent.name == "images" and "contents" in path.parts else path.stem
        return f"{self.package}-{stem.lower()}.jpg"


DEBIAN_PACKAGES = {
    "lomiri-wallpapers-16.04": "20.04.0-2",
    "mate-backgrounds": "1.26.0-1",
    "plasma-workspace-wallpapers": "4:5.27.5-2",
}
_LOMIRI, _MATE, _PLASMA = DEBIAN_PACKAGES


def _lomiri(name: str, author: str, licence: str = "CC-BY-4.0") -> Photograph:
    return Photograph(_LOMIRI, f"usr/share/backgrounds/{name}.jpg", author, licence)


def _mate(name: str, author: str) -> Photograph:
    return Photograph(_MATE, f"usr/share/backgrounds/mate/{name}.jpg", author, "GPL-2.0-or-later")


def _plasma(name: str, size: str = "2560x1600.jpg") -> Photograph:
    # The Debian copyright file says GPL-2+; only wallpapers whose own metadata names no share-alike licence are listed.
    file = f"usr/share/wallpapers/{name}/contents/images/{size}"
    return Photograph(_PLASMA, file, "KDE Visual Design Group", "LGPL-3.0-only")


PHOTOGRAPHS: tuple[Photograph, ...] = (
    _lomiri("aitzgorri_by_Aitzol_Berasategi", "Aitzol Berasategi"),
    _lomiri("friends_by_Aitzol_Berasategi", "Aitzol Berasategi"),
    _lomiri("life_by_Aitzol_Berasategi", "Aitzol Berasategi"),
    _lomiri("picosdeeuropa_by_Aitzol_Berasategi", "Aitzol Berasategi"),
    _lomiri("sunset_by_Aitzol_Berasategi", "Aitzol Berasategi"),
    _lomiri("Picture_1A_by_freespace", 'Trevor "Freespace"'),
    _lomiri("Wine_by_Jakkub_Mede", "Jakub Mede"),
    _lomiri("umang_by_Abhishek_Mudgal", "Abhishek Mudgal"),
    _lomiri("seeding_by_Clements_Engelhardt", "Clemens Engelhardt", "CC0-1.0"),
    _mate("abstract/Elephants", "Wyng Stancikaite"),
    _mate("nature/Blinds", "Lennart Poettering"),
    _mate("nature/Dune", "Marco Cogoni"),
    _mate("nature/FreshFlower", "Jens Ansorg"),
    _mate("nature/GreenMeadow", "Timothy Schellhase"),
    _mate("nature/RainDrops", '"blackcombwhistler07"'),
    _mate("nature/Storm", "Sergey Nazarov"),
    _mate("nature/TwoWings", "Charles Barbin"),
    _mate("nature/Wood", "Jean-François Fortin Tam"),
    _plasma("Autumn"),
    _plasma("BytheWater"),
    _plasma("Canopee", "3840x2160.png"),
    _plasma("Cascade", "3840x2160.png"),
    _plasma("ColdRipple"),
    _plasma("DarkestHour"),
    _plasma("EveningGlow"),
    _plasma("FallenLeaf"),
    _plasma("Grey"),
    _plasma("Kokkini", "3840x2160.png"),
    _plasma("OneStandsOut"),
    _plasma("PastelHills", "3200x2000.jpg"),
    _plasma("Path"),
    _plasma("summer_1am"),
    Photograph("skimage", "data/brick.png", "cc0textures.com", "CC0-1.0"),
    Photograph("skimage", "data/grass.png", "linolafett", "CC0-1.0"),
    Photograph("skimage", "data/gravel.png", "cc0textures.com", "CC0-1.0"),
    Photograph("skimage", "data/coffee.png", "Rachel Michetti", "CC0-1.0"),
    Photograph("skimage", "data/hubble_deep_field.jpg", "NASA, ESA, R. Williams", "public domain"),
    Photograph("sklearn", "datasets/images/china.jpg", "danielbuechele", "CC-BY-2.0"),
    Photograph("sklearn", "datasets/images/flower.jpg", "vultilion", "CC-BY-2.0"),
)


def load_photographs(cache: Path) -> dict[str, RGBImage]:
    """Every cached photograph by name, (H, W, 3) uint8 RGB, at most 1600 px long.

    Raises:
        FileNotFoundError: The cache was not built; the message names the command.
    """
    paths = sorted((cache / "images").glob("*.jpg"))
    if not paths:
        raise FileNotFoundError(f"no photographs: run `python -m training.photographs --cache {cache}` first")
    return {path.stem: _read(path) for path in paths}


def build_cache(cache: Path) -> None:
    """Fetch the packages and write `images/NAME.jpg`, at most 1600 px long.

    Raises:
        RuntimeError: A tool or package is not installed.
        subprocess.CalledProcessError: A Debian package could not be fetched or unpacked.
    """
    (cache / "images").mkdir(parents=True, exist_ok=True)
    roots = {package: _unpacked(package, version, cache) for package, version in DEBIAN_PACKAGES.items()}
    roots |= {package: Path(str(files(package))) for package in ("skimage", "sklearn")}
    for photograph in PHOTOGRAPHS:
        image = _shrunk(_read(roots[photograph.package] / photograph.file))
        target = str(cache / "images" / photograph.name)
        cv2.imwrite(target, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    logger.info("%d photographs in %s", len(PHOTOGRAPHS), cache / "images")


def procedural_backdrop(seed: int, *, size_px: int = 640) -> RGBImage:
    """A texture drawn from noise, gradients, stripes or flat patches; (size_px, size_px, 3) uint8 RGB."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(("flat", "gradient", "clouds", "patches", "stripes"))
    first, second = rng.uniform(0, 255, (2, 3))
    if kind == "flat":
        weight = np.zeros((size_px, size_px))
    elif kind == "gradient":
        weight = _ramp(rng, size_px)
    elif kind == "clouds":
        weight = _noise(rng, size_px, octaves=5)
    elif kind == "patches":
        weight = np.floor(_noise(rng, size_px, octaves=2) * rng.integers(3, 9)) / 6
    else:
        weight = 0.5 + 0.5 * np.sin(_ramp(rng, size_px) * rng.uniform(10, 120))
    image = first + (second - first) * weight[..., None]
    image += rng.normal(0, rng.uniform(0, 12), image.shape)
    return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)


def _ramp(rng: Generator, size_px: int) -> FloatGrid:
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0:size_px, 0:size_px] / size_px
    return np.asarray(rows * np.sin(angle) + columns * np.cos(angle))


def _noise(rng: Generator, size_px: int, *, octaves: int) -> FloatGrid:
    first = int(rng.integers(2, 6))
    total = np.zeros((size_px, size_px))
    for octave in range(octaves):
        cells = min(size_px, first * 2**octave)
        grid = rng.random((cells, cells))
        total += cv2.resize(grid, (size_px, size_px), interpolation=cv2.INTER_CUBIC) / 2**octave
    low, high = total.min(), total.max()
    return np.asarray((total - low) / max(high - low, 1e-6))


def _unpacked(package: str, version: str, cache: Path) -> Path:
    root = cache / "packages" / package
    if not root.is_dir():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise RuntimeError(f"apt-get and dpkg are needed to fetch {package}: run this on Debian or Ubuntu")
        subprocess.run(["apt-get", "download", "-q", f"{package}={version}"], cwd=cache, check=True)
        archive = next(cache.glob(f"{package}_*.deb"))
        root.mkdir(parents=True)
        subprocess.run(["dpkg", "-x", archive, root], check=True)
    return root


def _read(path: Path) -> RGBImage:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(f"{path} cannot be read as an image")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def _shrunk(image: RGBImage) -> RGBImage:
    scale = LONGEST_SIDE_PX / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def main() -> None:
    """Build the cache named on the command line."""
    parser = argparse.ArgumentParser(description="Fetch the photographs that pictograms are pasted on.")
    parser.add_argument("--cache", type=Path, default=Path("data/photographs"), help="folder for packages and images")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build_cache(arguments.cache)


if __name__ == "__main__":
    main()
