"""A question by what is indexed: one region, or several as one question; neither a model nor an image is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

from searchanything.core.codes import stacked
from searchanything.core.errors import PromptError, UsageError
from searchanything.core.protocols import RegionIndex
from searchanything.core.rows import ImageRow, RegionRow
from searchanything.core.types import Codes, Filter, Hit, RegionRef, Selection
from searchanything.images.inputs import ImageInput
from searchanything.prompts.prompt import Prompt, WholeImage
from searchanything.search.probe import Marked
from searchanything.search.refine import marked_codes
from searchanything.search.rescoring import mean_of
from searchanything.search.search import Asked, Page, PageRequest, search_images, search_regions
from searchanything.search.stored import stored_rows, stored_selection

MAX_REGIONS: Final = 100  # of one question
StoredInput: TypeAlias = Hit | RegionRef | Sequence[Hit | RegionRef]


def stored_or_image(image: ImageInput | StoredInput) -> tuple[RegionRef, ...] | ImageInput:
    """The regions that are the question by themselves, or the image. Raises: UsageError."""
    if isinstance(image, Hit | RegionRef):
        image = (image,)
    given: Any = image  # anything may be given
    if isinstance(given, str | bytes | bytearray | memoryview) or not isinstance(given, Sequence):
        return given  # type: ignore[return-value]  # what is no image is refused where images are read
    named = [one.ref if isinstance(one, Hit) else one for one in given]
    odd = [type(one).__name__ for one in named if not isinstance(one, RegionRef)]
    if odd or not 1 <= len(given) <= MAX_REGIONS:
        got = f"{odd[0]} among them" if odd else f"{len(given)}"
        raise UsageError(f"expected an image, or 1 to {MAX_REGIONS} hits or RegionRefs as one question, got {got}")
    refs = dict.fromkeys(named)
    if len({ref.region is None for ref in refs}) > 1:
        raise UsageError("regions and whole images cannot be one question: their codes are compared apart")
    return tuple(refs)


def check_no_prompt(prompt: Prompt) -> None:
    """Raises: PromptError for a prompt beside an indexed region."""
    if not isinstance(prompt, WholeImage):
        raise PromptError(
            "an indexed region says by itself what is wanted: leave the prompt out, or ask with its image"
        )


@dataclass(frozen=True, slots=True, eq=False)
class StoredQuestion:
    """Indexed regions, or whole images, as one question: their rows, and their codes (R, B)."""

    refs: tuple[RegionRef, ...]
    rows: tuple[RegionRow | ImageRow, ...]

    @classmethod
    def look_up(cls, index: RegionIndex, refs: tuple[RegionRef, ...]) -> Self:
        """Raises: ObjectNotFoundError."""
        return cls(refs, tuple(stored_rows(index, refs)))

    @property
    def whole_images(self) -> bool:
        return self.refs[0].region is None

    @property
    def codes(self) -> Codes:
        return stacked((row.code for row in self.rows), 8 * len(self.rows[0].code))

    @property
    def asked(self) -> Asked:
        """One code is asked by itself; several by their mean, with which the nearest are rescored."""
        return self.codes[0] if len(self.rows) == 1 else mean_of(self.codes)

    def marked(self, index: RegionIndex) -> Marked:
        """Its regions as right marks."""
        return marked_codes(index, self.codes, [row.id for row in self.rows], right=len(self.rows))

    @property
    def kind(self) -> str:
        """Of the prompt that an answer describes."""
        one = "image" if self.whole_images else "region"
        return one if len(self.refs) == 1 else f"{one}s"

    @property
    def selection(self) -> Selection:
        """What is shown of it: of several, the first."""
        return stored_selection(self.rows, self.refs)

    def search(self, index: RegionIndex, request: PageRequest, *, filter: Filter | None) -> Page:
        """Its answer. Raises: FilterError, UsageError, RegionIndexError."""
        search = search_images if self.whole_images else search_regions
        return search(index, self.asked, request, filter=filter)
