"""Region crops for the pico encoder, drawn on the fly from the pictograms.

Each crop looks like what the product cuts out of an image (searchanything's region policy): either masked, so that
all outside the region is black, or with its surroundings at one or three times the region's box. Masks are degraded
the way a segmenter's are: it predicts them on a coarse grid, its boxes are a few percent off, and other objects cover
parts. Drawings vary in colour, outline and line weight, because there are more styles than our six.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from training.photographs import load_photographs
from training.scenes_dataset import HELD_OUT_PHOTOGRAPHS

UInt8 = NDArray[np.uint8]
Float = NDArray[np.float32]
View = Literal["masked", "box", "wide"]

CROP_PX = 96
_CANVAS_PX = 128
_ICON_PX = 96
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True, slots=True)
class CropRecipe:
    """How much the crops vary; `strength` 0 gives clean drawings with only the segmenter's flaws."""

    views: tuple[tuple[View, float], ...] = (("masked", 0.5), ("box", 0.35), ("wide", 0.15))
    strength: float = 1.0
    box_jitter: float = 0.08


@dataclass(frozen=True, slots=True, eq=False)
class Drawings:
    """Pictograms cut to their visible extent and brought to one size.

    `icons` is (n, 96, 96, 4) uint8 RGBA with premultiplied colours; `concepts` and `styles` are (n,) int64.
    """

    icons: UInt8
    concepts: NDArray[np.int64]
    styles: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.icons) == len(self.concepts) == len(self.styles):
            raise ValueError(f"expected equally many, got {len(self.icons)}, {len(self.concepts)}, {len(self.styles)}")

    def subset(self, rows: NDArray[np.int64]) -> Drawings:
        """The drawings at `rows`."""
        return Drawings(self.icons[rows], self.concepts[rows], self.styles[rows])


def fit_icon(rgba: UInt8, *, size_px: int = _ICON_PX) -> UInt8:
    """Cut a premultiplied (H, W, 4) drawing to its visible extent, centred on a square of `size_px`."""
    top, bottom, left, right = _extent(rgba[..., 3], threshold=8)
    cut = rgba[top:bottom, left:right]
    return _letterbox(cut, size_px=size_px)


class Backgrounds:
    """Patches of photographs and of made-up textures."""

    def __init__(self, photos: Sequence[UInt8]) -> None:
        self._photos = tuple(photos)

    @classmethod
    def from_photographs(cls, cache: Path, *, held_out: bool) -> Backgrounds:
        """The photographs of the cache that training may use, or those that are held out for evaluation."""
        photographs = sorted(load_photographs(cache).items())
        return cls([image for i, (_, image) in enumerate(photographs) if (i % HELD_OUT_PHOTOGRAPHS == 0) == held_out])

    def __len__(self) -> int:
        return len(self._photos)

    def patch(self, rng: np.random.Generator, *, height: int, width: int) -> UInt8:
        """A (height, width, 3) uint8 RGB patch."""
        if not self._photos or rng.random() < 0.25:
            return _texture(rng, height=height, width=width)
        photo = self._photos[rng.integers(len(self._photos))]
        zoom = min(rng.uniform(0.7, 4.0), photo.shape[0] / height, photo.shape[1] / width)
        rows, columns = max(2, int(height * zoom)), max(2, int(width * zoom))
        y, x = rng.integers(photo.shape[0] - rows + 1), rng.integers(photo.shape[1] - columns + 1)
        return cv2.resize(photo[y : y + rows, x : x + columns], (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _texture(rng: np.random.Generator, *, height: int, width: int) -> UInt8:
    cells = int(rng.integers(1, 9))
    coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    mode = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)]
    return cv2.resize(coarse, (width, height), interpolation=mode).reshape(height, width, 3)  # type: ignore[return-value]


