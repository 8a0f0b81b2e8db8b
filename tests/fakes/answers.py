"""Answers made by hand: hits, results and their receipts."""

from __future__ import annotations

import json

from fakes.models import drawn

from searchanything.answers.questions import question_document
from searchanything.answers.receipts import Receipt
from searchanything.answers.results import SearchResults
from searchanything.core.geometry import encode_rle
from searchanything.core.types import Filter, Hit, ImageRef, Selection
from searchanything.prompts.prompt import Points, Prompt, describe_prompt
from searchanything.search.search import PageRequest

PIXELS = drawn(20, 30, red=(2, 2, 12, 12))
THING = (PIXELS[:, :, 0] > 0).copy()
RLE = encode_rle(THING)
SELECTION = Selection("region", (2.0, 2.0, 12.0, 12.0), 100, RLE, 0.9, "points/score", "the surest of 1")


def hit(number: int, *, distance: int | None = None, etag: str = "e") -> Hit:
    distance = number if distance is None else distance
    return Hit(
        image=ImageRef("b", f"{number}.jpg"),
        etag=etag,
        region=0,
        box_xyxy=(0.0, 0.0, 9.0, 9.0),
        mask=RLE,
        area_px=81,
        score=0.5,
        distance_bits=distance,
        image_width=30,
        image_height=20,
        metadata={"year": 2024},
    )


def results(
    *hits: Hit, prompt: Prompt | None = None, filter: Filter | None = None, image: object = "q.png", rescore: int = 0
):  # type: ignore[no-untyped-def]
    prompt = prompt or Points(((5, 5),))
    asked = question_document(image, PIXELS, prompt, PageRequest(3, 2, group_by_image=True, rescore=rescore), filter)  # type: ignore[arg-type]
    return SearchResults(
        hits, PIXELS, describe_prompt(prompt), SELECTION, "f" * 32, "c", True, {"search": 1.5}, lambda _: PIXELS, asked
    )


def read(found: SearchResults) -> Receipt:
    return Receipt.parse(json.loads(json.dumps(found.receipt(), allow_nan=False)))
