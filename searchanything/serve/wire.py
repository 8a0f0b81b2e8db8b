"""What REST takes: typed requests, and how they become the package's own values."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from searchanything.answers.standing_answers import MOST_NAME_LETTERS
from searchanything.client.standing_queries import RARE
from searchanything.client.stored_questions import MAX_REGIONS
from searchanything.core.conditions import MAX_VALUES, Where
from searchanything.core.errors import ObjectNotFoundError, PromptError
from searchanything.core.geometry import decode_rle, mask_of_size
from searchanything.core.types import Filter, ImageRef, MaskRLE, RegionRef, SizeClass
from searchanything.images.incoming import KEY_BYTES
from searchanything.prompts.prompt import Box, Mask, Points, Prompt, Prompts, Text, WholeImage
from searchanything.search.probe import MAX_MARKS

MAX_POINTS = 100
MAX_REFS = 1000
MAX_TEXT = 500
MAX_MASK_SIDE = 4096
MAX_MASK_COUNTS = 200_000
MAX_POSITIONS = 10_000
MAX_ADDRESS = 2000
MAX_TAKEN = 20_000  # matches of one query; an answer ends long before

Number = Annotated[float, Field(allow_inf_nan=False, ge=-(2**31), le=2**31)]
PointXY: TypeAlias = tuple[Number, Number]
BoxNumbers: TypeAlias = tuple[Number, Number, Number, Number]
PointList = Annotated[list[PointXY], Field(max_length=MAX_POINTS)]
Text500 = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Name = Annotated[str, Field(max_length=KEY_BYTES)]  # a folder's keys may be as long as an index keeps them
MetaValue: TypeAlias = str | bool | int | float
Time = Annotated[int, Field(ge=0, lt=2**63)]


def _each_once(positions: list[int]) -> list[int]:
    if len(set(positions)) < len(positions):
        raise ValueError("expected each position once")
    return positions


Positions = Annotated[
    list[Annotated[int, Field(ge=0, lt=MAX_POSITIONS)]],
    Field(max_length=MAX_POSITIONS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_each_once),
]


class Wire(BaseModel):
    """Base of all: unknown fields are refused, so that a typing error is not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageName(Wire):
    """An indexed image."""

    bucket: Name = Field(description="The bucket, or the folder's absolute path.")
    key: Name

    def ref(self) -> ImageRef:
        return ImageRef(self.bucket, self.key)


class StoredImage(ImageName):
    """An indexed image; with `region` one of its regions, which is the question by itself: no model is needed."""

    region: Annotated[int, Field(ge=0, lt=2**31)] | None = None

    def region_ref(self) -> RegionRef:
        return RegionRef(self.ref(), self.region)


class UploadedImage(Wire):
    """An image of `POST /v1/uploads`."""

    upload: Annotated[str, Field(max_length=64)]


class MaskModel(Wire):
    """COCO's compressed run-length encoding over a grid that spans the image; `size` is [height, width]."""

    size: tuple[
        Annotated[int, Field(ge=1, le=MAX_MASK_SIDE)],
        Annotated[int, Field(ge=1, le=MAX_MASK_SIDE)],
    ]
    counts: Annotated[str, Field(max_length=MAX_MASK_COUNTS, pattern=r"^[0-o]*$")]


class PointsPrompt(Wire):
    """Points on the thing and beside it, in pixels of the EXIF-corrected image."""

    kind: Literal["points"]
    foreground: Annotated[list[PointXY], Field(min_length=1, max_length=MAX_POINTS)]
    background: PointList = []
    granularity: Literal["part", "object", "whole"] | None = None


class BoxPrompt(Wire):
    """A box around the thing."""

    kind: Literal["box"]
    box_xyxy: BoxNumbers


class TextPrompt(Wire):
    """Words for the thing."""

    kind: Literal["text"]
    text: Text500


class MaskPrompt(Wire):
    """The thing's own mask."""

    kind: Literal["mask"]
    mask: MaskModel


class MixedPrompt(Wire):
    """Boxes, points and words read together."""

    kind: Literal["mixed"]
    boxes_xyxy: Annotated[list[BoxNumbers], Field(max_length=MAX_POINTS)] = []
    foreground: PointList = []
    background: PointList = []
    text: Text500 | None = None


class ImagePrompt(Wire):
    """The image as a whole."""

    kind: Literal["image"]


PromptModel = Annotated[
    PointsPrompt | BoxPrompt | TextPrompt | MaskPrompt | MixedPrompt | ImagePrompt, Field(discriminator="kind")
]


class Condition(Wire):
    """A condition on metadata; `value` is a list for `in`, `not in` and `between`."""

    name: Name
    comparison: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "begins with", "between"]
    value: MetaValue | Annotated[list[MetaValue], Field(max_length=MAX_VALUES)]

    def where(self) -> Where:
        """Raises: FilterError."""
        value = tuple(self.value) if isinstance(self.value, list) else self.value
        return Where(self.name, self.comparison, value)


class FilterModel(Wire):
    """Restricts a search; all given parts must hold."""

    bucket: Name | None = None
    key_prefix: Name | None = None
    images: Annotated[list[ImageName], Field(max_length=MAX_REFS)] = []
    exclude: Annotated[list[ImageName], Field(max_length=MAX_REFS)] = []
    area_px: tuple[Time | None, Time | None] = (None, None)
    size_class: SizeClass | None = None
    metadata: Annotated[dict[Name, str | bool | int | float], Field(max_length=32)] = {}
    indexed_at_ms: tuple[Time | None, Time | None] = (None, None)
    where: Annotated[list[Condition], Field(max_length=32)] = []

    def filter(self) -> Filter | None:
        """None where no part is given. Raises: FilterError."""
        made = Filter(
            bucket=self.bucket,
            key_prefix=self.key_prefix,
            images=tuple(one.ref() for one in self.images),
            exclude=tuple(one.ref() for one in self.exclude),
            area_px=self.area_px,
            size_class=self.size_class,
            metadata=dict(self.metadata),
            indexed_at_ms=self.indexed_at_ms,
            where=tuple(one.where() for one in self.where),
        )
        return None if made == Filter() else made