class CropMaker:
    """Turns drawings into (96, 96, 3) uint8 RGB crops."""

    def __init__(self, drawings: Drawings, backgrounds: Backgrounds, recipe: CropRecipe) -> None:
        self._drawings = drawings
        self._backgrounds = backgrounds
        self._recipe = recipe

    def crop(self, row: int, rng: np.random.Generator) -> UInt8:
        """One crop of the drawing at `row`."""
        names, weights = zip(*self._recipe.views, strict=True)
        view: View = names[rng.choice(len(names), p=weights)]
        icon = _vary_look(self._drawings.icons[row], rng, strength=self._recipe.strength)
        canvas = _place(icon, _random_pose(rng, strength=self._recipe.strength))
        neighbour = self._neighbour(rng)
        visible = (canvas[..., 3] * (1.0 - neighbour[..., 3:].astype(np.float32)[..., 0] / 255)).astype(np.uint8)
        if visible.max() < 64 or (visible > 127).sum() < 0.55 * (canvas[..., 3] > 127).sum():
            neighbour, visible = np.zeros_like(neighbour), canvas[..., 3]
        box = _jittered_box(visible, rng, jitter=self._recipe.box_jitter, margin=1.0 if view == "wide" else 0.0)
        native = _native_size_px(view, rng)
        layers = [_cut(layer, box, longest_px=native) for layer in (canvas, neighbour, visible)]
        scene = self._compose(layers[0], layers[1], rng)
        if view == "masked":
            scene = scene * _segmenter_mask(layers[2], rng)[..., None]
        return _letterbox(_vary_capture(scene, rng, strength=self._recipe.strength), size_px=CROP_PX)

    def batch(self, rows: NDArray[np.int64], rng: np.random.Generator) -> UInt8:
        """Crops of the drawings at `rows`: (n, 96, 96, 3) uint8 RGB."""
        return np.stack([self.crop(int(row), rng) for row in rows])

    def _neighbour(self, rng: np.random.Generator) -> UInt8:
        """Another object that may reach into the canvas, (128, 128, 4)."""
        if rng.random() > 0.35:
            return np.zeros((_CANVAS_PX, _CANVAS_PX, 4), np.uint8)
        icon = self._drawings.icons[rng.integers(len(self._drawings.icons))]
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(45, 90)
        pose = _random_pose(rng, strength=1.0)
        pose[:, 2] += reach * np.array([np.cos(angle), np.sin(angle)])
        return _place(icon, pose)

    def _compose(self, canvas: UInt8, neighbour: UInt8, rng: np.random.Generator) -> UInt8:
        height, width = canvas.shape[:2]
        scene: Float = self._backgrounds.patch(rng, height=height, width=width).astype(np.float32)
        for layer in (canvas, neighbour):
            scene = np.asarray(layer[..., :3] + scene * (1.0 - layer[..., 3:].astype(np.float32) / 255), np.float32)
        return np.clip(scene, 0, 255).astype(np.uint8)


