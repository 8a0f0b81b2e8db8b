"""What the routes share: the client, who asks, what may be done at once, and the way from a request to an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.types import Scope

from searchanything.answers.comparison import Comparison
from searchanything.answers.explanation import Explanation
from searchanything.answers.results import SearchResults, Segments
from searchanything.client.client import Client
from searchanything.client.stored_questions import StoredInput
from searchanything.core.errors import AccessError, UsageError
from searchanything.core.rows import ImageRow
from searchanything.core.serve_settings import ServeSettings
from searchanything.core.types import Place, RGBImage
from searchanything.ingest.reports import IndexStatus
from searchanything.search.probe import Probe
from searchanything.serve.frontier import CALLER
from searchanything.serve.gates import Gate
from searchanything.serve.image_pages import Listing
from searchanything.serve.keys import RIGHTS, ApiKey, KeyRing, Right
from searchanything.serve.metrics import Metrics
from searchanything.serve.thumbnails import Thumbnails
from searchanything.serve.uploads import Uploads
from searchanything.serve.wire import (
    CompareRequest,
    ExplainRequest,
    QueryRequest,
    RefineRequest,
    SegmentRequest,
    SegmentSheetRequest,
    SheetRequest,
    StoredImage,
    UploadedImage,
    prompt_of,
)

_Thing = TypeVar("_Thing")
_BEARER: Final = HTTPBearer(auto_error=False, description="A key of `searchanything keys add`.")  # for the document
STATUS_S: Final = 15.0  # counting what a small index holds takes a pass over its image rows
MOST_REFINED: Final = 2000  # where a refined page ends: each of nine codes brings twice as many regions, with masks
_WAITING_AT_INDEX: Final = 1000  # these take milliseconds each
_WAITING_FOR_PICTURES: Final = 1000
_PICTURE_THREADS: Final = 4
IMAGELESS: Final = "expected an image to ask with: an indexed one, or an upload"
_STANDING_THREADS: Final = 2  # looks take seconds: they keep nobody else waiting, nor the list
_WEBHOOK_THREADS: Final = 2  # so do webhooks, which keep no looks waiting either
_OFFERS: Final = ("region", "regions", "prompt", "upload", "explain")  # by every server to everybody who may read


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and a client that sees what they may see."""

    name: str
    client: Client
    places: tuple[Place, ...]
    rights: tuple[Right, ...]


