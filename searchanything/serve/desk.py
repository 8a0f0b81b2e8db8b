"""What the routes share: the client, who asks, what may be done at once, and the way from a request to an answer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.types import Scope

from searchanything.answers.comparison import Comparison
from searchanything.answers.results import SearchResults
from searchanything.client.client import Client
from searchanything.core.errors import AccessError, NotOfferedError, UsageError
from searchanything.core.serve_settings import ServeSettings
from searchanything.core.types import ImageRow, Place, RegionRef, RGBImage
from searchanything.ingest.reports import IndexStatus
from searchanything.serve.frontier import CALLER
from searchanything.serve.gates import Gate
from searchanything.serve.keys import RIGHTS, ApiKey, KeyRing, Right
from searchanything.serve.listing import Listing
from searchanything.serve.metrics import Metrics
from searchanything.serve.thumbnails import Thumbnails
from searchanything.serve.uploads import Uploads
from searchanything.serve.wire import (
    CompareRequest,
    ImageName,
    ImagePrompt,
    QueryRequest,
    SharedQuestion,
    StoredImage,
    UploadedImage,
    prompt_of,
)

_Result = TypeVar("_Result")
_BEARER: Final = HTTPBearer(auto_error=False, description="A key of `searchanything keys add`.")  # for the document
STATUS_S: Final = 15.0  # counting rows may cost a pass over them
_WAITING_AT_INDEX: Final = 1000  # these take milliseconds each
_WAITING_FOR_PICTURES: Final = 1000
_PICTURE_THREADS: Final = 4
# What a question by words alone and a refined one need is not in the client yet: they are answered 501.
OFFERS: Final = {"region": True, "prompt": True, "upload": True, "explain": True, "words": False, "refine": False}


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
        self._bits: dict[str, int] = {}  # by fingerprint: they never change
        self._status: dict[tuple[Place, ...], tuple[float, IndexStatus]] = {}
        self._lock = threading.Lock()
        gates = (self.models, self.index, self.pictures)
        self.metrics.watch(gates, self.thumbnails.cache, models_loaded=lambda: self.models_loaded)

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
        """Load them now. Raises: as `Client.load_models`."""
        self.client.operations.load_models()
        self.models_loaded = True

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

    def bits(self, fingerprint: str) -> int:
        """How long the codes of these results are."""
        if fingerprint not in self._bits:
            manifest = self.client.manifest
            self._bits[manifest.fingerprint] = manifest.bits
        return self._bits.get(fingerprint) or self.client.manifest.bits

    def gate(self, asked: SharedQuestion) -> Gate:
        """Where this question waits: stored codes need no model."""
        return self.index if _is_stored(asked) else self.models

    def ask(self, caller: Caller, asked: SharedQuestion) -> SearchResults:
        """The answer to a question. Raises: what `Client.query` raises; NotOfferedError."""
        if asked.limit > self.settings.max_hits:
            raise UsageError(
                f"expected a limit of at most {self.settings.max_hits}, got {asked.limit}; ask page by page"
            )
        if isinstance(asked, QueryRequest) and asked.text is not None:
            raise NotOfferedError("a search by words alone is not offered yet: give an image, with words as its prompt")
        image, prompt = self._image_and_prompt(caller, asked)
        results = caller.client.query(
            image,
            prompt,
            limit=asked.limit,
            offset=asked.offset,
            filter=asked.filter.filter(),
            group_by_image=asked.group_by_image,
        )
        self.models_loaded = self.models_loaded or not _is_stored(asked)
        self.metrics.asked(str(results.prompt_description.get("kind")), results.timings_ms)
        return results

    def compare(self, caller: Caller, asked: CompareRequest) -> Comparison:
        """The candidates of a question by several methods. Raises: what `Client.compare` raises."""
        if asked.image is None:
            raise UsageError("expected an image to ask with: an indexed one, or an upload")
        pixels = self.pixels(caller, asked.image)
        prompt = prompt_of(asked.prompt, pixels.shape[1], pixels.shape[0])
        wanted = asked.filter.filter()
        return caller.client.compare(pixels, prompt, candidates=asked.candidates, filter=wanted)

    def pixels(self, caller: Caller, image: StoredImage | UploadedImage) -> RGBImage:
        """An image that this caller may see. Raises: ObjectNotFoundError, StoreError, ImageError."""
        if isinstance(image, UploadedImage):
            return self.uploads.read(self.uploads.find(image.upload))
        return caller.client.open_image(self.known(caller, image).image)

    def known(self, caller: Caller, image: ImageName) -> ImageRow:
        """The row of an indexed image: nothing else of a bucket may be asked for. Raises: ObjectNotFoundError."""
        return caller.client.image(image.ref())

    def _image_and_prompt(self, caller: Caller, asked: SharedQuestion) -> tuple[RGBImage | RegionRef, object]:
        if asked.image is None:
            raise UsageError("expected an image to ask with: an indexed one, or an upload")
        if _is_stored(asked) and isinstance(asked.image, StoredImage):
            return RegionRef(asked.image.ref(), asked.image.region), None
        if isinstance(asked.image, StoredImage) and asked.image.region is not None:
            raise UsageError("a region says by itself what is meant: leave the prompt or the region out")
        pixels = self.pixels(caller, asked.image)
        return pixels, prompt_of(asked.prompt, pixels.shape[1], pixels.shape[0])


def _is_stored(asked: SharedQuestion) -> bool:
    """True for a stored region, or a stored image as a whole."""
    return isinstance(asked.image, StoredImage) and (asked.prompt is None or isinstance(asked.prompt, ImagePrompt))


def desk_of(request: Request) -> Desk:
    """A dependency: the desk of the application that was asked."""
    desk = request.app.state.desk
    if not isinstance(desk, Desk):
        raise TypeError(f"expected a Desk as the application's state, got {type(desk).__name__}")
    return desk


async def reader_of(request: Request, _: Annotated[object, Depends(_BEARER)]) -> Caller:
    """A dependency: who asks, if they may read."""
    return desk_of(request).caller(request.scope, request.headers.get("authorization", ""))


async def refiner_of(request: Request, _: Annotated[object, Depends(_BEARER)]) -> Caller:
    """A dependency: who asks, if they may refine."""
    return desk_of(request).caller(request.scope, request.headers.get("authorization", ""), "refine")


AtDesk = Annotated[Desk, Depends(desk_of)]
Reader = Annotated[Caller, Depends(reader_of)]
Refiner = Annotated[Caller, Depends(refiner_of)]
