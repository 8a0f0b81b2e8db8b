"""What REST answers: typed documents, made of the package's own values."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from searchanything.answers.hit_confidence import GOOD, Confidence
from searchanything.answers.results import SearchResults
from searchanything.answers.standing_answers import NewMatches, StandingKind, StandingQuery, StandingStatus
from searchanything.client.remote_names import image_id
from searchanything.core.documents import region_document
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import Candidate
from searchanything.ingest.reports import IndexStatus
from searchanything.serve.uploads import Upload


class PlaceDocument(BaseModel):
    """The images of a bucket whose keys begin so."""

    bucket: str
    key_prefix: str


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


class HitDocument(BaseModel):
    """One hit; `region` and `mask` are None where whole images were searched.

    `similarity` is what a rescored hit was ordered by, `false_match` the share of unrelated regions that are as near;
    each is None where it is not known. `confidence` is None for answers to words alone: see `selection.text_match`.
    """

    id: str
    bucket: str
    key: str
    region: int | None
    box_xyxy: list[float]
    mask: MaskDocument | None
    distance_bits: int
    false_match: float | None
    confidence: Confidence | None
    area_px: int
    score: float
    similarity: float | None
    image: Size
    etag: str
    metadata: dict[str, Any]


class SelectionDocument(BaseModel):
    """What the prompt selected, and why."""

    kind: Literal["region", "image", "words", "none"]
    box_xyxy: list[float]
    area_px: int
    mask: MaskDocument
    score: float
    rule: str
    reason: str
    runners_up: list[dict[str, Any]]
    text_match: dict[str, Any] | None


class MatchingDocument(BaseModel):
    """How hits were compared with `sample` codes of the index (0: too few to say anything), and what that comes to.

    `verdict` is a sentence where `max_false_match` left no hit; else it is empty.
    """

    sample: int
    max_false_match: float | None
    nearest_bits: int | None
    nearest_false_match: float | None
    verdict: str


class StageDocument(BaseModel):
    """A stage of the search: what it took, and how many rows it looked at."""

    name: str
    ms: float
    candidates: int


class ProbeDocument(BaseModel):
    """What marks taught: how many there are, and of those that a probe of the others calls right, the share that is.

    `saved` is given again as `probe` of `POST /v1/refine`.
    """

    right: int
    wrong: int
    precision: float | None
    saved: dict[str, Any]


_ANSWERS_PROMPT: Final = (
    "What was asked, to be read, not sent again: a request's prompt has other kinds. `kind` is here `point`, `points`, "
    "`background`, `box`, `boxes`, `text`, `mask` (with its area alone), `mixed`, `image`, or what a question by "
    "stored regions or words alone is called."
)


class AnswerDocument(BaseModel):
    """The answer to a question. `good_match` is False where even the best hit is hardly better than by chance.

    `probe` is None where nothing was marked; a refined answer has no `receipt`. `hint` says why the
    filter lets nothing through, where that can be said; else it is empty.
    """

    prompt: Annotated[dict[str, Any], Field(description=_ANSWERS_PROMPT)]
    selection: SelectionDocument
    hits: list[HitDocument]
    good_match: bool
    exact: bool
    bits: int
    fingerprint: str
    collection: str
    matching: MatchingDocument | None
    probe: ProbeDocument | None
    hint: str
    stages: list[StageDocument]
    timings_ms: dict[str, float]
    receipt: dict[str, Any] | None


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


class StandingDocument(BaseModel):
    """A standing query: a question that is kept, and where its matches go.

    Of `webhook` the path is not shown. `places` are all that it is asked of, empty for everything; `added_by` names the
    key that it was added with. Up to `looked_until_ms` it was asked; `error` says why that may stand still.
    """

    id: str
    name: str
    kind: StandingKind
    prompt: dict[str, Any]
    image: str | None
    filter: dict[str, Any] | None
    max_false_match: float
    created_at_ms: int
    webhook: str | None
    places: list[PlaceDocument]
    added_by: str | None
    looked_until_ms: int
    error: str
    not_before_ms: int


class StandingListDocument(BaseModel):
    """The standing queries that the caller may see, in the order they were added."""

    queries: list[StandingDocument]


class NewMatchDocument(HitDocument):
    """A new match. `match_id` is that of its image and content; `confidence` is None."""

    match_id: str
    first_indexed_at_ms: int


class StandingMatchesDocument(BaseModel):
    """New matches of one standing query."""

    query: str
    query_id: str
    matches: list[NewMatchDocument]


class TakenDocument(BaseModel):
    """How far one query has come with what was given."""

    until_ms: int
    new_from_ms: int
    seen: dict[str, int]


class NewMatchesDocument(BaseModel):
    """New matches by query, and why others could not be asked, by their names, or ids where several have one name.

    `taken` is given back to `POST /v1/standing/matches/taken` when they are dealt with. `complete` is False where there
    may be more.
    """

    matches: list[StandingMatchesDocument]
    failed: dict[str, str]
    taken: dict[str, TakenDocument]
    complete: bool


class StatusDocument(BaseModel):
    """The server, its index and what the caller may do."""

    version: str
    index: dict[str, Any]
    bits: int | None
    offers: dict[str, bool]
    limits: dict[str, int]
    caller: dict[str, Any]


def answer_document(results: SearchResults) -> AnswerDocument:
    """A query's answer."""
    said = results.to_dict()
    hits = [{**one, "id": image_id(hit.image)} for hit, one in zip(results, said["hits"], strict=True)]
    probe = None if results.probe is None else {**said["probe"], "saved": results.probe.to_dict()}
    return AnswerDocument.model_validate(
        {
            **said,
            "hits": hits,
            "good_match": _is_good(results),
            "bits": 0 if results.matching is None else results.matching.bits,
            "probe": probe,
            "receipt": results.receipt() if probe is None else None,
        }
    )


def _is_good(results: SearchResults) -> bool:
    """Whether any hit is better than chance explains; of words alone, whether they fit the best hit."""
    if not results.is_by_words:
        return any(one is not None and one.word in GOOD for one in results.confidences)
    match = results.selection.text_match
    return bool(results.hits) and match is not None and match.confidence != "weak"


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


def standing_document(query: StandingQuery, status: StandingStatus | None = None) -> StandingDocument:
    """A standing query; one that was just added has come as far as then."""
    listed = (status or StandingStatus(query, query.created_at_ms)).to_dict()
    places = [PlaceDocument(bucket=bucket, key_prefix=key_prefix) for bucket, key_prefix in query.places]
    return StandingDocument.model_validate({**listed, "places": places})


def new_matches_document(found: NewMatches) -> NewMatchesDocument:
    """What was fetched."""
    matches = [
        {
            **said,
            "matches": [
                {**one, "id": image_id(match.hit.image), "confidence": None}
                for one, match in zip(said["matches"], some.matches, strict=True)
            ],
        }
        for some in found.matches
        for said in [some.to_dict()]
    ]
    taken = {name: one._asdict() for name, one in found.taken.items()}
    return NewMatchesDocument.model_validate(
        {"matches": matches, "failed": found.failed, "taken": taken, "complete": found.complete}
    )


def upload_of(upload: Upload) -> UploadDocument:
    """An upload."""
    return UploadDocument(
        upload=upload.id, width=upload.width, height=upload.height, expires_at_ms=upload.expires_at_ms
    )


def index_document(status: IndexStatus) -> dict[str, Any]:
    """The index without its address, which is the server's own business."""
    return {name: value for name, value in status.to_dict().items() if name != "uri"}
