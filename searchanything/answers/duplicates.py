"""Groups of nearly equal regions or images of an index: JSON, and a contact sheet with a row a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from searchanything.core.arguments import check_flags, check_under
from searchanything.core.batching import batches
from searchanything.core.codes import stacked
from searchanything.core.counting import counted
from searchanything.core.documents import rounded
from searchanything.core.errors import SearchAnythingError
from searchanything.core.files import save_image
from searchanything.core.on_step import OnStep, unseen
from searchanything.core.pickling import PickledAlone
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import BoxXYXY, CodeKind, Codes, ImageRef, MaskRLE, RegionRef, RGBImage
from searchanything.drawing.overlays import HIT, RegionMark, draw_marks
from searchanything.drawing.sheets import Tile, contact_sheet
from searchanything.search.committed import committed
from searchanything.search.duplicates import check_bits, duplicate_groups

_TILE_PX: Final = 240
_COLUMNS: Final = 6
_ROWS_AT_ONCE: Final = 8192  # between two steps of progress
MAX_ROWS: Final = 20  # groups that are drawn
REGION_BITS, IMAGE_BITS = 4, 8  # of 256: what is farther than that is often another thing


@dataclass(frozen=True, slots=True)
class Outline:
    """Where a region is in its image; of whole images all is None."""

    box_xyxy: BoxXYXY
    mask: MaskRLE


@dataclass(frozen=True, slots=True)
class Member:
    """One of a group: a region, or an image, and how many bits it is from the group's first."""

    ref: RegionRef
    distance_bits: int
    place: Outline | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Duplicates(PickledAlone):
    """Groups of what is nearly equal, the largest first, and how many codes were compared.

    The first of a group is the one with the most neighbours; the others are at most `max_bits` from it.
    """

    groups: tuple[tuple[Member, ...], ...]
    compared: int
    max_bits: int
    whole_images: bool
    open_image: Callable[[ImageRef], RGBImage]

    def __repr__(self) -> str:
        held = counted(sum(map(len, self.groups)), "image" if self.whole_images else "region")
        groups, bits = counted(len(self.groups), "group"), counted(self.max_bits, "bit")
        return f"<Duplicates: {groups} of {held}, {self.compared:,} compared, within {bits}>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything duplicates --format json`."""
        return {
            "compared": self.compared,
            "max_bits": self.max_bits,
            "whole_images": self.whole_images,
            "groups": [[_member_document(one) for one in group] for group in self.groups],
        }

    def plot(self) -> Image.Image:
        """The first 20 groups, a row each: the first of the group framed, then up to five others."""
        rows = [group[:_COLUMNS] for group in self.groups[:MAX_ROWS]]
        columns = max((len(row) for row in rows), default=1)
        blank = np.full((_TILE_PX, _TILE_PX, 3), 255, dtype=np.uint8)
        tiles = []
        for number, row in enumerate(rows):
            total = len(self.groups[number])
            tiles += [self._tile(one, total if place == 0 else None) for place, one in enumerate(row)]
            tiles += [Tile(image=blank, title="")] * (columns - len(row))
        tiles = tiles or [Tile(image=blank, title="no duplicates", subtitle=f"among {self.compared:,} codes")]
        return Image.fromarray(contact_sheet(tiles, columns=columns, side_px=_TILE_PX))

    def save(self, path: str | Path) -> None:
        """Write `plot()`, all or nothing. Raises: UsageError as `SearchResults.save`."""
        save_image(self.plot, path)

    def _tile(self, member: Member, total: int | None) -> Tile:
        marks = [] if member.place is None else [RegionMark(member.place.mask, HIT)]
        said = f"{member.distance_bits} bits" if total is None else f"group of {total}"
        try:
            shown = draw_marks(self.open_image(member.ref.image), marks, longest_side_px=_TILE_PX)
        except SearchAnythingError:
            shown = np.full((_TILE_PX, _TILE_PX, 3), 200, dtype=np.uint8)
            said += " · image not readable"
        return Tile(image=shown, title=member.ref.image.key, subtitle=said, accent=None if total is None else HIT)


