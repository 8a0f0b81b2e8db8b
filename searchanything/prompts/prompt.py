"""Prompts, and how each chooses a region out of a segmentation: the heart of "point at a thing".

The rules (DESIGN "Prompt rules", supplement 2.1). All coordinates are pixels of the EXIF-corrected image.

- `Points`: masks holding a background point are out; each foreground point chooses ONE of the masks that hold it, or
  of those it touches where none does;
  the chosen masks are merged. Where all that hold a point are out, one is cut half way to the background
  (`searchanything.prompts.cuts`). `rule="fastsam"` is the published FastSAM rule instead.
- `Box`: the mask that fits the box best, by IoU, what lies in it and its middle; the box itself where none reaches a
  minimum, which is lower for what lies mostly in the box.
- `Text`: the region whose embedding is closest to the text's.
- `Mask`: the given mask. `WholeImage`: everything.
- `Prompts`: several boxes, or boxes, points and a text read together (`searchanything.prompts.choose_together`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchanything.core.arguments import as_array, shown
from searchanything.core.errors import PromptError
from searchanything.core.prompt_fields import Granularity, plain_fields
from searchanything.core.types import BoolMask, BoxXYXY

Point: TypeAlias = tuple[float, float]
PointsInput: TypeAlias = Point | Sequence[Point] | Sequence[Sequence[float]] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Points:
    """Foreground and background points, (x, y) in image pixels.

    `granularity` picks among the masks that hold a foreground point: `part` the smallest, `object` the middle one by
    area, `whole` the largest; None the one the segmenter is surest of for its size, among those that are not made of
    other masks (`searchanything.prompts.containers`): the jeans rather than the person. `rule="surest"` weighs the
    score alone.
    """

    foreground: tuple[Point, ...]
    background: tuple[Point, ...] = ()
    granularity: Granularity | None = None
    rule: Literal["searchanything", "surest", "fastsam"] = "searchanything"

    if TYPE_CHECKING:  # what the fields are made of

        def __init__(
            self,
            foreground: PointsInput,
            background: PointsInput = (),
            granularity: Granularity | None = None,
            rule: Literal["searchanything", "surest", "fastsam"] = "searchanything",
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "foreground", _points(self.foreground))
        object.__setattr__(self, "background", _points(self.background))
        if not self.foreground:
            raise PromptError("expected at least one foreground point, got none")
        if self.granularity not in (None, "part", "object", "whole"):
            raise PromptError(f"expected granularity part, object or whole, got {self.granularity!r}")
        if self.rule not in ("searchanything", "surest", "fastsam"):
            raise PromptError(f"expected rule searchanything, surest or fastsam, got {self.rule!r}")
        if self.rule != "searchanything" and self.granularity is not None:
            raise PromptError(f"granularity and rule {self.rule} each say which mask is meant: give one of them")


@dataclass(frozen=True, slots=True)
class Box:
    """A box from (x1, y1) to (x2, y2) in image pixels; what reaches beyond the image is cut off."""

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        for name, side in zip(("x1", "y1", "x2", "y2"), _numbers(self.xyxy).tolist(), strict=True):
            object.__setattr__(self, name, side)
        if not np.isfinite(self.xyxy).all():
            raise PromptError(f"expected finite box sides, got {self.xyxy}")
        if self.x2 <= self.x1 or self.y2 <= self.y1:
            raise PromptError(f"expected a box x1 < x2 and y1 < y2, got {self.xyxy}")

    @property
    def xyxy(self) -> BoxXYXY:
        return self.x1, self.y1, self.x2, self.y2


BoxInput: TypeAlias = Box | Sequence[float] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Text:
    """Words for the thing that is meant, e.g. "a red apple"."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise PromptError(f"expected a text of more than blanks, got {shown(self.text)}")


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A mask of the image's own size, (H, W) bool.

    Also taken: (H, W, 1), (H, W, 3) of equal channels, and integers of 0 and one other value, as 0 and 255.
    """

    mask: BoolMask

    def __post_init__(self) -> None:
        if not isinstance(self.mask, np.ndarray):
            raise PromptError(f"expected a boolean array as mask, got {type(self.mask).__name__}{as_array(self.mask)}")
        object.__setattr__(self, "mask", _as_bool(self.mask).copy())
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_:
            raise PromptError(
                f"expected a two-dimensional boolean mask, got {self.mask.dtype} {self.mask.shape}: compare it with a "
                f"threshold first, as in mask > {0.5 if self.mask.dtype.kind == 'f' else 127}"
            )
        if not self.mask.any():
            raise PromptError("expected a mask with at least one pixel, got an empty one")

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return f"Mask({int(self.mask.sum()):,} px of {width} × {height})"


@dataclass(frozen=True, slots=True)
class WholeImage:
    """No region: search for images that are alike as a whole."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Boxes, points and a text read together: all of them say something about what is meant, in image pixels.

    Each box, and each foreground point outside all boxes, is a place where something is meant; what the places choose
    is merged. A foreground point in a box says which thing of that box; a mask that holds a background point is out; a
    text chooses among what the places leave, or the whole image without a place.

    `boxes`: `Box` values or rows of four numbers. A mask says all by itself and takes no company.
    """

    boxes: tuple[Box, ...] = ()
    foreground: tuple[Point, ...] = ()
    background: tuple[Point, ...] = ()
    text: str | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            boxes: BoxInput | Sequence[BoxInput] = (),
            foreground: PointsInput = (),
            background: PointsInput = (),
            text: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", _boxes(self.boxes))
        object.__setattr__(self, "foreground", _points(self.foreground))
        object.__setattr__(self, "background", _points(self.background))
        if self.text is not None:
            Text(self.text)
        if not self.boxes and not self.foreground and self.text is None:
            alone = "background points, which only say what is not meant" if self.background else "nothing"
            raise PromptError(f"expected a box, a foreground point or a text, got {alone}")

    def simplest(self) -> Points | Box | Text | Prompts:
        """The prompt of one kind that means the same, where there is one."""
        if not self.boxes and self.text is None:
            return Points(self.foreground, self.background)
        if not self.boxes and not self.foreground and not self.background and self.text is not None:
            return Text(self.text)
        if len(self.boxes) == 1 and not self.foreground and not self.background and self.text is None:
            return self.boxes[0]
        return self


Prompt: TypeAlias = Points | Box | Text | Mask | WholeImage | Prompts


def as_prompt(value: object) -> Prompt:
    """What people write instead of a prompt: None is the whole image, a string a text, two numbers a point,
    four a box, a boolean array a mask, a list of pairs points, a list of fours boxes, a mapping the fields of `Points`
    or, with `boxes` or `text`, those of `Prompts` (`{"box": …}` and `{"point": …}` will do, and `{"mask": …}`).

    Raises: PromptError.
    """
    match value:
        case Points() | Box() | Text() | Mask() | WholeImage():
            return value
        case Prompts():
            return value.simplest()
        case None:
            return WholeImage()
        case str():
            return Text(value)
        case Mapping():
            return _from_mapping(value)
        case np.ndarray() if value.dtype == np.bool_ or _looks_like_mask(value):
            return Mask(value)
        case np.ndarray() | Sequence():
            return _from_numbers(value)
    got = f"{type(value).__name__}{as_array(value)}"
    raise PromptError(f"expected a prompt, a text, 2 or 4 numbers or a boolean mask, got {got}")


def check_units(prompt: Prompt, height: int, width: int) -> None:
    """Refuse boxes and points that seem to be given in shares of the image's size (height, width).

    Raises: PromptError.
    """
    _check_points(prompt, height, width)
    boxes = (prompt,) if isinstance(prompt, Box) else prompt.boxes if isinstance(prompt, Prompts) else ()
    for box in boxes:
        check_box_units(box.xyxy, height, width)


def check_box_units(sides: BoxXYXY, height: int, width: int) -> None:
    """Refuse a box that seems to be given in shares of the image's size (height, width). Raises: PromptError."""
    if min(height, width) > 1 and all(0 <= side <= 1 for side in sides) and any(side % 1 for side in sides):
        pixels = tuple(round(side * whole) for side, whole in zip(sides, (width, height) * 2, strict=True))
        raise PromptError(
            f"expected a box in pixels of the image ({width} x {height}), got {sides}, which is less than one "
            f"pixel; if you gave shares of the image's size, give {pixels}"
        )