class Desk:
    """One server's share of everything. `ring` is None where no key is demanded."""

    def __init__(self, client: Client, settings: ServeSettings, *, folder: Path, ring: KeyRing | None) -> None:
        self.client, self.settings, self.ring = client, settings, ring
        self.metrics = Metrics()
        self.listing = Listing(settings.listed_images)
        self.thumbnails = Thumbnails(settings.thumbnails_bytes)
        self.uploads = Uploads(
            folder / "uploads",
            max_bytes=settings.uploads_bytes,
            max_pixels=settings.upload_pixels,
            age_s=settings.upload_age_s,
        )
        timeout = settings.timeout_s
        self.models = Gate(
            "models", width=settings.model_requests, waiting=settings.waiting_requests, timeout_s=timeout
        )
        self.index = Gate("index", width=settings.index_requests, waiting=_WAITING_AT_INDEX, timeout_s=timeout)
        self.pictures = Gate("pictures", width=_PICTURE_THREADS, waiting=_WAITING_FOR_PICTURES, timeout_s=timeout)
        self.models_loaded = False
        self._loading = False
        self._status: dict[tuple[Place, ...], tuple[float, IndexStatus]] = {}
        self._lock = threading.Lock()
        self.standing = Gate("standing", width=_STANDING_THREADS, waiting=_WAITING_AT_INDEX, timeout_s=timeout)
        self.webhooks = Gate("webhooks", width=_WEBHOOK_THREADS, waiting=settings.waiting_requests, timeout_s=timeout)
        self.gates = (self.models, self.index, self.pictures, self.standing, self.webhooks)
        self.metrics.watch(self.gates, self.thumbnails.cache, models_loaded=lambda: self.models_loaded)

    def caller(self, scope: Scope, authorization: str, right: Right = "read") -> Caller:
        """Who shows this header. Raises: AccessError."""
        if self.ring is None:
            return Caller("anyone", self.client, (), RIGHTS)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise AccessError("this server demands a key: send it as Authorization: Bearer KEY")
        key: ApiKey = self.ring.find(token.strip())
        scope[CALLER] = key.id
        key.demand(right)
        client = self.client.within(key.places) if key.places else self.client
        return Caller(key.name, client, key.places, key.rights)

    def load_models(self) -> None:
        """Load them now. Raises: as `Client.operations.load_models`."""
        self._loading = True
        try:
            self.client.operations.load_models(texts=True)
        finally:
            self._loading = False
        self.models_loaded = True

    @property
    def is_idle(self) -> bool:
        """Whether nothing works now."""
        return not self._loading and not any(gate.inside for gate in self.gates)

    def status(self, caller: Caller) -> IndexStatus:
        """The index as this caller sees it, a few seconds old at most. Raises: RegionIndexError."""
        with self._lock:
            found = self._status.get(caller.places)
        if found is not None and time.monotonic() - found[0] < STATUS_S:
            return found[1]
        status = caller.client.status()
        with self._lock:
            if len(self._status) > 100:  # as many different scopes: begin again
                self._status.clear()
            self._status[caller.places] = time.monotonic(), status
        return status

    def offers(self, caller: Caller) -> dict[str, bool]:
        """What this caller may ask of this index: words need words codes, refining and standing queries a right."""
        words = self.status(caller).words is not None
        standing = "standing" in caller.rights
        return dict.fromkeys(_OFFERS, True) | {
            "words": words,
            "refine": "refine" in caller.rights,
            "standing": standing,
            "webhooks": standing and bool(self.settings.webhooks),
        }

    def gate(self, asked: QueryRequest) -> Gate:
        """Where this question waits: stored codes need no model."""
        return self.index if asked.is_stored else self.models

    def ask(self, caller: Caller, asked: QueryRequest) -> SearchResults:
        """The answer to a question. Raises: what `Client.query` raises."""
        if asked.limit > self.settings.max_hits:
            raise UsageError(
                f"expected a limit of at most {self.settings.max_hits}, got {asked.limit}; ask page by page"
            )
        _check_one(asked)
        image, prompt = (None, None) if asked.text is not None else self._image_and_prompt(caller, asked)
        results = caller.client.query(
            image,
            prompt,
            text=asked.text,
            limit=asked.limit,
            offset=asked.offset,
            filter=asked.filter.filter(),
            group_by_image=asked.group_by_image,
            max_false_match=asked.max_false_match,
            rescore=asked.rescore,
        )
        self.models_loaded = self.models_loaded or not asked.is_stored
        self.metrics.asked(str(results.prompt_description.get("kind")), results.timings_ms)
        return results

    def refine(self, caller: Caller, asked: RefineRequest) -> SearchResults:
        """The answer by marks and a saved probe. Raises: what `Client.query` and `SearchResults.refine` raise."""
        if asked.offset + asked.limit > MOST_REFINED:
            raise UsageError(
                f"limit and offset of a refined answer may be {MOST_REFINED:,} together, got "
                f"{asked.offset + asked.limit:,}: mark more hits, and the right ones come first"
            )
        right, wrong = ([one.region_ref() for one in marks] for marks in (asked.right, asked.wrong))
        saved = None if asked.probe is None else Probe.from_dict(asked.probe)
        return self.ask(caller, asked).refine(right, wrong, probe=saved)

    def drawn(self, caller: Caller, asked: SheetRequest) -> SearchResults:
        """What a sheet shows. Raises: as `ask` and `refine`; AccessError for marks of who may not refine."""
        results = self._ask_or_refine(caller, asked)
        if asked.positions is None:
            return results
        return replace(results, hits=_at(asked.positions, results.hits, "hits"))

    def explained(self, caller: Caller, asked: ExplainRequest) -> Explanation:
        """Why an image is where it is in an answer, or is in no answer. Raises: as `drawn`.

        An image that this caller may not see is explained as one that was never indexed: their view shows no more.
        """
        found = self._ask_or_refine(caller, asked).explain(asked.expect.ref(), asked.expect_box_xyxy)
        self.models_loaded = self.models_loaded or found.steps[0].name == "prompt"  # it was encoded again
        return found

    def gate_to_explain(self, asked: ExplainRequest) -> Gate:
        """Where an explanation waits: what the index alone explains needs no model."""
        return self.index if asked.is_by_index else self.models

    def segmented(self, caller: Caller, asked: SegmentRequest) -> Segments:
        """All regions of an image, or those that are drawn. Raises: what `Client.segment` and `pixels` raise."""
        segments = self.client.segment(self.pixels(caller, asked.image))
        if not isinstance(asked, SegmentSheetRequest) or asked.positions is None:
            return segments
        return replace(segments, regions=_at(asked.positions, segments.regions, "regions"))

    def _ask_or_refine(self, caller: Caller, asked: RefineRequest) -> SearchResults:
        """The answer, by marks if there are any. Raises: AccessError for marks of who may not refine."""
        if asked.is_marked and "refine" not in caller.rights:
            raise AccessError("this key does not give the right to refine", known=True)
        return self.refine(caller, asked) if asked.is_marked else self.ask(caller, asked)

    def compare(self, caller: Caller, asked: CompareRequest) -> Comparison:
        """The candidates of a question by several methods. Raises: what `Client.compare` raises."""
        if asked.image is None:
            raise UsageError(IMAGELESS)
        pixels = self.pixels(caller, asked.image)
        prompt = prompt_of(asked.prompt, pixels.shape[1], pixels.shape[0])
        wanted = asked.filter.filter()
        found = caller.client.compare(pixels, prompt, candidates=asked.candidates, filter=wanted)
        self.models_loaded = True
        return found

    def pixels(self, caller: Caller, image: StoredImage | UploadedImage) -> RGBImage:
        """An image that this caller may see. Raises: UsageError for a region; StoreError, ImageError."""
        if isinstance(image, UploadedImage):
            return self.uploads.read(self.uploads.find(image.upload))
        return caller.client.open_image(self.row(caller, image).image)

    def row(self, caller: Caller, image: StoredImage) -> ImageRow:
        """The row of an indexed image: nothing else of a bucket may be asked for.

        Raises: UsageError for a region; ObjectNotFoundError.
        """
        if image.region is not None:
            raise UsageError(
                "expected an image without region: a region says by itself what is wanted, in a query without a prompt"
            )
        return caller.client.image(image.ref())

    def _image_and_prompt(self, caller: Caller, asked: QueryRequest) -> tuple[RGBImage | StoredInput, object]:
        if asked.like:
            return [one.region_ref() for one in asked.like], None
        if asked.image is None:
            raise UsageError(IMAGELESS)
        if asked.is_stored and isinstance(asked.image, StoredImage):
            return asked.image.region_ref(), None
        pixels = self.pixels(caller, asked.image)
        return pixels, prompt_of(asked.prompt, pixels.shape[1], pixels.shape[0])


