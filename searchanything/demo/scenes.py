"""Pictogram scenes: cutouts pasted on photographs, with exact masks and names.

The demo indexes and queries such scenes; `training/` makes the data of the `pico` weights with the same code. A scene
is a pure function of its inputs and its seed.

    cutouts ─► size, turn, flip, tint ─► place ─► shadow, paste ─► blur, light, JPEG ─► Scene(image, objects)
    backdrop ─► crop, flip ────────────────────────┘
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from searchanything.core.types import BoolMask, FloatArray, RGBImage

_OPAQUE = 0.5  # alpha from which a pixel counts as part of the object
_PLACES_TRIED = 24


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """One drawing of a concept on a transparent ground.

    Attributes:
        image: (H, W, 4) uint8 RGBA, colours premultiplied by alpha.
        concept: What is drawn ("bicycle").
        style: Whose hand drew it ("twemoji").
    """

    image: NDArray[np.uint8]
    concept: str
    style: str

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 4 or self.image.dtype != np.uint8:
            raise ValueError(f"expected an (H, W, 4) uint8 cutout, got {self.image.shape} {self.image.dtype}")
        if not (self.image[..., 3] > 0).any():
            raise ValueError(f"the cutout of {self.concept!r} ({self.style}) is wholly transparent")


@dataclass(frozen=True, slots=True, eq=False)
class SceneObject:
    """One cutout as it is seen in a scene.

    Attributes:
        concept: The cutout's concept.
        style: The cutout's style.
        mask: (H, W) bool over the scene: its visible pixels. Masks of one scene are disjoint.
        box_xyxy: Tight box of `mask` in image pixels, exclusive at the far edges.
        visible_fraction: Visible pixels over all its pixels, those hidden or outside the image included.
    """

    concept: str
    style: str
    mask: BoolMask
    box_xyxy: tuple[int, int, int, int]
    visible_fraction: float

    @property
    def area_px(self) -> int:
        """Visible pixels."""
        return int(self.mask.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An image, (H, W, 3) uint8 RGB, and what was pasted into it, from back to front."""

    image: RGBImage
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True, slots=True)
class SceneRecipe:
    """Ranges from which a scene is drawn.

    Attributes:
        longest_side_px: Longest side of the image, from and to.
        aspect: Longest over shortest side, from and to; either may be the width.
        object_px: Longest side of a pasted cutout before it is turned, from and to; sizes are log-uniform.
        largest_fraction: No object is longer than this part of the image's shortest side.
        upright: Probability that an object is turned by 20 degrees at most; the others by any angle.
        occluded: Probability that an object may hide a part of those before it.
        visible: Least visible fraction of every object.
        tint: Probability that an object's hue is turned.
        degraded: Probability of each of blur, light change, noise and JPEG artefacts.
    """

    longest_side_px: tuple[int, int] = (512, 800)
    aspect: tuple[float, float] = (1.0, 1.6)
    object_px: tuple[float, float] = (28.0, 300.0)
    largest_fraction: float = 0.62
    upright: float = 0.8
    occluded: float = 0.3
    visible: float = 0.6
    tint: float = 0.0
    degraded: float = 0.3


DEMO_RECIPE = SceneRecipe()
_DEMO_OBJECTS = (3, 8)  # cutouts given to a demo scene, from and to


@dataclass(frozen=True, slots=True, eq=False)
class DemoAssets:
    """What the demo's scenes are made of; `ATTRIBUTION.md` beside the files credits their authors.

    Attributes:
        cutouts: Every concept in every style that draws it.
        zero_shot: Concepts that no `pico` weight was trained on.
        backdrops: (H, W, 3) uint8 RGB photographs.
    """

    cutouts: tuple[Cutout, ...]
    zero_shot: frozenset[str]
    backdrops: tuple[RGBImage, ...]

    @property
    def concepts(self) -> tuple[str, ...]:
        """All concept names, sorted."""
        return tuple(sorted({cutout.concept for cutout in self.cutouts}))