def _check_points(prompt: Prompt, height: int, width: int) -> None:
    if not isinstance(prompt, Points | Prompts) or min(height, width) <= 1:
        return
    points = (*prompt.foreground, *prompt.background)
    sides = [side for point in points for side in point]
    if sides and all(0 <= side <= 1 for side in sides) and any(side % 1 for side in sides):
        x, y = points[0]
        raise PromptError(
            f"expected points in pixels of the image ({width} x {height}), got {points[0]}, which lies in its first "
            f"pixel; if you gave shares of the image's size, give ({round(x * width)}, {round(y * height)})"
        )


def _as_bool(mask: NDArray[Any]) -> NDArray[Any]:
    """A mask of another type as booleans, where there is but one way to read it; else as it is."""
    flat = mask[..., 0] if mask.ndim == 3 and _is_grey(mask) else mask
    if flat.ndim != 2 or flat.size == 0:
        return flat
    if flat.dtype.kind in "ui" and len(np.unique(flat[flat != 0])) <= 1 and flat.min() >= 0:
        return np.asarray(flat != 0)
    return flat


def _looks_like_mask(array: NDArray[Any]) -> bool:
    """Whether an array of numbers is no list of points or boxes but as wide as an image."""
    return (array.ndim == 2 and array.shape[1] > 4) or (array.ndim == 3 and _is_grey(array))