class SharedQuestion(Wire):
    """What all questions have in common: the image with what is wanted of it, and where to look."""

    image: StoredImage | UploadedImage | None = None
    prompt: PromptModel | None = None
    filter: FilterModel = FilterModel()


class QueryRequest(SharedQuestion):
    """An image with a prompt, a stored region, several of them, or `text` alone, which is sought in everything."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 24
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    group_by_image: bool = False
    text: Text500 | None = None
    like: Annotated[list[StoredImage], Field(max_length=MAX_REGIONS)] = Field(
        [], description="Indexed regions: what they have in common is sought, without a model."
    )
    max_false_match: Annotated[float, Field(gt=0, le=1)] | None = None
    rescore: Annotated[int, Field(ge=0, le=16_384)] | None = None

    @property
    def is_stored(self) -> bool:
        """True for what needs no model: stored regions, or a stored image as a whole."""
        if self.like:
            return True
        return isinstance(self.image, StoredImage) and (self.prompt is None or isinstance(self.prompt, ImagePrompt))


class RefineRequest(QueryRequest):
    """A question once more, with hits that were right and wrong, and what an answer's `probe.saved` was before."""

    right: Annotated[list[StoredImage], Field(max_length=MAX_MARKS)] = []
    wrong: Annotated[list[StoredImage], Field(max_length=MAX_MARKS)] = []
    probe: dict[str, Any] | None = None

    @property
    def is_marked(self) -> bool:
        """Whether there is anything to refine by."""
        return bool(self.right or self.wrong) or self.probe is not None


class SheetRequest(RefineRequest):
    """A question, refined where it has marks; of its hits those at `positions` alone are drawn, counted from 0."""

    positions: Positions | None = None


class ExplainRequest(RefineRequest):
    """A question, refined where it has marks, and the image that was expected among its hits."""

    expect: ImageName
    expect_box_xyxy: BoxNumbers | None = None

    @property
    def is_by_index(self) -> bool:
        """True for what is explained without pixels: marks, or several regions, each of which counts once."""
        return self.is_stored and (self.is_marked or len(set(self.like)) > 1)


class StandingRequest(SharedQuestion):
    """A question that is kept: an image with a prompt, a stored region, or `text` alone.

    Without a `webhook` its matches are fetched.
    """

    name: Annotated[str, Field(min_length=1, max_length=MOST_NAME_LETTERS)]
    text: Text500 | None = None
    max_false_match: Annotated[float, Field(gt=0, le=1)] = RARE
    webhook: Annotated[str, Field(max_length=MAX_ADDRESS)] | None = None


class TakenModel(Wire):
    """How far one query has come: up to a moment, with the matches in `seen` (id: when it was first indexed)."""

    until_ms: Time
    new_from_ms: Time
    seen: Annotated[dict[Annotated[str, Field(pattern="^[0-9a-f]{16}$")], Time], Field(max_length=MAX_TAKEN)] = {}


class TakenRequest(Wire):
    """`taken` of an answer with new matches: they do not come again."""

    taken: Annotated[dict[Annotated[str, Field(max_length=64)], TakenModel], Field(max_length=MAX_REFS)]


class CompareRequest(SharedQuestion):
    """A question whose nearest candidates are ranked by several methods."""

    candidates: Annotated[int, Field(ge=1, le=200)] = 50


class SegmentRequest(Wire):
    """An image whose regions are wanted."""

    image: StoredImage | UploadedImage


class SegmentSheetRequest(SegmentRequest):
    """An image whose regions are drawn: of them those at `positions` alone, counted from 0."""

    positions: Positions | None = None


def prompt_of(model: PromptModel | None, width: int, height: int) -> Prompt:
    """The prompt that a request means in an image of this size. Raises: PromptError."""
    match model:
        case None | ImagePrompt():
            return WholeImage()
        case PointsPrompt():
            return Points(tuple(model.foreground), tuple(model.background), granularity=model.granularity)
        case BoxPrompt():
            return Box(*model.box_xyxy)
        case TextPrompt():
            return Text(model.text)
        case MixedPrompt():
            boxes = tuple(Box(*box) for box in model.boxes_xyxy)
            return Prompts(boxes, tuple(model.foreground), tuple(model.background), model.text).simplest()
        case MaskPrompt():
            return Mask(mask_of_size(_decodable(model.mask), height, width))


def image_of_id(identity: str) -> ImageRef:
    """The image of such a name. Raises: ObjectNotFoundError."""
    try:
        padded = identity + "=" * (-len(identity) % 4)
        name = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        name = ""
    bucket, separator, key = name.partition("\0")
    if not separator:
        raise ObjectNotFoundError(f"{identity!r} is no image's id; ids are those of the documents of /v1/images")
    return ImageRef(bucket, key)


def _decodable(model: MaskModel) -> MaskRLE:
    rle = MaskRLE(model.size, model.counts)
    try:
        decode_rle(rle)
    except ValueError as error:
        raise PromptError(f"the mask cannot be read: {error}") from None
    return rle