@dataclass(frozen=True, slots=True, eq=False)
class _Patch:
    """A transformed cutout: (h, w, 3) premultiplied colours and (h, w, 1) alpha, float32 in 0..1."""

    colours: FloatArray
    alpha: FloatArray

    @property
    def mask(self) -> BoolMask:
        return np.asarray(self.alpha[..., 0] >= _OPAQUE)


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a patch lies: the part of the canvas that it covers and the part of the patch that is inside."""

    canvas: tuple[slice, slice]
    patch: tuple[slice, slice]


def load_demo_assets() -> DemoAssets:
    """Read the cutouts and backdrops that the package ships.

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    folder = files("searchanything.demo") / "assets"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    return DemoAssets(
        cutouts=tuple(
            Cutout(_premultiplied(_decoded(folder, item["file"])), item["concept"], item["style"])
            for item in manifest["cutouts"]
        ),
        zero_shot=frozenset(item["concept"] for item in manifest["cutouts"] if item["zero_shot"]),
        backdrops=tuple(_decoded(folder, item["file"])[..., :3] for item in manifest["backdrops"]),
    )


def generate_demo_scenes(count: int, *, seed: int, assets: DemoAssets | None = None) -> Iterator[tuple[str, Scene]]:
    """Yield `count` scenes with file names ("scene-0007.jpg").

    Concepts are dealt like a deck of cards: each recurs about equally often, in changing styles, and the first scenes
    of a longer run are those of a shorter one.

    Args:
        count: How many scenes.
        seed: The same seed gives the same scenes.
        assets: What to draw from; the package's own by default.
    """
    assets = assets or load_demo_assets()
    rng = np.random.default_rng(seed)
    by_concept = {name: [item for item in assets.cutouts if item.concept == name] for name in assets.concepts}
    deck: list[str] = []
    for index in range(count):
        wanted = int(rng.integers(_DEMO_OBJECTS[0], _DEMO_OBJECTS[1] + 1))
        if len(deck) < wanted:
            deck += rng.permutation(assets.concepts).tolist()
        dealt, deck = deck[:wanted], deck[wanted:]
        cutouts = [by_concept[name][int(rng.integers(len(by_concept[name])))] for name in dealt]
        backdrop = assets.backdrops[int(rng.integers(len(assets.backdrops)))]
        yield f"scene-{index:04d}.jpg", compose_scene(cutouts, backdrop, seed=int(rng.integers(2**32)))


def compose_scene(
    cutouts: Sequence[Cutout], backdrop: RGBImage, *, seed: int, recipe: SceneRecipe = DEMO_RECIPE
) -> Scene:
    """Paste cutouts on a crop of the backdrop.

    Larger cutouts go behind smaller ones. A cutout that finds no place is left out, so a scene may hold fewer objects
    than cutouts were given, none in the extreme.

    Args:
        cutouts: What to paste.
        backdrop: (H, W, 3) uint8 RGB; cropped, perhaps mirrored, and resized to the scene.
        seed: The same inputs and seed give the same scene.
        recipe: Ranges of sizes, turns and degradations.
    """
    rng = np.random.default_rng(seed)
    height, width = _image_size(rng, recipe)
    canvas = _light(_cropped(rng, backdrop, height, width))
    owners = np.full((height, width), -1, dtype=np.int64)  # index of the object that each pixel shows
    placed: list[tuple[Cutout, int]] = []
    for cutout, size_px in _by_size(rng, cutouts, min(height, width), recipe):
        patch = _transformed(rng, cutout, size_px, recipe)
        spot = _find_spot(rng, patch.mask, owners, [area for _, area in placed], recipe)
        if spot is not None:
            _paste(rng, canvas, patch, spot)
            owners[spot.canvas][patch.mask[spot.patch]] = len(placed)
            placed.append((cutout, int(patch.mask.sum())))
    image = _degraded(rng, canvas, recipe)
    objects = [_object(cutout, owners == index, area) for index, (cutout, area) in enumerate(placed)]
    return Scene(image=image, objects=tuple(objects))


