"""What `query`, `explain` and `compare` have in common: the options of a prompt, of a filter and of a page.

Each group of options is a dataclass, which `options.expanded` puts into a verb's signature. Heavy modules are imported
when a value is made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from searchanything.cli.options import option
from searchanything.core.errors import FilterError, PromptError
from searchanything.core.prompt_fields import Granularity

if TYPE_CHECKING:
    from searchanything.core.types import BoolMask, Filter
    from searchanything.prompts.prompt import Prompt

PROMPT = "Prompt (pixels of the EXIF-corrected image); default: the whole image"
PAGE = "Answer"
FILTER = "Filter"


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """The prompt as it was typed."""

    point: Annotated[
        list[str] | None,
        option("--point", "X,Y", "A point on the thing; repeatable.", panel=PROMPT),
    ] = None
    background: Annotated[
        list[str] | None, option("--background", "X,Y", "A point beside the thing; repeatable.", panel=PROMPT)
    ] = None
    box: Annotated[
        list[str] | None, option("--box", "X1,Y1,X2,Y2", "A box around the thing; repeatable.", panel=PROMPT)
    ] = None
    text: Annotated[str | None, option("--text", "TEXT", "Words for the thing.", panel=PROMPT)] = None
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="An image of the same size, bright on the thing; not with other prompts.",
            rich_help_panel=PROMPT,
        ),
    ] = None
    granularity: Annotated[
        Granularity | None,
        typer.Option(
            "--granularity", help="Which of several masks under a point; only with points.", rich_help_panel=PROMPT
        ),
    ] = None

    def __post_init__(self) -> None:
        beside = [name for name, value in (("--box", self.box), ("--text", self.text)) if value is not None]
        if self.mask is not None and (self.point or self.background or beside):
            raise PromptError("--mask cannot be combined with other prompts: drop it, or the others")
        if self.background and not (self.point or beside):
            raise PromptError("--background only excludes regions: add a --point, a --box or a --text")
        if self.granularity is not None and (beside or not self.point):
            raise PromptError("--granularity works with points only: a box or a text decides by itself")

    def prompt(self) -> Prompt:
        """Raises: PromptError."""
        from searchanything.prompts.prompt import Mask, Points, Prompts, WholeImage

        foreground, background = (
            tuple(parse_point(text, option) for text in texts or ())
            for option, texts in (("--point", self.point), ("--background", self.background))
        )
        if self.box or self.text is not None:
            boxes = [parse_numbers(text, "--box", "X1,Y1,X2,Y2") for text in self.box or ()]
            return Prompts(boxes, foreground, background, self.text).simplest()
        if foreground:
            return Points(foreground, background, granularity=self.granularity)
        return WholeImage() if self.mask is None else Mask(read_mask(self.mask))


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """The filter as it was typed."""

    bucket: Annotated[str | None, option("--bucket", "NAME", "Only hits of this bucket or folder.", panel=FILTER)] = (
        None
    )
    key_prefix: Annotated[
        str | None,
        option("--key-prefix", "PREFIX", "Only hits whose key begins with PREFIX.", panel=FILTER),
    ] = None
    size_class: Annotated[
        Literal["small", "medium", "large"] | None,
        typer.Option(
            "--size-class",
            help="Only hits of this size, by the area of the region's box: up to 32², up to 96² px, or larger.",
            rich_help_panel=FILTER,
        ),
    ] = None
    metadata: Annotated[
        list[str] | None,
        option(
            "--metadata",
            "NAME=TEXT",
            "Only hits with this metadata; NAME:=VALUE for a number, true or false; repeatable.",
            panel=FILTER,
        ),
    ] = None
    where: Annotated[
        list[str] | None,
        option(
            "--where",
            "CONDITION",
            "Only hits that meet a condition on metadata, such as 'year>=2020', 'stars=3..5', 'city in "
            "Marburg,Kassel', or on the region: 'area_px>900', 'size_class=large'; repeatable.",
            panel=FILTER,
        ),
    ] = None
    expression: Annotated[
        str | None,
        option("--filter", "EXPR", "An expression, such as 'area_px >= 900 and region in [0, 1]'.", panel=FILTER),
    ] = None

    def filter(self) -> Filter | None:
        """None where no part is given. Raises: FilterError."""
        from searchanything.core.types import Filter, SizeClass

        wanted = Filter(
            bucket=self.bucket,
            key_prefix=self.key_prefix,
            size_class=None if self.size_class is None else SizeClass(self.size_class),
            metadata=parse_metadata(self.metadata or ()),
            expression=self.expression,
            where=self.where or (),
        )
        return None if wanted == Filter() else wanted


@dataclass(frozen=True, slots=True)
class HitsOptions:
    """Which hits are wanted."""

    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Maximum number of hits.", rich_help_panel=PAGE)
    ] = 10
    group_by_image: Annotated[
        bool, typer.Option("--group-by-image", help="Only the best region of each image.", rich_help_panel=PAGE)
    ] = False
    rescore: Annotated[
        int | None,
        typer.Option(
            "--rescore",
            metavar="N",
            min=0,
            help="Reorder the N nearest hits by the query's real values; 0: by bits alone.",
            show_default="search.rescore",
            rich_help_panel=PAGE,
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class PageOptions(HitsOptions):
    """Which hits are wanted, and from which on."""

    offset: Annotated[int, typer.Option("--offset", metavar="N", min=0, help="Hits to skip.", rich_help_panel=PAGE)] = 0


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

    That takes masks of 0 and 1 as well as of 0 and 255, and of 16 bit. The formats and limits are those of images.
    Raises: PromptError.
    """
    import numpy as np
    from PIL import ImageOps

    from searchanything.core.errors import ImageError
    from searchanything.core.reading import read_file
    from searchanything.core.settings import load_settings
    from searchanything.images.decoding import open_image
    from searchanything.images.pillow_errors import PILLOW_ERRORS, quiet_pillow

    max_pixels = load_settings().ingest.max_pixels
    try:
        with quiet_pillow():
            opened = open_image(read_file(path), name=path.name, max_pixels=max_pixels)[1]
            image = ImageOps.exif_transpose(opened)
            opaque = np.asarray(image.convert("RGBA"))[..., 3] > 127 if image.has_transparency_data else True
            brightness = np.asarray(image if image.mode[:1] in "1IF" else image.convert("L"))
    except ImageError as error:
        raise PromptError(f"--mask {path}: cannot be read as an image: it {error.reason}") from error
    except PILLOW_ERRORS as error:
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
    except (ValueError, RecursionError):  # no JSON, too many digits, nested too deep
        typed = None
    if not isinstance(typed, int | float | bool):
        raise FilterError(f"--metadata {text}: expected a number, true or false after :=")
    return name.removesuffix(":"), typed
