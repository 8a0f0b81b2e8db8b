"""The routes of standing queries: `/v1/standing`. A key sees those of its places, and needs the right `standing`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from searchanything.answers.standing_answers import StandingQuery, Taken
from searchanything.core.errors import ObjectNotFoundError, UsageError
from searchanything.core.types import ImageRef, RegionRef, RGBImage
from searchanything.prompts.prompt import Prompt
from searchanything.serve.allowed_webhooks import allowed_webhook
from searchanything.serve.answers import (
    NewMatchesDocument,
    StandingDocument,
    StandingListDocument,
    new_matches_document,
    standing_document,
)
from searchanything.serve.desk import IMAGELESS, AtDesk, Caller, Desk, Keeping
from searchanything.serve.forms import BODY, FormRoute
from searchanything.serve.routes import OF_IMAGE, OF_INDEX, OF_QUESTION, PICTURE, Side, picture_response, problems
from searchanything.serve.wire import StandingRequest, StoredImage, TakenRequest, UploadedImage, prompt_of

MOST_OF_ANSWER = 2000
kept = APIRouter(prefix="/v1", tags=["standing"], route_class=FormRoute)
standing = APIRouter(prefix="/v1", tags=["standing"])
OneQuery = Annotated[str | None, Query(max_length=64, description="Of the query with this id alone.")]


@kept.post(
    "/standing",
    summary="Keep a question, and ask it of all that is indexed from now on",
    status_code=201,
    responses=problems(*OF_QUESTION),
    openapi_extra=BODY,
)
async def add(asked: StandingRequest, caller: Keeping, desk: AtDesk) -> StandingDocument:
    return await desk.models.run(lambda: standing_document(_added(desk, caller, asked)))


@standing.get("/standing", summary="The standing queries, and how far each has come", responses=problems(*OF_INDEX))
async def listed(caller: Keeping, desk: AtDesk) -> StandingListDocument:
    def work() -> StandingListDocument:
        found = caller.client.standing.list()
        return StandingListDocument(queries=[standing_document(one.query, one) for one in found])

    return await desk.index.run(work)


@standing.get(
    "/standing/matches",
    summary="New matches of the queries without a webhook; they come again until they are taken",
    responses=problems(*OF_IMAGE),
)
async def matches(
    caller: Keeping,
    desk: AtDesk,
    query: OneQuery = None,
    limit: Annotated[int, Query(ge=1, le=MOST_OF_ANSWER, description="About so many.")] = 500,
) -> NewMatchesDocument:
    def work() -> NewMatchesDocument:
        name = None if query is None else _known(caller, query).id
        return new_matches_document(caller.client.standing.fetch(name, most=limit))

    return await desk.standing.run(work)


@standing.post(
    "/standing/matches/taken",
    summary="Note new matches as dealt with",
    status_code=204,
    response_model=None,
    responses=problems(*OF_INDEX, 408, 413, 422),
)
async def take(asked: TakenRequest, caller: Keeping, desk: AtDesk) -> None:
    taken = {name: Taken(one.until_ms, one.new_from_ms, one.seen) for name, one in asked.taken.items()}
    await desk.standing.run(lambda: caller.client.standing.take(taken))


@standing.delete(
    "/standing/{query}",
    summary="Ask a query no more, and forget it",
    status_code=204,
    response_model=None,
    responses=problems(*OF_IMAGE),
)
async def remove(query: str, caller: Keeping, desk: AtDesk) -> None:
    await desk.standing.run(lambda: caller.client.standing.remove(_known(caller, query).id))


@standing.post(
    "/standing/{query}/test",
    summary="Send its webhook a message without matches",
    status_code=204,
    response_model=None,
    responses=problems(*OF_IMAGE, 408, 413),
)
async def test(query: str, caller: Keeping, desk: AtDesk) -> None:
    def work() -> None:
        known = _known(caller, query)
        allowed_webhook(known.webhook, desk.settings.webhooks)  # it may have been added elsewhere, or allowed once
        caller.client.standing.test(known.id)

    await desk.webhooks.run(work)


@standing.get(
    "/standing/{query}/thumbnail",
    summary="What it was made of, small: the region, or the image",
    responses=PICTURE | problems(*OF_IMAGE),
)
async def standing_thumbnail(query: str, caller: Keeping, desk: AtDesk, side: Side = 160) -> Response:
    def work() -> bytes:
        identity, shown = _known(caller, query).id, caller.client.standing.picture
        return desk.thumbnails.get(("standing", identity), lambda: shown(identity), side_px=side)

    return picture_response(await desk.pictures.run(work))


def _known(caller: Caller, identity: str) -> StandingQuery:
    """The query of an id that this caller may see. Raises: ObjectNotFoundError."""
    found = [one for one in caller.client.standing.queries() if one.id == identity]
    if not found:
        raise ObjectNotFoundError(f"there is no standing query with the id {identity!r}")
    return found[0]


def _added(desk: Desk, caller: Caller, asked: StandingRequest) -> StandingQuery:
    """The query, kept. Raises: as `StandingQueries.add`; AccessError for a webhook that is not allowed."""
    webhook = allowed_webhook(asked.webhook, desk.settings.webhooks)
    image, prompt = _asked_with(desk, caller, asked)
    return caller.client.standing.add(
        asked.name,
        image,
        prompt,
        text=asked.text,
        filter=asked.filter.filter(),
        max_false_match=asked.max_false_match,
        webhook=webhook,
        added_by=None if desk.ring is None else caller.name,
    )


def _asked_with(
    desk: Desk, caller: Caller, asked: StandingRequest
) -> tuple[RGBImage | ImageRef | RegionRef | None, Prompt | None]:
    """The image, by its name if it is indexed, and the prompt. Raises: UsageError; as `Desk.pixels`."""
    if asked.text is not None:
        if asked.image is not None or asked.prompt is not None:
            raise UsageError("text is a question by itself: give an image with its prompt, or text alone")
        return None, None
    match asked.image:
        case None:
            raise UsageError(IMAGELESS)
        case UploadedImage():
            pixels = desk.pixels(caller, asked.image)
            return pixels, prompt_of(asked.prompt, pixels.shape[1], pixels.shape[0])
        case StoredImage(region=int()) if asked.prompt is None:
            return asked.image.region_ref(), None
    row = desk.row(caller, asked.image)
    return row.image, prompt_of(asked.prompt, row.image_width, row.image_height)