def _decoded(folder: Traversable, name: str) -> NDArray[np.uint8]:
    data = np.frombuffer((folder / name).read_bytes(), dtype=np.uint8)
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise FileNotFoundError(f"the installation is damaged: {name} is no image; install searchanything again")
    code = cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(stored, code), dtype=np.uint8)


def _premultiplied(straight: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = straight[..., 3:].astype(np.uint16)
    colours = (straight[..., :3] * alpha + 127) // 255
    return np.concatenate([colours, alpha], axis=2).astype(np.uint8)


def _image_size(rng: Generator, recipe: SceneRecipe) -> tuple[int, int]:
    longest = int(rng.integers(recipe.longest_side_px[0], recipe.longest_side_px[1] + 1))
    shortest = max(1, round(longest / rng.uniform(*recipe.aspect)))
    return (shortest, longest) if rng.random() < 0.75 else (longest, shortest)


def _cropped(rng: Generator, backdrop: RGBImage, height: int, width: int) -> RGBImage:
    rows, columns = backdrop.shape[:2]
    fit = min(rows / height, columns / width)  # backdrop pixels per scene pixel where the whole backdrop is used
    scale = fit * rng.uniform(0.5, 1.0)
    crop_height, crop_width = max(1, int(height * scale)), max(1, int(width * scale))
    top = int(rng.integers(0, rows - crop_height + 1))
    left = int(rng.integers(0, columns - crop_width + 1))
    crop = backdrop[top : top + crop_height, left : left + crop_width]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=method)
    return np.asarray(resized, dtype=np.uint8)


def _by_size(
    rng: Generator, cutouts: Sequence[Cutout], shortest_side_px: int, recipe: SceneRecipe
) -> list[tuple[Cutout, float]]:
    smallest, largest = recipe.object_px
    largest = max(smallest, min(largest, recipe.largest_fraction * shortest_side_px))
    sizes = np.exp(rng.uniform(np.log(smallest), np.log(largest), len(cutouts)))
    return sorted(zip(cutouts, sizes.tolist(), strict=True), key=lambda pair: -pair[1])


