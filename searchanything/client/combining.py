"""Questions of several parts, and of the index about itself: combined answers and duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from searchanything.answers.combined import CombinedResults, PartPicture
from searchanything.client.asking import Asking
from searchanything.client.stored_questions import StoredQuestion
from searchanything.client.why import explain_in
from searchanything.core.addresses import check_no_file
from searchanything.core.arguments import several
from searchanything.core.codes import stacked
from searchanything.core.errors import UsageError
from searchanything.core.protocols import RegionIndex
from searchanything.core.types import Codes, Filter, Hit, ImageRef, RegionRef
from searchanything.encode.encode_queries import encode_one
from searchanything.encode.encoder import Encoder
from searchanything.explain.parts import PartsQuestion
from searchanything.images.inputs import ImageInput, named_image
from searchanything.prompts.prompt import Text, as_prompt, check_units, describe_prompt
from searchanything.search.calibration import rate_of
from searchanything.search.combination import Combination, Part, search_combined
from searchanything.search.empty_filters import warn_of_filter
from searchanything.search.refine import region_rows
from searchanything.search.search import PageRequest, query_code_of

WORDS_EXAMPLES: Final = 3  # regions of the index that words mean: what most of them have in common
PARTS: Final = "parts: hits, RegionRefs, (image, prompt) or words"
PartInput: TypeAlias = Hit | RegionRef | tuple[ImageInput, object] | str | Text


@dataclass(frozen=True, slots=True)
class PartsAsked:
    """The parts of a combined question, and how near a region is that counts as one of `none_of`, or as a part."""

    all_of: Sequence[PartInput]
    any_of: Sequence[PartInput]
    none_of: Sequence[PartInput]
    none_rate: float
    max_false_match: float | None

    def __post_init__(self) -> None:
        for name in ("all_of", "any_of", "none_of"):
            parts = several(getattr(self, name), Hit | RegionRef | tuple | str | Text, name, PARTS)
            object.__setattr__(self, name, parts)
        for name in ("none_rate", "max_false_match"):
            object.__setattr__(self, name, rate_of(getattr(self, name)))

    @property
    def named(self) -> list[tuple[str, PartInput]]:
        """The parts with their names for people, in order."""
        groups = (("all ", self.all_of), ("any ", self.any_of), ("none ", self.none_of))
        return [(f"{group}{number}", part) for group, parts in groups for number, part in enumerate(parts, start=1)]


def combine(asking: Asking, asked: PartsAsked, *, limit: int, filter: Filter | None) -> CombinedResults:
    """As `Client.combine`."""
    index, encoder = asking.connection.open_to_ask()
    found_parts = [(name, *_part_of(asking, index, encoder, part)) for name, part in asked.named]
    parts = tuple(Part(name, code, asking.judging.rates(index, code)) for name, code, _ in found_parts)
    needed, wanted = len(asked.all_of), len(asked.all_of) + len(asked.any_of)
    cuts = asked.none_rate, asked.max_false_match
    combination = Combination(parts[:needed], parts[needed:wanted], parts[wanted:], *cuts)
    page = search_combined(index, combination, limit=limit, filter=filter)
    hint = warn_of_filter(index, filter, page.hits)
    names = tuple(part.name for part in combination.wanted)
    pictures = {name: picture for name, _, picture in found_parts}
    found = CombinedResults(page, names, index.manifest.fingerprint, asking.load, pictures=pictures, hint=hint)
    question = PartsQuestion(index, combination, limit, filter, asking.load)
    return replace(found, explainer=partial(explain_in, asking.connection, question, found))


def _part_of(asking: Asking, index: RegionIndex, encoder: Encoder, part: PartInput) -> tuple[Codes, PartPicture]:
    """The code (B,) of a part and its picture. Raises: UsageError where it selects no region."""
    if isinstance(part, Hit | RegionRef):
        return _stored_part(asking, index, part.ref if isinstance(part, Hit) else part)
    if isinstance(part, str):
        check_no_file(part)
    if isinstance(part, str | Text):
        return _words_part(asking, index, part if isinstance(part, str) else part.text)
    if not isinstance(part, tuple) or len(part) != 2:
        raise UsageError(f"expected {PARTS}, got {part!r}")
    image, prompt = part
    pixels, wanted = asking.load(image), as_prompt(prompt)
    check_units(wanted, *pixels.shape[:2])
    encoded = encode_one(encoder, pixels, wanted)
    if encoded.choice.kind != "region":
        raise UsageError(
            f"each part must be a region, and in {_title_of(image)} none is selected: {encoded.choice.reason}; "
            "a query with the same prompt lists the nearest regions, and a box always selects"
        )
    mask = encoded.segmentation.letterbox.stored_mask(encoded.choice.mask)
    picture = PartPicture(_title_of(image), encoded.choice.reason, pixels, mask, prompt=describe_prompt(wanted))
    return encoded.code, picture.shrunk()


def _stored_part(asking: Asking, index: RegionIndex, ref: RegionRef) -> tuple[Codes, PartPicture]:
    if ref.region is None:
        raise UsageError(
            f"each part must be a region, and {ref.image} is a whole image: give one of its regions, or (image, prompt)"
        )
    (row,) = region_rows(index, [ref])
    code = stacked([row.code], index.manifest.bits)[0]
    return code, PartPicture(ref.image.key, f"region {ref.region}", partial(asking.load, ref.image), row.mask)


def _words_part(asking: Asking, index: RegionIndex, words: str) -> tuple[Codes, PartPicture]:
    """What the regions nearest to words have in common. Raises: as `query_words`, UsageError."""
    request = PageRequest(limit=WORDS_EXAMPLES, rescore=asking.connection.settings.search.rescore_words)
    found = asking.query_words(words, None, None, request, filter=None)
    if not found.hits:
        raise UsageError(f"no region of the index is near the words {words!r}")
    nearest = found.hits[0]
    subtitle = f"nearest to the words: region {nearest.region} of {nearest.image.key}"
    picture = PartPicture(f"“{words}”", subtitle, partial(asking.load, nearest.image), nearest.mask)
    return query_code_of(StoredQuestion.look_up(index, tuple(hit.ref for hit in found.hits)).asked), picture


def _title_of(image: ImageInput) -> str:
    named = named_image(image) if isinstance(image, str | Path) else image
    if isinstance(named, ImageRef):
        return named.key
    return named.name if isinstance(named, Path) else "image"