def _is_grey(array: NDArray[Any]) -> bool:
    """Whether (H, W, C) is one channel, or three that are equal, as OpenCV reads the file of a mask."""
    return array.shape[2] == 1 or (array.shape[2] == 3 and bool((array == array[..., :1]).all()))


def describe_prompt(prompt: Prompt) -> dict[str, Any]:
    """A prompt as plain JSON: `kind` as answers name it, and what was given; of a mask its area alone."""
    match prompt:
        case Points():
            kind = "background" if prompt.background else "point" if len(prompt.foreground) == 1 else "points"
            return {
                "kind": kind,
                "foreground": [list(point) for point in prompt.foreground],
                "background": [list(point) for point in prompt.background],
                "granularity": prompt.granularity,
                "rule": prompt.rule,
            }
        case Box():
            return {"kind": "box", "box_xyxy": list(prompt.xyxy)}
        case Text():
            return {"kind": "text", "text": prompt.text}
        case Mask():
            return {"kind": "mask", "area_px": int(prompt.mask.sum())}
        case WholeImage():
            return {"kind": "image"}
        case Prompts():
            return {
                "kind": "mixed" if prompt.foreground or prompt.background or prompt.text is not None else "boxes",
                "boxes_xyxy": [list(box.xyxy) for box in prompt.boxes],
                "foreground": [list(point) for point in prompt.foreground],
                "background": [list(point) for point in prompt.background],
                "text": prompt.text,
            }


def _boxes(values: object) -> tuple[Box, ...]:
    """A box, or any sequence of boxes and rows of four numbers. Raises: PromptError."""
    if isinstance(values, Box):
        return (values,)
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str | bytes):
        raise PromptError(f"expected boxes, each a Box or four numbers, got {shown(values)}")
    if len(values) == 4 and not any(isinstance(one, Box | Sequence | np.ndarray) for one in values):
        return (as_box(values),)
    return tuple(as_box(one) for one in values)


def as_box(values: object) -> Box:
    """A box, or four numbers x1, y1, x2, y2 in image pixels. Raises: PromptError."""
    if isinstance(values, Box):
        return values
    sides = _numbers(values)
    if sides.shape != (4,):
        raise PromptError(f"expected a box as four numbers x1, y1, x2, y2, got {shown(values)}")
    return Box(*sides.tolist())


def _points(values: object) -> tuple[Point, ...]:
    """Any nesting of numbers as points. Raises: PromptError."""
    array = _numbers(values)
    if array.size == 0:
        return ()
    pairs = array.reshape(1, 2) if array.shape == (2,) else array
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.isfinite(pairs).all():
        raise PromptError(f"expected points as finite (x, y) pairs, got {shown(values)}")
    return tuple((float(x), float(y)) for x, y in pairs)


def _numbers(values: object) -> NDArray[np.float64]:
    """Any regular nesting of real numbers as an array; booleans, texts and None are no numbers. Raises: PromptError."""
    try:
        array = np.asarray(values)
    except ValueError:  # ragged
        array = np.asarray(None)
    if array.size and array.dtype.kind not in "iuf":
        raise PromptError(f"expected numbers, got {shown(values)}")
    return array.astype(np.float64)


def _from_numbers(value: Sequence[object] | NDArray[Any]) -> Prompt:
    if isinstance(value, Sequence) and any(isinstance(one, Prompt) for one in value):
        raise PromptError("several prompts at once are one Prompts(boxes=…, foreground=…, background=…, text=…)")
    array = _numbers(value)
    if array.shape == (4,):
        return Box(*array.tolist())
    if array.shape == (2,) or (array.ndim == 2 and array.shape[1] == 2 and len(array)):
        return Points(_points(array))
    if array.ndim == 2 and array.shape[1] == 4 and len(array):
        return Prompts(tuple(Box(*row) for row in array.tolist())).simplest()
    raise PromptError(
        f"expected 2 numbers (a point), 4 (a box), pairs (points), fours (boxes) or a boolean mask, "
        f"got shape {array.shape}; boxes, points and a text together are a searchanything.Prompts"
    )


def _from_mapping(given: Mapping[str, object]) -> Points | Box | Text | Mask | Prompts:
    of_prompts = {"boxes", "foreground", "background", "text"}
    fields = plain_fields(given)
    if "mask" in fields:
        if len(fields) > 1:
            raise PromptError("a mask cannot be combined with other prompts: drop it, or the others")
        return Mask(np.asarray(fields["mask"]))
    if not {"boxes", "text"}.isdisjoint(fields):
        if both := sorted(set(fields) - of_prompts):
            raise PromptError(f"{' and '.join(both)} go with points alone: beside them, a box or a text decides")
        return Prompts(**fields).simplest()  # type: ignore[arg-type]
    if "foreground" not in fields:
        raise PromptError("expected a foreground point, got none")
    return Points(**fields)  # type: ignore[arg-type]