def _at(positions: Sequence[int], things: Sequence[_Thing], what: str) -> tuple[_Thing, ...]:
    """The things at these places. Raises: UsageError for a place that is none."""
    odd = [place for place in positions if place >= len(things)]
    if odd:
        raise UsageError(f"expected positions of {len(things)} {what}, got {odd[0]}")
    return tuple(things[place] for place in positions)


def _check_one(asked: QueryRequest) -> None:
    """Raises: UsageError for several questions in one."""
    beside = asked.image is not None or asked.prompt is not None
    if (asked.text is not None and (beside or asked.like)) or (asked.like and beside):
        raise UsageError(
            "text and like are questions by themselves: give an image with its prompt, or like, or text alone"
        )


def desk_of(request: Request) -> Desk:
    """A dependency: the desk of the application that was asked."""
    desk: Desk = request.app.state.desk
    return desk


def right_of(dependency: object) -> Right:
    """The right that a dependency demands."""
    return {refiner_of: "refine", keeper_of: "standing"}.get(dependency, "read")  # type: ignore[call-overload, no-any-return]


async def reader_of(request: Request, _: Annotated[object, Depends(_BEARER)]) -> Caller:
    """A dependency: who asks, if they may read."""
    return desk_of(request).caller(request.scope, request.headers.get("authorization", ""))


async def refiner_of(request: Request, _: Annotated[object, Depends(_BEARER)]) -> Caller:
    """A dependency: who asks, if they may refine."""
    return desk_of(request).caller(request.scope, request.headers.get("authorization", ""), "refine")


async def keeper_of(request: Request, _: Annotated[object, Depends(_BEARER)]) -> Caller:
    """A dependency: who asks, if they may have standing queries."""
    return desk_of(request).caller(request.scope, request.headers.get("authorization", ""), "standing")


AtDesk = Annotated[Desk, Depends(desk_of)]
Reader = Annotated[Caller, Depends(reader_of)]
Refining = Annotated[Caller, Depends(refiner_of)]
Keeping = Annotated[Caller, Depends(keeper_of)]