def _random_pose(rng: np.random.Generator, *, strength: float) -> NDArray[np.float64]:
    """A (2, 3) affine map from icon pixels to canvas pixels, centre to centre."""
    widest = 180 if rng.random() < 0.15 * strength else 30
    angle = np.deg2rad(rng.uniform(-widest, widest)) * strength
    stretch = np.exp(rng.uniform(-0.16, 0.16, 2) * strength) * (_CANVAS_PX - 8) / _ICON_PX * 0.75
    shear = np.array([[1.0, rng.uniform(-0.18, 0.18) * strength], [0.0, 1.0]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ shear @ np.diag(stretch)
    if rng.random() < 0.5 * strength:
        linear[:, 0] *= -1
    offset = _CANVAS_PX / 2 - linear @ np.full(2, _ICON_PX / 2)
    return np.concatenate([linear, offset[:, None]], axis=1)


def _place(icon: UInt8, pose: NDArray[np.float64]) -> UInt8:
    return cv2.warpAffine(icon, pose, (_CANVAS_PX, _CANVAS_PX), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _vary_look(icon: UInt8, rng: np.random.Generator, *, strength: float) -> UInt8:
    """Redraw an icon: outline, line weight, flatness and colours, each only sometimes."""
    chance = rng.random(6) / max(strength, 1e-6)
    if chance[0] < 0.2:  # erosion of the colours thickens dark lines, dilation thins them
        change = cv2.erode if rng.random() < 0.6 else cv2.dilate
        icon = np.dstack([change(icon[..., :3], np.ones((3, 3), np.uint8)), icon[..., 3]])
    if chance[1] < 0.12:
        icon = cv2.medianBlur(icon, int(rng.choice([3, 5])))  # type: ignore[assignment]
    alpha = icon[..., 3]
    colours: Float = icon[..., :3].astype(np.float32)
    if chance[2] < 0.2:
        edges = cv2.morphologyEx(colours @ _LUMA, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        colours = colours * (1.0 - rng.uniform(0.3, 1.0) * np.clip(edges / 128, 0, 1))[..., None].astype(np.float32)
    if chance[3] < 0.15:
        step = np.float32(rng.choice([32, 48, 64, 96]))
        colours = np.round(colours / step) * step
    if chance[4] < 0.85:
        colours = colours @ _colour_matrix(rng, strength=strength)
    colours = colours * _shading(rng) if chance[5] < 0.35 else colours
    return _outlined(np.minimum(np.clip(colours, 0, 255), alpha[..., None]), alpha, rng, strength=strength)


def _colour_matrix(rng: np.random.Generator, *, strength: float) -> Float:
    """Hue rotation about the grey axis, saturation and gain as one (3, 3) matrix for row vectors."""
    hue = rng.normal(0, 0.25) * strength if rng.random() < 0.9 else rng.uniform(-np.pi, np.pi) * strength
    saturation = 0.0 if rng.random() < 0.04 * strength else float(np.exp(rng.normal(0, 0.35) * strength))
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.cross(np.eye(3), axis)
    turn = np.cos(hue) * np.eye(3) + np.sin(hue) * cross + (1 - np.cos(hue)) * np.outer(axis, axis)
    grey = np.tile(_LUMA[:, None], (1, 3))
    gain = np.exp(rng.normal(0, 0.2) * strength + rng.normal(0, 0.1, 3) * strength)
    return np.asarray((turn @ (saturation * np.eye(3) + (1 - saturation) * grey)) * gain, np.float32)


def _shading(rng: np.random.Generator) -> Float:
    ramp = np.linspace(-1, 1, _ICON_PX, dtype=np.float32)
    slope = rng.uniform(-0.3, 0.3, 2).astype(np.float32)
    return np.asarray(1.0 + slope[0] * ramp[:, None] + slope[1] * ramp[None, :], np.float32)[..., None]


def _outlined(colours: Float, alpha: UInt8, rng: np.random.Generator, *, strength: float) -> UInt8:
    if rng.random() < 0.2 * strength:
        width = int(rng.choice([3, 5, 7]))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        grown = np.asarray(cv2.dilate(alpha, kernel), np.uint8)
        ink = np.float32(rng.choice([0, 24, 255], p=[0.5, 0.25, 0.25]))
        rim = (grown - alpha).astype(np.float32)[..., None] / 255
        colours, alpha = np.asarray(colours + rim * ink, np.float32), grown
    return np.dstack([np.clip(colours, 0, 255), alpha]).astype(np.uint8)


def _vary_capture(scene: UInt8, rng: np.random.Generator, *, strength: float) -> UInt8:
    """Blur, noise, contrast and JPEG, as scenes go through them."""
    chance = rng.random(4) / max(strength, 1e-6)
    if chance[0] < 0.15:
        scene = cv2.GaussianBlur(scene, (3, 3), rng.uniform(0.4, 1.0))  # type: ignore[assignment]
    if chance[1] < 0.3:
        scene = cv2.convertScaleAbs(scene, alpha=rng.uniform(0.7, 1.25))  # type: ignore[assignment]
    if chance[2] < 0.15:
        noisy = scene + rng.normal(0, rng.uniform(2, 10), scene.shape).astype(np.float32)
        scene = np.where(scene > 0, np.clip(noisy, 0, 255), 0).astype(np.uint8)
    if chance[3] < 0.15:
        coded = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))])[1]
        scene = cv2.imdecode(coded, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return scene


def _native_size_px(view: View, rng: np.random.Generator) -> int:
    """Longest side of the crop before it is brought to 96 px; capped, as reduction from more loses nothing.

    Wide crops belong to boxes up to 32 px, box crops to boxes up to 96 px (the region policy's size classes).
    """
    if view == "wide":
        return int(rng.integers(36, 97))
    lowest = 24 if view == "box" else 16
    return int(min(96, np.exp(rng.uniform(np.log(lowest), np.log(200)))))


def _segmenter_mask(visible: UInt8, rng: np.random.Generator) -> UInt8:
    """The visible part, 0 or 1, as a segmenter would mask it: on a coarse grid, smoothed, cut at a threshold."""
    if rng.random() < 0.15:
        return (visible > 127).astype(np.uint8)
    height, width = visible.shape
    coarseness = rng.uniform(0.18, 0.5)
    grid = (max(3, round(width * coarseness)), max(3, round(height * coarseness)))
    cells = np.asarray(cv2.resize(visible, grid, interpolation=cv2.INTER_AREA), np.float32) / 255
    cells = cells + rng.normal(0, 0.1, cells.shape).astype(np.float32)
    smooth = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    mask = (np.asarray(smooth) > rng.uniform(0.35, 0.6)).astype(np.uint8)
    return mask if mask.any() else (visible > 127).astype(np.uint8)


def _jittered_box(visible: UInt8, rng: np.random.Generator, *, jitter: float, margin: float) -> NDArray[np.float64]:
    """The visible extent, each side moved by up to ± `jitter` and out by up to `margin` of the size: x1, y1, x2, y2."""
    top, bottom, left, right = _extent(visible, threshold=64)
    size = np.array([right - left, bottom - top] * 2, np.float64)
    outward = np.array([-1, -1, 1, 1]) * margin
    if margin and rng.random() < 0.3:  # at the image's border the context is clipped
        outward[rng.integers(4)] *= rng.random()
    return np.array([left, top, right, bottom]) + size * (outward + rng.uniform(-jitter, jitter, 4))


def _extent(alpha: UInt8, *, threshold: int) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero((alpha > threshold).any(1)), np.flatnonzero((alpha > threshold).any(0))
    if not len(rows):
        return 0, alpha.shape[0], 0, alpha.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _cut(layer: UInt8, box_xyxy: NDArray[np.float64], *, longest_px: int) -> UInt8:
    """Resample the box out of a layer so that its longest side has `longest_px`; outside the layer is empty."""
    size = box_xyxy[2:] - box_xyxy[:2]
    scale = longest_px / float(size.max())
    width, height = (max(2, round(float(side) * scale)) for side in size)
    pose = np.array([[scale, 0, -box_xyxy[0] * scale], [0, scale, -box_xyxy[1] * scale]])
    source, flags = layer, cv2.INTER_LINEAR
    if scale < 0.7:  # linear sampling alone would alias
        source = cv2.blur(layer, (round(1 / scale),) * 2)  # type: ignore[assignment]
    return cv2.warpAffine(source, pose, (width, height), flags=flags)  # type: ignore[return-value]


def _letterbox(image: UInt8, *, size_px: int) -> UInt8:
    """Bring the longest side to `size_px` and pad with zeros, the image in the middle."""
    height, width = image.shape[:2]
    scale = size_px / max(height, width)
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(image, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    out = np.zeros((size_px, size_px, *image.shape[2:]), np.uint8)
    top, left = (size_px - new[1]) // 2, (size_px - new[0]) // 2
    out[top : top + new[1], left : left + new[0]] = resized
    return out
