"""What REST answers: typed documents, made of the package's own values."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel

from searchanything.answers.results import SearchResults
from searchanything.core.documents import hit_document, region_document, selection_document
from searchanything.core.types import Candidate, Hit, ImageRow, RegionRow
from searchanything.ingest.reports import IndexStatus
from searchanything.serve.uploads import Upload
from searchanything.serve.wire import image_id

# Of the agreement beyond chance, 1 − 2 d / bits: 1 for equal codes, 0 for unrelated ones. Of pairs of regions of
# different pictogram scenes, 0.1 % reach 0.67, 1 % (about as many as show the same concept) 0.34, and 5 % 0.19.
STRENGTHS: Final = ((0.8, "very strong"), (0.6, "strong"), (0.34, "fair"), (0.2, "weak"))
LEAST: Final = 0.34  # of the best hit, or there is no good match


class Size(BaseModel):
    """Of an EXIF-corrected image, in pixels."""

    width: int
    height: int


class MaskDocument(BaseModel):
    """COCO's compressed run-length encoding; `size` is [height, width]."""

    size: list[int]
    counts: str


class RegionDocument(BaseModel):
    """One region. `region` is its number in the index, None where it is not indexed."""

    region: int | None
    box_xyxy: list[float]
    area_px: int
    score: float
    mask: MaskDocument


class RegionsDocument(BaseModel):
    """All regions of an image, each with its mask: enough to show what lies under a pointer without asking again."""

    image: Size
    source: Literal["index", "segmenter"]
    regions: list[RegionDocument]


class Confidence(BaseModel):
    """How far a hit agrees with the question, from 0 (as any two regions do) to 1 (the same code)."""

    word: str
    value: float


class HitDocument(BaseModel):
    """One hit; `region` and `mask` are None where whole images were searched."""

    id: str
    bucket: str
    key: str
    region: int | None
    box_xyxy: list[float]
    mask: MaskDocument | None
    distance_bits: int
    confidence: Confidence
    area_px: int
    score: float
    image: Size
    etag: str
    metadata: dict[str, Any]


class SelectionDocument(BaseModel):
    """What the prompt selected, and why."""

    kind: Literal["region", "image", "none"]
    box_xyxy: list[float]
    area_px: int
    mask: MaskDocument
    score: float
    rule: str
    reason: str
    runners_up: list[dict[str, Any]]
    text_match: dict[str, Any] | None


class AnswerDocument(BaseModel):
    """The answer to a question. `good_match` is False where even the nearest hit is hardly nearer than by chance."""

    prompt: dict[str, Any]
    selection: SelectionDocument
    hits: list[HitDocument]
    good_match: bool
    exact: bool
    bits: int
    fingerprint: str
    collection: str
    timings_ms: dict[str, float]
    receipt: dict[str, Any]


class ImageDocument(BaseModel):
    """An indexed image."""

    id: str
    bucket: str
    key: str
    etag: str
    width: int
    height: int
    regions: int
    indexed_at_ms: int
    metadata: dict[str, Any]


class ImagesDocument(BaseModel):
    """A page of images, by bucket and key. `complete` is False where a longer prefix would find more."""

    images: list[ImageDocument]
    next: str | None
    total: int
    complete: bool


class UploadDocument(BaseModel):
    """An upload, and until when it can be asked about."""

    upload: str
    width: int
    height: int
    expires_at_ms: int


class StatusDocument(BaseModel):
    """The server, its index and what the caller may do."""

    version: str
    index: dict[str, Any]
    bits: int | None
    offers: dict[str, bool]
    limits: dict[str, int]
    caller: dict[str, Any]


def confidence_of(distance_bits: int, bits: int) -> Confidence:
    """A word and a number for a distance. It is not calibrated: it compares with chance alone."""
    value = max(0.0, 1 - 2 * distance_bits / bits)
    return Confidence(word=next((word for least, word in STRENGTHS if value >= least), "none"), value=round(value, 3))


def answer_document(results: SearchResults, bits: int) -> AnswerDocument:
    """A query's answer."""
    hits = [hit_of(hit, bits) for hit in results]
    return AnswerDocument(
        prompt=dict(results.prompt_description),
        selection=SelectionDocument(**selection_document(results.selection)),
        hits=hits,
        good_match=any(hit.confidence.value >= LEAST for hit in hits),
        exact=results.exact,
        bits=bits,
        fingerprint=results.fingerprint,
        collection=results.collection,
        timings_ms={stage: round(value, 3) for stage, value in results.timings_ms.items()},
        receipt=results.receipt(),
    )


def hit_of(hit: Hit, bits: int) -> HitDocument:
    """One hit."""
    confidence = confidence_of(hit.distance_bits, bits)
    return HitDocument(**hit_document(hit), id=image_id(hit.image), confidence=confidence)


def region_of(row: RegionRow) -> RegionDocument:
    """A stored region."""
    return RegionDocument(**region_document(row), region=row.region)


def candidate_of(candidate: Candidate) -> RegionDocument:
    """A region that the segmenter found."""
    return RegionDocument(**region_document(candidate), region=None)


def image_of(row: ImageRow) -> ImageDocument:
    """An indexed image."""
    return ImageDocument(
        id=image_id(row.image),
        bucket=row.image.bucket,
        key=row.image.key,
        etag=row.etag,
        width=row.image_width,
        height=row.image_height,
        regions=row.regions,
        indexed_at_ms=row.last_at_ms,
        metadata=dict(row.metadata),
    )


def upload_of(upload: Upload) -> UploadDocument:
    """An upload."""
    return UploadDocument(
        upload=upload.id, width=upload.width, height=upload.height, expires_at_ms=upload.expires_at_ms
    )


def index_document(status: IndexStatus) -> dict[str, Any]:
    """The index without its address, which is the server's own business."""
    return {name: value for name, value in status.to_dict().items() if name != "uri"}
