"""What a query and a segmentation give back: sequences that can be printed, tabulated, drawn and saved."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
from PIL import Image

from searchanything.answers.explanation import Explanation
from searchanything.answers.hit_confidence import WEAK, Confidence
from searchanything.answers.matching import Matching, one_in
from searchanything.answers.showing import figure_html, image_html, open_viewer
from searchanything.answers.tables import hits_table
from searchanything.core.arguments import check_kind, marked_regions_of, whole_number_of
from searchanything.core.counting import counted
from searchanything.core.documents import hit_document, receipt_hit, region_document, selection_document
from searchanything.core.errors import SearchAnythingError, UsageError
from searchanything.core.escaping import printable
from searchanything.core.files import png_bytes, save_image, save_json
from searchanything.core.libraries import LazyModule
from searchanything.core.sliced import Sliced, kept_places
from searchanything.core.types import BoxXYXY, Candidate, Hit, ImageRef, RegionRef, RGBImage, Selection
from searchanything.drawing.loupe import draw_hit
from searchanything.drawing.overlays import MUTED, SELECTED, Mark, RegionMark, distinct_colors, draw_marks, prompt_marks
from searchanything.drawing.sheets import Tile, contact_sheet, full_rows
from searchanything.prompts.prompt import BoxInput, as_box
from searchanything.search.locate import IndexedImage
from searchanything.search.probe import Probe
from searchanything.search.search import Stage

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = LazyModule("pandas")

logger = logging.getLogger(__name__)

_TILE_PX = 320
OFFERED = 3  # regions that are offered where a prompt meets none
MAX_TILES = 100  # hits drawn at most: a sheet of a thousand would be 80,000 px high
DRAWING_THREADS = 8
SEGMENTS_SIDE_PX = (640, 1600)  # a segmented image is shown at its own size within these bounds
RECEIPT_FORMAT = "searchanything-receipt/1"
Refiner: TypeAlias = Callable[
    ["SearchResults", Sequence[RegionRef], Sequence[RegionRef], Probe | None], "SearchResults"
]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SearchResults(Sliced[Hit]):
    """The hits of a query, nearest first, with the selected region and how the answer came about.

    `image` (H, W, 3) uint8 RGB is the query image, of a stored region read when it is first asked for; all boxes are in
    pixels of EXIF-corrected images.
    `prompt_description` holds the prompt as plain JSON: `kind`, and `foreground` and `background` (lists of [x, y]),
    `box_xyxy` or `text`. `exact` is False where hits may have been missed (an approximate index, or grouping by image
    that ran out of candidates). `stages` tells what the search took, and its rescoring where there was one.
    `open_image` reads a hit's image, for drawing. `asked` is the question in full, as plain JSON
    (`questions.question_document`), or what makes it when a receipt is asked for; `explainer` answers `explain`.
    `matching` says how far chance explains the hits. `probe` is what marks taught, where the hits are refined, and
    `refiner` answers `refine`. `positions` are the hits' places in the page, None where they are the whole page.
    `hint` says why the filter lets nothing through, where that can be said; else it is empty.
    """

    # Over 200 lines: all that can be done with an answer in one place; drawing, HTML and documents are elsewhere.

    _computed: ClassVar[tuple[str, ...]] = ("asked",)  # so a pickled answer has its receipt

    hits: tuple[Hit, ...]
    query_image: RGBImage | Callable[[], RGBImage]
    prompt_description: Mapping[str, Any]
    selection: Selection
    fingerprint: str
    collection: str
    exact: bool
    timings_ms: Mapping[str, float]
    open_image: Callable[[ImageRef], RGBImage]
    asked: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    explainer: Callable[[IndexedImage, BoxXYXY | None], Explanation] | None = None
    positions: tuple[int, ...] | None = None
    matching: Matching | None = None
    probe: Probe | None = None
    refiner: Refiner | None = None
    hint: str = ""

    @property
    def image(self) -> RGBImage:
        """The query image. Raises: StoreError, ImageError where it is a stored one that can no longer be read."""
        return self.query_image() if callable(self.query_image) else self.query_image

    @property
    def _items(self) -> tuple[Hit, ...]:
        return self.hits

    def _sliced(self, index: slice) -> Self:
        places = kept_places(self.positions, index, count=len(self.hits))
        return replace(self, hits=self.hits[index], positions=places)

    def __repr__(self) -> str:
        nearest = f", nearest {self.hits[0].image} at {counted(self.hits[0].distance_bits, 'bit')}" if self.hits else ""
        kind = self.prompt_description.get("kind", "query")
        return printable(f"<SearchResults: {counted(len(self), 'hit')} for {kind} ({self.selection.reason}){nearest}>")

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything query --format json`: plain types only."""
        return {
            "prompt": dict(self.prompt_description),
            "selection": selection_document(self.selection),
            "hits": [
                hit_document(hit) | {"confidence": None if good is None else asdict(good)}
                for hit, good in zip(self.hits, self.confidences, strict=True)
            ],
            "fingerprint": self.fingerprint,
            "collection": self.collection,
            "exact": self.exact,
            "matching": None if self.matching is None else self.matching.to_dict(),
            "probe": None if self.probe is None else self.probe.summary(),
            "hint": self.hint,
            "stages": [asdict(stage) | {"ms": round(stage.ms, 3)} for stage in self.stages],
            "timings_ms": {stage: round(value, 3) for stage, value in self.timings_ms.items()},
        }

    @property
    def is_by_words(self) -> bool:
        """Whether words alone ranked the hits: their distances are those of words codes."""
        return self.selection.kind == "words" and self.probe is None

    @property
    def confidences(self) -> tuple[Confidence | None, ...]:
        """How good each hit is, in a word: very strong, strong, fair, weak or none; None for words alone.

        Of a text's right hits most are no nearer than chance allows (docs/adr/0059); `selection.text_match` says more.
        """
        if self.matching is None or self.is_by_words:
            return (None,) * len(self.hits)
        of_page = self.matching.confidences
        return tuple(of_page[place] for place in self.positions or range(len(self.hits)))

    @property
    def verdict(self) -> str:
        """ "no good match: …" where `max_false_match` left nothing; else empty."""
        return "" if self.matching is None else self.matching.verdict

    def receipt(self) -> dict[str, Any]:
        """All that is needed to repeat this query and to tell what differs: plain JSON, see `searchanything replay`.

        Raises: UsageError for a refined answer.
        """
        if self.probe is not None:
            raise UsageError("a refined answer has no receipt: save its probe, and the receipt of the query before")
        mask = f"{self.selection.mask.size} {self.selection.mask.counts}"
        return {
            "format": RECEIPT_FORMAT,
            **(self.asked() if callable(self.asked) else self.asked),
            "fingerprint": self.fingerprint,
            "collection": self.collection,
            "selection": {
                **selection_document(self.selection),
                "mask_sha256": hashlib.sha256(mask.encode()).hexdigest(),
            },
            "hits": [receipt_hit(hit) for hit in self.hits],
            **({} if self.positions is None else {"positions": list(self.positions)}),
            "exact": self.exact,
            "max_false_match": None if self.matching is None else self.matching.max_false_match,
            "stages": [asdict(stage) | {"ms": round(stage.ms, 3)} for stage in self.stages],
            "timings_ms": {stage: round(value, 3) for stage, value in self.timings_ms.items()},
        }

    def save_receipt(self, path: str | Path) -> None:
        """Write the receipt, all or nothing. Raises: UsageError for another suffix than .json or a bad place."""
        save_json(self.receipt(), path)

    def explain(self, image: IndexedImage, box_xyxy: BoxInput | None = None) -> Explanation:
        """Why this image is not among the hits, or where it is: the same query again, with a look at every step.

        `image`: `s3://bucket/key`, the path of a file that was indexed, a key, an `ImageRef`, or what has one, such as
        a hit; `box_xyxy`: where the thing is in it, a `Box` or (x1, y1, x2, y2) in pixels of that image. Answers by
        words, marks or several regions are explained from the index on.

        Raises: UsageError for results that came without an index; PromptError, FilterError, StoreError,
        RegionIndexError.
        """
        if self.explainer is None:
            raise UsageError("these results are not from a client, so nothing can be asked about them")
        return self.explainer(image, None if box_xyxy is None else as_box(box_xyxy).xyxy)

    def refine(
        self,
        right: Iterable[Hit | RegionRef] = (),
        wrong: Iterable[Hit | RegionRef] = (),
        *,
        probe: Probe | None = None,
    ) -> SearchResults:
        """The same page by what marks teach: hits that are right ones, hits that are wrong, and a saved probe's marks.

        Marks add up: refining a refined answer keeps those before; the same one twice counts once.
        `to_dict()["probe"]` has the cross-validated precision.

        Raises: UsageError without a mark, with more than 100 right or wrong ones, for a region that is marked both, for
        a mark without a region, or where only whole images were searched; ObjectNotFoundError for marks that are not in
        the index; ProbeMismatchError for a probe of other models.
        """
        marks = [marked_regions_of(right, "right"), marked_regions_of(wrong, "wrong")]
        check_kind(probe, Probe | None, "probe", "a searchanything.Probe (Probe.read reads a saved one)")
        if self.refiner is None:
            raise UsageError("only an answer of regions can be refined: query with a prompt that selects one")
        if not marks[0] and not marks[1] and probe is None:
            raise UsageError("expected hits that are right or wrong, or a probe")
        whole = next((ref.image for ref in (*marks[0], *marks[1]) if ref.region is None), None)
        if whole is not None:
            raise UsageError(f"expected a region as a mark, got the whole image {whole}: say which of its regions")
        return self.refiner(self, marks[0], marks[1], probe)

    def save_probe(self, path: str | Path) -> None:
        """Write what the marks taught as JSON, all or nothing. Raises: UsageError without marks, or a bad place."""
        if self.probe is None:
            raise UsageError("there is nothing to save: refine the answer first")
        save_json(self.probe.to_dict(), path)

    def to_pandas(self) -> pd.DataFrame:
        """One row per hit, boxes in four columns, metadata as JSON. Raises: UsageError without pandas."""
        return hits_table(self.hits)

    def plot(self, columns: int | None = None) -> Image.Image:
        """A contact sheet (RGB): the query image with prompt and selection, then up to 100 hits, regions outlined.

        A small region is shown once more, enlarged. By default there are three to five columns, so that rows are full.
        A hit whose image cannot be read gets an empty cell that says why. Raises: UsageError without a column;
        StoreError, ImageError where the query image is a stored one that can no longer be read.
        """
        columns = None if columns is None else whole_number_of(columns, "columns", least=1)
        tiles = [self._query_tile(), *self._hit_tiles()]
        return Image.fromarray(contact_sheet(tiles, columns=columns or full_rows(len(tiles)), side_px=_TILE_PX))

    def save(self, path: str | Path) -> None:
        """Write the contact sheet, all or nothing.

        Raises: UsageError for a suffix other than .png, .jpg, .jpeg or .webp, or a place that cannot be written.
        """
        save_image(self.plot, path)

    def _repr_png_(self) -> bytes:
        return png_bytes(self.plot())

    def _repr_html_(self) -> str:
        match = self.selection.text_match
        doubts = ["weak text match" if match is not None and match.confidence == "weak" else ""]
        doubts += ["" if good is None or good.word not in WEAK else "weak match" for good in self.confidences]
        cells = list(zip([self._query_tile(), *self._hit_tiles()], doubts, strict=False))
        return figure_html(cells, caption=repr(self), verdict=self.verdict)

    def show(self) -> None:
        """Show the answer: in a notebook below its cell, elsewhere what `plot` draws in this machine's image viewer.

        The viewer is not waited for.

        Raises: UsageError where there is neither, as over SSH (`save` does without); StoreError, ImageError where the
        query image is a stored one that can no longer be read.
        """
        open_viewer(self, self.plot)

    def _query_tile(self) -> Tile:
        marks: list[Mark] = []
        reason = self.selection.reason
        if self.selection.kind == "region":
            marks.append(RegionMark(self.selection.mask, SELECTED))
        elif self.selection.kind == "none" and self.selection.runners_up:
            reason += "; the nearest regions are numbered"
            nearest = enumerate(self.selection.runners_up[:OFFERED], start=1)
            marks += [RegionMark(one.mask, MUTED, str(number)) for number, one in nearest]
        marks += prompt_marks(self.prompt_description)
        shown = "" if len(self) <= MAX_TILES else f", the first {MAX_TILES} shown"
        return Tile(
            image=draw_marks(self.image, marks, longest_side_px=_TILE_PX),
            title="no good match" if self.verdict else f"{counted(len(self), 'hit')}{shown}",
            subtitle=self.verdict.removeprefix("no good match: ") or reason,
            badge="query",
            accent=SELECTED,
        )

    def _hit_tiles(self) -> list[Tile]:
        with ThreadPoolExecutor(DRAWING_THREADS) as pool:
            return list(pool.map(self._hit_tile, range(len(self.hits[:MAX_TILES]))))

    def _hit_tile(self, number: int) -> Tile:
        hit = self.hits[number]
        where = "whole image" if hit.region is None else f"region {hit.region}"
        chance = "" if hit.false_match is None or hit.false_match < 1e-6 else f" · chance {one_in(hit.false_match)}"
        subtitle = f"{counted(hit.distance_bits, 'bit')} · {where}{chance}"
        try:
            shown = draw_hit(self.open_image(hit.image), hit.mask, longest_side_px=_TILE_PX)
        except SearchAnythingError as error:
            logger.warning("%s cannot be shown: %s", hit.image, error)
            shown = np.full((_TILE_PX, _TILE_PX, 3), 200, dtype=np.uint8)
            subtitle += " · image not readable"
        return Tile(image=shown, title=hit.image.key, subtitle=subtitle, badge=str(number + 1))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Segments(Sliced[Candidate]):
    """All regions the segmenter finds in an image, best first. `image` is (H, W, 3) uint8 RGB."""

    image: RGBImage
    regions: tuple[Candidate, ...]

    @property
    def _items(self) -> tuple[Candidate, ...]:
        return self.regions

    def _sliced(self, index: slice) -> Self:
        return replace(self, regions=self.regions[index])

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"<Segments: {counted(len(self), 'region')} in an image of {width} × {height} px>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `searchanything segment --format json`: plain types only."""
        height, width = self.image.shape[:2]
        return {
            "image": {"width": width, "height": height},
            "regions": [region_document(region) for region in self.regions],
        }

    def plot(self) -> Image.Image:
        """The image with every region in its own colour, numbered by its place in the sequence (from 0)."""
        by_area = sorted(enumerate(self.regions), key=lambda item: -item[1].area_px)  # small ones lie on top
        colors = distinct_colors(len(self.regions))
        marks = [RegionMark(region.mask, colors[number], str(number)) for number, region in by_area]
        low, high = SEGMENTS_SIDE_PX
        side = min(max(max(self.image.shape[:2]), low), high)
        return Image.fromarray(draw_marks(self.image, marks, longest_side_px=side))

    def save(self, path: str | Path) -> None:
        """Write `plot()`, all or nothing. Raises: UsageError as `SearchResults.save`."""
        save_image(self.plot, path)

    def _repr_png_(self) -> bytes:
        return png_bytes(self.plot())

    def _repr_html_(self) -> str:
        return image_html(self.plot(), caption=repr(self))

    def show(self) -> None:
        """Show the picture of `plot` as `SearchResults.show` does. Raises: UsageError where it cannot be shown."""
        open_viewer(self, self.plot)
