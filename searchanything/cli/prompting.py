"""From the options of `query` to a prompt and a filter. Heavy modules are imported when a value is made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from searchanything.errors import FilterError, PromptError

if TYPE_CHECKING:
    from searchanything.prompts import Prompt
    from searchanything.types import BoolMask

Granularity: TypeAlias = Literal["part", "object", "whole"]


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """The prompt as it was typed: at most one kind of it."""

    points: Sequence[str] = ()
    background: Sequence[str] = ()
    box: str | None = None
    text: str | None = None
    mask: Path | None = None
    granularity: Granularity | None = None

    def __post_init__(self) -> None:
        kinds = {"--point": self.points, "--box": self.box, "--text": self.text, "--mask": self.mask}
        given = [name for name, value in kinds.items() if value not in (None, (), [])]
        if len(given) > 1:
            raise PromptError(f"{' and '.join(given)} exclude each other: give one kind of prompt")
        for name, value in (("--background", self.background), ("--granularity", self.granularity)):
            if value and given != ["--point"]:
                raise PromptError(f"{name} goes with --point alone: add at least one --point X,Y")

    def prompt(self) -> Prompt:
        """Raises: PromptError."""
        from searchanything.prompts import Box, Mask, Points, Text, WholeImage

        if self.points:
            foreground, background = (
                tuple(parse_point(text, option) for text in texts)
                for option, texts in (("--point", self.points), ("--background", self.background))
            )
            return Points(foreground, background, granularity=self.granularity)
        if self.box is not None:
            return Box(*parse_numbers(self.box, "--box", "X1,Y1,X2,Y2"))
        if self.text is not None:
            return Text(self.text)
        return WholeImage() if self.mask is None else Mask(read_mask(self.mask))


def parse_point(text: str, option: str) -> tuple[float, float]:
    """`12,34` or `12.5,34` in image pixels. Raises: PromptError."""
    x, y = parse_numbers(text, option, "X,Y")
    return x, y


def parse_numbers(text: str, option: str, form: str) -> list[float]:
    """As many numbers as the form has names. Raises: PromptError."""
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != form.count(",") + 1:
        raise PromptError(f"{option} {text}: expected {form} in pixels of the image, separated by commas only")
    return numbers


def read_mask(path: Path) -> BoolMask:
    """An image file as a mask: pixels brighter than half of the brightest one, as long as they are opaque.

    That takes masks of 0 and 1 as well as of 0 and 255, and of 16 bit. Raises: PromptError.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            opaque = np.asarray(image.convert("RGBA"))[..., 3] > 127 if image.has_transparency_data else True
            brightness = np.asarray(image if image.mode in ("1", "I", "I;16", "F") else image.convert("L"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise PromptError(f"--mask {path}: cannot be read as an image ({error})") from error
    values = brightness.astype(np.float64)
    return np.asarray((values > values.max() / 2) & opaque, dtype=np.bool_)


def parse_metadata(entries: Sequence[str]) -> dict[str, str | int | float | bool]:
    """`name=text` is equality with a text, `name:=value` with a number, true or false. Raises: FilterError."""
    return dict(_entry(text) for text in entries)


def _entry(text: str) -> tuple[str, str | int | float | bool]:
    name, separator, value = text.partition("=")
    if not separator or not name.removesuffix(":"):
        raise FilterError(f"--metadata {text}: expected name=text, or name:=value for a number, true or false")
    if not name.endswith(":"):
        return name, value
    try:
        typed = json.loads(value)
    except json.JSONDecodeError:
        typed = None
    if not isinstance(typed, int | float | bool):
        raise FilterError(f"--metadata {text}: expected a number, true or false after :=")
    return name.removesuffix(":"), typed
