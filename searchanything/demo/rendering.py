"""Renders the demo's scenes into a folder, each with its ground truth beside it, and renders none twice.

Scenes follow from the assets and the program alone. The image is written first, its ground truth after it: a scene
whose ground truth is there is whole, wherever an earlier run was cut off.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from PIL import Image

from searchanything.core.geometry import encode_rle
from searchanything.core.types import MaskRLE
from searchanything.demo.files import files_below, save_bytes
from searchanything.demo.judging import TrueObject, TrueScene
from searchanything.demo.scenes import DemoAssets, Scene, generate_demo_scenes, load_demo_assets

_THREADS: Final = 2  # numpy and OpenCV work outside the interpreter's lock
_QUALITY: Final = 90
_SUFFIXES: Final = {5: "png", 11: "webp"}  # of every twelve scenes; the others are JPEG
_FORMATS: Final = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A scene as a file, and its ground truth."""

    path: Path
    truth: TrueScene


def render_scenes(folder: Path, count: int, *, seed: int, done: Callable[[int, int], None]) -> list[Rendered]:
    """`count` scenes of a seed, on each photograph in turn. What the folder holds of them is kept, all else goes."""
    recipe = scenes_digest(seed)
    rendered = {number: one for number in range(count) if (one := _read(folder, number, recipe)) is not None}
    if len(rendered) < count:
        assets = load_demo_assets()
        every, known = len(assets.backdrops), frozenset(rendered)
        series = [_Series(folder, recipe, assets, photograph) for photograph in range(every)]
        numbers = [range(photograph, count, every) for photograph in range(every)]
        with ThreadPoolExecutor(_THREADS) as pool:
            for some in pool.map(lambda one, its: one.render(its, seed, known), series, numbers):
                rendered |= some
                done(len(rendered), count)
    wanted = {file for number in range(count) for file in (rendered[number].path, _truth_file(folder, number))}
    for file in folder.iterdir():
        if file not in wanted:
            file.unlink()
    return [rendered[number] for number in range(count)]


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """The scenes on one photograph: a run of the generator of its own, so that each scene's photograph is known."""

    folder: Path
    recipe: str
    assets: DemoAssets
    photograph: int

    def render(self, numbers: range, seed: int, known: Collection[int]) -> dict[int, Rendered]:
        """Render the scenes with these numbers that are not known."""
        if all(number in known for number in numbers):
            return {}
        assets = replace(self.assets, backdrops=(self.assets.backdrops[self.photograph],))
        scenes = generate_demo_scenes(len(numbers), seed=seed + self.photograph, assets=assets)
        return {
            number: _write(self.folder, number, self.recipe, self._described(number, scene), scene)
            for number, (_, scene) in zip(numbers, scenes, strict=True)
            if number not in known
        }

    def _described(self, number: int, scene: Scene) -> TrueScene:
        height, width = scene.image.shape[:2]
        objects = [
            TrueObject(
                concept=one.concept,
                style=one.style,
                zero_shot=one.concept in self.assets.zero_shot,
                box_xyxy=one.box_xyxy,
                visible_fraction=round(one.visible_fraction, 3),
                mask=encode_rle(one.mask),
            )
            for one in scene.objects
        ]
        suffix = _SUFFIXES.get(number % 12, "jpg")
        return TrueScene(f"scenes/{number:04d}.{suffix}", width, height, self.photograph, tuple(objects))


def _write(folder: Path, number: int, recipe: str, truth: TrueScene, scene: Scene) -> Rendered:
    path = folder / Path(truth.key).name
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, format=_FORMATS[path.suffix[1:]], quality=_QUALITY)
    save_bytes(path, buffer.getvalue())
    save_bytes(_truth_file(folder, number), json.dumps({"recipe": recipe, "scene": asdict(truth)}).encode())
    return Rendered(path, truth)


def _read(folder: Path, number: int, recipe: str) -> Rendered | None:
    """A scene that is there already; None if it is not, or was made in another way."""
    file = _truth_file(folder, number)
    if not file.is_file():
        return None
    document = json.loads(file.read_bytes())
    if document["recipe"] != recipe:
        return None
    truth = _scene_from(document["scene"])
    path = folder / Path(truth.key).name
    return Rendered(path, truth) if path.is_file() else None


def _scene_from(fields: dict[str, Any]) -> TrueScene:
    objects = tuple(_object_from(one) for one in fields["objects"])
    return TrueScene(fields["key"], fields["width"], fields["height"], fields["photograph"], objects)


def _object_from(fields: dict[str, Any]) -> TrueObject:
    mask = MaskRLE(tuple(fields["mask"]["size"]), fields["mask"]["counts"])
    return TrueObject(**fields | {"box_xyxy": tuple(fields["box_xyxy"]), "mask": mask})


def _truth_file(folder: Path, number: int) -> Path:
    return folder / f"{number:04d}.json"


def scenes_digest(seed: int) -> str:
    """A digest of all that the scenes follow from: the seed, the assets, and the code that composes and writes."""
    package = files("searchanything.demo")
    digest = sha256(str(seed).encode())
    for file in (package / "scenes.py", package / "rendering.py", *files_below(package / "assets")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]
