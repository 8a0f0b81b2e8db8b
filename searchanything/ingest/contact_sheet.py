"""Contact sheets: tiles that show what was indexed, and that go when their picture goes.

A tile is one small JPEG file with the outlines of an image's regions, `IMAGE-GENERATION-INDEX.jpg`: IMAGE is the id of
its image, GENERATION is that of the image row, INDEX tells indexes apart. A sheet is a list of tiles, so that each of
them can be erased by itself.

    rows committed ─► older tiles deleted ─► tile written ─► is the row still the newest? if not, the tile is deleted
    rows deleted ───► tiles deleted

A tile is written after its row and deleted after it, so one whose row is not (or no longer) the newest is garbage at
any time, however young: `sweep` finds what a killed process left, and needs no grace. Tiles live a week at most, as
links to S3 do.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from PIL import Image

from searchanything.core.codes import generation_at
from searchanything.core.counting import counted
from searchanything.core.errors import StoreError
from searchanything.core.protocols import FileStore, RegionIndex
from searchanything.core.types import ImageRef, MaskRLE, RGBImage
from searchanything.drawing.overlays import RegionMark, distinct_colors, draw_marks
from searchanything.drawing.sheets import Tile, contact_sheet

logger = logging.getLogger(__name__)

TILE_AGE_S: Final = 7 * 24 * 3600.0
SIDE_PX: Final = 320
_QUALITY: Final = 80
_NAME = re.compile(r"\.?(?P<image>[0-9a-f]{32})-(?P<generation>\d{19})-(?P<index>[0-9a-f]{8})\.jpg(?:\..*)?")


@dataclass(frozen=True, slots=True)
class SheetTile:
    """A tile of a sheet: its image's key, and a link to it or the place of its file."""

    key: str
    address: str


@dataclass(frozen=True, slots=True)
class TileFiles:
    """Where the tiles of a bucket's images lie, and the 8 hex digits that tell this index's from others'."""

    files: FileStore
    bucket: str
    index: str

    def name(self, image: ImageRef, generation: int) -> str:
        """The file of an image in one generation."""
        return f"{image.image_id}-{generation:019d}-{self.index}.jpg"


class Sheet:
    """The tiles of one run, `most` at most; with none, it only sees to it that old ones go. One thread draws."""

    def __init__(self, tiles: TileFiles, *, most: int = 0) -> None:
        self._tiles = tiles
        self._left = most
        self.kept: list[SheetTile] = []

    def draw(self, key: str, image: RGBImage, masks: Sequence[MaskRLE]) -> bytes | None:
        """A tile as a JPEG file; None where there are enough, or nothing to outline.

        image: (H, W, 3) uint8 RGB; masks: on grids that span it.
        """
        if self._left <= 0 or not masks:
            return None
        self._left -= 1
        marks = [RegionMark(mask, color) for mask, color in zip(masks, distinct_colors(len(masks)), strict=True)]
        shown = draw_marks(image, marks, longest_side_px=SIDE_PX)
        regions = counted(len(masks), "region")
        tile = contact_sheet([Tile(shown, key, regions)], columns=1, side_px=SIDE_PX)
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, "JPEG", quality=_QUALITY)
        return buffer.getvalue()

    def keep(self, index: RegionIndex, drawn: Mapping[ImageRef, tuple[int, bytes]]) -> None:
        """Write the tiles (generation, JPEG) of images that have just been committed.

        A tile that cannot be written is missing on the sheet, no more. Raises: RegionIndexError; StoreError where one
        that must go cannot be deleted.
        """
        written = [image for image, (generation, jpeg) in drawn.items() if self._write(image, generation, jpeg)]
        newest = index.newest(written) if written else {}
        for image in written:
            name = self._tiles.name(image, drawn[image][0])
            row = newest.get(image)
            if row is None or row.generation != drawn[image][0]:
                self._tiles.files.delete(name)  # whoever replaced or deleted it may have looked for tiles before
            else:
                self.kept.append(SheetTile(image.key, self._tiles.files.address(name, age_s=TILE_AGE_S)))

    def delete_before(self, generations: Mapping[ImageRef, int], pool: Executor) -> None:
        """Delete each image's tiles, of all indexes, with a generation below the given one. Raises: StoreError."""

        def delete(image: ImageRef) -> None:
            for stored in list(self._tiles.files.list(f"{image.image_id}-")):
                found = _NAME.fullmatch(stored.name)
                if found is not None and int(found["generation"]) < generations[image]:
                    self._tiles.files.delete(stored.name)

        for _ in pool.map(delete, generations):
            pass

    def _write(self, image: ImageRef, generation: int, jpeg: bytes) -> bool:
        try:
            self._tiles.files.write(self._tiles.name(image, generation), jpeg)
        except StoreError as error:
            logger.warning("%s is missing on the contact sheet: %s", image, error)
            return False
        return True


def sweep(tiles: TileFiles, index: RegionIndex) -> int:
    """Delete tiles whose image row is not the newest or is gone, and old ones of any index; returns how many.

    Costs a listing of the tiles, and where there are some, a pass over the bucket's image rows.

    Raises: StoreError, StoreUnavailableError, RegionIndexError.
    """
    found = [match for stored in tiles.files.list() if (match := _NAME.fullmatch(stored.name)) is not None]
    images = {match["image"] for match in found if match["index"] == tiles.index}
    newest = _newest(index, tiles.bucket, images)
    oldest = generation_at(age_s=TILE_AGE_S)
    dead = [
        match.string
        for match in found
        if int(match["generation"]) < oldest
        or (match["index"] == tiles.index and newest.get(match["image"]) != int(match["generation"]))
    ]
    for name in dead:
        tiles.files.delete(name)
    if dead:
        logger.info("%s of contact sheets erased", counted(len(dead), "tile"))
    return len(dead)


def _newest(index: RegionIndex, bucket: str, images: Collection[str]) -> dict[str, int]:
    """The newest committed generation of those images, by their ids."""
    newest: dict[str, int] = {}
    for state in index.iterate_states(bucket=bucket) if images else ():
        name = state.image.image_id
        if name in images:
            newest[name] = max(state.generation, newest.get(name, 0))
    return newest
