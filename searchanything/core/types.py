"""The values that travel between the stages.

Frames: every `box_xyxy` is (x1, y1, x2, y2) in pixels of the EXIF-corrected image, exclusive at the far edges.
Arrays are never mutated after they were put into one of these values.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from searchanything.core.conditions import Where, conditions_of, items_kept, plain_range, plain_value
from searchanything.core.errors import FilterError, UsageError
from searchanything.core.escaping import printable
from searchanything.core.short_reprs import ShortRepr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    RGBImage: TypeAlias = NDArray[np.uint8]  # (H, W, 3) uint8, RGB
    BoolMask: TypeAlias = NDArray[np.bool_]  # (H, W)
    BoolMasks: TypeAlias = NDArray[np.bool_]  # (N, H, W)
    FloatArray: TypeAlias = NDArray[np.float32]
    Codes: TypeAlias = NDArray[np.uint8]  # (N, bits // 8), packed big-endian as numpy.packbits does
else:  # the light client has these types' values never, and numpy perhaps not
    RGBImage = BoolMask = BoolMasks = FloatArray = Codes = Any

BoxXYXY: TypeAlias = tuple[float, float, float, float]
CodeKind: TypeAlias = Literal["regions", "images", "words"]  # whose codes: see `RegionIndex.codes_of`
Metadata: TypeAlias = Mapping[str, str | int | float | bool]
Place: TypeAlias = tuple[str, str]  # a bucket (or a folder's absolute path) and a key prefix in it, "" for all

SMALL_AREA_PX = 32**2  # boxes up to this area are small regions [D]
MEDIUM_AREA_PX = 96**2  # boxes up to this area are medium regions [D]
NONE_RATE = 1e-3  # a region that is as near to what no image is to hold as fewer unrelated ones are


def source_of(bucket: str) -> str:
    """A bucket as rows name it, as people write it: a folder's absolute path stays, another one is `s3://bucket`."""
    return bucket if Path(bucket).is_absolute() else f"s3://{bucket}"


class SizeClass(StrEnum):
    """Size of a region by the area of its box (COCO's bounds)."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


@dataclass(frozen=True, slots=True, order=True)
class ImageRef:
    """Names one object: a bucket (or a folder's absolute path) and a key (or a path relative to it).

    Raises: UsageError for what are no texts.
    """

    bucket: str
    key: str

    def __post_init__(self) -> None:
        if not (isinstance(self.bucket, str) and isinstance(self.key, str)):
            raise UsageError(f"expected a bucket (or a folder's absolute path) and a key as texts, got {self!r}")

    @property
    def image_id(self) -> str:
        """32 hex digits, stable for (bucket, key); safe in any filter expression."""
        return blake2b(f"{self.bucket}\0{self.key}".encode(), digest_size=16).hexdigest()

    def __str__(self) -> str:
        """For people, who may paste it: a file's path, or `s3://bucket/key`. What cannot be seen is escaped."""
        return printable(f"{source_of(self.bucket)}/{self.key}")


@dataclass(frozen=True, slots=True)
class RegionRef:
    """Names one indexed region by its image and number; None for the image as a whole. Raises: UsageError."""

    image: ImageRef
    region: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.image, ImageRef):
            raise UsageError(f"expected the ImageRef of a region's image, got {self.image!r}")
        if self.region is not None and type(self.region) is not int:
            object.__setattr__(self, "region", _region_number(self.region))

    def __str__(self) -> str:
        return str(self.image) if self.region is None else f"{self.image} region {self.region}"