def _transformed(rng: Generator, cutout: Cutout, size_px: float, recipe: SceneRecipe) -> _Patch:
    image = _trimmed(cutout.image)
    if rng.random() < recipe.tint:
        image = _tinted(rng, image)
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
    scale = size_px / max(image.shape[:2])
    target = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    # Shrinking by area first: a warp that shrinks would skip pixels.
    resized = cv2.resize(image, target, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    limit = 20.0 if rng.random() < recipe.upright else 180.0
    turned = _light(_turned(np.asarray(resized, dtype=np.uint8), float(rng.uniform(-limit, limit))))
    gain = float(rng.uniform(0.85, 1.1))
    alpha = turned[..., 3:]
    return _Patch(colours=np.minimum(turned[..., :3] * np.float32(gain), alpha), alpha=alpha)


def _trimmed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = np.flatnonzero(image[..., 3].any(axis=1))
    columns = np.flatnonzero(image[..., 3].any(axis=0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _tinted(rng: Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Hue and saturation of a premultiplied colour are those of the colour itself; only its value is scaled.
    hsv = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2HSV).astype(np.int64)
    hsv[..., 0] = (hsv[..., 0] + int(rng.integers(0, 180))) % 180
    hsv[..., 1] = np.minimum(255, hsv[..., 1] * rng.uniform(0.4, 1.3))
    colours = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    return np.concatenate([colours, image[..., 3:]], axis=2)


def _turned(image: NDArray[np.uint8], angle_deg: float) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    new_width = int(np.ceil(width * cosine + height * sine)) + 2  # one transparent pixel around keeps edges soft
    new_height = int(np.ceil(height * cosine + width * sine)) + 2
    turn[:, 2] += (new_width - width) / 2, (new_height - height) / 2
    turned = cv2.warpAffine(image, turn, (new_width, new_height), flags=cv2.INTER_LINEAR)
    return np.asarray(turned, dtype=np.uint8)


def _find_spot(
    rng: Generator, mask: BoolMask, owners: NDArray[np.int64], areas: Sequence[int], recipe: SceneRecipe
) -> _Spot | None:
    total = int(mask.sum())
    if total == 0:
        return None
    visible = np.bincount(owners[owners >= 0], minlength=len(areas))
    needed = np.asarray(areas) * recipe.visible
    overlaps = rng.random() < recipe.occluded
    for attempt in range(_PLACES_TRIED):
        spot = _random_spot(rng, mask.shape, owners.shape)
        inside = mask[spot.patch]
        below = owners[spot.canvas][inside]
        hidden = np.bincount(below[below >= 0], minlength=len(areas))
        # In a crowded scene the second half of the attempts accepts an overlap rather than leave the object out.
        free = overlaps or attempt >= _PLACES_TRIED // 2 or not hidden.any()
        if free and int(inside.sum()) >= recipe.visible * total and bool((visible - hidden >= needed).all()):
            return spot
    return None


def _random_spot(rng: Generator, patch_shape: tuple[int, ...], canvas_shape: tuple[int, ...]) -> _Spot:
    over_the_edge = 0.3 if rng.random() < 0.15 else 0.0
    canvas_slices, patch_slices = [], []
    for patch_px, canvas_px in zip(patch_shape, canvas_shape, strict=True):
        slack = int(over_the_edge * patch_px)
        low, high = -slack, max(-slack, canvas_px - patch_px + slack)
        start = int(rng.integers(low, high + 1))
        first, last = max(0, start), min(canvas_px, start + patch_px)
        canvas_slices.append(slice(first, last))
        patch_slices.append(slice(first - start, last - start))
    return _Spot((canvas_slices[0], canvas_slices[1]), (patch_slices[0], patch_slices[1]))


def _paste(rng: Generator, canvas: FloatArray, patch: _Patch, spot: _Spot) -> None:
    alpha = patch.alpha[spot.patch]
    ground = canvas[spot.canvas]
    if rng.random() < 0.4:
        ground = ground * (1 - _shadow(rng, patch.alpha[..., 0])[spot.patch][..., None])
    canvas[spot.canvas] = ground * (1 - alpha) + patch.colours[spot.patch]


def _shadow(rng: Generator, alpha: FloatArray) -> FloatArray:
    size = max(alpha.shape)
    shift = np.array([[1, 0, rng.uniform(-0.05, 0.05) * size], [0, 1, rng.uniform(0.0, 0.06) * size]], dtype=np.float32)
    moved = cv2.warpAffine(alpha, shift, (alpha.shape[1], alpha.shape[0]))
    soft = cv2.GaussianBlur(moved, (0, 0), max(0.8, 0.03 * size))
    return np.asarray(soft * rng.uniform(0.2, 0.5), dtype=np.float32)


def _degraded(rng: Generator, canvas: FloatArray, recipe: SceneRecipe) -> RGBImage:
    blur, light, noise, jpeg = rng.random(4) < recipe.degraded
    if blur:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.1)), dtype=np.float32)
    if light:
        canvas = (canvas - 0.5) * rng.uniform(0.75, 1.15) + 0.5 + rng.uniform(-0.12, 0.12)
    if noise:
        canvas = canvas + rng.normal(0, rng.uniform(0.005, 0.03), canvas.shape).astype(np.float32)
    image = np.asarray(np.clip(canvas * 255 + 0.5, 0, 255), dtype=np.uint8)
    return _jpeg(image, int(rng.integers(40, 95))) if jpeg else image


def _jpeg(image: RGBImage, quality: int) -> RGBImage:
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def _light(image: NDArray[np.uint8]) -> FloatArray:
    return np.asarray(image.astype(np.float32) / 255, dtype=np.float32)


def _object(cutout: Cutout, mask: BoolMask, area_px: int) -> SceneObject:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return SceneObject(cutout.concept, cutout.style, mask, box, int(mask.sum()) / area_px)
