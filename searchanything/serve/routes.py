"""The routes of `/v1`. Each says what it takes and gives; the work is done behind a gate."""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from searchanything.core.errors import AccessError, IndexNotFoundError, RegionIndexError, TooLargeError
from searchanything.core.extras import package_version
from searchanything.core.files import png_bytes
from searchanything.serve.answers import (
    AnswerDocument,
    ImageDocument,
    ImagesDocument,
    RegionsDocument,
    Size,
    StatusDocument,
    UploadDocument,
    answer_document,
    candidate_of,
    image_of,
    index_document,
    region_of,
    upload_of,
)
from searchanything.serve.desk import AtDesk, Reader, Refining
from searchanything.serve.forms import BODY, FormRoute
from searchanything.serve.image_pages import Wanted
from searchanything.serve.problems import MEDIA_TYPE as PROBLEM
from searchanything.serve.problems import TYPE_PREFIX
from searchanything.serve.thumbnails import SIDES, THUMBNAIL_TYPE
from searchanything.serve.wire import (
    CompareRequest,
    ExplainRequest,
    Name,
    QueryRequest,
    RefineRequest,
    SegmentRequest,
    SegmentSheetRequest,
    SheetRequest,
    image_of_id,
)

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": f"{TYPE_PREFIX}NAME, where NAME is the class of the error."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "Names the request, as the log does."},
    },
}
_DESCRIPTIONS: dict[int, str] = {
    400: "A form that cannot be parsed",
    401: "No valid key",
    403: "Not with this key, or from this place",
    404: "Not there, or not to be seen",
    408: "The body did not come in time",
    409: "A probe of another index",
    413: "Too large",
    422: "Not of the documented form, or impossible",
    429: "Too many requests at once, this one was not begun; Retry-After says when",
    501: "Not offered by this server or its index",
    502: "The index or the bucket refused",
    503: "The index or the bucket cannot be reached; Retry-After says when",
    504: "No answer within the server's limit; the work may go on, so do not repeat it at once",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation can answer but for its answer."""
    content = {PROBLEM: {"schema": _SCHEMA}}
    return {status: {"description": _DESCRIPTIONS[status], "content": content} for status in sorted(statuses)}


# By what an operation passes. tests/unit/serve/test_documented_statuses.py brings each of them about.
KEYED: Final = (401, 403, 503)
_BODY: Final = (400, 408, 413, 422)
GATED: Final = (429, 504)
OF_INDEX: Final = (*KEYED, *GATED, 502)
OF_IMAGE: Final = (*OF_INDEX, 404, 422)
SEGMENTED: Final = (*OF_INDEX, *_BODY, 404)
OF_QUESTION: Final = (*SEGMENTED, 501)
REFINED: Final = (*OF_QUESTION, 409)
_NOT_READY: Final[dict[int | str, dict[str, Any]]] = {
    503: {"description": "Nothing is indexed, or the index cannot be reached", "content": {"application/json": {}}}
}
SHEET: dict[int | str, dict[str, Any]] = {200: {"description": "A picture", "content": {"image/png": {}}}}
_DRAWN: Final[dict[str, Any]] = {"tags": ["ask"], "response_class": Response, "openapi_extra": BODY}
_QUESTION: Final[dict[str, Any]] = {"tags": ["ask"], "openapi_extra": BODY}
FIGURES: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}
PICTURE: dict[int | str, dict[str, Any]] = {200: {"description": "A picture", "content": {THUMBNAIL_TYPE: {}}}}
Side = Annotated[int, Query(ge=1, le=SIDES[-1], description="Longest side in pixels, rounded up to a step.")]
BoxText = Annotated[
    str | None,
    Query(pattern=r"^\d{1,6},\d{1,6},\d{1,6},\d{1,6}$", description="x1,y1,x2,y2: that part of the image alone."),
]


questions = APIRouter(prefix="/v1", route_class=FormRoute)
pictures = APIRouter(prefix="/v1", tags=["images"])
server = APIRouter(tags=["server"])


@questions.post(
    "/query", summary="Find regions like the one that the prompt selects", responses=problems(*OF_QUESTION), **_QUESTION
)
async def query(asked: QueryRequest, caller: Reader, desk: AtDesk) -> AnswerDocument:
    return await desk.gate(asked).run(lambda: answer_document(desk.ask(caller, asked)))


@questions.post(
    "/sheet",
    summary="The answer, refined where there are marks, as a contact sheet",
    responses=SHEET | problems(*REFINED),
    **_DRAWN,
)
async def sheet(asked: SheetRequest, caller: Reader, desk: AtDesk) -> Response:
    data = await desk.models.run(lambda: png_bytes(desk.drawn(caller, asked).plot()))
    return Response(data, media_type="image/png")


@questions.post(
    "/refine",
    summary="The same question, with hits that were right and wrong",
    responses=problems(*REFINED),
    **_QUESTION,
)
async def refine(asked: RefineRequest, caller: Refining, desk: AtDesk) -> AnswerDocument:
    return await desk.gate(asked).run(lambda: answer_document(desk.refine(caller, asked)))


@questions.post(
    "/segment", summary="All regions of an image, by the models", responses=problems(*SEGMENTED), **_QUESTION
)
async def segment(asked: SegmentRequest, caller: Reader, desk: AtDesk) -> RegionsDocument:
    def work() -> RegionsDocument:
        segments = desk.segmented(caller, asked)
        height, width = segments.image.shape[:2]
        regions = [candidate_of(one) for one in segments]
        return RegionsDocument(image=Size(width=width, height=height), source="segmenter", regions=regions)

    return await desk.models.run(work)


@questions.post(
    "/segment/sheet",
    summary="All regions of an image, drawn and numbered",
    responses=SHEET | problems(*SEGMENTED),
    **_DRAWN,
)
async def segment_sheet(asked: SegmentSheetRequest, caller: Reader, desk: AtDesk) -> Response:
    data = await desk.models.run(lambda: png_bytes(desk.segmented(caller, asked).plot()))
    return Response(data, media_type="image/png")


@questions.post(
    "/explain", summary="Why an image is not among the hits, or where it is", responses=problems(*REFINED), **_QUESTION
)
async def explain(asked: ExplainRequest, caller: Reader, desk: AtDesk) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        return desk.explained(caller, asked).to_dict()

    return await desk.gate_to_explain(asked).run(work)


@questions.post(
    "/compare",
    summary="The nearest candidates, ranked by several methods",
    responses=problems(*SEGMENTED),
    **_QUESTION,
)
async def compare(asked: CompareRequest, caller: Reader, desk: AtDesk) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        return desk.compare(caller, asked).to_dict()

    return await desk.models.run(work)


@questions.post(
    "/uploads",
    tags=["ask"],
    summary="Keep an image for a while, to ask with it",
    status_code=201,
    responses=problems(*KEYED, *_BODY, *GATED),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {}, "image/*": {}, **BODY["requestBody"]["content"]},
        }
    },
)
async def upload(request: Request, _: Reader, desk: AtDesk) -> UploadDocument:
    data = await _body(request, desk.settings.upload_bytes)
    return upload_of(await desk.pictures.run(lambda: desk.uploads.keep(data)))


@questions.get(
    "/uploads/{upload}/thumbnail",
    tags=["ask"],
    summary="An upload, small",
    responses=PICTURE | problems(*KEYED, *GATED, 404, 422),
)
async def upload_thumbnail(
    upload: str,
    _: Reader,
    desk: AtDesk,
    side: Side = 320,
) -> Response:
    def work() -> bytes:
        found = desk.uploads.find(upload)
        return desk.thumbnails.get(("upload", found.id), lambda: desk.uploads.read(found), side_px=side)

    return picture_response(await desk.pictures.run(work))


@pictures.get("/images", summary="The indexed images, by bucket and key", responses=problems(*OF_INDEX, 422))
async def images(
    caller: Reader,
    desk: AtDesk,
    bucket: Name | None = None,
    prefix: Name = "",
    contains: Name = "",
    after: Annotated[str | None, Query(max_length=8192, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 60,
) -> ImagesDocument:
    wanted = Wanted(bucket, prefix, contains, after, limit)
    page = await desk.index.run(lambda: desk.listing.page(caller.client, caller.places, wanted))
    found = [image_of(row) for row in page.rows]
    return ImagesDocument(images=found, next=page.next, total=page.total, complete=page.complete)


@pictures.get("/images/{image}", summary="One of them", responses=problems(*OF_IMAGE))
async def image(image: str, caller: Reader, desk: AtDesk) -> ImageDocument:
    ref = image_of_id(image)
    return image_of(await desk.index.run(lambda: caller.client.image(ref)))


@pictures.get(
    "/images/{image}/regions",
    summary="Its indexed regions with their masks; no model is needed",
    responses=problems(*OF_IMAGE),
)
async def regions(image: str, caller: Reader, desk: AtDesk) -> RegionsDocument:
    ref = image_of_id(image)

    def work() -> RegionsDocument:
        row = caller.client.image(ref)
        size = Size(width=row.image_width, height=row.image_height)
        return RegionsDocument(
            image=size, source="index", regions=[region_of(one) for one in caller.client.regions(ref)]
        )

    return await desk.index.run(work)


@pictures.get(
    "/images/{image}/thumbnail", summary="It, small, or a part of it", responses=PICTURE | problems(*OF_IMAGE)
)
async def thumbnail(
    image: str,
    request: Request,
    caller: Reader,
    desk: AtDesk,
    side: Side = 320,
    box: BoxText = None,
) -> Response:
    ref = image_of_id(image)
    cut = None if box is None else tuple(float(number) for number in box.split(","))

    def work() -> tuple[str, bytes]:
        row = caller.client.image(ref)
        tag = f'"{blake2b(f"{row.image.image_id} {row.etag} {side} {cut}".encode(), digest_size=12).hexdigest()}"'
        if request.headers.get("if-none-match") == tag:
            return tag, b""
        content = (row.image, row.etag)
        open_image = caller.client.open_image
        return tag, desk.thumbnails.get(content, lambda: open_image(ref), side_px=side, box_xyxy=cut)  # type: ignore[arg-type]

    tag, data = await desk.pictures.run(work)
    return picture_response(data, tag)


@server.get("/v1/server", summary="That this is Search Anything, and whether it demands a key", responses=problems(403))
async def server_name(desk: AtDesk) -> dict[str, Any]:
    return {"server": "searchanything", "version": package_version(), "needs_key": desk.ring is not None}


@server.get("/v1/status", summary="The index, and what may be asked", responses=problems(*OF_INDEX))
async def status(caller: Reader, desk: AtDesk) -> StatusDocument:
    found, offers = await desk.index.run(lambda: (desk.status(caller), desk.offers(caller)))
    limits = desk.settings
    return StatusDocument(
        version=package_version(),
        index=index_document(found),
        bits=None if found.manifest is None else found.manifest.bits,
        offers=offers,
        limits={
            "upload_bytes": limits.upload_bytes,
            "upload_pixels": limits.upload_pixels,
            "max_hits": limits.max_hits,
        },
        caller={
            "name": caller.name,
            "rights": list(caller.rights),
            "places": [{"bucket": bucket, "key_prefix": prefix} for bucket, prefix in caller.places],
        },
    )


@server.get("/healthz", summary="The process lives")
async def healthz() -> dict[str, bool]:
    return {"alive": True}


@server.get(
    "/readyz",
    summary="Questions can be answered: there is an index, and it can be reached",
    responses=_NOT_READY | problems(*GATED),
)
async def readyz(desk: AtDesk) -> Response:
    try:
        fingerprint = await desk.index.run(lambda: desk.client.manifest.fingerprint)
    except IndexNotFoundError:
        return JSONResponse({"ready": False, "reason": "nothing is indexed yet"}, 503)
    except RegionIndexError:
        return JSONResponse({"ready": False, "reason": "the index cannot be reached"}, 503)
    return JSONResponse({"ready": True, "fingerprint": fingerprint, "models_loaded": desk.models_loaded})


@server.get("/metrics", summary="Figures for Prometheus", responses=FIGURES | problems(*KEYED))
async def metrics(caller: Reader, desk: AtDesk) -> Response:
    if caller.places:
        raise AccessError("figures are of the whole server: this key sees some places alone", known=True)
    data, kind = desk.metrics.exposition()
    return Response(data, media_type=kind)


async def _body(request: Request, max_bytes: int) -> bytes:
    """The raw body, as long as it is not too large. Raises: TooLargeError."""
    message = f"expected an image of at most {max_bytes:,} bytes"
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced) > max_bytes:
        raise TooLargeError(message)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise TooLargeError(message)
    return bytes(body)


def picture_response(data: bytes, tag: str | None = None) -> Response:
    headers = {"Cache-Control": "private, max-age=300", "Vary": "Authorization"}
    if tag is not None:
        headers["ETag"] = tag
    return Response(data, 200 if data else 304, headers, media_type=THUMBNAIL_TYPE)
