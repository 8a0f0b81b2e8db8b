"""What `query` and `explain` ask: an image with its prompt, regions of the index or words, and marks."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from searchanything.cli.options import option
from searchanything.cli.prompting import PAGE, PageOptions
from searchanything.cli.regions import REGION_FORM, named_region, named_regions, split_region, whole_number
from searchanything.cli.session import check_image
from searchanything.core.addresses import unmarked
from searchanything.core.errors import IndexNotFoundError, UsageError

if TYPE_CHECKING:
    from searchanything.answers.question_lists import ListedQuestion
    from searchanything.answers.results import SearchResults
    from searchanything.client.client import Client
    from searchanything.core.types import Filter, ImageRef, RegionRef
    from searchanything.prompts.prompt import Prompt

MARKS = "Marks: refine the answer"

MaxFalseMatch = Annotated[
    float | None,
    option(
        "--max-false-match",
        "RATE",
        "Leave out hits with a higher false-match rate (share of unrelated regions as near), such as 1e-4.",
        panel=PAGE,
    ),
]


LikeOption = Annotated[
    list[str] | None,
    option(
        "--like",
        "IMAGE#REGION",
        "A region of the index to ask with; repeatable. The search is for what all of them, and IMAGE if it is one, "
        "have in common.",
    ),
]


@dataclass(frozen=True, slots=True)
class MarkOptions:
    """Hits that are right or wrong, and what earlier marks taught."""

    right: Annotated[
        list[str] | None,
        option("--right", "HIT", "A hit that is right: its number, or IMAGE#REGION; repeatable.", panel=MARKS),
    ] = None
    wrong: Annotated[list[str] | None, option("--wrong", "HIT", "A hit that is wrong; repeatable.", panel=MARKS)] = None
    probe: Annotated[
        Path | None,
        typer.Option(
            "--probe", metavar="FILE.json", exists=True, dir_okay=False, help="Marks that were saved before.",
            rich_help_panel=MARKS,
        ),
    ] = None  # fmt: skip

    @property
    def given(self) -> bool:
        """True if there is anything to refine by."""
        return bool(self.right or self.wrong or self.probe)

    def refined(self, client: Client, results: SearchResults, *, first: int) -> SearchResults:
        """The answer refined by the marks; a number is a hit's place in the answer before."""
        from searchanything.search.probe import Probe

        saved = None if self.probe is None else Probe.read(self.probe)
        right, wrong = (
            [self._mark(client, results, text, first) for text in texts or ()] for texts in (self.right, self.wrong)
        )
        return results.refine(right, wrong, probe=saved)

    def _mark(self, client: Client, results: SearchResults, text: str, first: int) -> RegionRef:
        number = whole_number(text)
        if number is not None:
            place = number - first
            if not 0 <= place < len(results):
                raise UsageError(f"hit {text}: expected a number from {first} to {first + len(results) - 1}")
            return results[place].ref
        region = named_region(client, text)
        if region is None:
            raise UsageError(f"hit {text}: expected its number, or {REGION_FORM}")
        return region


@dataclass(frozen=True, slots=True)
class Question:
    """A whole question as it was typed. `alone` is its text where it stands alone."""

    image: str | None
    like: list[str] | None
    prompt: Prompt
    alone: str | None
    page: PageOptions
    filter: Filter | None
    max_false_match: float | None
    marks: MarkOptions

    def ask(self, client: Client) -> SearchResults:
        """Its answer, refined where there are marks. Raises: what `Client.query` and `SearchResults.refine` raise."""
        results = client.query(
            self._asked(client),
            None if self.alone is not None else self.prompt,
            text=self.alone,
            limit=self.page.limit,
            offset=self.page.offset,
            filter=self.filter,
            group_by_image=self.page.group_by_image,
            max_false_match=self.max_false_match,
            rescore=self.page.rescore,
        )
        return self.marks.refined(client, results, first=self.page.offset + 1) if self.marks.given else results

    def _asked(self, client: Client) -> str | ImageRef | RegionRef | list[RegionRef] | None:
        """The image, or the indexed regions that are the question. Raises: UsageError."""
        if self.like:
            return named_regions(client, [*([] if self.image is None else [self.image]), *self.like])
        return indexed_question(client, self.image)


def indexed_question(client: Client, image: str | None) -> str | ImageRef | RegionRef | None:
    """A region or an object of the index, where an image is named so; else the image as it is. Raises: UsageError."""
    if image is None:
        return None
    return named_region(client, image) or _indexed_object(client, image) or image


def listed_question(client: Client, question: ListedQuestion) -> Any:  # noqa: ANN401 - whatever `Client.query_many` takes
    """A question of a list as `Client.query_many` takes it. Raises: UsageError, PromptError."""
    prompt = question.prompt()
    if question.image:
        return indexed_question(client, question.image), prompt
    if "text" in question.fields and len(question.fields.keys() - {"id", "image"}) == 1:
        return question.fields["text"]
    raise UsageError("expected an image, or a text alone")


def words_alone(
    image: str | None, prompt: object, like: list[str] | None = None, *, context: typer.Context | None = None
) -> str | None:
    """The text where there is no image; else the image is looked for. Raises: UsageError, typer.BadParameter."""
    from searchanything.prompts.prompt import Text

    if image is not None and split_region(image) is None and _without_scheme(image) is None:
        check_image(image)
    if image is not None or like:
        return None
    if not isinstance(prompt, Text):
        raise typer.BadParameter("expected an IMAGE, or --text T alone, which asks the whole index", ctx=context)
    return prompt.text


def _without_scheme(image: str) -> ImageRef | None:
    """The object that is meant if the index has it; None for what a file's path is."""
    named = unmarked(image)
    return None if named is None or Path(named.bucket).exists() else named


def _indexed_object(client: Client, image: str) -> ImageRef | None:
    """An image of the index that is named without its `s3://`. Raises: UsageError where neither it nor a file is."""
    named = _without_scheme(image)
    if named is None:
        return None
    with contextlib.suppress(IndexNotFoundError):
        if client.locate(image) == named:
            return named
    check_image(image)
    return None