def _region_number(region: object) -> int:
    """A region's number, NumPy's as well. Raises: UsageError."""
    try:
        if not isinstance(region, bool):
            return operator.index(region)  # type: ignore[arg-type]  # or a TypeError
    except TypeError:
        pass
    raise UsageError(f"expected a region's number, or None for the whole image, got {region!r}")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as a listing shows it.

    `etag` changes whenever the content does. `modified_at_ms` changes whenever the content or the object's own metadata
    does; 0 where the store does not know. `sidecar_etag` is the etag of the sidecar that was read with it, "" for none.
    A listing may leave `metadata` and `sidecar_etag` out; `ImageStore.stat` and `read` tell them. `regions` is what its
    sidecar says of the image's regions, unchecked, which `read` alone tells; None where it says nothing, or where
    regions are not taken from sidecars.
    """

    ref: ImageRef
    etag: str
    size_bytes: int
    modified_at_ms: int = 0
    content_type: str | None = None
    metadata: Metadata = field(default_factory=dict)
    sidecar_etag: str = ""
    regions: object = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class MaskRLE(ShortRepr):
    """A mask in COCO's compressed run-length encoding over a grid that spans the whole image.

    `size` is (height, width) of that grid, which may be coarser than the image.
    """

    _shown: ClassVar[tuple[str, ...]] = ("size",)
    size: tuple[int, int]
    counts: str


@dataclass(frozen=True, slots=True, repr=False)
class Region(ShortRepr):
    """A part of an image, or all of it, then without a mask. `score` is the segmenter's confidence."""

    _shown: ClassVar[tuple[str, ...]] = ("box_xyxy", "area_px", "score")
    box_xyxy: BoxXYXY
    area_px: int
    score: float
    mask: MaskRLE | None