def find_duplicates(
    index: RegionIndex,
    *,
    whole_images: bool,
    max_bits: int | None,
    bucket: str | None,
    key_prefix: str,
    open_image: Callable[[ImageRef], RGBImage],
    on_step: OnStep = unseen,
) -> Duplicates:
    """Groups of nearly equal codes of what is committed; regions of one image are no duplicates of each other.

    Memory holds all codes and the names of images, 230 bytes a region. Raises: UsageError for another distance than 0
    to 31 bits.
    """
    check_flags(whole_images=whole_images)
    bits = max_bits if max_bits is not None else IMAGE_BITS if whole_images else REGION_BITS
    check_bits(bits)
    check_under(bucket, key_prefix)
    rows = _read(index, "images" if whole_images else "regions", bucket, key_prefix, on_step)
    groups = []
    for group in duplicate_groups(rows.codes, max_bits=bits, on_step=on_step):
        members = [Member(rows.ref(one), bits) for one, bits in zip(group.members, group.distances_bits, strict=True)]
        if len({member.ref.image for member in members}) > 1:
            groups.append(tuple(_one_an_image(members)))
    groups.sort(key=lambda group: -len(group))
    placed = groups if whole_images else _placed(index, groups)
    return Duplicates(tuple(placed), len(rows.codes), bits, whole_images, open_image)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Codes (N, B) and what they are of: `of` (N,) numbers `images`, `regions` (N,) has -1 for a whole image."""

    codes: Codes
    of: NDArray[np.int32]
    regions: NDArray[np.int32]
    images: Sequence[ImageRef]

    def ref(self, row: int) -> RegionRef:
        """What a code is of."""
        region = int(self.regions[row])
        return RegionRef(self.images[self.of[row]], None if region < 0 else region)


def _read(index: RegionIndex, of: CodeKind, bucket: str | None, key_prefix: str, on_step: OnStep) -> _Rows:
    """What is committed, by image and region."""
    numbers: dict[ImageRef, int] = {}
    codes, columns, done = [stacked((), index.manifest.bits)], [np.empty((3, 0), dtype=np.int64)], 0
    for some in batches(index.iterate_codes(of=of, bucket=bucket, key_prefix=key_prefix), _ROWS_AT_ONCE):
        codes.append(stacked((one.code for one in some), index.manifest.bits))
        said = [
            (numbers.setdefault(one.image, len(numbers)), -1 if one.region is None else one.region, one.generation)
            for one in some
        ]
        columns.append(np.array(said, dtype=np.int64).T)
        done += len(some)
        on_step("reading", done, None)
    newest, images = index.generations(numbers) if numbers else {}, list(numbers)
    of_image, regions, generations = np.concatenate(columns, axis=1)
    live = np.array([newest.get(image, -1) for image in images], dtype=np.int64)
    ranks = np.empty(len(images), dtype=np.int64)
    ranks[sorted(range(len(images)), key=images.__getitem__)] = np.arange(len(images))
    kept = np.flatnonzero(live[of_image] == generations)
    kept = kept[np.lexsort((regions[kept], ranks[of_image[kept]]))]
    return _Rows(np.concatenate(codes)[kept], of_image[kept].astype(np.int32), regions[kept].astype(np.int32), images)


def _one_an_image(members: Iterable[Member]) -> Iterable[Member]:
    """The nearest region of each image: a thing found twice in one image says nothing."""
    first: dict[ImageRef, Member] = {}
    for one in members:
        if one.ref.image not in first or one.distance_bits < first[one.ref.image].distance_bits:
            first[one.ref.image] = one
    return first.values()


def _placed(index: RegionIndex, groups: list[tuple[Member, ...]]) -> list[tuple[Member, ...]]:
    """The members with where they are in their images."""
    images = {one.ref.image for group in groups for one in group}
    wanted = {one.ref for group in groups for one in group}
    rows = index.regions_of(images) if images else ()
    named = [row for row in rows if RegionRef(row.image, row.region) in wanted]
    places = {RegionRef(row.image, row.region): Outline(row.box_xyxy, row.mask) for row in committed(index, named)}
    return [tuple(Member(one.ref, one.distance_bits, places.get(one.ref)) for one in group) for group in groups]


def _member_document(member: Member) -> dict[str, Any]:
    place = member.place
    return {
        "bucket": member.ref.image.bucket,
        "key": member.ref.image.key,
        "region": member.ref.region,
        "box_xyxy": None if place is None else rounded(place.box_xyxy),
        "distance_bits": member.distance_bits,
    }
