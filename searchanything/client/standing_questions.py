"""What a standing query is made of: the region that a prompt selects, an indexed region, a whole image, or words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from searchanything.answers.questions import kept_name, question_document
from searchanything.answers.standing_answers import StandingKind, name_of_image
from searchanything.client.asking import Asking
from searchanything.client.asking_words import HOW_TO_ADD_WORDS, check_alone
from searchanything.client.standing_features import picture_of
from searchanything.client.standing_memory import Kept, text_features
from searchanything.client.stored_questions import StoredInput, check_no_prompt, stored_or_image
from searchanything.core.errors import PromptError, UsageError, WordsMissingError
from searchanything.core.geometry import mask_of_size
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import RegionRow
from searchanything.core.types import MaskRLE, RegionRef
from searchanything.encode.encode_queries import encode_one
from searchanything.images.inputs import ImageInput
from searchanything.prompts.choose import selection_of_choice
from searchanything.prompts.prompt import Mask, Prompt, WholeImage, as_prompt, check_units, describe_prompt
from searchanything.search.search import PageRequest
from searchanything.search.stored import stored_rows


@dataclass(frozen=True, slots=True, eq=False)
class StandingQuestion:
    """What is asked of `index`; `prompt` and `image` say it for people, `kept` is what it can be asked again by."""

    index: RegionIndex
    kind: StandingKind
    prompt: Mapping[str, Any]
    kept: Kept
    image: str | None = None
    mask: MaskRLE | None = field(default=None, repr=False)


def standing_question(
    asking: Asking, image: ImageInput | StoredInput | None, prompt: object, text: str | None
) -> StandingQuestion:
    """Raises: UsageError for several regions at once; PromptError where nothing is selected; as `Client.query`."""
    if text is not None or image is None:
        return _of_words(asking, check_alone(text, image, prompt))
    return _of_image(asking, image, prompt)


def _of_words(asking: Asking, text: str) -> StandingQuestion:
    index, encoder = asking.connection.open_for_words()
    if index.words is None:
        raise WordsMissingError(HOW_TO_ADD_WORDS)
    features = text_features(encoder.embedder.embed_texts([text]))
    kept = Kept(b"", {index.manifest.feature_fingerprint: features})
    return StandingQuestion(index, "words", {"kind": "words", "text": text}, kept)


def _of_image(asking: Asking, image: ImageInput | StoredInput, prompt: object) -> StandingQuestion:
    wanted, given = as_prompt(prompt), stored_or_image(image)
    described = describe_prompt(wanted)
    index, encoder = asking.connection.open_to_ask()
    if isinstance(given, tuple):
        check_no_prompt(wanted)
        if len(given) > 1:
            raise UsageError("expected one region or image for a standing query: add one query for each")
        given, wanted, described = _of_row(index, given[0])
    pixels = asking.load(given)
    check_units(wanted, *pixels.shape[:2])
    encoded = encode_one(encoder, pixels, wanted)
    selection = selection_of_choice(encoded.choice, encoded.segmentation)
    if encoded.features is None:
        raise PromptError(
            f"the prompt selects nothing that could be looked for: {selection.reason}; a query with the same "
            "prompt lists the nearest regions, and a box always selects"
        )
    is_region = selection.kind == "region"
    source = question_document(kept_name(given), pixels, WholeImage(), PageRequest(), None)["image"]
    return StandingQuestion(
        index,
        "regions" if is_region else "images",
        described,
        Kept(picture_of(pixels), {index.manifest.feature_fingerprint: encoded.features}),
        image=name_of_image(source),
        mask=selection.mask if is_region else None,
    )


def _of_row(index: RegionIndex, ref: RegionRef) -> tuple[ImageInput, Prompt, dict[str, Any]]:
    """An indexed region as an image and a mask."""
    row = stored_rows(index, [ref])[0]
    if not isinstance(row, RegionRow):
        return ref.image, WholeImage(), {"kind": "image"}
    mask = Mask(mask_of_size(row.mask, row.image_height, row.image_width))
    return ref.image, mask, {"kind": "region", "region": ref.region}