@dataclass(frozen=True, slots=True, repr=False)
class Candidate(Region):
    """A region that a prompt could mean. `score` is the segmenter's confidence, or what the prompt's rule ranks by."""

    mask: MaskRLE


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class IndexedRegion(Region):
    """What an index says of a region, or with `region` None of an image as a whole: rows and hits have it in common."""

    image: ImageRef
    etag: str
    generation: int
    region: int | None
    image_width: int
    image_height: int
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Filter:
    """Restricts a search. All given parts must hold; `None` or empty means any.

    `images` names the only images that may be found, `exclude` those that may not; any key can be said in them.
    `within` are places, (bucket, key prefix) each: an image must lie in one of them.
    `area_px` and `indexed_at_ms` are inclusive (low, high) ranges; either end may be None.
    `size_class` goes by the area of the region's box, its name will do. `metadata` is equality per name; `where` are
    further conditions on metadata, such as `"year >= 2020"` (`Where.parse`), the same on every index; `"area_px > 900"`
    and `"size_class = large"` among them narrow the parts of these names.
    `expression` is a text such as `area_px >= 900 and key like "cats/%"`; a Milvus server gets it as it stands.

    Raises: FilterError for another size class or a condition that cannot be read; the other parts are checked when
    they are used.
    """

    bucket: str | None = None
    key_prefix: str | None = None
    images: tuple[ImageRef, ...] = ()
    exclude: tuple[ImageRef, ...] = ()
    within: tuple[Place, ...] = ()
    area_px: tuple[int | None, int | None] = (None, None)
    size_class: SizeClass | None = None
    metadata: Metadata = field(default_factory=dict)
    indexed_at_ms: tuple[int | None, int | None] = (None, None)
    expression: str | None = None
    where: tuple[Where, ...] = ()

    if TYPE_CHECKING:  # what the fields are made of

        def __init__(
            self,
            bucket: str | None = None,
            key_prefix: str | None = None,
            images: Collection[ImageRef] = (),
            exclude: Collection[ImageRef] = (),
            within: Collection[Place] = (),
            area_px: tuple[int | None, int | None] = (None, None),
            size_class: SizeClass | Literal["small", "medium", "large"] | None = None,
            metadata: Metadata = ...,
            indexed_at_ms: tuple[int | None, int | None] = (None, None),
            expression: str | None = None,
            where: str | Where | Sequence[str | Where] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        for name in ("images", "exclude", "within"):
            object.__setattr__(self, name, items_kept(getattr(self, name)))
        if isinstance(self.metadata, Mapping):
            plain = {name: plain_value(value) for name, value in self.metadata.items()}
            object.__setattr__(self, "metadata", plain)
        for name in ("area_px", "indexed_at_ms"):
            object.__setattr__(self, name, plain_range(getattr(self, name)))
        said = conditions_of(self.where, self.area_px, self.size_class)
        object.__setattr__(self, "where", said.where)
        object.__setattr__(self, "area_px", said.area_px)
        if said.size_class is not None and said.size_class not in tuple(SizeClass):
            raise FilterError(f"expected size_class {', '.join(SizeClass)}, got {said.size_class!r}")
        object.__setattr__(self, "size_class", None if said.size_class is None else SizeClass(said.size_class))


@dataclass(frozen=True, slots=True)
class TextMatch:
    """How well a text names the region that it chose: `better` of `words` everyday words name it better.

    `confidence` goes by their share (`searchanything.prompts.text_confidence`); `weak` often means that no such
    thing is there.
    """

    cosine: float
    better: int
    words: int
    confidence: Literal["clear", "unsure", "weak"]


@dataclass(frozen=True, slots=True, repr=False)
class Selection(ShortRepr):
    """What a prompt selected in the query image, and why.

    `kind` is `region`, `image` (the whole image), `words` (there is no query image) or `none` (nothing matched the
    prompt; then `mask` is empty and `runners_up` holds the nearest candidates). `rule` names the rule that chose,
    `reason` says it in a sentence.
    `text_match` is None for prompts without a text.
    """

    _shown: ClassVar[tuple[str, ...]] = ("kind", "box_xyxy", "reason", "runners_up")
    kind: Literal["region", "image", "words", "none"]
    box_xyxy: BoxXYXY
    area_px: int
    mask: MaskRLE
    score: float
    rule: str
    reason: str
    runners_up: tuple[Candidate, ...] = ()
    text_match: TextMatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Hit(IndexedRegion):
    """One answer of a search. For whole-image searches `region` is None and `mask` is None.

    `generation` counts attempts at the image: hits that differ in nothing else are equal. Hits of one region at other
    distances are not: `ref` is the same.
    `score` is the segmenter's; `similarity`, in [-1, 1], is what a rescored hit was ranked by, None for others.
    `false_match` is the share of unrelated regions that are as near to the query; None where it is not known.
    """

    _shown: ClassVar[tuple[str, ...]] = ("image", "region", "distance_bits", "box_xyxy")
    generation: int = field(default=0, compare=False)
    distance_bits: int
    similarity: float | None = None
    false_match: float | None = None

    def __hash__(self) -> int:
        return hash(self.ref)  # of equal hits the same; metadata is a mapping, which has none

    @classmethod
    def of(cls, row: IndexedRegion, distance_bits: int, *, similarity: float | None = None) -> Hit:
        """A row as an answer, with its distance to a query."""
        return cls(
            image=row.image, etag=row.etag, generation=row.generation, metadata=row.metadata, region=row.region,
            box_xyxy=row.box_xyxy, mask=row.mask, area_px=row.area_px, score=row.score,
            image_width=row.image_width, image_height=row.image_height,
            distance_bits=distance_bits, similarity=similarity,
        )  # fmt: skip

    @property
    def ref(self) -> RegionRef:
        """The indexed region itself, with which one can search on."""
        return RegionRef(self.image, self.region)


def lies_in(image: ImageRef, places: Sequence[Place]) -> bool:
    """True if an image lies in one of the places."""
    return any(image.bucket == bucket and image.key.startswith(key_prefix) for bucket, key_prefix in places)


def size_class_of(box_xyxy: BoxXYXY) -> SizeClass:
    """Size class of a region by the area of its box: ≤ 32² px small, ≤ 96² px medium, else large [D]."""
    x1, y1, x2, y2 = box_xyxy
    area = max(0.0, x2 - x1) * max(0.0, y2 - y1)
    if area <= SMALL_AREA_PX:
        return SizeClass.SMALL
    return SizeClass.MEDIUM if area <= MEDIUM_AREA_PX else SizeClass.LARGE
