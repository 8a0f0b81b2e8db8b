"""What a question of several parts gives back: images, each with the region that stands for each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
from PIL import Image

from searchanything.answers.explanation import Explanation
from searchanything.answers.matching import rounded_rate
from searchanything.core.counting import counted
from searchanything.core.documents import mask_document, rounded
from searchanything.core.errors import SearchAnythingError, UsageError
from searchanything.core.files import save_image
from searchanything.core.pickling import PickledAlone
from searchanything.core.types import ImageRef, MaskRLE, RGBImage
from searchanything.drawing.overlays import MUTED, Color, Mark, RegionMark, distinct_colors, draw_marks, prompt_marks
from searchanything.drawing.sheets import Tile, contact_sheet, full_rows
from searchanything.search.combination import CombinedHit, CombinedPage, PartMatch
from searchanything.search.locate import IndexedImage

_TILE_PX: Final = 320
_MAX_TILES: Final = 50
WEAK_RATE: Final = 0.01  # of unrelated regions as near to a part: about as many pairs show the same thing at all


@dataclass(frozen=True, slots=True, eq=False)
class PartPicture(PickledAlone):
    """What shows a part as it was asked: its image (or what reads it) with the region that was selected.

    `prompt` is in pixels of an image of `prompted_size` (height, width), if that is not the size of `image`.
    """

    title: str
    subtitle: str
    image: RGBImage | Callable[[], RGBImage]
    mask: MaskRLE | None
    prompt: Mapping[str, Any] = field(default_factory=dict)
    prompted_size: tuple[int, int] | None = None

    def shrunk(self) -> PartPicture:
        """The same for an answer to keep: of pixels, as many as its tile shows."""
        if callable(self.image):
            return self
        shown = draw_marks(self.image, [], longest_side_px=_TILE_PX)
        return replace(self, image=shown, prompted_size=self.image.shape[:2])

    def tile(self, name: str, color: Color) -> Tile:
        """Its cell of a contact sheet, framed in the colour that the part has in all others."""
        subtitle = self.subtitle
        try:
            pixels = self.image() if callable(self.image) else self.image
            marks: list[Mark] = [] if self.mask is None else [RegionMark(self.mask, color)]
            marks += prompt_marks(self.prompt)
            shown = draw_marks(pixels, marks, longest_side_px=_TILE_PX, marked_size=self.prompted_size)
        except SearchAnythingError:
            shown, subtitle = _grey(200), f"{subtitle} · image not readable"
        return Tile(image=shown, title=self.title, subtitle=subtitle, badge=name, accent=color)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CombinedResults(PickledAlone, Sequence[CombinedHit]):
    """Images that hold what was asked, best first. `parts` are the names of all_of and any_of, as hits number them.

    `pictures` show the parts by their names, those of none_of as well. `hint` says why the filter lets nothing through,
    where that can be said; else it is empty.
    """

    page: CombinedPage
    parts: tuple[str, ...]
    fingerprint: str
    open_image: Callable[[ImageRef], RGBImage]
    explainer: Callable[[IndexedImage], Explanation] | None = None
    pictures: Mapping[str, PartPicture] = field(default_factory=dict)
    hint: str = ""

    def __len__(self) -> int:
        return len(self.page.hits)

    @overload
    def __getitem__(self, index: int) -> CombinedHit: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[CombinedHit, ...]: ...

    def __getitem__(self, index: int | slice) -> CombinedHit | tuple[CombinedHit, ...]:
        return self.page.hits[index]

    def __iter__(self) -> Iterator[CombinedHit]:
        return iter(self.page.hits)

    def __repr__(self) -> str:
        return f"<CombinedResults: {self.sentence}>"

    @property
    def sentence(self) -> str:
        """How the answer came about, and what it may miss."""
        page = self.page
        excluded = f", {page.excluded:,} of them left out by none_of" if page.excluded else ""
        excluded += f", {page.unsure:,} without a part that is near enough" if page.unsure else ""
        weak = sum(any(map(is_weak_part, hit.parts)) for hit in self)
        doubt = f" ({weak:,} of them with a part that chance may explain)" if weak else ""
        missing = (
            "no other image scores higher"
            if page.exact
            else "images in which every part lies beyond its nearest regions were not looked at and may be missed"
        )
        return f"{counted(len(self), 'image')}{doubt}; {page.looked_at:,} compared whole{excluded}; {missing}"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything combine --format json`."""
        return {
            "parts": list(self.parts),
            "hits": [
                {
                    "bucket": hit.image.bucket,
                    "key": hit.image.key,
                    "score": round(hit.score, 3),
                    "parts": [_part_document(one) for one in hit.parts],
                }
                for hit in self
            ],
            "exact": self.page.exact,
            "looked_at": self.page.looked_at,
            "excluded": self.page.excluded,
            "unsure": self.page.unsure,
            "sentence": self.sentence,
            "hint": self.hint,
            "fingerprint": self.fingerprint,
        }

    def explain(self, image: IndexedImage) -> Explanation:
        """Why this image is not among the hits, or where it is: part by part, with the region that stands for each.

        `image`: as `SearchResults.explain` takes it. Raises: UsageError for results that came without an index;
        FilterError, RegionIndexError.
        """
        if self.explainer is None:
            raise UsageError("these results are not from a client, so nothing can be asked about them")
        return self.explainer(image)

    def plot(self) -> Image.Image:
        """A contact sheet: what was asked, a tile for each part, then up to 50 images, each part in its own colour."""
        colors = dict(zip(self.parts, distinct_colors(len(self.parts)), strict=True))
        tiles = [picture.tile(name, colors.get(name, MUTED)) for name, picture in self.pictures.items()]
        for number, hit in enumerate(self.page.hits[:_MAX_TILES], start=1):
            marks = [RegionMark(one.row.mask, colors[one.part], one.part) for one in hit.parts]
            subtitle = " · ".join(_said(one) for one in hit.parts)
            try:
                shown = draw_marks(self.open_image(hit.image), marks, longest_side_px=_TILE_PX)
            except SearchAnythingError:
                shown, subtitle = _grey(200), f"{subtitle} · image not readable"
            tiles.append(Tile(image=shown, title=hit.image.key, subtitle=subtitle, badge=str(number)))
        if not self.page.hits:
            tiles.append(Tile(image=_grey(255), title="no image holds what was asked"))
        return Image.fromarray(contact_sheet(tiles, columns=full_rows(len(tiles)), side_px=_TILE_PX))

    def save(self, path: str | Path) -> None:
        """Write `plot()`, all or nothing. Raises: UsageError as `SearchResults.save`."""
        save_image(self.plot, path)


def is_weak_part(match: PartMatch) -> bool:
    """Whether chance alone brings unrelated regions as near to the part. False where the rate is not known."""
    return match.false_match is not None and match.false_match > WEAK_RATE


def _said(match: PartMatch) -> str:
    return f"{match.part}: {match.distance_bits} bits" + (" (weak)" if is_weak_part(match) else "")


def _part_document(match: PartMatch) -> dict[str, Any]:
    row = match.row
    return {
        "part": match.part,
        "region": row.region,
        "box_xyxy": rounded(row.box_xyxy),
        "mask": mask_document(row.mask),
        "distance_bits": match.distance_bits,
        "false_match": rounded_rate(match.false_match),
        "weak": is_weak_part(match),
    }


def _grey(level: int) -> RGBImage:
    return np.full((_TILE_PX, _TILE_PX, 3), level, dtype=np.uint8)
